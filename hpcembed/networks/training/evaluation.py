"""Evaluation of a network: logits, accuracy and loss, in large batches without gradients."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hpcembed.networks.training.batches import ArrayBatches, Batches
from hpcembed.networks.training.classifier import Classifier
from hpcembed.networks.training.input_scaling import InputScaling

__all__ = [
    "MOST_CONFUSION_CLASSES",
    "confusion_counts",
    "confusion_rows",
    "evaluate",
    "predict_logits",
    "tally",
]

#: Classes beyond which a report has no confusion matrix.
MOST_CONFUSION_CLASSES = 100

#: Rows per batch of an evaluation, at most; wide rows take fewer, by their bytes.
EVALUATION_ROWS = 4096
EVALUATION_BYTES = 1 << 25


def evaluate(
    model: Classifier, rows: Batches, labels: torch.Tensor, chosen: torch.Tensor
) -> tuple[float, float]:
    """Return accuracy and mean loss over the chosen rows; NaN if there are none."""
    logits = _logits(model, rows, chosen)
    truth = labels[chosen.to(labels.device)]
    accuracy = (logits.argmax(1) == truth).to(torch.float64).mean()
    return float(accuracy), float(functional.cross_entropy(logits, truth))


def tally(
    model: Classifier, rows: Batches, labels: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """Return correct predictions, sum of the losses and number of the chosen rows.

    Ranks can add these up.

    Returns
    -------
    Tensor of shape (3,), float64
        On the device of the model.
    """
    model.eval()
    total = torch.zeros(3, dtype=torch.float64, device=model.shift.device)
    with torch.inference_mode():
        for part in chosen.split(_block_rows(model)):
            logits = model.layers(rows.batch(part))
            truth = labels[part.to(labels.device)]
            total[0] += (logits.argmax(1) == truth).sum()
            total[1] += functional.cross_entropy(logits, truth, reduction="sum")
            total[2] += len(part)
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
