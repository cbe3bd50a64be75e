"""Export of a finished run as a deployable model.

The input is the folder of the run: see :mod:`hpcembed.jobs.export.finished_run`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from hpcembed.data.columns.serialise import COLUMNS_FILE
from hpcembed.data.settings import GRAPH_FORMATS
from hpcembed.data.text.serialise import VECTORISER_FILE
from hpcembed.jobs.configuration import JobConfig, rename_files
from hpcembed.jobs.export.card import Accuracy, Uncompressed, card_text
from hpcembed.jobs.export.finished_run import FinishedRun, read_run, read_tensors
from hpcembed.jobs.export.layer_folding import (
    FeatureScaling,
    Projection,
    TrainedLayers,
    build_model,
    folding_pays,
)
from hpcembed.jobs.export.model import Model
from hpcembed.jobs.export.model_folder import write_model
from hpcembed.jobs.report.run_json import ClassifierRecord, EmbeddingRecord, RunRecord
from hpcembed.runtime.errors import ConfigError, HpcembedError, InputError
from hpcembed.runtime.output.files import check_free
from hpcembed.runtime.settings import to_toml

__all__ = ["READING_KEYS", "export_run"]

#: Settings of the reader that apply to prediction inputs of every format.
READING_KEYS = (
    *("label_column", "features_key", "labels_key"),
    *("text_column", "headers", "quoting", "encoding", "encoding_errors"),
    *("image_size", "image_mode", "index_base", "target_numbers"),
)
_PACKAGES = ("numpy", "scipy", "torch", "petsc4py", "slepc4py", "mpi4py")


def export_run(
    folder: Path,
    out: Path,
    network: str | None = None,
    *,
    accuracy: Accuracy | None = None,
    uncompressed: Uncompressed | None = None,
    record: RunRecord | None = None,
) -> Path:
    """Write the model folder of a network that a run trained.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    out : Path
        Folder of the model; it must be empty or absent.
    network : str, optional
        By default the network on the embedding with the highest validation score, the smallest
        of equal ones.
    accuracy : Accuracy, optional
        Accuracy over several training runs; by default the accuracy in the run.
    uncompressed : Uncompressed, optional
        Network for comparison on the card; by default the one with the same layers on all features,
        if the run trained it.
    record : RunRecord, optional
        Record of a run whose ``run.json`` is not written yet; by default the file is read.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    HpcembedError
        `folder` is not a finished run, the run has no such network, or `out` is not empty.
    """
    check_free(out)
    run = read_run(folder, record)
    chosen = _choose(run, network)
    try:
        with np.errstate(all="ignore"):  # the model is checked for values that are not finite
            model, description = _model(run, chosen, accuracy, uncompressed)
    except HpcembedError:  # perhaps a ValueError
        raise
    except (
        KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise InputError(f"{folder}: not a run of this version ({reason}): run it again") from error
    write_model(
        out,
        model,
        description,
        card_text(description),
        text=run.serialised(VECTORISER_FILE),
        columns=run.serialised(COLUMNS_FILE),
    )
    return out


def _choose(run: FinishedRun, network: str | None) -> str:
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
        score = entry.validation
        return (-math.inf if score is None else score), -entry.parameters

    return max(embedded, key=merit)


def _model(
    run: FinishedRun, network: str, accuracy: Accuracy | None, full: Uncompressed | None
) -> tuple[Model, dict[str, Any]]:
    """Build the model of a network, and the content of its ``model.json``."""
    embedding, metadata = read_tensors(run.folder / "projection.safetensors")
    task = run.record.dataset.task
    weights, header = read_tensors(run.network_file(network))
    about = json.loads(header["hpcembed"])
    if run.job.data.format in GRAPH_FORMATS:
        raise ConfigError(
            f"{run.folder}: the nodes of a graph are embedded together, so no model embeds other "
            "nodes: add new nodes to the graph and run the job again"
        )
    is_embedded = about["input"] == "embedded"
    projection = None
    if is_embedded:
        if "components" not in embedding:
            raise ConfigError(
                f"{run.folder}: the {run.record.embedding.method} embedding is not a projection of "
                "the features, so no model holds it: a network on all features can be exported, "
                "--network full-..."
            )
        projection = Projection(embedding["components"], embedding["mean"])
    layers = TrainedLayers(
        weights["shift"],
        weights["scale"],
        tuple(
            (weights[f"layer{i}.weight"].T, weights[f"layer{i}.bias"])
            for i in range(len(about["hidden"]) + 1)
        ),
    )
    if not (embedding["feature_variances"] >= 0).all():
        raise ValueError("a variance that is not a number from 0 on")
    model = build_model(
        FeatureScaling(embedding["scaling_shift"], embedding["scaling_factor"]),
        projection,
        layers,
        # Old runs of principal components have the mean of the projection only.
        embedding["feature_means" if "feature_means" in embedding else "mean"],
        np.sqrt(embedding["feature_variances"]),
        target=(
            (float(weights["target_shift"]), float(weights["target_scale"]))
            if task == "regression"
            else None
        ),
        class_names=tuple(map(str, json.loads(metadata["class_names"]))),
        feature_names=tuple(map(str, json.loads(metadata["feature_names"]))),
    )
    model.check()
    k = len(embedding["components"]) if is_embedded else None
    description = {
        "input": about["input"],
        "input_type": model.input_type.name,
        "task": run.record.dataset.task,
        "target_type": None if model.target is None else model.target.shift.dtype.name,
        "class_names": list(model.class_names),
        "hidden": list(about["hidden"]),
        "n_components": k,
        "projection": _sizes(model, k, layers.layers[0][0].shape[1]),
    }
    found = json.loads(metadata.get("reading", "{}"))  # absent from runs of older versions
    description["row_shape"] = found.get("row_shape")
    description["reading"] = _reading(run.job, found)
    return model, _describe(run, network, model, description, accuracy, full)


def _describe(
    run: FinishedRun,
    network: str,
    model: Model,
    description: Mapping[str, Any],
    accuracy: Accuracy | None,
    full: Uncompressed | None,
) -> dict[str, Any]:
    """Add accuracy, cost and origin of a network to the description of its model."""
    entry, record = run.entry(network), run.record
    embedding = None if description["n_components"] is None else record.embedding
    if accuracy is None:
        accuracy = Accuracy(entry.test, entry.validation, rmse=entry.test_rmse, mae=entry.test_mae)
    content = {
        "hpcembed": record.environment["hpcembed"],
        "name": record.dataset.name,
        "network": network,
        **description,
        "parameters": {"network": entry.parameters, "stored": model.n_parameters},
        "multiplications": model.n_multiplications,
        "accuracy" if record.dataset.task == "classification" else "r2": accuracy,
        "uncompressed": full or _uncompressed(run, entry),
        "seconds": {
            "network": entry.train_seconds,
            "embedding": embedding and embedding.seconds,
        },
        "dataset": record.dataset,
        "embedding": embedding and _certificate(embedding),
        "provenance": _provenance(run),
        "takes_texts": (run.folder / VECTORISER_FILE).exists(),
        "takes_columns": (run.folder / COLUMNS_FILE).exists(),
    }
    plain: dict[str, Any] = msgspec.to_builtins(content)
    return plain


def _sizes(model: Model, k: int | None, width: int) -> dict[str, Any] | None:
    """Count the numbers of projection and first layer, as one matrix and as two."""
    if k is None:
        return None
    d = model.n_features
    return {
        "folded": folding_pays(d, k, width),
        "numbers_folded": d * width,
        "numbers_apart": k * (d + width),
    }


def _uncompressed(run: FinishedRun, entry: ClassifierRecord) -> Uncompressed | None:
    """Return the network with the same layers on all features, if the run trained it."""
    for one in run.record.classifiers:
        if one.hidden == entry.hidden and one.input == "full" and entry.input != "full":
            return Uncompressed(one.hidden, one.parameters, one.test, one.train_seconds)
    return None


def _certificate(embedding: EmbeddingRecord) -> dict[str, Any]:
    residuals, ratio = embedding.residual_norms, embedding.explained_variance_ratio
    known = [residual for residual in residuals if residual is not None]
    return {
        "method": embedding.method,
        "components": embedding.components,
        "solver": embedding.solver,
        "converged_reason": embedding.converged_reason,
        "largest_relative_residual": max(known) if known and None not in residuals else None,
        "explained_variance": None if ratio is None else sum(share or 0.0 for share in ratio),
    }


def _provenance(run: FinishedRun) -> dict[str, Any]:
    environment = run.record.environment
    packages = environment.get("packages", {})
    return {
        "hpcembed": environment["hpcembed"],
        "python": environment.get("python"),
        "packages": {name: packages[name] for name in _PACKAGES if packages.get(name)},
        **{key: environment.get(key) for key in ("petsc", "slepc", "mpi", "ranks")},
        "seeds": {
            "split": run.job.data.split_seed,
            "solver": run.job.solver.seed,
            "network": run.job.classifier.seed,
        },
        "job": _portable_job(run.job),
    }


def _portable_job(job: JobConfig) -> str:
    """Write the job as TOML with names of files only: paths of this machine are left out."""
    data = rename_files(job.data, lambda name: Path(name).name)
    return to_toml(replace(job, data=data, output=replace(job.output, directory="")))


def _reading(job: JobConfig, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with which files like those of the job are read.

    Parameters
    ----------
    found : mapping
        Settings that were found in the training files.
    """
    names = job.data.train[:1]
    keys = ("format", "delimiter", *READING_KEYS)
    return {
        **{key: found.get(key, getattr(job.data, key)) for key in keys},
        "ending": Path(names[0]).suffix if names else "",
    }
