"""Products of the centred kernel of distributed rows, ``H K H`` with ``H = I - 1 1'/n``.

Matrix-free: K is never stored. Each rank broadcasts panels of its prepared rows. Every rank
computes the tiles of its own rows with a panel in cache, multiplies them with a block of vectors,
and discards them. Each tile of a pair of rows serves both of them: a rank computes the tiles of its
own rows once, and one half of those it shares with another rank (halves of a panel with halves of a
panel, crosswise), which balances the work. A product takes one gather of the vectors, one broadcast
per panel and one reduction.

Assembled: this rank's rows of K are computed once and kept, in the precision of the products.

Centring is algebra: the mean is subtracted from vectors and products. A constant subtracted from
all entries of K then changes nothing; in single precision the mean level is subtracted from tiles,
as sums of many numbers near one would lose digits (with rbf of a small gamma on images, six times
the error). Transforms of other rows need the mean of each row of K: a column of ones is part of the
first product in double precision.

Reference: Schoelkopf, Smola, Mueller, "Nonlinear component analysis as a kernel eigenvalue
problem", Neural Computation 10 (1998).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.operators.block_shell import BlockProducts, gather_block, scatter_block_sum
from hpcembed.operators.kernel.kernel_functions import Prepared
from hpcembed.operators.kernel.row_panels import RowsOfAll
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["KernelPasses", "KernelRows"]

#: Columns of stored rows whose products are added in single precision.
_PENDING = 4096


class _CentredKernel(BlockProducts):
    """Base of both operators: centring, and the means of the kernel's rows.

    Attributes
    ----------
    rows : RowsOfAll
    n_passes : int
    row_means : ndarray of shape (n_local,) or None
        Means of this rank's rows of K, from the first product in double precision on.
    """

    def __init__(self, rows: RowsOfAll) -> None:
        self.rows = rows
        self.comm, self.layout = rows.comm, (rows.n_local, rows.n_rows)
        self.n_passes = 0
        self.row_means: NDArray[np.float64] | None = None

    def mult_block(self, V: NDArray[np.float64], product: NDArray[np.float64]) -> None:
        """Compute ``product = H K H V``. Collective."""
        self.n_passes += 1
        b = V.shape[1]
        V = V - self._mean(V)
        counts = self.row_means is None and self.rows.dtype == np.float64
        if counts:
            V = np.hstack([V, np.ones((len(V), 1))])
        whole = gather_block(self.comm, V.astype(self.rows.dtype, copy=False), self.rows.counts)
        Y = self._times(whole)
        if counts:
            self.row_means = Y[:, b] / self.rows.n_rows
        product[:] = Y[:, :b]
        product -= self._mean(product)

    def _mean(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        return sum_over_ranks(self.rows.comm, V.sum(axis=0)) / self.rows.n_rows

    def _times(self, V: NDArray[Any]) -> NDArray[np.float64]:
        raise NotImplementedError


class KernelPasses(_CentredKernel):
    """Context of the shell matrix of shape (n, n) that computes the kernel in every product.

    Parameters
    ----------
    rows : RowsOfAll
        Rows in the precision of the products; contributions of tiles are added in double precision.
    """

    def _times(self, V: NDArray[Any]) -> NDArray[np.float64]:
        rows = self.rows
        total = np.zeros(V.shape)
        for owner, first, panel in rows.panels():
            self._add_panel(owner, first, panel, V, total)
        return scatter_block_sum(rows.comm, total, rows.counts)

    def _add_panel(
        self, owner: int, first: int, panel: Prepared, V: NDArray[Any], total: NDArray[np.float64]
    ) -> None:
        """Add the products of the tiles of own rows with a panel, and of their transposes."""
        rows, rank = self.rows, self.rows.comm.rank
        width, start = panel.rows.shape[0], int(rows.starts[owner]) + first
        for at, mine in rows.own(rows.tile):
            count, here = mine.rows.shape[0], int(rows.starts[rank]) + at
            if owner == rank:
                if at >= first + width:
                    break  # these tiles belong to a later panel
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
    """Context of the shell matrix of shape (n, n) that keeps this rank's rows of the kernel.

    Collective.

    Parameters
    ----------
    rows : RowsOfAll
        Rows in the precision of the products.

    Attributes
    ----------
    stored : ndarray of shape (n_local, n)
        This rank's rows of the kernel, not centred.
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
