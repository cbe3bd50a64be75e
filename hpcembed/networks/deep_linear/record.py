"""Result of a recovery: the factors, and how the iteration went."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.errors import InputError

if TYPE_CHECKING:
    from hpcembed.networks.deep_linear.surrogate_spectrum import SpectralStart

__all__ = ["ConvergedReason", "Recovery", "Stage"]


#: Gradient descent made no progress if the loss changed by less than this share.
_NO_PROGRESS = 0.01


class ConvergedReason(Enum):
    """Why an iteration ended; the value is the text for people."""

    LOSS = "the loss reached its tolerance"
    STEP = "the loss no longer changes"
    ITERATIONS = "the limit of iterations was reached: raise max_iterations"
    NO_PROGRESS = (
        "the loss changed by less than 1 % up to the limit of iterations: "
        "raise learning_rate, scale or max_iterations"
    )
    DIVERGED = "the loss is not finite or grew a millionfold: reduce learning_rate or step"

    @property
    def converged(self) -> bool:
        """Whether the iteration met its tolerance."""
        return self is ConvergedReason.LOSS


@dataclass(frozen=True)
class Stage:
    """One stage of a staged start: components added, and iterations with them.

    Attributes
    ----------
    added : int
    rank : int
        Rank of the factors in this stage.
    iterations : int
    """

    added: int
    rank: int
    iterations: int


@dataclass(frozen=True, eq=False, repr=False)
class Recovery:
    """A recovered matrix ``left @ right.T``.

    Attributes
    ----------
    algorithm, problem : str
    left : ndarray of shape (m_local, k)
        This rank's rows.
    right : ndarray of shape (n, k)
        All columns, on every rank.
    iterations : int
    loss_history : ndarray of shape (iterations + 1,)
        Loss before the first iteration and after each one.
    recovery_error : float
        ``||left right' - truth|| / ||truth||``; NaN if the truth is not known.
    seconds : dict of str to float
        Wall time of ``start`` (spectral start or random weights) and ``iterations``.
    parameters : int
        Trained numbers, on all ranks.
    reason : ConvergedReason
    start : SpectralStart or None
        The start with its residuals; None for a random one.
    weights : tuple of ndarray
        Weights of a deep linear network, input first; empty for other algorithms.
    stages : tuple of Stage
        Stages of the start; empty for deep linear networks.
    """

    algorithm: str
    problem: str
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    iterations: int
    loss_history: NDArray[np.float64]
    recovery_error: float
    seconds: dict[str, float]
    parameters: int
    reason: ConvergedReason
    start: SpectralStart | None = None
    weights: tuple[NDArray[np.float64], ...] = ()
    stages: tuple[Stage, ...] = ()

    def __repr__(self) -> str:
        return f"<Recovery: {self.algorithm}, rank {self.rank}, loss {self.loss:.2e}>"

    def __str__(self) -> str:
        known = not math.isnan(self.recovery_error)
        error = f"; recovery error {self.recovery_error:.2e}" if known else ""
        return (
            f"{self.problem} by {self.algorithm}: rank {self.rank}, "
            f"{self.iterations:,} iterations, loss {self.loss:.2e}{error}; "
            f"{self.parameters:,} parameters; {sum(self.seconds.values()):.2f} s; "
            f"{self.reason.value}"
        )

    @property
    def rank(self) -> int:
        """Number of columns of the factors."""
        return self.left.shape[1]

    @property
    def loss(self) -> float:
        """Loss at the end."""
        return float(self.loss_history[-1])

    @property
    def converged(self) -> bool:
        """Whether the loss met its tolerance."""
        return self.reason.converged

    def iterations_to(self, loss: float) -> int | None:
        """Return the first iteration with at most this loss; None if there is none."""
        below = np.flatnonzero(self.loss_history <= loss)
        return int(below[0]) if below.size else None

    def entries(
        self, rows: NDArray[np.integer[Any]], columns: NDArray[np.integer[Any]]
    ) -> NDArray[np.float64]:
        """Return recovered entries. Not collective.

        Parameters
        ----------
        rows, columns : ndarray of int, shape (entries,)
            Rows are counted from this rank's first one.

        Raises
        ------
        InputError
            A row or column does not exist.
        """
        for name, index, size in (
            ("row", rows, len(self.left)),
            ("column", columns, len(self.right)),
        ):
            outside = (np.asarray(index) < 0) | (np.asarray(index) >= size)
            if outside.any():
                bad = int(np.asarray(index)[outside][0])
                raise InputError(f"{name} {bad} does not exist: give numbers from 0 to {size - 1}")
        found = np.empty(len(rows))
        step = max(1, 2**18 // max(1, self.rank))
        for first in range(0, len(found), step):
            part = slice(first, first + step)
            np.einsum("ij,ij->i", self.left[rows[part]], self.right[columns[part]], out=found[part])
        return found


def reason_at_limit(history: list[float]) -> ConvergedReason:
    """Return the reason of gradient descent that reached its limit of iterations."""
    flat = abs(history[-1] - history[0]) < _NO_PROGRESS * history[0]
    return ConvergedReason.NO_PROGRESS if flat else ConvergedReason.ITERATIONS


def ends(loss: float, first_loss: float, tol: float) -> ConvergedReason | None:
    """Return the reason to end at this loss, or None."""
    if loss <= tol:
        return ConvergedReason.LOSS
    if not math.isfinite(loss) or loss > 1e6 * max(first_loss, tol):
        return ConvergedReason.DIVERGED
    return None
