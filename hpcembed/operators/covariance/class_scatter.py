"""Scatter of rows between classes and within classes, and their covariance with targets.

Means are those of rows that are shifted by the mean of all rows, so that a large offset costs no
digits. The scatter within classes is a sum of squares of rows less the mean of their class; the
difference of total and between-class scatter would cancel where classes are far apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

from hpcembed.data.matrix import RowSource, reading
from hpcembed.operators.covariance.covariance import reduce_triangle
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["ClassScatter", "TargetCovariance", "class_scatter", "target_covariance"]

#: Sparse rows made dense at a time.
_DENSE_ROWS = 256


@dataclass(frozen=True, slots=True)
class ClassScatter:
    """Moments of rows with classes, the same on every rank.

    Attributes
    ----------
    mean, variances : ndarray of shape (d,)
        Of all rows; sample variances.
    counts : ndarray of int, shape (c,)
        Rows of each class.
    offsets : ndarray of shape (c, d)
        Mean of each class less the mean of all rows; zero for a class without rows.
    within : ndarray of shape (d, d)
        Lower triangle of the mean square of the rows less the mean of their class.
    fourth_powers : float
        Sum of the fourth powers of the distances of the rows to the mean of their class.
    """

    mean: NDArray[np.float64]
    variances: NDArray[np.float64]
    counts: NDArray[np.int64]
    offsets: NDArray[np.float64]
    within: NDArray[np.float64]
    fourth_powers: float

    @property
    def between_factor(self) -> NDArray[np.float64]:
        """Matrix M of shape (c, d): ``M'M`` is the between-class scatter, divided by n."""
        shares = np.sqrt(self.counts / self.counts.sum())
        return np.asarray(self.offsets * shares[:, np.newaxis])


def class_scatter(X: RowSource, codes: NDArray[np.int64], n_classes: int) -> ClassScatter:
    """Return the scatter of the rows of `X`.

    Collective: three passes over the rows.

    Parameters
    ----------
    codes : ndarray of int, shape (n_local,)
        Class of each of this rank's rows, from 0 to ``n_classes - 1``.
    """
    mean, variances = column_moments(X)
    counts = X.comm.allreduce(np.bincount(codes, minlength=n_classes))
    sums = np.zeros((n_classes, X.n_features))
    with reading(X):
        for first, block in X.blocks():
            b = block.shape[0]
            part = codes[first : first + b]
            members: Any = scipy.sparse.csr_array(
                (np.ones(b), (part, np.arange(b))), shape=(n_classes, b)
            )
            if scipy.sparse.issparse(block):
                sums += (members @ block).toarray() - members.sum(axis=1)[:, np.newaxis] * mean
            else:
                sums += members @ (block - mean)
    offsets = sum_over_ranks(X.comm, sums) / np.maximum(counts, 1)[:, np.newaxis]
    within, fourth_powers = _within(X, codes, mean + offsets)
    return ClassScatter(mean, variances, counts, offsets, within, fourth_powers)


def _within(
    X: RowSource, codes: NDArray[np.int64], means: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return the lower triangle within classes, and the sum of fourth powers. Collective."""
    d = X.n_features
    lower, powers = np.zeros((d, d), order="F"), np.zeros(1)
    with reading(X):
        for first, rows in _dense_blocks(X):
            centred = rows - means[codes[first : first + len(rows)]]
            powers += np.square(np.einsum("ij,ij->i", centred, centred)).sum()
            # the transpose of row-major rows is column-major: BLAS reads it in place
            lower = dsyrk(1.0, centred.T, beta=1.0, c=lower, lower=1, overwrite_c=1)
    reduce_triangle(X.comm, lower)
    return lower / X.n_rows, float(sum_over_ranks(X.comm, powers)[0])


@dataclass(frozen=True, slots=True)
class TargetCovariance:
    """Moments of rows with targets, divided by n, the same on every rank.

    Attributes
    ----------
    mean, variances : ndarray of shape (d,)
        Of the rows; sample variances.
    total : ndarray of shape (d, d)
        Lower triangle of the covariance of the rows.
    cross : ndarray of shape (t, d)
        Covariance of the targets and the rows.
    targets : ndarray of shape (t, t)
        Covariance of the targets.
    """

    mean: NDArray[np.float64]
    variances: NDArray[np.float64]
    total: NDArray[np.float64]
    cross: NDArray[np.float64]
    targets: NDArray[np.float64]


def target_covariance(X: RowSource, targets: NDArray[np.float64]) -> TargetCovariance:
    """Return the covariances of the rows of `X` and their targets.

    Collective: two passes over the rows.

    Parameters
    ----------
    targets : ndarray of shape (n_local, t)
        Targets of this rank's rows.
    """
    mean, variances = column_moments(X)
    d, t, n = X.n_features, targets.shape[1], X.n_rows
    target_mean = sum_over_ranks(X.comm, targets.sum(axis=0)) / n
    residual = targets - target_mean
    lower, cross = np.zeros((d, d), order="F"), np.zeros((t, d))
    with reading(X):
        for first, rows in _dense_blocks(X):
            centred = np.subtract(rows, mean, order="C")
            cross += residual[first : first + len(rows)].T @ centred
            lower = dsyrk(1.0, centred.T, beta=1.0, c=lower, lower=1, overwrite_c=1)
    reduce_triangle(X.comm, lower)
    cross = sum_over_ranks(X.comm, cross) / n
    squares = sum_over_ranks(X.comm, np.ascontiguousarray(residual.T @ residual)) / n
    return TargetCovariance(mean, variances, lower / n, cross, squares)


def _dense_blocks(X: RowSource) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first local index of some rows, and the rows as a dense array."""
    for first, block in X.blocks():
        if not scipy.sparse.issparse(block):
            yield first, block
            continue
        for begin in range(0, block.shape[0], _DENSE_ROWS):
            rows: Any = block[begin : begin + _DENSE_ROWS]
            yield first + begin, rows.toarray()
