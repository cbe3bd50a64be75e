"""Products of the centred Gram matrix ``(X - 1 m')(X - 1 m')' / (n - 1)`` with blocks of vectors.

Its eigenvalues are those of the covariance, where ``(X - 1 m')'u`` is an eigenvector. For data with
fewer rows than features, columns have n numbers instead of d.

With ``P = X'U - m (1'U)`` the product is ``X P - 1 (m'P)``. One rank reads the rows once per
product: a compiled pass over the transposed rows, or blocks of columns. Several ranks read them
twice, as P is summed over the ranks in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowSource, reading
from hpcembed.operators.block_shell import BlockProducts
from hpcembed.operators.covariance.covariance_passes import Moments
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.operators.native.dense_pass import dense_pass
from hpcembed.operators.native.stored_rows import compiled_rows
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["GramPasses"]


class GramPasses(BlockProducts):
    """Context of the shell matrix of shape (n, n), distributed as the rows are.

    Parameters
    ----------
    X : DataMatrix or RowStream
        Dense rows.
    moments : Moments
        Its mean is completed here if it is missing.
    dtype : {float64, float32}
        Precision of the products.
    threads : int
        Threads for compiled products; BLAS has its own.
    """

    def __init__(
        self,
        X: RowSource,
        moments: Moments,
        dtype: type[np.floating[Any]] = np.float64,
        threads: int = 1,
    ) -> None:
        self._mean = _mean(X, moments, np.dtype(dtype))
        self._centred = moments.centred
        self._shifts = moments.is_offset(np.dtype(dtype))
        self._dtype = dtype
        self.comm, self.layout = X.comm, (X.n_local, X.n_rows)
        self._reading = partial(reading, X) if X.is_streamed else nullcontext
        self._shape = (X.n_local, X.n_features)
        self._weight = 1.0 / max(X.n_rows - 1, 1)
        self._rows = X.blocks
        self._columns = X.columns if isinstance(X, DataMatrix) else None
        self._once = X.comm.size == 1 and self._columns is not None
        self._threads = threads
        stored = compiled_rows(X) if self._once else None
        # a row for each feature, less its mean
        self._stored = None if stored is None else stored.shifted(self._mean).transposed
        self.n_passes = 0

    def mult_block(self, U: NDArray[np.float64], product: NDArray[np.float64]) -> None:
        """Compute ``product = G U``. Collective: at most one reduction."""
        self.n_passes += 1
        product[:] = self._read_once(U) if self._once else self._read_twice(U)
        product *= self._weight

    def transposed(self, U: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(X - 1 m')'U``, shape (d, b), on every rank. Collective: one reduction."""
        total = np.zeros((self._shape[1], U.shape[1]))
        sums = U.sum(axis=0)
        U = np.ascontiguousarray(U, dtype=self._dtype)
        with self._reading():
            for rows, columns, block in self._centred_blocks():
                total[columns] += block.T @ U[rows]
        if not self._shifts:
            total -= np.outer(self._mean, sums)
        return sum_over_ranks(self.comm, total)

    def _centred_blocks(self) -> Iterator[tuple[slice, slice, Any]]:
        """Yield blocks of columns, or of rows in files; centred in cache where means are large."""
        everything = slice(None)
        if self._columns is None:
            for first, block in self._rows(self._dtype):
                yield slice(first, first + len(block)), everything, self._shifted(block, everything)
            return
        for first, block in self._columns(self._dtype):
            part = slice(first, first + block.shape[1])
            yield everything, part, self._shifted(block, part)

    def _shifted(self, block: NDArray[Any], columns: slice) -> NDArray[Any]:
        return block - self._mean[columns].astype(self._dtype) if self._shifts else block

    def _read_once(self, U: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._stored is not None:
            return dense_pass(self._stored, U.astype(self._dtype), threads=self._threads).cross
        total, offset = np.zeros(U.shape), np.zeros(U.shape[1])
        sums = U.sum(axis=0)
        U = np.ascontiguousarray(U, dtype=self._dtype)
        for _, part, block in self._centred_blocks():
            P = block.T @ U
            if not self._shifts:
                P -= np.outer(self._mean[part], sums).astype(self._dtype)
                offset += self._mean[part] @ P
            total += block @ P
        return total - offset

    def _read_twice(self, U: NDArray[np.float64]) -> NDArray[np.float64]:
        P = self.transposed(U)
        offset = 0.0 if self._shifts else self._mean @ P
        P = P.astype(self._dtype)
        total = np.zeros(U.shape)
        with self._reading():
            for rows, columns, block in self._centred_blocks():
                total[rows] += block @ P[columns]
        return total - offset


def _mean(X: RowSource, moments: Moments, kind: np.dtype[Any]) -> NDArray[np.float64]:
    """Return the mean of the rows, as accurate as products in that precision need. Collective."""
    if moments.mean is not None:
        return moments.mean
    if kind == np.float64 or moments.is_offset(kind):
        moments.mean, moments.variances = column_moments(X)
        return moments.mean
    sums = np.zeros(X.n_features)
    with reading(X):
        for _, block in X.blocks(kind.type):
            sums += np.ones(len(block), dtype=kind) @ block
    return sum_over_ranks(X.comm, sums) / X.n_rows
