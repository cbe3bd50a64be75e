"""Products of the centred kernel of distributed rows, ``H K H`` with ``H = I - 1 1'/n``.

Matrix-free: K is never there. Panels of prepared rows travel from each rank to all; every rank
makes the tiles of its own rows with them in cache, multiplies them with a block of vectors at once,
and forgets them. Each tile of a pair of rows serves both of them: a rank makes those of its own
rows once, and of those that it shares with another rank one half (halves of a panel with halves of
a panel, crosswise), so that the work is even. One gather of the vectors, one reduction of the
products; panels are as many messages as there are panels.

Assembled: this rank's rows of K are formed once and kept, in the precision of the products.

Centring is algebra: vectors and products lose their mean. A constant taken off all entries of K
changes nothing then; in single precision tiles lose their mean level, as sums of many numbers near
one would lose digits (with rbf of a small gamma on images, six times the error). What transforms of
other rows need of K is the mean of each of its rows: a column of ones goes along in the first
product in double.

Reference: Schoelkopf, Smola, Mueller, "Nonlinear component analysis as a kernel eigenvalue
problem", Neural Computation 10 (1998).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.operators.kernel.rows_of_all import RowsOfAll
from hpcembed.operators.kernel.tiles import Prepared
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["KernelPasses", "KernelRows", "kernel_shell"]

#: Columns of stored rows whose products are added up in single precision.
_PENDING = 4096


class _CentredKernel:
    """What both operators share: centring, and the means of the kernel's rows.

    Attributes
    ----------
    n_passes : int
    row_means : ndarray of shape (n_local,) or None
        Of this rank's rows of K, from the first product in double on.
    """

    def __init__(self, rows: RowsOfAll) -> None:
        self.rows = rows
        self.n_passes = 0
        self.row_means: NDArray[np.float64] | None = None

    def mult(self, _mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Y = H K H x. Collective."""
        product = np.empty((x.getLocalSize(), 1))
        self.mult_block(np.array(x.getArray(readonly=1))[:, None], product)
        with y as local:
            local[:] = product[:, 0]

    def mult_block(self, V: NDArray[np.float64], product: NDArray[np.float64]) -> None:
        """``product = H K H V``, this rank's rows of both. Collective."""
        self.n_passes += 1
        b = V.shape[1]
        V = V - self._mean(V)
        counts = self.row_means is None and self.rows.dtype == np.float64
        if counts:
            V = np.hstack([V, np.ones((len(V), 1))])
        Y = self._times(self._gathered(V))
        if counts:
            self.row_means = Y[:, b] / self.rows.n_rows
        product[:] = Y[:, :b]
        product -= self._mean(product)

    def _mean(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        return sum_over_ranks(self.rows.comm, V.sum(axis=0)) / self.rows.n_rows

    def _gathered(self, V: NDArray[np.float64]) -> NDArray[Any]:
        """All rows of the vectors, in the precision of the products. Collective."""
        rows, comm = self.rows, self.rows.comm
        mine = np.ascontiguousarray(V, dtype=rows.dtype)
        if comm.size == 1:
            return mine
        b = V.shape[1]
        whole = np.empty((rows.n_rows, b), dtype=rows.dtype)
        kind = MPI.DOUBLE if rows.dtype == np.float64 else MPI.FLOAT
        comm.Allgatherv(mine, (whole, b * rows.counts, b * rows.starts[:-1], kind))
        return whole

    def _times(self, V: NDArray[Any]) -> NDArray[np.float64]:
        raise NotImplementedError


class KernelPasses(_CentredKernel):
    """Context of the shell matrix of shape (n, n) that makes the kernel anew in every product.

    Parameters
    ----------
    rows : RowsOfAll
        In the precision of the products; contributions of tiles are added up in double.
    """

    def _times(self, V: NDArray[Any]) -> NDArray[np.float64]:
        rows, comm = self.rows, self.rows.comm
        total = np.zeros(V.shape)
        for owner, first, panel in rows.panels():
            self._add_panel(owner, first, panel, V, total)
        if comm.size == 1:
            return total
        own = np.empty((rows.n_local, V.shape[1]))
        comm.Reduce_scatter(total, own, recvcounts=(V.shape[1] * rows.counts).tolist())
        return own

    def _add_panel(
        self, owner: int, first: int, panel: Prepared, V: NDArray[Any], total: NDArray[np.float64]
    ) -> None:
        """Add the tiles of this rank's rows with a panel, and their transposes. Not collective."""
        rows, rank = self.rows, self.rows.comm.rank
        width, start = panel.rows.shape[0], int(rows.starts[owner]) + first
        for at, mine in rows.own(rows.tile):
            count, here = mine.rows.shape[0], int(rows.starts[rank]) + at
            if owner == rank:
                if at >= first + width:
                    break  # done where their own panel comes
                low, high = 0, width if at < first else at + count - first
            else:
                # the first half of a panel with the first, the second with the second, or crosswise
                half = rows.panel // 2
                is_first = (at % rows.panel < half) == (rank < owner)
                low, high = (0, min(half, width)) if is_first else (half, width)
            for column in range(low, high, rows.tile):
                last = min(column + rows.tile, high)
                tile = rows.kernel_tile(mine, panel.part(column, last))
                total[here : here + count] += tile @ V[start + column : start + last]
                if start + column != here:
                    total[start + column : start + last] += tile.T @ V[here : here + count]


class KernelRows(_CentredKernel):
    """The same with this rank's rows of the kernel in memory, formed once. Collective.

    Attributes
    ----------
    stored : ndarray of shape (n_local, n)
    """

    def __init__(self, rows: RowsOfAll) -> None:
        super().__init__(rows)
        self.stored = np.empty((rows.n_local, rows.n_rows), dtype=rows.dtype)
        alone = rows.comm.size == 1
        for owner, first, panel in rows.panels():
            start, width = int(rows.starts[owner]) + first, panel.rows.shape[0]
            for at, mine in rows.own(rows.tile):
                if alone and at >= first + width:
                    break
                own = slice(at, at + mine.rows.shape[0])
                high = own.stop - first if alone and at >= first else width
                for column in range(0, high, rows.tile):
                    last = min(column + rows.tile, high)
                    tile = rows.kernel_tile(mine, panel.part(column, last))
                    self.stored[own, start + column : start + last] = tile
                    if alone:
                        self.stored[start + column : start + last, own] = tile.T

    def _times(self, V: NDArray[Any]) -> NDArray[np.float64]:
        total = np.zeros((self.rows.n_local, V.shape[1]))
        for first in range(0, len(V), _PENDING):
            part = slice(first, first + _PENDING)
            total += self.stored[:, part] @ V[part]
        return total


def kernel_shell(products: _CentredKernel) -> PETSc.Mat:
    """The shell matrix of shape (n, n), distributed as the rows are. Collective."""
    rows = products.rows
    sizes = ((rows.n_local, rows.n_rows), (rows.n_local, rows.n_rows))
    mat = PETSc.Mat().createPython(sizes, products, comm=rows.comm)
    mat.setUp()
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    return mat
