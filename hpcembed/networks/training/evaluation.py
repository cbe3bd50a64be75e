"""Evaluation of a network: outputs, score and loss, in large batches without gradients."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hpcembed.networks.training.batches import ArrayBatches, Batches
from hpcembed.networks.training.classifier import Classifier, Regressor
from hpcembed.networks.training.input_scaling import InputScaling
from hpcembed.networks.training.objectives import SUMS, Objective
from hpcembed.networks.training.report import Evaluation

__all__ = [
    "MOST_CONFUSION_CLASSES",
    "confusion_counts",
    "confusion_rows",
    "evaluate",
    "predict_logits",
    "predict_targets",
    "shown_rows",
    "tally",
]

#: Classes beyond which a report has no confusion matrix.
MOST_CONFUSION_CLASSES = 100

#: Rows per batch of an evaluation, at most; wide rows take fewer, by their bytes.
EVALUATION_ROWS = 4096
EVALUATION_BYTES = 1 << 25
#: Test rows whose targets and predictions a report keeps, at most.
SHOWN_ROWS = 500


def evaluate(
    model: Classifier,
    rows: Batches,
    labels: torch.Tensor,
    chosen: torch.Tensor,
    objective: Objective,
) -> Evaluation:
    """Return score and mean loss over the chosen rows; NaN if there are none."""
    return objective.evaluation(tally(model, rows, labels, chosen, objective).cpu().numpy())


def tally(
    model: Classifier,
    rows: Batches,
    labels: torch.Tensor,
    chosen: torch.Tensor,
    objective: Objective,
) -> torch.Tensor:
    """Return the sums of an objective over the chosen rows, which ranks can add up.

    Returns
    -------
    Tensor of shape (5,), float64
        On the device of the model.
    """
    model.eval()
    total = torch.zeros(SUMS, dtype=torch.float64, device=model.shift.device)
    with torch.inference_mode():
        for part in chosen.split(_block_rows(model)):
            outputs = model.layers(rows.batch(part))
            total += objective.sums(outputs, labels[part.to(labels.device)])
    return total


def confusion_counts(
    model: Classifier, rows: Batches, labels: torch.Tensor, n_classes: int
) -> torch.Tensor:
    """Count all rows of each class by their predicted class.

    Ranks can add the counts up.

    Returns
    -------
    Tensor of shape (n_classes, n_classes), float64
        On the device of the model.
    """
    everything = torch.arange(len(labels), device=rows.held_on)
    predicted = _logits(model, rows, everything).argmax(1)
    counts = torch.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes).to(torch.float64)


def confusion_rows(counts: torch.Tensor) -> tuple[tuple[int, ...], ...]:
    """Return counts as the rows of a report."""
    return tuple(tuple(map(int, row)) for row in counts.tolist())


def _block_rows(model: Classifier) -> int:
    return max(1, min(EVALUATION_ROWS, EVALUATION_BYTES // (4 * model.shift.numel())))


def _logits(model: Classifier, rows: Batches, chosen: torch.Tensor) -> torch.Tensor:
    model.eval()
    with torch.inference_mode():
        parts = chosen.split(_block_rows(model))
        return torch.cat([model.layers(rows.batch(part)) for part in parts])


def predict_logits(model: Classifier, inputs: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the logits of rows that are not standardised, in batches.

    Parameters
    ----------
    inputs : ndarray of shape (n, d)
        As in training.

    Returns
    -------
    ndarray of shape (n, n_classes), float32

    Examples
    --------
    >>> from hpcembed.networks.training.classifier import build_mlp
    >>> model = Classifier(build_mlp(3, (4,), 2), np.zeros(3), np.ones(3))
    >>> predict_logits(model, np.zeros((5, 3))).shape
    (5, 2)
    """
    scaling = InputScaling(model.shift.cpu().numpy(), model.scale.cpu().numpy())
    rows = ArrayBatches(inputs, scaling, model.shift.device)
    logits = _logits(model, rows, torch.arange(len(rows), device=rows.held_on))
    return np.asarray(logits.cpu().numpy(), dtype=np.float32)


def predict_targets(model: Regressor, inputs: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the predictions of a regression for rows that are not standardised, in batches.

    Parameters
    ----------
    inputs : ndarray of shape (n, d)
        As in training.

    Returns
    -------
    ndarray of shape (n,), float64
        In the unit of the target.

    Examples
    --------
    >>> from hpcembed.networks.training.classifier import build_mlp
    >>> model = Regressor(build_mlp(3, (4,), 1), np.zeros(3), np.ones(3), 100.0, 2.0)
    >>> predict_targets(model, np.zeros((5, 3))).shape
    (5,)
    """
    outputs = predict_logits(model, inputs)[:, 0].astype(np.float64)
    return np.asarray(outputs * float(model.target_scale) + float(model.target_shift))


def shown_rows(n_rows: int) -> NDArray[np.int64]:
    """Return the numbers of the rows that represent all rows of a figure, evenly spaced."""
    return np.unique(np.linspace(0, max(n_rows - 1, 0), min(n_rows, SHOWN_ROWS)).astype(np.int64))
