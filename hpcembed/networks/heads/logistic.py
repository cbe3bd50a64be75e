"""Multinomial logistic regression to convergence, with the penalty chosen on validation rows.

The loss is the mean cross-entropy plus ``l2 / 2`` times the squared norm of the weights; the bias
has no penalty. Features are centred and divided by one number, the root of their mean variance, so
that a penalty has the same meaning for all projections; the head that is returned applies to the
features as they are. scipy's L-BFGS, in variables in which the curvature is at most 1, solves from
the largest penalty to the smallest, each from the previous solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import NDArray

from hpcembed.runtime.errors import InputError

__all__ = ["PENALTIES", "LogisticHead", "fit_head", "select_head"]

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]

#: Penalties among which validation rows choose.
PENALTIES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)

#: Penalties that are tried after the best one.
_PATIENCE = 1

_MAX_ITERATIONS = 2000
_GRADIENT = 1e-5


@dataclass(frozen=True, slots=True, repr=False)
class LogisticHead:
    """Linear classifier: the class with the largest logit ``weights @ x + bias``.

    Attributes
    ----------
    weights : ndarray of shape (C, k)
    bias : ndarray of shape (C,)
    l2 : float
        Penalty it was fitted with.
    converged : bool
        Whether the largest entry of the gradient is at most 1e-5.
    iterations : int
        Iterations of L-BFGS.
    """

    weights: Matrix
    bias: NDArray[np.float64]
    l2: float
    converged: bool
    iterations: int

    def __repr__(self) -> str:
        n_classes, k = self.weights.shape
        state = "converged" if self.converged else "not converged"
        return f"<LogisticHead: {k} features, {n_classes} classes, l2 {self.l2:g}, {state}>"

    def logits(self, features: Matrix) -> Matrix:
        """Return the logits of rows, shape (n, C)."""
        return features @ self.weights.T + self.bias

    def accuracy(self, features: Matrix, labels: Labels) -> float:
        """Return the share of rows whose class is predicted."""
        return float(np.mean(self.logits(features).argmax(axis=1) == labels))


@dataclass(frozen=True)
class _Scaled:
    """Centred features with mean variance 1."""

    rows: Matrix
    mean: NDArray[np.float64]
    scale: float

    @staticmethod
    def of(features: Matrix) -> _Scaled:
        mean = features.mean(axis=0)
        rows = features - mean
        scale = float(np.sqrt(np.mean(np.square(rows))))
        if not scale > 0:
            raise InputError("all rows have the same features: no head can be fitted")
        rows /= scale
        return _Scaled(rows, mean, scale)


def fit_head(
    features: Matrix,
    labels: Labels,
    n_classes: int,
    l2: float,
    *,
    max_iterations: int = _MAX_ITERATIONS,
) -> LogisticHead:
    """Fit a head with a given penalty.

    Parameters
    ----------
    features : ndarray of shape (n, k)
    labels : ndarray of int, shape (n,)
        Class codes from 0 to ``n_classes - 1``.
    l2 : float
        Penalty of the weights of scaled features; see the module.

    Raises
    ------
    InputError
        If all rows are equal.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> head = fit_head(X, y, 3, 1e-4)
    >>> head.converged, head.weights.shape, round(head.accuracy(X, y), 2)
    (True, (3, 4), 0.98)
    """
    scaled = _Scaled.of(features)
    start = np.zeros((n_classes, features.shape[1] + 1))
    found, converged, iterations = _minimise(scaled.rows, labels, l2, start, max_iterations)
    return _unscaled(scaled, found, l2, converged, iterations)


def select_head(
    features: Matrix,
    labels: Labels,
    n_classes: int,
    validation: tuple[Matrix, Labels],
    penalties: Sequence[float] = PENALTIES,
) -> tuple[LogisticHead, float]:
    """Fit heads with several penalties and return the best one on validation rows.

    The search goes from the largest penalty to the smallest, and ends at the first one that does
    not improve the accuracy.

    Returns
    -------
    head : LogisticHead
    accuracy : float
        On validation rows.
    """
    scaled = _Scaled.of(features)
    found = np.zeros((n_classes, features.shape[1] + 1))
    best: LogisticHead | None = None
    best_accuracy, tried = -1.0, 0
    for l2 in sorted(penalties, reverse=True):
        found, converged, iterations = _minimise(scaled.rows, labels, l2, found, _MAX_ITERATIONS)
        head = _unscaled(scaled, found, l2, converged, iterations)
        accuracy = head.accuracy(*validation)
        tried += 1
        if accuracy > best_accuracy:
            best, best_accuracy, tried = head, accuracy, 0
        if tried == _PATIENCE:
            break
    assert best is not None  # there is a penalty
    return best, best_accuracy


def cross_entropy(logits: Matrix, labels: Labels) -> tuple[float, Matrix]:
    """Return the mean cross-entropy and its gradient; `logits` is overwritten by the gradient."""
    n = len(labels)
    rows = np.arange(n)
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[rows, labels]
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(total[:, 0]) - own))
    logits /= total
    logits[rows, labels] -= 1
    logits /= n
    return loss, logits


def _minimise(
    rows: Matrix, labels: Labels, l2: float, start: Matrix, max_iterations: int
) -> tuple[Matrix, bool, int]:
    """Return weights and bias (C, k + 1), whether they converged, and the iterations.

    The Hessian is at most ``S / 2 + l2 I`` for each class, with the scatter S of the rows over n
    (Boehning, Ann. Inst. Statist. Math. 44, 1992). With the inverse of its Cholesky factor as
    change of variables, L-BFGS needs few iterations even if features have different variances.
    """
    n, k = rows.shape
    bound = 0.5 * (rows.T @ rows) / n
    bound.flat[:: k + 1] += l2
    factor = scipy.linalg.cholesky(bound, lower=True)
    change = scipy.linalg.solve_triangular(factor, np.eye(k), lower=True)
    changed_rows = rows @ change.T

    def objective(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        together = parameters.reshape(start.shape)
        changed, bias = together[:, :-1], together[:, -1]
        weights = changed @ change
        loss, slope = cross_entropy(changed_rows @ changed.T + bias, labels)
        penalty = l2 * (weights @ change.T)
        gradient = np.column_stack([slope.T @ changed_rows + penalty, slope.sum(axis=0)])
        return loss + 0.5 * l2 * float(np.square(weights).sum()), gradient.ravel()

    # the gradient in the weights is this one times the factor
    tolerance = _GRADIENT / max(1.0, float(np.linalg.norm(factor, 2)))
    found = scipy.optimize.minimize(
        objective,
        np.column_stack([start[:, :-1] @ factor, start[:, -1]]).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iterations, "gtol": tolerance, "ftol": 0.0, "maxcor": 20},
    )
    together, gradient = found.x.reshape(start.shape), found.jac.reshape(start.shape)
    largest = max(np.abs(gradient[:, :-1] @ factor.T).max(), np.abs(gradient[:, -1]).max())
    solution = np.column_stack([together[:, :-1] @ change, together[:, -1]])
    return solution, bool(largest <= _GRADIENT), int(found.nit)


def _unscaled(
    scaled: _Scaled, found: Matrix, l2: float, converged: bool, iterations: int
) -> LogisticHead:
    weights = found[:, :-1] / scaled.scale
    return LogisticHead(weights, found[:, -1] - weights @ scaled.mean, l2, converged, iterations)
