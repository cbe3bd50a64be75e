"""Predictions of a model for the rows of a file: each rank reads and predicts its rows.

The output file is the same to the byte for any number of ranks: rows are computed at their place in
the whole table (:mod:`hpcembed.jobs.export.inference`), with one BLAS thread.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import threadpoolctl
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.labels import as_classes, codes_of
from hpcembed.data.number_text import NumberStyle
from hpcembed.data.prediction_input import read_prediction_input
from hpcembed.data.settings import DataSettings
from hpcembed.data.table import Table
from hpcembed.data.targets import STYLES, as_targets
from hpcembed.data.text.prediction_texts import read_prediction_texts
from hpcembed.jobs.configuration import override_data
from hpcembed.jobs.export.deployed_model import DeployedModel
from hpcembed.jobs.export.inference import (
    DeployedClassifier,
    DeployedRegressor,
    load,
    probabilities,
)
from hpcembed.jobs.export.prediction_text import (
    accuracy_line,
    error_line,
    prediction_csv,
    target_csv,
)
from hpcembed.jobs.export.row_files import check_label_overrides
from hpcembed.jobs.export.run_export import READING_KEYS
from hpcembed.runtime.agreement import agreement, idle_while_root
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.logging import show
from hpcembed.runtime.output.files import write_whole
from hpcembed.runtime.output.lock import owned_output
from hpcembed.runtime.ranks import check_launcher, gather_rows, sum_over_ranks

__all__ = ["predict_file"]

_log = logging.getLogger(__name__)


def predict_file(
    model_path: Path,
    file: Path,
    comm: MPI.Intracomm,
    *,
    labels: Path | None = None,
    overrides: Sequence[str] = (),
    out: Path | None = None,
) -> float | None:
    """Predict the class, or the target of a regression, of every row of a file.

    Collective.

    Parameters
    ----------
    model_path : Path
        Folder of a model, or of a run.
    file : Path
        In one of the formats of ``data.format``.
    labels : Path, optional
        File of the labels of the rows, for formats without labels.
    overrides : sequence of str
        ``data.key=value``: settings of the reader that differ from those of the training data.
    out : Path, optional
        CSV file with row (from 1), file name of an image, and the predicted class with its
        probability, or the predicted target in its unit; default: standard output.

    Returns
    -------
    float or None
        Accuracy over the rows whose label is one of the classes of the model, or R2; None without
        labels.

    Raises
    ------
    HpcembedError
        On all ranks, one line.
    """
    with owned_output(comm, out):
        return _predict_file(model_path, file, comm, labels, overrides, out)


def _predict_file(
    model_path: Path,
    file: Path,
    comm: MPI.Intracomm,
    labels: Path | None,
    overrides: Sequence[str],
    out: Path | None,
) -> float | None:
    with agreement(comm):
        check_launcher(comm)
        model = load(model_path)
        config = override_data(_reader_settings(model, file), overrides)
    if model.vectoriser is not None:
        table, has_labels = _documents(model, config, file, labels, comm)
    else:
        table, has_labels = read_prediction_input(
            config,
            file,
            labels,
            model.n_features_in_,
            comm,
            row_shape=model.row_shape_ or (),
            names=tuple(getattr(model, "feature_names_in_", ())),
            encoding=model.encoding,
        )
    check_label_overrides(overrides, file, has_labels=has_labels)
    with agreement(comm), threadpoolctl.threadpool_limits(1):
        ordered = table.rows if model.encoding else _columns(model, table, file, comm.rank)
        try:
            if isinstance(model, DeployedRegressor):
                predicted = model.predict(ordered, table.start)
            else:
                logits = model.predict_logits(ordered, table.start)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
    gathered = comm.gather(table.row_names)
    files = [name for names in gathered or () for name in names]
    score, line = None, ""
    if isinstance(model, DeployedRegressor):
        if has_labels:
            style = STYLES.get(config.target_numbers, "plain")
            score, line = _errors(table, predicted, style, comm)
        targets = gather_rows(comm, predicted)
        idle_while_root(comm, lambda: _write_targets(targets, out, files))
    else:
        codes = logits.argmax(axis=1)
        chances = probabilities(logits)[np.arange(codes.size), codes]
        if has_labels:
            score, line = _accuracy(model, table, codes, comm)
        all_codes, all_chances = gather_rows(comm, codes), gather_rows(comm, chances)
        names = model.model.class_names
        idle_while_root(comm, lambda: _write(names, all_codes, all_chances, out, files))
    if comm.rank == 0 and line:
        # Standard output may hold the predictions.
        show(line) if out is not None else _log.info(line)
    return score


def _documents(
    model: DeployedModel,
    config: DataSettings,
    file: Path,
    labels: Path | None,
    comm: MPI.Intracomm,
) -> tuple[Table, bool]:
    """Return documents as rows of the terms of the model. Collective."""
    assert model.vectoriser is not None  # a model of text
    if labels is not None:
        raise ConfigError(f"--labels {labels}: documents have their labels with them")
    table, has_labels = read_prediction_texts(config, file, model.model.class_names, comm)
    with agreement(comm):
        table = dataclasses.replace(table, rows=model.vectoriser.transform(table.rows))
    return table, has_labels


def _reader_settings(model: DeployedModel, file: Path) -> DataSettings:
    """Return the settings of the reader of the training data that apply to this file."""
    stored = model.description.get("reading")
    known = stored if isinstance(stored, dict) else {}
    is_like_training = file.suffix == known.get("ending")
    names = [*READING_KEYS, "delimiter"] if is_like_training else READING_KEYS
    values = {name: known[name] for name in names if _is_valid(name, known.get(name))}
    config = msgspec.structs.replace(DataSettings(name="prediction input"), **values)
    # The format of folders and archives is found from the files: .gz is the ending of many formats.
    is_like_training &= not file.is_dir() and known.get("format") != "text_tar"
    if is_like_training and known.get("format") not in (None, "digits", "diabetes"):
        return override_data(config, [f"data.format={known['format']}"])
    return config


def _is_valid(key: str, value: object) -> bool:
    """Return whether a value that a model folder holds is one of a key of [data]."""
    try:
        msgspec.convert({key: value}, DataSettings)
    except msgspec.ValidationError:
        return False
    return True


def _columns(model: DeployedModel, table: Table, file: Path, rank: int) -> Any:
    """Return the rows with the columns of the model in its order, where columns have names."""
    names, wanted = table.feature_names, model.model.feature_names
    if names == wanted or not names or not wanted:
        if table.rows.shape[1] != model.n_features_in_:
            raise InputError(
                f"{file}: {table.rows.shape[1]} features where the model takes "
                f"{model.n_features_in_}"
            )
        return table.rows
    places = {name: place for place, name in enumerate(names)}
    missing = [name for name in wanted if name not in places]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InputError(f"{file}: lacks columns of the model: {', '.join(missing[:5])}{more}")
    counts = Counter(names)
    repeated = [name for name in wanted if counts[name] > 1]
    if repeated:
        raise InputError(f"{file}: {counts[repeated[0]]} columns are named {repeated[0]!r}")
    used = set(wanted)
    surplus = [name for name in names if name not in used]
    if surplus and rank == 0:
        _log.info("%s: columns that the model does not use: %s", file, ", ".join(surplus[:10]))
    return table.rows[:, [places[name] for name in wanted]]


def _accuracy(
    model: DeployedClassifier, table: Table, codes: NDArray[np.int64], comm: MPI.Comm
) -> tuple[float | None, str]:
    with agreement(comm):
        truth = codes_of(as_classes(table.labels), model.model.class_names)
    mine = np.array([np.count_nonzero(truth >= 0), np.count_nonzero(truth == codes), truth.size])
    comm.Allreduce(MPI.IN_PLACE, mine)
    known, correct, total = (int(count) for count in mine)
    return (correct / known if known else None), accuracy_line(known, correct, total)


def _errors(
    table: Table, predicted: NDArray[np.float64], style: NumberStyle, comm: MPI.Comm
) -> tuple[float | None, str]:
    """Return R2, and the line with R2, RMSE and MAE. Collective."""
    targets = np.empty(0)
    with agreement(comm):
        targets = as_targets(table.labels, table.start, style).values
    n, total = sum_over_ranks(comm, np.array([targets.size, targets.sum()], dtype=np.float64))
    mean, error = total / n, predicted - targets
    parts = np.array([np.sum(error**2), np.sum(np.abs(error)), np.sum((targets - mean) ** 2)])
    squares, absolute, spread = sum_over_ranks(comm, parts).tolist()
    return error_line(int(n), squares, absolute, spread)


def _write_targets(
    predicted: NDArray[np.float64] | None, out: Path | None, files: Sequence[str]
) -> None:
    assert predicted is not None  # on rank 0
    _show_or_write(target_csv(predicted, files), out)


def _show_or_write(text: str, out: Path | None) -> None:
    if out is None:
        show(text.removesuffix("\n"), is_data=True)
    else:
        write_whole(out, text.encode("utf-8"))


def _write(
    names: Sequence[str],
    codes: NDArray[np.int64] | None,
    chances: NDArray[np.float64] | None,
    out: Path | None,
    files: Sequence[str],
) -> None:
    assert codes is not None and chances is not None  # noqa: PT018 (on rank 0)
    _show_or_write(prediction_csv(names, codes, chances, files), out)
