"""Rows of all ranks on every rank, a panel at a time, prepared for a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.operators.kernel.kernel_functions import (
    Kernel,
    Prepared,
    panel_rows,
    tile_rows,
    tiles,
)
from hpcembed.runtime.ranks import MAX_MESSAGE_BYTES

__all__ = ["RowsOfAll", "broadcast_array", "kernel_coordinates"]

#: Rows from which the mean level of a kernel is estimated.
_SAMPLE = 256


class RowsOfAll:
    """The rows of all ranks, prepared for a kernel, a panel at a time on every rank.

    Collective.

    Parameters
    ----------
    X : DataMatrix
    kernel : Kernel
    origin : ndarray of shape (d,), optional
        See :meth:`Kernel.prepare`.
    dtype : {float64, float32}

    Attributes
    ----------
    n_rows, n_local, n_features : int
    counts, starts : ndarray of int64
        Rows of each rank, and the global index of their first one.
    tile, panel : int
        Rows of a tile and of a panel.
    level : float
        Subtracted from the kernel in single precision.
    """

    def __init__(
        self,
        X: DataMatrix,
        kernel: Kernel,
        origin: NDArray[np.float64] | None,
        dtype: type[np.floating[Any]],
    ) -> None:
        self.comm: MPI.Comm = X.comm
        self.kernel, self.origin = kernel, origin
        self.dtype = np.dtype(dtype)
        self.n_features = X.n_features
        self.counts = np.array(X.comm.allgather(X.n_local), dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)])
        self.tile = tile_rows(X.n_features, self.dtype.itemsize)
        self.panel = panel_rows(X.n_features, self.dtype.itemsize)
        self._sparse = X.is_sparse and origin is None
        self._rows = X
        self.level = self._level() if self.dtype == np.float32 else 0.0

    def _level(self) -> float:
        """Return the mean of the kernel of some rows. Collective."""
        owner = int(np.argmax(self.counts > 0))
        level = 0.0
        if self.comm.rank == owner and self.n_local:
            _, some = next(self.own(min(self.tile, _SAMPLE)))
            found = self.kernel.tile(some, some)
            level = float(found.mean()) if np.isfinite(found).all() else 0.0
        return float(self.comm.bcast(level, root=owner))

    def kernel_tile(self, A: Prepared, B: Prepared) -> NDArray[Any]:
        """Return the kernel of rows with other rows, less the level. Not collective."""
        tile = self.kernel.tile(A, B)
        if self.level:
            tile -= self.level
        return tile

    @property
    def n_local(self) -> int:
        """Rows of this rank."""
        return int(self.counts[self.comm.rank])

    @property
    def n_rows(self) -> int:
        """Rows of all ranks."""
        return int(self.starts[-1])

    def diagonal_sum(self) -> float:
        """Return the sum of the kernel of each of this rank's rows with itself. Not collective."""
        return sum(float(self.kernel.diagonal(rows).sum()) for _, rows in self.own(self.tile))

    def own(self, count: int) -> Iterator[tuple[int, Prepared]]:
        """Yield this rank's rows, `count` at a time, and the local index of the first one."""
        X, dtype = self._rows, self.dtype.type
        # unit vectors fit single precision; rows in double precision may exceed its range
        wide = self.kernel.name == "cosine" and X.stored_type == np.float64
        for first, rows in tiles(X, np.float64 if wide else dtype, count):
            yield first, self.kernel.prepare(rows, self.origin).cast(dtype)

    def panels(self) -> Iterator[tuple[int, int, Prepared]]:
        """Yield the panels of all ranks in turn: owner, its local index of the first row, rows.

        Collective: a broadcast or two for each.
        """
        for owner in range(self.comm.size):
            mine = self.own(self.panel) if owner == self.comm.rank else iter(())
            count = int(self.counts[owner])
            for first in range(0, count, self.panel):
                _, rows = next(mine, (0, None))
                width = min(self.panel, count - first)
                yield owner, first, self._shared(rows, owner, width)

    def _shared(self, mine: Prepared | None, owner: int, count: int) -> Prepared:
        """Return rows of one rank on every rank. Collective."""
        comm, dtype = self.comm, self.dtype
        if comm.size == 1:
            assert mine is not None  # the only rank is the owner
            return mine
        halves = np.empty(count if self.kernel.has_halves else 0, dtype)
        halves = halves if mine is None else mine.halves
        comm.Bcast(halves, root=owner)
        shape = (count, self.n_features)
        if not self._sparse:
            rows = np.empty(shape, dtype) if mine is None else mine.rows
            broadcast_array(comm, rows, owner)
            return Prepared(rows, halves)
        stored = comm.bcast(None if mine is None else mine.rows.nnz, root=owner)
        parts = [np.empty(stored, dtype), np.empty(stored, np.int64), np.empty(count + 1, np.int64)]
        if mine is not None:
            parts = [
                mine.rows.data,
                mine.rows.indices.astype(np.int64),
                mine.rows.indptr.astype(np.int64),
            ]
        for part in parts:
            broadcast_array(comm, part, owner)
        return Prepared(scipy.sparse.csr_array(tuple(parts), shape=shape), halves)


def broadcast_array(comm: MPI.Comm, array: NDArray[Any], root: int) -> None:
    """Copy the row-major array of rank `root` to every rank, in place, in pieces. Collective."""
    flat = array.reshape(-1)
    piece = MAX_MESSAGE_BYTES // array.itemsize
    for first in range(0, flat.size, piece):
        comm.Bcast(flat[first : first + piece], root=root)


def kernel_coordinates(
    train: RowsOfAll, coefficients: NDArray[np.float64], Z: DataMatrix
) -> NDArray[np.float64]:
    """Return the products of the kernel of other rows and the training rows with vectors.

    Collective on the ranks of the training rows.

    Parameters
    ----------
    train : RowsOfAll
        Training rows in double precision.
    coefficients : ndarray of shape (n_local, k)
        Entries of the vectors for this rank's training rows.
    Z : DataMatrix
        This rank's other rows, possibly none.

    Returns
    -------
    ndarray of shape (n_local of Z, k)
    """
    found = np.zeros((Z.n_local, coefficients.shape[1]))
    for owner, first, panel in train.panels():
        width = panel.rows.shape[0]
        part = np.empty((width, found.shape[1]))
        if owner == train.comm.rank:
            part[:] = coefficients[first : first + width]
        broadcast_array(train.comm, part, owner)
        for at, rows in tiles(Z, np.float64, train.tile):
            tile = train.kernel.tile(train.kernel.prepare(rows, train.origin), panel)
            found[at : at + len(tile)] += tile @ part
    return found
