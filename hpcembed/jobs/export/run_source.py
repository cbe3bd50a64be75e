"""A finished run as the source of a model: its folder is all that is needed.

Read are ``job.toml``, ``run.json``, ``projection.safetensors`` and the network's own
``classifier-NAME.safetensors``; NAME is what the networks of a run are called here
(``embedded-64-64``).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
from numpy.typing import NDArray

from hpcembed.data.settings import GRAPH_FORMATS
from hpcembed.data.text.serialise import VECTORISER_FILE
from hpcembed.jobs.configuration import JobConfig, load_job
from hpcembed.jobs.export.card import Accuracy, Uncompressed, card_text
from hpcembed.jobs.export.folder import write_model
from hpcembed.jobs.export.folding import Projection, Scaling, Trained, build_model, folding_pays
from hpcembed.jobs.export.model import Model
from hpcembed.runtime.errors import ConfigError, HpcembedError, InputError
from hpcembed.runtime.output import check_free
from hpcembed.runtime.settings import to_toml

__all__ = ["export_run"]

_PREFIX, _SUFFIX = "classifier-", ".safetensors"
_TEXT_KEYS = ("text_column", "headers", "quoting", "encoding", "encoding_errors")
_PACKAGES = ("numpy", "scipy", "torch", "petsc4py", "slepc4py", "mpi4py")


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run folder says about all its networks."""

    folder: Path
    job: JobConfig
    record: dict[str, Any]
    names: tuple[str, ...]

    def entry(self, network: str) -> dict[str, Any]:
        """What ``run.json`` says of a network."""
        for one in self.record["classifiers"]:
            if _name(one) == network:
                return dict(one)
        raise InputError(f"{self.folder / 'run.json'}: says nothing of the network {network}")


def export_run(
    folder: Path,
    out: Path,
    network: str | None = None,
    *,
    accuracy: Accuracy | None = None,
    uncompressed: Uncompressed | None = None,
) -> Path:
    """Write the model folder of a network that a run trained.

    Not collective.

    Parameters
    ----------
    folder, out : Path
        The run's folder and the model's, which must not hold anything.
    network : str, optional
        By default the network on the embedding with the highest validation accuracy, the smaller
        one among equals.
    accuracy : Accuracy, optional
        Of several trainings, where the caller knows it; else that of this one.
    uncompressed : Uncompressed, optional
        What the card compares with; else the same layers on all features, where the run has them.

    Raises
    ------
    HpcembedError
        A folder that is no finished run, a network that it does not have, an output folder in use.
    """
    check_free(out)
    run = _read_run(folder)
    chosen = _choose(run, network)
    try:
        model, description = _model(run, chosen, accuracy, uncompressed)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, HpcembedError):  # InputError is a ValueError
            raise
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise InputError(f"{folder}: not a run of this version ({reason}): run it again") from error
    write_model(out, model, description, card_text(description), text=_terms(run))
    return out


def _terms(run: _Run) -> str | None:
    """What makes rows of texts; None where the data are no text."""
    file = run.folder / VECTORISER_FILE
    if not file.exists():
        return None
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {getattr(error, 'strerror', None) or error}") from error


def _read_run(folder: Path) -> _Run:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that hpcembed run wrote")
    file = folder / "run.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder}: holds no run.json: not a finished run") from error
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({' '.join(str(error).split())})") from error
    if not isinstance(record, dict) or not isinstance(record.get("classifiers"), list):
        raise InputError(f"{file}: not the record of a run")
    found = (path.name for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"))
    names = tuple(sorted(name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for name in found))
    return _Run(folder, load_job(folder / "job.toml"), record, names)


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['input']}-{'-'.join(map(str, entry['hidden']))}"


def _choose(run: _Run, network: str | None) -> str:
    listed = ", ".join(run.names) or "none"
    if network is not None:
        if network not in run.names:
            raise ConfigError(f"--network {network}: the run {run.folder} has {listed}")
        return network
    embedded = [name for name in run.names if name.startswith("embedded-")]
    if not embedded:
        raise ConfigError(
            f"{run.folder}: no network on the embedding (it has {listed}): name one with --network"
        )

    def merit(name: str) -> tuple[float, int]:
        entry = run.entry(name)
        accuracy = entry["validation_accuracy"]
        return (-1.0 if accuracy is None else accuracy), -entry["parameters"]

    return max(embedded, key=merit)


def _model(
    run: _Run, network: str, accuracy: Accuracy | None, full: Uncompressed | None
) -> tuple[Model, dict[str, Any]]:
    embedding, about = _read_tensors(run.folder / "projection.safetensors")
    network_file, metadata = _read_tensors(run.folder / f"{_PREFIX}{network}{_SUFFIX}")
    description = json.loads(metadata["hpcembed"])
    scaling = Scaling(embedding["scaling_shift"], embedding["scaling_factor"])
    if run.job.data.format in GRAPH_FORMATS:
        raise ConfigError(
            f"{run.folder}: the nodes of a graph are placed together, so no model places others: "
            "join new nodes to the graph and run the job again"
        )
    is_embedded = description["input"] == "embedded"
    projection = None
    if is_embedded:
        if "components" not in embedding:
            method = run.record["embedding"]["method"]
            raise ConfigError(
                f"{run.folder}: the {method} embedding is no projection of the features, so no "
                "model holds it: a network on all features can be exported, --network full-..."
            )
        projection = Projection(embedding["components"], embedding["mean"])
    n_layers = len(description["hidden"]) + 1
    trained = Trained(
        network_file["shift"],
        network_file["scale"],
        tuple(
            (network_file[f"layer{i}.weight"].T, network_file[f"layer{i}.bias"])
            for i in range(n_layers)
        ),
    )
    model = build_model(
        scaling,
        projection,
        trained,
        # runs of principal components before there was a choice have their mean only
        embedding["feature_means" if "feature_means" in embedding else "mean"],
        np.sqrt(embedding["feature_variances"]),
        class_names=tuple(json.loads(about["class_names"])),
        feature_names=tuple(json.loads(about["feature_names"])),
    )
    entry = run.entry(network)
    if accuracy is None:
        accuracy = Accuracy(entry["test_accuracy"], entry["validation_accuracy"])
    full = full or _uncompressed(run, entry)
    first = trained.layers[0][0].shape[1]
    n_components = len(embedding["components"]) if is_embedded else None
    return model, {
        "hpcembed": run.record["environment"]["hpcembed"],
        "name": run.record["dataset"]["name"],
        "network": network,
        "input": description["input"],
        "input_type": model.input_type.name,
        "class_names": list(model.class_names),
        "hidden": list(description["hidden"]),
        "n_components": n_components,
        "projection": _sizes(model, n_components, first),
        "parameters": {"network": entry["parameters"], "stored": model.n_parameters},
        "multiplications": model.n_multiplications,
        "accuracy": dataclasses.asdict(accuracy),
        "uncompressed": None if full is None else dataclasses.asdict(full),
        "seconds": {
            "network": entry["train_seconds"],
            "embedding": run.record["embedding"]["seconds"] if is_embedded else None,
        },
        "dataset": run.record["dataset"],
        "embedding": _certificate(run.record["embedding"]) if is_embedded else None,
        "provenance": _provenance(run),
        "reading": _reading(run.job),
        "takes_texts": (run.folder / VECTORISER_FILE).exists(),
    }


def _sizes(model: Model, k: int | None, first: int) -> dict[str, Any] | None:
    """Numbers of the projection with the first layer, as one matrix and as two."""
    if k is None:
        return None
    d = model.n_features
    return {
        "folded": folding_pays(d, k, first),
        "numbers_folded": d * first,
        "numbers_apart": k * (d + first),
    }


def _uncompressed(run: _Run, entry: Mapping[str, Any]) -> Uncompressed | None:
    """The same layers on all features, where the run trained them too."""
    for one in run.record["classifiers"]:
        same = one["hidden"] == entry["hidden"]
        if same and one["input"] == "full" and entry["input"] != "full":
            names = ("parameters", "test_accuracy", "train_seconds")
            return Uncompressed(tuple(one["hidden"]), *(one[name] for name in names))
    return None


def _certificate(embedding: Mapping[str, Any]) -> dict[str, Any]:
    residuals = [math.inf if one is None else one for one in embedding["residual_norms"]]
    ratio = embedding["explained_variance_ratio"]
    return {
        "method": embedding.get("method", "pca"),
        "components": embedding.get("components", "principal components"),
        "solver": embedding["solver"],
        "converged_reason": embedding["converged_reason"],
        "largest_relative_residual": max(residuals, default=None),
        "explained_variance": None if ratio is None else sum(ratio),
    }


def _provenance(run: _Run) -> dict[str, Any]:
    environment = run.record["environment"]
    packages = environment.get("packages", {})
    return {
        "hpcembed": environment["hpcembed"],
        "python": environment.get("python"),
        "packages": {name: packages[name] for name in _PACKAGES if packages.get(name)},
        "petsc": environment.get("petsc"),
        "slepc": environment.get("slepc"),
        "mpi": environment.get("mpi"),
        "ranks": environment.get("ranks"),
        "seeds": {
            "split": run.job.data.split_seed,
            "solver": run.job.solver.seed,
            "network": run.job.classifier.seed,
        },
        "job": _portable_job(run.job),
    }


def _portable_job(job: JobConfig) -> str:
    """The job as TOML, its files by name only: a model leaves the machine it was made on."""
    data = job.data
    placed = msgspec.structs.replace(
        data,
        train=tuple(Path(name).name for name in data.train),
        train_labels=Path(data.train_labels).name,
        test=tuple(Path(name).name for name in data.test),
        test_labels=Path(data.test_labels).name,
    )
    output = msgspec.structs.replace(job.output, directory="")
    return to_toml(msgspec.structs.replace(job, data=placed, output=output))


def _reading(job: JobConfig) -> dict[str, str]:
    """How files like those of the job are read."""
    data = job.data
    keys = ("format", "label_column", "delimiter", "features_key", "labels_key", *_TEXT_KEYS)
    names = data.train[:1]
    return {
        **{key: getattr(data, key) for key in keys},
        "ending": Path(names[0]).suffix if names else "",
    }


def _read_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
