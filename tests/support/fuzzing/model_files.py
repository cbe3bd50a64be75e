"""What hpcembed writes and reads again: models, networks, runs, completed tables."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from mpi4py import MPI

import hpcembed
from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import HOSTILE_INTEGERS, HOSTILE_NAMES, json_text, mutate_value, pick
from hpcembed.data.columns import ColumnOptions, raw_columns_of
from hpcembed.data.columns.fitting import fit_encoding, scan_table
from hpcembed.data.columns.serialise import encoding_to_json
from hpcembed.data.text.serialise import vectoriser_to_json
from hpcembed.data.text.vectoriser import TermWeights, Vectoriser
from hpcembed.data.text.vocabulary import Vocabulary
from hpcembed.jobs.completion_folder import load_completion, write_completion
from hpcembed.jobs.export.model import Model, Stage, TargetScaling
from hpcembed.jobs.export.model_folder import write_model
from hpcembed.jobs.export.run_export import export_run
from hpcembed.networks.training.serialise import load_classifier

MODEL, _NETWORK = "model", "network.safetensors"


def files_of(folder: Path) -> Files:
    """Return the files of a folder."""
    paths = sorted(one for one in folder.rglob("*") if one.is_file())
    return {str(one.relative_to(folder)): one.read_bytes() for one in paths}


@cache
def _model_files(kind: str) -> Files:
    """Write a model and return its files: kinds rows, regression, texts, columns."""
    g = np.random.default_rng(0)
    d, options = 3, {}
    if kind == "columns":
        raw = raw_columns_of({"age": [1.0, None, 3.0, 4.0], "sex": ["m", "f", "m", "f"]})
        encoding = fit_encoding(scan_table(raw, ColumnOptions(), MPI.COMM_SELF), raw, MPI.COMM_SELF)
        options["columns"] = encoding_to_json(encoding)
        d = encoding.n_features_out
    elif kind == "texts":
        vocabulary = Vocabulary(["sea", "ship", "storm"], [1, 2, 2], [3, 2, 2], n_documents=4)
        options["text"] = vectoriser_to_json(Vectoriser(vocabulary, TermWeights()))
    widths = (d, 4, 1 if kind == "regression" else 2)
    stages = tuple(
        Stage(g.standard_normal((a, b)).astype("f4"), np.zeros(b, "f4"), relu=b == 4)
        for a, b in pairwise(widths)
    )
    target = TargetScaling(np.ones(1, "f4"), np.ones(1, "f4")) if kind == "regression" else None
    names = () if kind == "regression" else ("cat", "dog")
    model = Model(np.zeros(d, "f4"), stages, names, (), target)
    folder = Path(tempfile.mkdtemp())
    write_model(folder / MODEL, model, {"name": "pets", "network": "n"}, "card", **options)
    files = files_of(folder)
    shutil.rmtree(folder)
    return files


def _reseal_model(files: Files) -> Files:
    """Write the digests of the files into model.json and manifest.json."""
    name = f"{MODEL}/model.json"
    try:
        description = json.loads(files[name])
    except (KeyError, ValueError, RecursionError):
        return files
    if isinstance(description, dict):
        for key, file in (
            ("sha256", "model.safetensors"), ("text_sha256", "text.json"),
            ("columns_sha256", "columns.json"),
        ):  # fmt: skip
            if description.get(key) and f"{MODEL}/{file}" in files:
                description[key] = hashlib.sha256(files[f"{MODEL}/{file}"]).hexdigest()
        files[name] = json_text(description)
    digests = {one.removeprefix(f"{MODEL}/"): hashlib.sha256(content).hexdigest()
               for one, content in files.items() if "manifest" not in one}  # fmt: skip
    files[f"{MODEL}/manifest.json"] = json.dumps({"sha256": digests}).encode()
    return files


def mutate_safetensors(rng: Rng, content: bytes) -> bytes:
    """Return a safetensors file with another header, or other numbers."""
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    which = int(rng.integers(4))
    if which == 0:
        header = mutate_value(rng, header)
    elif which == 1:
        tensors = {k: v.copy() for k, v in safetensors.numpy.load(content).items()}
        name = pick(rng, list(tensors))
        tensors[name] = pick(
            rng,
            (tensors[name] * np.nan, tensors[name].astype("f8"), tensors[name].reshape(-1)[:-1],
             tensors[name].T, np.zeros(0, "f4"), tensors[name].astype("i4"), tensors[name] * 1e38),
        )  # fmt: skip
        if rng.random() < 0.2:
            del tensors[name]
        made = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
        return bytes(safetensors.numpy.save(made, header.get("__metadata__")))
    elif which == 2:
        number = (pick(rng, HOSTILE_INTEGERS) % 2**64).to_bytes(8, "little")
        return number + content[8:]
    else:
        place = int(rng.integers(len(body)))
        body = body[:place] + rng.bytes(4) + body[place + 4 :]
    text = json_text(header)
    return len(text).to_bytes(8, "little") + text + body


def _hostile_model(kind: str, rng: Rng) -> Files:
    files = dict(_model_files(kind))
    documents = [one for one in files if one.endswith(".json") and "manifest" not in one]
    name = pick(rng, [*documents, *documents, f"{MODEL}/model.safetensors"])
    if name.endswith(".json"):
        files[name] = json_text(mutate_value(rng, json.loads(files[name])))
    else:
        files[name] = mutate_safetensors(rng, files[name])
    if rng.random() < 0.1:
        listed = {pick(rng, (*HOSTILE_NAMES, "../outside/secret.txt")): "0" * 64}
        manifest = json.loads(files[f"{MODEL}/manifest.json"])
        files[f"{MODEL}/manifest.json"] = json_text(mutate_value(rng, manifest) or listed)
        return files
    return _reseal_model(files)


def _read_model(folder: Path) -> Any:
    model = hpcembed.load(folder / MODEL)
    repr(model)
    if model.vectoriser is not None:
        model.predict(["sea ship", "storm"])
    elif model.encoding is not None:
        model.predict({"age": [1.0, 2.0], "sex": ["m", "x"]})
    elif model.n_features_in_ < 10_000:
        model.predict(np.ones((2, model.n_features_in_)))


def _register_model(kind: str) -> None:
    register(
        Format(
            f"model of {kind}",
            lambda rng: (dict(_model_files(kind)), None),
            _read_model,
            lambda rng: _hostile_model(kind, rng),
            _reseal_model,
            places=("columns are missing: ",),  # of rows that are no file
        )
    )


# ------------------------------------------------------------------------------- runs and networks

_JOB = """[data]
name = "small"
train = ["a.npz"]
test_fraction = 0.3
[embedding]
n_components = 2
[classifier]
hidden = [[4]]
[training]
epochs = 1
[output]
figures = false
"""


@cache
def _run_files() -> Files:
    """Run a job and return the files of its folder."""
    from hpcembed.jobs.job import prepare
    from hpcembed.jobs.run import run_job

    folder = Path(tempfile.mkdtemp())
    g = np.random.default_rng(0)
    np.savez(folder / "a.npz", x=g.standard_normal((30, 3)), y=np.arange(30) % 2)
    (folder / "job.toml").write_text(_JOB)
    job = prepare(folder / "job.toml", (), None, folder / "run", MPI.COMM_SELF)
    assert run_job(job) == 0
    files = files_of(folder / "run")
    shutil.rmtree(folder)
    kept = ("job.toml", "run.json", "projection.safetensors", "classifier-embedded-4.safetensors")
    return {f"run/{name}": files[name] for name in kept}


def _hostile_run(rng: Rng) -> Files:
    files = dict(_run_files())
    name = pick(rng, [one for one in files if not one.endswith("toml")])
    if name.endswith("json"):
        files[name] = json_text(mutate_value(rng, json.loads(files[name])))
    else:
        files[name] = _mutate_metadata(rng, files[name])
    return files


def _mutate_metadata(rng: Rng, content: bytes) -> bytes:
    """Change the header of safetensors, or a document in it."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if rng.random() < 0.5:
        return mutate_safetensors(rng, content)
    metadata = header["__metadata__"]
    key = pick(rng, list(metadata))
    try:
        value = mutate_value(rng, json.loads(metadata[key]))
    except ValueError:
        value = pick(rng, HOSTILE_NAMES)
    metadata[key] = json_text(value).decode("utf-8", "replace")
    text = json_text(header)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _read_run(folder: Path) -> Any:
    export_run(folder / "run", folder / "out" / "model")


def _network(rng: Rng) -> tuple[Files, Any]:
    name = "run/classifier-embedded-4.safetensors"
    return {_NETWORK: _run_files()[name]}, None


# ------------------------------------------------------------------------------- completed tables


@cache
def _completion_files() -> Files:
    users, items = ["u", "u", "v", "v"] * 5, ["a", "b", "a", "b"] * 5
    found = hpcembed.complete_table((users, items, [1.0, 2.0, 3.0, 4.0] * 5), 1, ridge=0.1)
    folder = Path(tempfile.mkdtemp())
    write_completion(found, folder / "c")
    files = files_of(folder)
    shutil.rmtree(folder)
    return files


def _hostile_completion(rng: Rng) -> Files:
    files = dict(_completion_files())
    name = pick(rng, ("c/completion.json", "c/factors.safetensors", "c/users.csv"))
    if name.endswith("json"):
        files[name] = json_text(mutate_value(rng, json.loads(files[name])))
    elif name.endswith("csv"):
        names = "\n".join(pick(rng, HOSTILE_NAMES) for _ in range(2))
        files[name] = f"name\n{names}\n".encode("utf-8", "surrogatepass")
    else:
        files[name] = mutate_safetensors(rng, files[name])
    return files


def _read_completion(folder: Path) -> Any:
    found = load_completion(folder / "c")
    found.predict(["u", "new"], ["b", "a"])
    repr(found)


for one in ("rows", "regression", "texts", "columns"):
    _register_model(one)
register(Format("run folder", lambda rng: (dict(_run_files()), None), _read_run, _hostile_run))
register(
    Format(
        "network",
        _network,
        lambda folder: load_classifier(folder / _NETWORK) and None,
        lambda rng: {_NETWORK: _mutate_metadata(rng, _network(rng)[0][_NETWORK])},
    )
)
register(
    Format(
        "completed table", lambda rng: (dict(_completion_files()), None), _read_completion,
        _hostile_completion,
    )
)  # fmt: skip
