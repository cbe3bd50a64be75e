"""The objective of a training: cross-entropy of classes, or squared error of standardised targets.

A network of a regression has one output. Its targets are standardised in double precision by the
mean and the deviation of the training targets, so that a large offset costs no digits; the loss is
the mean squared error of standardised targets. The score is the accuracy of a classifier and R2 of
a regression, 1 - sum (y - p)^2 / sum (y - mean y)^2 with the mean of the evaluated rows, as in
scikit-learn.

Evaluations are sums over rows, which blocks and ranks add up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hpcembed.networks.training.report import Evaluation
from hpcembed.runtime.errors import InputError

__all__ = ["SUMS", "Objective", "objective_of"]

#: Number of sums of an evaluation.
SUMS = 5

_Labels = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Objective:
    """Loss and score of the outputs of networks.

    Attributes
    ----------
    n_classes : int
        0 for a regression.
    shift, scale : float
        Mean and deviation of the training targets; 0 and 1 for classes.
    """

    n_classes: int
    shift: float = 0.0
    scale: float = 1.0

    @property
    def is_regression(self) -> bool:
        """Whether labels are targets."""
        return self.n_classes == 0

    @property
    def n_outputs(self) -> int:
        """Outputs of a network."""
        return self.n_classes or 1

    def truth(self, labels: _Labels, device: torch.device) -> torch.Tensor:
        """Return the labels of rows as a tensor: int64 codes, or standardised float32 targets."""
        if self.is_regression:
            standardised = (labels - self.shift) / self.scale
            return torch.tensor(standardised, dtype=torch.float32, device=device)
        return torch.tensor(labels, device=device)

    def loss(
        self,
        outputs: torch.Tensor,
        truth: torch.Tensor,
        smoothing: float,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> torch.Tensor:
        """Return the loss of a batch: outputs (m, n_outputs), truth (m,)."""
        if self.is_regression:
            return functional.mse_loss(outputs.squeeze(1), truth, reduction=reduction)
        return functional.cross_entropy(
            outputs, truth, label_smoothing=smoothing, reduction=reduction
        )

    def sums(self, outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return the sums of an evaluation.

        Parameters
        ----------
        outputs : Tensor of shape (..., m, n_outputs)
        truth : Tensor of shape (..., m)

        Returns
        -------
        Tensor of shape (..., 5), float64
            Classes: correct rows, losses, rows, 0, 0. Regression: squared errors, absolute errors,
            rows, targets and their squares, all of standardised targets.
        """
        rows = torch.full(outputs.shape[:-2], outputs.shape[-2], dtype=torch.float64)
        rows = rows.to(outputs.device)
        if self.is_regression:
            wanted = truth.to(torch.float64)
            error = outputs.squeeze(-1).to(torch.float64) - wanted
            parts = [(error**2).sum(-1), error.abs().sum(-1), rows]
            return torch.stack([*parts, wanted.sum(-1), (wanted**2).sum(-1)], dim=-1)
        log_p = torch.log_softmax(outputs, dim=-1)
        losses = -log_p.gather(-1, truth.unsqueeze(-1)).to(torch.float64).sum((-2, -1))
        correct = (outputs.argmax(-1) == truth).sum(-1).to(torch.float64)
        zero = torch.zeros_like(rows)
        return torch.stack([correct, losses, rows, zero, zero], dim=-1)

    def evaluation(self, sums: NDArray[np.float64]) -> Evaluation:
        """Return the score from the sums of all rows, shape (5,); NaN where it is not defined."""
        first, second, n, total, squares = (float(one) for one in sums)
        if not n:
            return Evaluation(math.nan, math.nan)
        if not self.is_regression:
            return Evaluation(first / n, second / n)
        spread = squares - total * total / n
        # Rounding errors of the sums: equal targets have no R2.
        is_defined = spread > 1e-12 * squares
        return Evaluation(
            score=1.0 - first / spread if is_defined else math.nan,
            loss=first / n,
            rmse=self.scale * math.sqrt(first / n),
            mae=self.scale * second / n,
        )


def objective_of(
    labels: _Labels,
    n_classes: int,
    add: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda sums: sums,
) -> Objective:
    """Return the objective for training labels.

    Collective if `add` is.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Class codes, or targets if `n_classes` is 0.
    add : callable, optional
        Adds an array over the ranks that hold labels; by default there is one.

    Raises
    ------
    InputError
        All targets are equal.

    Examples
    --------
    >>> objective_of(np.array([10.0, 30.0]), 0)
    Objective(n_classes=0, shift=20.0, scale=10.0)
    """
    if n_classes:
        return Objective(n_classes)
    # Two passes: squares of distances from a near centre keep their digits at a large offset.
    count, total = add(np.array([labels.size, labels.sum()], dtype=np.float64))
    centre = total / max(count, 1.0)
    moved = labels - centre
    with np.errstate(over="ignore", invalid="ignore"):
        first, second = add(np.array([moved.sum(), (moved**2).sum()])) / max(count, 1.0)
        shift, variance = centre + first, second - first**2
    scale = math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.inf
    if not math.isfinite(scale):
        raise InputError("training rows: the squares of the targets overflow: scale the target")
    if not scale > 1e-15 * abs(shift):
        raise InputError(
            "training rows: all targets are equal, so there is nothing to learn: check the target"
        )
    return Objective(0, float(shift), scale)
