"""Covariance of several sets of features of the same rows, which are distributed over ranks.

One pass over the rows, in blocks and in double precision. Values are taken relative to the first
row of all, and blocks are centred on their own means, which are combined as in Chan, Golub,
LeVeque, "Algorithms for computing the sample variance", The American Statistician 37 (1983). A
constant column so has a variance of exactly zero, and a large offset costs no digits. Each set is
multiplied by a power of two, so that squares neither over- nor underflow. Memory: two square
matrices of the width of all sets together; no matrix has n columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.agreement import agreement, same_on_all_ranks
from hpcembed.runtime.arguments import as_array
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["JointCovariance", "joint_covariance"]

#: Numbers of a block of rows.
_BLOCK = 2**21


@dataclass(frozen=True, slots=True)
class JointCovariance:
    """Sums of products of deviations from the mean, ``Z'Z`` for centred ``Z = [X_1, X_2, ...]``.

    Every X_i is multiplied by a power of two with which its deviations from the first row are at
    most 1. Similarities do not depend on these factors.

    Attributes
    ----------
    sums : ndarray of shape (w, w)
        w is the number of columns of all sets; the same on all ranks.
    exponents : tuple of int
        Exponents of the powers of two: the unscaled set is ``2^exponent X_i``.
    widths : tuple of int
        Columns of each set.
    n_rows : int
        Rows on all ranks.
    """

    sums: NDArray[np.float64]
    exponents: tuple[int, ...]
    widths: tuple[int, ...]
    n_rows: int

    def block(self, i: int, j: int) -> NDArray[np.float64]:
        """Return ``X_i' X_j`` of centred and scaled sets i and j."""
        ends = np.cumsum((0, *self.widths))
        return self.sums[ends[i] : ends[i + 1], ends[j] : ends[j + 1]]


def joint_covariance(
    sets: Sequence[NDArray[Any]], names: Sequence[str], comm: MPI.Intracomm
) -> JointCovariance:
    """Compute the sums of products of all columns of some sets of features.

    Collective.

    Parameters
    ----------
    sets : sequence of ndarray of shape (n_local, p_i)
        This rank's rows of each set, perhaps none; the same rows in all sets.
    names : sequence of str
        Names of the sets for messages.

    Raises
    ------
    InputError
        On all ranks: a set is not a table of finite real numbers, sets have different numbers of
        rows, or there are fewer than 2 rows on all ranks.
    """
    arrays: list[NDArray[Any]] = []
    with agreement(comm):
        arrays = [_table(rows, name) for rows, name in zip(sets, names, strict=True)]
        for rows, name in zip(arrays, names, strict=True):
            if len(rows) != len(arrays[0]):
                raise InputError(
                    f"{names[0]} has {len(arrays[0])} rows and {name} has {len(rows)}: give the "
                    "same rows"
                )
    widths = tuple(rows.shape[1] for rows in arrays)
    same_on_all_ranks(comm, **{f"columns of {n}": w for n, w in zip(names, widths, strict=True)})
    counts = comm.allgather(len(arrays[0]))
    n_rows = sum(counts)
    if n_rows < 2:
        raise InputError(f"{', '.join(names)}: {n_rows} rows: give at least 2")
    origin = _first_row(arrays, counts, comm)
    exponents = _exponents(arrays, origin, names, comm)
    shifts = np.repeat(exponents, widths)
    sums, mean, n_local = _local_sums(arrays, origin, shifts)
    overall = sum_over_ranks(comm, mean * (n_local / n_rows))
    sums += n_local * np.outer(mean - overall, mean - overall)
    sum_over_ranks(comm, sums)
    return JointCovariance(sums, tuple(exponents.tolist()), widths, n_rows)


def _table(rows: Any, name: str) -> NDArray[Any]:
    if scipy.sparse.issparse(rows):
        raise InputError(f"{name}: a sparse matrix: give a dense array")
    array = as_array(name, rows)
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(f"{name}: shape {array.shape}: give rows and at least one column")
    if array.dtype.kind not in "buif":
        raise InputError(f"{name}: type {array.dtype}: give real numbers")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise InputError(f"{name}: row {row} contains NaN or infinity; remove or correct it")
    return array


def _first_row(
    arrays: Sequence[NDArray[Any]], counts: Sequence[int], comm: MPI.Intracomm
) -> NDArray[np.float64]:
    """Return the first row of all sets on every rank. Collective."""
    root = next(rank for rank, count in enumerate(counts) if count)
    row = np.empty(sum(one.shape[1] for one in arrays))
    if comm.rank == root:
        row[:] = np.concatenate([one[0].astype(np.float64) for one in arrays])
    comm.Bcast(row, root=root)
    return row


def _exponents(
    arrays: Sequence[NDArray[Any]],
    origin: NDArray[np.float64],
    names: Sequence[str],
    comm: MPI.Intracomm,
) -> NDArray[np.int64]:
    """Return the exponent of the largest deviation from the first row of each set. Collective."""
    largest = np.zeros(origin.size)
    for block in _deviations(arrays, origin):
        largest = np.maximum(largest, np.max(np.abs(block), axis=0))
    comm.Allreduce(MPI.IN_PLACE, largest, op=MPI.MAX)
    ends = np.cumsum([0, *(one.shape[1] for one in arrays)])
    of_sets = np.maximum.reduceat(largest, ends[:-1])
    if not np.isfinite(of_sets).all():
        name = names[int(np.argmin(np.isfinite(of_sets)))]
        raise InputError(f"{name}: differences of rows overflow: scale the columns")
    return np.frexp(of_sets)[1].astype(np.int64)


def _deviations(
    arrays: Sequence[NDArray[Any]], origin: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Yield the rows of all sets side by side, less the origin, a block at a time."""
    step = max(1, _BLOCK // origin.size)
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, len(arrays[0]), step):
            block = np.hstack([one[first : first + step] for one in arrays]).astype(np.float64)
            block -= origin
            yield block


def _local_sums(
    arrays: Sequence[NDArray[Any]], origin: NDArray[np.float64], shifts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return sums about the mean of this rank's scaled rows, this mean, and the number of rows."""
    w = origin.size
    sums, mean, count = np.zeros((w, w)), np.zeros(w), 0
    for block in _deviations(arrays, origin):
        np.ldexp(block, -shifts, out=block)
        b, block_mean = len(block), block.mean(axis=0)
        block -= block_mean
        difference = block_mean - mean
        sums += block.T @ block
        sums += np.outer(difference, difference) * (count * b / (count + b))
        mean += difference * (b / (count + b))
        count += b
    return sums, mean, count
