"""Exact covariance of rows of integers of 8 or 16 bits.

A covariance does not change when all rows are shifted. Compiled squares
(:mod:`hpcembed.operators.native.dense_square`) shift by the first row, so that constant columns
become zero. Products of bytes are below 2**16 then, and the sum of 144 of them, below 2**24, is
exact in single precision in any order. Without the library, bytes minus 128 serve, in blocks of
1,008 rows. Integers of 16 bits are multiplied in double precision, whose sums are exact up to
2**53. Sums of blocks are added exactly.

From the integers S = Z'Z and s = Z'1 of the shifted rows Z, the mean is q + r / n, with an integer
q nearest to s / n, and the centred square is ``S - q s' - s q' + n q q' - r r' / n``. All but the
last term are integers; the last one is at most half of the diagonal. So the result has a few
roundings per entry, and is the same on any number of ranks and threads.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.operators.covariance.covariance import reduce_triangle
from hpcembed.operators.covariance.covariance_passes import Moments
from hpcembed.operators.covariance.saved_sums import add_rows
from hpcembed.operators.native.dense_square import LARGEST_SQUARE, dense_square
from hpcembed.operators.native.stored_rows import StoredRows, as_numbers
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.machine.native_library import instruction_set
from hpcembed.runtime.ranks import sum_over_ranks
from miramns.checkpointing import CheckpointStore

__all__ = ["has_integers", "integer_triangle"]

#: Middle of the range of each type, and the number of rows for which all sums are exact.
_MIDDLE = {np.dtype(kind): middle for kind, middle in zip("BbHh", (128, 0, 32768, 0), strict=True)}
_MOST_ROWS = {1: 2**31 - 1, 2: 2**21}

#: Rows of a block for numpy: at most 1,023 bytes for exact sums, and a multiple of 16.
_BLOCK_ROWS = 1008

Sums = tuple[NDArray[np.float64], NDArray[np.float64]]


def has_integers(X: RowSource, *, centred: bool) -> bool:
    """Return whether :func:`integer_triangle` takes the rows: dense short integers in memory.

    Collective: the rows of all ranks must have one type.
    """
    if not isinstance(X, DataMatrix) or X.is_sparse:
        return False
    rows, shift, _ = X.stored_rows
    rows = as_numbers(rows)
    types = set(X.comm.allgather(rows.dtype))
    is_usable = rows.dtype in _MIDDLE and X.n_rows <= _MOST_ROWS[rows.dtype.itemsize]
    return len(types) == 1 and is_usable and (centred or shift is None)


def integer_triangle(
    X: DataMatrix, moments: Moments, threads: int = 1, checkpoint: CheckpointStore | None = None
) -> NDArray[np.float64]:
    """Return the lower triangle of the covariance, or of ``X'X / (n - 1)``, to a few roundings.

    Collective: some reductions. Completes `moments`.

    Parameters
    ----------
    X : DataMatrix
        For which :func:`has_integers` is true.
    moments : Moments
        Its `centred` selects the operator.
    threads : int
        Threads of compiled squares.
    checkpoint : CheckpointStore, optional
        Where sums are saved between parts of the rows.

    Returns
    -------
    lower : ndarray of shape (d, d)
        Column-major, on every rank. Entries above the diagonal have no meaning.
    """
    rows, shift, factor = X.stored_rows
    rows, n = as_numbers(rows), X.n_rows
    with agreement(X.comm):
        is_compiled = instruction_set() is not None and X.n_features <= LARGEST_SQUARE
    is_compiled = X.comm.allreduce(is_compiled, op=MPI.LAND)
    origin = np.full(X.n_features, _MIDDLE[rows.dtype])
    if is_compiled:
        origin = _first_row(X.comm, rows)
    total, sums = np.zeros((X.n_features,) * 2), np.zeros(X.n_features)

    def add(first: int, last: int) -> int:
        part = rows[first:last]
        if is_compiled:
            lower, columns = _compiled_sums(part, origin, threads)
        else:
            lower, columns = _numpy_sums(part, _MIDDLE[rows.dtype])
        np.add(total, lower.T, out=total)
        np.add(sums, columns, out=sums)
        return last

    saved = {"square": total, "sums": sums}
    add_rows(X, add, saved, checkpoint, origin=hashlib.sha256(origin.tobytes()).hexdigest())
    square = total.T
    reduce_triangle(X.comm, square)
    S, s = square.astype(np.int64), sum_over_ranks(X.comm, sums).astype(np.int64)
    mean = origin + s / n
    if moments.centred:
        q = np.rint(s / n).astype(np.int64)
        r = s - n * q
        S = S - np.outer(q, s)
        S = S - np.outer(r, q)
        lower = S - np.outer(r, r) / n
    else:
        # x'y of rows from those of rows minus the origin
        S += np.outer(origin, s) + np.outer(s + n * origin, origin)
        lower = S.astype(np.float64)
    lower = lower / max(n - 1, 1)
    if shift is not None:
        mean -= shift
    if factor is not None:
        lower *= factor
        lower *= factor[:, None]
        mean *= factor
    if moments.centred:
        moments.mean, moments.variances = mean, lower.diagonal().copy()
    return lower


def _first_row(comm: MPI.Comm, rows: NDArray[Any]) -> NDArray[np.int64]:
    """Return the first row of the first rank that has one. Collective."""
    owner = comm.allreduce(comm.rank if len(rows) else comm.size, op=MPI.MIN)
    first = np.zeros(rows.shape[1], np.int64)
    if comm.rank == owner:
        first[:] = rows[0]
    comm.Bcast(first, root=owner)
    return first


def _compiled_sums(rows: NDArray[Any], origin: NDArray[np.int64], threads: int) -> Sums:
    """Return ``Z'Z``, its lower triangle, and ``Z'1`` for this rank's rows minus `origin`."""
    Z = StoredRows(rows, origin.astype(np.float64))
    if rows.itemsize == 1:
        return dense_square(Z, np.float32, exact=True, threads=threads)
    return dense_square(Z, np.float64, threads=threads)


def _numpy_sums(rows: NDArray[Any], middle: int) -> Sums:
    """Return the same by numpy, for rows minus the middle of the range of their type."""
    d = rows.shape[1]
    kind = np.dtype(np.float32 if rows.itemsize == 1 else np.float64)
    total, part = np.zeros((d, d)), np.empty((d, d), dtype=kind)
    sums = np.zeros(d)
    buffer = np.empty((min(len(rows), _BLOCK_ROWS), d), dtype=kind)
    ones = np.ones(len(buffer), dtype=kind)
    for first in range(0, len(rows), _BLOCK_ROWS):
        block = rows[first : first + _BLOCK_ROWS]
        Z = np.subtract(block, kind.type(middle), out=buffer[: len(block)], dtype=kind)
        # numpy calls the symmetric update, with the threads of BLAS
        np.matmul(Z.T, Z, out=part)
        np.add(total, part, out=total)
        sums += ones[: len(block)] @ Z
    return total.T, sums
