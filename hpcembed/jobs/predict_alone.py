"""Predictions for the rows of a file by one process, with numpy and safetensors alone.

:mod:`hpcembed.jobs.predict` predicts on any number of ranks and reads every format. This module
serves the small installation, ``pip install hpcembed``; both write the same bytes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.labels import RowLabels, as_classes, codes_of
from hpcembed.data.number_text import NumberStyle
from hpcembed.data.targets import STYLES, as_targets
from hpcembed.jobs.export.deployed_model import DeployedModel
from hpcembed.jobs.export.inference import (
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
from hpcembed.jobs.export.row_files import (
    READ_KEYS,
    check_label_overrides,
    read_label_file,
    read_rows,
)
from hpcembed.runtime.errors import ConfigError, InputError, MissingPackageError
from hpcembed.runtime.launcher import check_single
from hpcembed.runtime.logging import show
from hpcembed.runtime.optional import install_command
from hpcembed.runtime.output.files import write_whole

__all__ = ["predict_alone"]

_log = logging.getLogger(__name__)


def predict_alone(
    model_path: Path,
    file: Path,
    *,
    labels: Path | None = None,
    overrides: Sequence[str] = (),
    out: Path | None = None,
) -> float | None:
    """Predict the class or the target of every row of a CSV, NPY or NPZ file.

    Parameters and result are those of :func:`hpcembed.jobs.predict.predict_file`, without the
    communicator.

    Raises
    ------
    HpcembedError
        One line.
    """
    check_single("run one process, or " + install_command("mpi"))
    model = load(model_path)
    if model.vectoriser is not None:
        raise MissingPackageError(
            f"{file}: the readers of texts are not installed: {install_command('train')}; or "
            "predict a list of texts in Python"
        )
    reading = _reading(model, file, overrides)
    names = tuple(getattr(model, "feature_names_in_", ()))
    takes_columns = model.encoding is not None
    found = read_rows(file, reading, names, model.n_features_in_, takes_columns=takes_columns)
    given = found.labels
    if labels is not None:
        column = reading.get("label_column", "")
        given = read_label_file(labels, column, len(found.rows), file)
    check_label_overrides(overrides, file, has_labels=given is not None)
    if found.unused:
        unused = ", ".join(found.unused[:10])
        _log.info("%s: columns that the model does not use: %s", file, unused)
    try:
        if isinstance(model, DeployedRegressor):
            outputs: NDArray[Any] = model.predict(found.rows)
        else:
            outputs = model.predict_logits(found.rows)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    if isinstance(model, DeployedRegressor):
        style = STYLES.get(reading.get("target_numbers", "plain"), "plain")
        text, score, line = _targets(outputs, given, style)
    else:
        text, score, line = _classes(outputs, model.model.class_names, given)
    if out is None:
        show(text.removesuffix("\n"))
    else:
        write_whole(out, text.encode("utf-8"))
    if line:
        show(line) if out is not None else _log.info(line)
    return score


def _classes(
    logits: NDArray[Any], names: Sequence[str], labels: RowLabels | None
) -> tuple[str, float | None, str]:
    """Return the CSV text of the predictions, the accuracy, and its line."""
    codes = logits.argmax(axis=1)
    chances = probabilities(logits)[np.arange(codes.size), codes]
    text = prediction_csv(names, codes, chances)
    if labels is None:
        return text, None, ""
    truth = codes_of(as_classes(labels), names)
    known, correct = int(np.sum(truth >= 0)), int(np.sum(truth == codes))
    line = accuracy_line(known, correct, truth.size)
    return text, (correct / known if known else None), line


def _targets(
    predicted: NDArray[Any], labels: RowLabels | None, style: NumberStyle
) -> tuple[str, float | None, str]:
    """Return the CSV text of the predictions, R2, and its line."""
    text = target_csv(predicted)
    if labels is None:
        return text, None, ""
    targets = as_targets(labels, 0, style).values
    error = predicted - targets
    spread = float(np.sum((targets - targets.mean()) ** 2))
    sums = float(np.sum(error**2)), float(np.sum(np.abs(error)))
    return text, *error_line(targets.size, *sums, spread)


def _reading(model: DeployedModel, file: Path, overrides: Sequence[str]) -> dict[str, str]:
    """Return the settings of the reader of the training data that apply to this file."""
    stored = model.description.get("reading")
    known = stored if isinstance(stored, dict) else {}
    is_like_training = file.suffix == known.get("ending")
    names = READ_KEYS if is_like_training else READ_KEYS[2:]
    reading = {name: known[name] for name in names if isinstance(known.get(name), str)}
    for override in overrides:
        name, separator, value = override.partition("=")
        section, _, key = name.strip().partition(".")
        if not separator or section != "data" or not key:
            raise ConfigError(f"--set {override}: write --set data.key=value")
        if key not in READ_KEYS:
            listed = ", ".join(READ_KEYS)
            raise ConfigError(f"--set {override}: this installation has the keys {listed}")
        reading[key] = _text(value.strip())
    return reading


def _text(value: str) -> str:
    """Return a string of TOML, or any other text as it is."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == "'" else value
