"""Covariance of several sets of features of the same rows, which are distributed over ranks.

One pass over the rows, in blocks and in double precision. Values are taken relative to the first
row of all, and blocks are centred on their own means, which are combined as in Chan, Golub,
LeVeque, "Algorithms for computing the sample variance", The American Statistician 37 (1983). A
constant column so has a variance of exactly zero, and a large offset costs no digits. Memory: two
square matrices of the width of all sets together; no matrix has n columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.agreement import agreement, same_on_all_ranks
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import sum_over_ranks

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["JointCovariance", "joint_covariance"]

#: Numbers of a block of rows.
_BLOCK = 2**21


@dataclass(frozen=True, slots=True)
class JointCovariance:
    """Sums of products of deviations from the mean, ``Z'Z`` for centred ``Z = [X_1, X_2, ...]``.

    Attributes
    ----------
    sums : ndarray of shape (w, w)
        w is the number of columns of all sets; the same on all ranks.
    widths : tuple of int
        Columns of each set.
    n_rows : int
        Rows on all ranks.
    """

    sums: NDArray[np.float64]
    widths: tuple[int, ...]
    n_rows: int

    def block(self, i: int, j: int) -> NDArray[np.float64]:
        """Return ``X_i' X_j`` of centred sets i and j."""
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
    sums, mean, n_local = _local_sums(arrays, origin)
    overall = sum_over_ranks(comm, mean * (n_local / n_rows))
    with np.errstate(over="ignore", invalid="ignore"):
        sums += n_local * np.outer(mean - overall, mean - overall)
        sum_over_ranks(comm, sums)
    if not np.isfinite(sums).all():
        raise InputError(f"{', '.join(names)}: products of the values overflow: scale the columns")
    return JointCovariance(sums, widths, n_rows)


def _table(rows: Any, name: str) -> NDArray[Any]:
    array = np.asarray(rows)
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


def _local_sums(
    arrays: Sequence[NDArray[Any]], origin: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return sums about the mean of this rank's rows, this mean less `origin`, and the rows."""
    w, n_local = origin.size, len(arrays[0])
    sums, mean, count = np.zeros((w, w)), np.zeros(w), 0
    step = max(1, _BLOCK // w)
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, n_local, step):
            block = np.hstack([one[first : first + step] for one in arrays]).astype(np.float64)
            block -= origin
            b, block_mean = len(block), block.mean(axis=0)
            block -= block_mean
            difference = block_mean - mean
            sums += block.T @ block
            sums += np.outer(difference, difference) * (count * b / (count + b))
            mean += difference * (b / (count + b))
            count += b
    return sums, mean, count
