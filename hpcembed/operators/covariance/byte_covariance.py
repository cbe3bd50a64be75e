"""Exact covariance of rows of bytes.

A covariance does not change when all rows are shifted, so bytes minus 128 serve: integers of at
most 2**7, with products of at most 2**14. Sums of 1,023 such products stay below 2**24, and are
exact in single precision in any order. Squares of blocks of so many rows are added in integers. The
result has one rounding per entry, and is the same on any number of ranks and threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.operators.covariance.covariance import reduce_triangle
from hpcembed.operators.covariance.covariance_passes import Moments
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["byte_triangle", "has_bytes"]

#: Rows of a block: at most 1,023 for exact sums, and a multiple of 16 for aligned blocks.
_BLOCK_ROWS = 1008

#: Rows for which ``n^2 2^14`` fits 64 bits.
_MOST_ROWS = 2**24

_MIDDLE = {np.dtype(np.uint8): 128, np.dtype(np.int8): 0}


def has_bytes(X: RowSource, *, centred: bool) -> bool:
    """Return whether :func:`byte_triangle` takes the rows: dense bytes in memory.

    Collective: the rows of all ranks must have one type.
    """
    if not isinstance(X, DataMatrix) or X.is_sparse or X.n_rows > _MOST_ROWS:
        return False
    rows, shift, _ = X.stored_rows
    types = set(X.comm.allgather(rows.dtype))
    return len(types) == 1 and rows.dtype in _MIDDLE and (centred or shift is None)


def byte_triangle(X: DataMatrix, moments: Moments) -> NDArray[np.float64]:
    """Return the lower triangle of the covariance, or of ``X'X / (n - 1)``, to one rounding.

    Collective: at most four reductions. Completes `moments`.

    Parameters
    ----------
    X : DataMatrix
        For which :func:`has_bytes` is true.
    moments : Moments
        Its `centred` selects the operator.

    Returns
    -------
    lower : ndarray of shape (d, d)
        Column-major, on every rank. Entries above the diagonal have no meaning.
    """
    rows, shift, factor = X.stored_rows
    n, d, middle = X.n_rows, X.n_features, _MIDDLE[rows.dtype]
    least, largest = _ranges(X.comm, rows)
    # A constant column has no covariance: its products are not needed.
    kept = np.flatnonzero(least < largest) if moments.centred else np.arange(d)
    total, column_sums = _integer_sums(rows, kept, middle)
    reduce_triangle(X.comm, total)
    squares = total.astype(np.int64)
    sums = sum_over_ranks(X.comm, column_sums).astype(np.int64)
    if moments.centred:
        # integers below 2**63: n (n - 1) times the covariance
        operator = (n * squares - np.outer(sums, sums)) / (n * max(n - 1, 1))
    else:
        # x'y of rows from those of rows minus the middle
        squares += middle * (sums[:, None] + sums) + n * middle**2
        operator = squares / max(n - 1, 1)
    lower = np.zeros((d, d), order="F")
    lower[np.ix_(kept, kept)] = operator
    mean = least.astype(np.float64)
    mean[kept] = sums / n + middle
    if shift is not None:
        mean -= shift
    if factor is not None:
        lower *= factor
        lower *= factor[:, None]
        mean *= factor
    if moments.centred:
        moments.mean, moments.variances = mean, lower.diagonal().copy()
    return lower


def _ranges(comm: MPI.Comm, rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the least and the largest value of each column on all ranks. Collective."""
    limits = np.iinfo(rows.dtype)
    least = rows.min(axis=0, initial=limits.max).astype(np.int64)
    largest = rows.max(axis=0, initial=limits.min).astype(np.int64)
    comm.Allreduce(MPI.IN_PLACE, least, op=MPI.MIN)
    comm.Allreduce(MPI.IN_PLACE, largest, op=MPI.MAX)
    return least, largest


def _integer_sums(
    rows: NDArray[Any], kept: NDArray[np.intp], middle: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``Z'Z`` and the sums of Z, the columns `kept` of this rank's rows minus `middle`.

    They are integers, exact in double precision up to 2**53, so for 2**39 rows.
    """
    d = len(kept)
    total, part = np.zeros((d, d)), np.empty((d, d), dtype=np.float32)
    sums = np.zeros(d)
    buffer = np.empty((min(len(rows), _BLOCK_ROWS), d), dtype=np.float32)
    ones = np.ones(len(buffer), dtype=np.float32)
    for first in range(0, len(rows), _BLOCK_ROWS):
        block = rows[first : first + _BLOCK_ROWS]
        if d < rows.shape[1]:
            block = block.take(kept, axis=1)
        Z = np.subtract(block, np.float32(middle), out=buffer[: len(block)])
        # numpy calls the symmetric update, with the threads of BLAS
        np.matmul(Z.T, Z, out=part)
        total += part
        sums += ones[: len(block)] @ Z
    return total, sums
