"""Job and study files, result stores, published accuracies, `init`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from fuzzing import arrow_files, hdf5_files, table_files
from fuzzing.array_files import npy, npz, table
from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import HOSTILE_INTEGERS, HOSTILE_NAMES, json_text, mutate_value, pick
from hpcembed.jobs.configuration import load_job
from hpcembed.jobs.init.command import init_job
from hpcembed.jobs.report.run_folder import json_bytes
from hpcembed.jobs.study.published_accuracies import load_published
from hpcembed.jobs.study.result_store import read_results
from hpcembed.jobs.study.settings import load_study
from hpcembed.jobs.study.trials import Trial, TrialResult
from hpcembed.runtime.settings import to_toml

# ------------------------------------------------------------------------------------------ jobs


def _job(rng: Rng) -> tuple[Files, Any]:
    k, tol = int(rng.integers(1, 50)), float(10.0 ** -int(rng.integers(4, 12)))
    lines = [
        "[data]", 'train = ["a.csv"]', 'label_column = "kind"', "test_fraction = 0.3",
        'columns = { age = "number" }', "[embedding]", f"n_components = {k}", "[solver]",
        f"tol = {tol!r}", "nested = [20, 40]", "[classifier]", 'hidden = [[4], "low"]',
        "[training]", "epochs = 3", "[output]", "figures = false",
    ]  # fmt: skip
    return {"job.toml": "\n".join(lines).encode()}, (k, tol)


def _hostile_toml(rng: Rng, lines: list[str]) -> bytes:
    number, name = pick(rng, HOSTILE_INTEGERS), json.dumps(pick(rng, HOSTILE_NAMES))
    other = (
        "nan", "inf", "1e999", str(number), name, "[]", "{}", "[[[]]]", "true", "2020-01-01", "''",
        "[" * 3000, "{a=" * 500, f"[{name}]", f"{{ {name} = {name} }}", '"""x', "0x" + "f" * 400,
        "9" * 5000,
    )  # fmt: skip
    for _ in range(int(rng.integers(1, 3))):
        place = int(rng.integers(len(lines)))
        key = lines[place].partition("=")[0]
        which = int(rng.integers(5))
        if which < 3 and "=" in lines[place]:
            lines[place] = f"{key}= {pick(rng, other)}"
        elif which == 3:
            lines.insert(place, lines[place])
        else:
            made = (
                f"{name} = 1",
                "a" + ".a" * 40 + " = 1",
                f"[{name}]",
                "[[data]]",
                "\x00",
                "x",
                "[]",
            )
            lines.insert(place, pick(rng, made))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _hostile_job(rng: Rng) -> Files:
    return {"job.toml": _hostile_toml(rng, _job(rng)[0]["job.toml"].decode().split("\n"))}


def _read_job(folder: Path) -> Any:
    job = load_job(folder / "job.toml")
    to_toml(job)
    return job.embedding.n_components, job.solver.tol


_STUDY = [
    "[data]", 'train = ["a.csv"]', 'label_column = "kind"', "[study]", "n_components = [1, 2]",
    "seeds = 2", 'inputs = ["spectral"]', "baseline = true", "[study.networks]", "low = [4]",
]  # fmt: skip


def _study(rng: Rng) -> tuple[Files, Any]:
    return {"study.toml": b'[data]\nname = "digits"\n[study]\n'}, None


def _read_study(folder: Path) -> Any:
    return msgspec.to_builtins(load_study(folder / "study.toml", []))


# ----------------------------------------------------------------------------------- result store


def _results(rng: Rng) -> list[TrialResult]:
    return [
        TrialResult(
            f"digest{i}", Trial("spectral", (4,), i + 1, i), 30, 0.5, 0.1, 0.8, 0.75, 2,
            ((3, 1), (0, 4)),
        )
        for i in range(int(rng.integers(1, 5)))
    ]  # fmt: skip


def _store(rng: Rng) -> tuple[Files, Any]:
    results = _results(rng)
    lines = b"".join(json_bytes(one) + b"\n" for one in results)
    return {"trials/rank-0.jsonl": lines}, {one.digest: one for one in results}


def _hostile_store(rng: Rng) -> Files:
    lines = [json_bytes(one) for one in _results(rng)]
    place = int(rng.integers(len(lines)))
    lines[place] = json_text(mutate_value(rng, json.loads(lines[place])))
    if rng.random() < 0.2:
        lines.append(pick(rng, (b"[" * 100_000, b"{}", b"null", b"\xff", b'{"a":' * 5000)))
    return {"trials/rank-0.jsonl": b"\n".join(lines)}


# -------------------------------------------------------------------------------------- published


def _published(rng: Rng) -> tuple[Files, Any]:
    one = {
        "protocol": {"hidden": {"low": [4, 4], "high": [8]}},
        "embedded_accuracy": {"low": [0.5, 0.6]},
        "baseline_accuracy": {"low": 0.7},
    }
    return {"published.json": json.dumps({"sets": {"digits": one}}).encode()}, None


def _hostile_published(rng: Rng) -> Files:
    content = json.loads(_published(rng)[0]["published.json"])
    return {"published.json": json_text(mutate_value(rng, content))}


# ------------------------------------------------------------------------------------------- init


def _init_files(rng: Rng) -> tuple[Files, Any]:
    rows, labels = table(rng)
    which = int(rng.integers(4))
    if which == 0:
        return {"a.npz": npz({"x": npy(rows), "y": npy(labels)}, compress=False)}, None
    if which == 1:
        return table_files._csv(rng)[0], None
    if which == 2:
        return hdf5_files._hdf5(rng)[0], None
    return arrow_files._valid("parquet", rng)[0], None


def _hostile_init(rng: Rng) -> Files:
    makers = (
        table_files._hostile_csv, hdf5_files._hostile_hdf5,
        lambda rng: arrow_files._hostile(pick(rng, ("parquet", "arrow")), rng),
        lambda rng: {"a.npz": table_files._hostile_labels(rng)["a.npy"]},
    )  # fmt: skip
    return pick(rng, makers)(rng)


def _read_init(folder: Path) -> Any:
    (path,) = (one for one in folder.iterdir() if one.is_file())
    label = "kind" if path.suffix in (".parquet", ".arrow") else ""
    return init_job(path, label, folder / "out" / "job.toml") and None


register(Format("job file", _job, _read_job, _hostile_job))
register(
    Format(
        "study file", _study, _read_study,
        lambda rng: {"study.toml": _hostile_toml(rng, list(_STUDY))},
    )
)  # fmt: skip
register(Format("result store", _store, read_results, _hostile_store))
register(
    Format(
        "published accuracies", _published,
        lambda folder: load_published(folder / "published.json", "digits") and None,
        _hostile_published,
    )
)  # fmt: skip
register(Format("init", _init_files, _read_init, _hostile_init))
