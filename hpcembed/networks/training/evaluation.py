"""What a network says about rows: logits, accuracy and loss, in large batches without gradients."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hpcembed.networks.training.model import Classifier
from hpcembed.networks.training.samples import Batches, InputScaling, Rows

__all__ = ["evaluate", "predict_logits", "tally"]

#: Rows per batch of an evaluation, at most; wide rows take fewer, by their bytes.
EVALUATION_ROWS = 4096
EVALUATION_BYTES = 1 << 25


def evaluate(
    model: Classifier,
    rows: Rows,
    labels: NDArray[np.int64],
    chosen: torch.Tensor | None = None,
) -> tuple[float, float]:
    """Accuracy and mean loss over the chosen rows, or all; NaN where there are none."""
    logits = _logits(model, rows, chosen)
    truth = torch.tensor(labels, device=logits.device)
    if chosen is not None:
        truth = truth[chosen.to(truth.device)]
    accuracy = (logits.argmax(1) == truth).to(torch.float64).mean()
    return float(accuracy), float(functional.cross_entropy(logits, truth))


def tally(
    model: Classifier, rows: Batches, labels: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """Correct answers, sum of the losses and number of the chosen rows: what ranks can add up.

    Not collective.

    Returns
    -------
    Tensor of shape (3,), float64
        Where the model is.
    """
    model.eval()
    total = torch.zeros(3, dtype=torch.float64, device=model.shift.device)
    size = _block_rows(model)
    with torch.inference_mode():
        for first in range(0, len(chosen), size):
            part = chosen[first : first + size]
            logits = model.layers(rows.batch(part))
            truth = labels[part.to(labels.device)]
            total[0] += (logits.argmax(1) == truth).sum()
            total[1] += functional.cross_entropy(logits, truth, reduction="sum")
            total[2] += len(part)
    return total


def _block_rows(model: Classifier) -> int:
    return max(1, min(EVALUATION_ROWS, EVALUATION_BYTES // (4 * model.shift.numel())))


def _logits(model: Classifier, rows: Rows, chosen: torch.Tensor | None) -> torch.Tensor:
    model.eval()
    n = len(rows) if chosen is None else len(chosen)
    size = _block_rows(model)
    parts = []
    with torch.inference_mode():
        for first in range(0, max(n, 1), size):
            if chosen is None:
                batch = rows.block(first, first + size)
            else:
                batch = rows.batch(chosen[first : first + size])
            parts.append(model.layers(batch))
        return torch.cat(parts)


def predict_logits(model: Classifier, inputs: NDArray[np.generic]) -> NDArray[np.float32]:
    """Logits of rows as they were given to training, in batches.

    Not collective.

    Parameters
    ----------
    inputs : ndarray of shape (n, d)

    Returns
    -------
    ndarray of shape (n, n_classes), float32
    """
    scaling = InputScaling(model.shift.cpu().numpy(), model.scale.cpu().numpy())
    logits = _logits(model, Rows(inputs, scaling, model.shift.device), None)
    return np.asarray(logits.cpu().numpy(), dtype=np.float32)
