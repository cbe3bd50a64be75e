"""Products of the centred covariance with blocks of vectors, one pass over the rows each.

For any shift c and any offset a, with ``Y = (X - 1 c')V - 1 a'`` and ``m`` the mean,

    (X - 1 m')'(X - 1 m') V  =  (X - 1 c')'Y  -  (m - c) (1'Y)

because centred columns are orthogonal to ones. No centred copy is needed, sparse rows stay sparse,
and neither c nor a needs to be the mean: they are near it only to keep numbers small. With ``a``
near ``(m - c)'V`` the second term nearly vanishes, and the rounding of each row's products enters
with its own sign; on 50,000 images, passes in single precision are within 2e-8 of the largest
eigenvalue. Rows are shifted in cache only where the mean is large compared to the spread.

Rows are read in blocks that fit the cache, each once per pass for both products. Blocks are
multiplied in the given precision; every few thousand rows their contributions are added in double
precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowSource, reading
from hpcembed.operators.block_shell import BlockProducts, gather_block, scatter_block_sum
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.operators.native.dense_pass import PassSums, dense_pass
from hpcembed.operators.native.sparse_pass import compiled_csr, sparse_pass
from hpcembed.operators.native.stored_rows import compiled_rows
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.machine.threads import on_threads
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["CovariancePasses", "Moments", "PassLimitError"]

#: Mean over deviation beyond which rows are shifted in cache: of all features together in single
#: precision, of any in double precision, where squares are added up for the variances.
_LARGEST_OFFSET = {np.dtype(np.float32): 4.0, np.dtype(np.float64): 30.0}

#: The same in single precision for squares.
_LARGEST_OFFSET_SQUARE = 1.5

#: Entries whose squares, added up, neither overflow nor vanish in single precision.
_SMALLEST, _LARGEST = 1e-12, 1e12

#: Approximate size of a block of rows, and its least number of rows: with fewer, adding the block's
#: contribution costs as much as computing it.
_BLOCK_BYTES = 6 * 2**20
_LEAST_ROWS = 256

#: Number of features from which so many rows no longer fit the cache.
_LONG_ROW = 20_000

#: Rows whose contributions are added in the precision of the products.
_PENDING_ROWS = 4096


class Moments:
    """Mean and variances, completed by the first passes over the rows.

    Collective on the communicator of the rows.

    Parameters
    ----------
    X : DataMatrix or RowStream
    centred : bool
        True for the covariance; False for ``X'X / (n - 1)`` and a mean of zero.

    Attributes
    ----------
    n_rows : int
    centred : bool
    shift, spread : ndarray of shape (d,)
        Mean and standard deviation of the first block of rows.
    mean : ndarray of shape (d,) or None
        Mean of all rows, from the first pass on; to double precision with the variances.
    variances : ndarray of shape (d,) or None
        Diagonal of the operator, from the first pass in double precision on.
    """

    def __init__(self, X: RowSource, *, centred: bool = True) -> None:
        self.n_rows = X.n_rows
        self.centred = centred
        self.mean: NDArray[np.float64] | None = None
        self.variances: NDArray[np.float64] | None = None
        self.shift = self.spread = np.zeros(X.n_features)
        if not centred:
            self.mean = np.zeros(X.n_features)
        elif X.is_sparse:
            self.mean, self.variances = column_moments(X)
        else:
            self.shift, self.spread = _sample(X)

    @property
    def fits_single(self) -> bool:
        """Whether squares of rows like the first block lie well within single precision."""
        largest = max(float(np.max(np.abs(self.shift), initial=0.0)), float(np.max(self.spread)))
        return largest == 0.0 or _SMALLEST < largest < _LARGEST

    def is_offset(self, dtype: np.dtype[Any], *, square: bool = False) -> bool:
        """Return whether means are so large that rows are shifted before they are multiplied.

        Parameters
        ----------
        square : bool
            The mean is subtracted from a square of the rows, where it costs digits.
        """
        limit, shift = _LARGEST_OFFSET[dtype], np.abs(self.shift)
        if square and dtype == np.float32:
            limit = _LARGEST_OFFSET_SQUARE
        if dtype == np.float64:
            return bool((shift > limit * self.spread).any())
        return bool(np.linalg.norm(shift) > limit * np.linalg.norm(self.spread))


def _sample(X: RowSource) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of the first block of the first rank with rows. Collective."""
    owner = X.comm.allreduce(X.comm.rank if X.n_local else X.comm.size, op=MPI.MIN)
    found = np.zeros((2, X.n_features))
    with reading(X):
        if X.comm.rank == owner:
            _, block = next(iter(X.blocks(block_bytes=_BLOCK_BYTES)))
            # constant features exactly: they are zero once their value is subtracted
            found[0] = np.where((block == block[0]).all(axis=0), block[0], block.mean(axis=0))
            found[1] = (block - found[0]).std(axis=0)
    X.comm.Bcast(found, root=owner)
    return found[0], found[1]


class _Sums:
    """Sums of one pass over the blocks of this rank."""

    def __init__(self, moments: Moments, b: int, dtype: np.dtype[Any]) -> None:
        d = len(moments.shift)
        self.cross = np.zeros((b, d))
        self.columns = np.zeros(b)
        completes = moments.variances is None and dtype == np.float64
        measures = moments.centred and (moments.mean is None or completes)
        self._sums = np.zeros(d) if measures else None
        self._squares = np.zeros(d) if completes else None

    def add(self, rows: Any, Y: NDArray[Any]) -> None:
        """Add a block of rows and its products with the vectors."""
        self.columns += Y.sum(axis=0, dtype=np.float64)
        self.add_columns(slice(None), rows)

    def add_columns(self, part: slice, rows: Any) -> None:
        """Add the moments of a block of these columns."""
        if self._sums is not None:
            self._sums[part] += np.ones(rows.shape[0], dtype=rows.dtype) @ rows
        if self._squares is not None:
            if isinstance(rows, np.ndarray):
                self._squares[part] += np.einsum("ij,ij->j", rows, rows)
            else:
                squares = rows.data.astype(np.float64) ** 2
                self._squares += np.bincount(rows.indices, squares, minlength=rows.shape[1])

    @property
    def measures(self) -> bool:
        """Whether the pass adds up the moments of the features."""
        return self._sums is not None or self._squares is not None

    def add_pass(self, found: PassSums) -> None:
        """Add the sums of a compiled pass."""
        self.cross += found.cross.T
        self.columns += found.columns
        if self._sums is not None:
            assert found.features is not None  # asked for by `measures`
            self._sums += found.features
        if self._squares is not None:
            assert found.squares is not None
            self._squares += found.squares

    def complete(self, comm: MPI.Comm, moments: Moments, shift: NDArray[np.float64] | None) -> None:
        """Complete `moments` by the sums of this pass. Collective if it has any."""
        n, origin = moments.n_rows, 0.0 if shift is None else shift
        if self._sums is not None:
            moments.mean = sum_over_ranks(comm, self._sums) / n + origin
        if self._squares is not None:
            assert moments.mean is not None  # from the line above, or an earlier pass
            squares = sum_over_ranks(comm, self._squares) - n * (moments.mean - origin) ** 2
            moments.variances = np.maximum(squares, 0.0) / max(n - 1, 1)


class PassLimitError(Exception):
    """More passes were requested than are allowed; on all ranks."""

    def __init__(self, passes: int) -> None:
        super().__init__(f"no convergence in {passes} passes")
        self.passes = passes


class CovariancePasses(BlockProducts):
    """Context of the shell matrix of shape (d, d): each product is one pass over the rows.

    Parameters
    ----------
    X : DataMatrix or RowStream
        At least two rows.
    moments : Moments
        Completed by the first pass in each precision; shared by the passes of both.
    dtype : {float64, float32}
        Precision of the products within a block.
    threads : int
        Threads for compiled products and for those of sparse rows; BLAS has its own.
    most : int, optional
        Allowed number of passes; the next one raises PassLimitError.

    Attributes
    ----------
    n_passes : int
    """

    def __init__(
        self,
        X: RowSource,
        moments: Moments,
        dtype: type[np.floating[Any]] = np.float64,
        threads: int = 1,
        most: int | None = None,
    ) -> None:
        self.comm, self.layout = X.comm, (None, X.n_features)
        self._most = most
        self._blocks = X.blocks
        self._columns = None
        if isinstance(X, DataMatrix) and not X.is_sparse and X.n_features >= _LONG_ROW:
            self._columns = X.columns
        self._reading = partial(reading, X) if X.is_streamed else nullcontext
        self._shape = (X.n_local, X.n_features)
        share, rest = divmod(X.n_features, X.comm.size)
        # numbers of features per rank, as PETSc distributes them
        self._owned = share + (np.arange(X.comm.size) < rest)
        self._sparse = X.is_sparse
        with agreement(self.comm):
            self._stored = compiled_rows(X)
            self._csr = compiled_csr(X)
        self._moments = moments
        self._dtype = np.dtype(dtype)
        self._threads = threads
        shifts = moments.centred and not X.is_sparse
        self._shifts = shifts and moments.is_offset(self._dtype)
        self.n_passes = 0

    def get_state(self) -> dict[str, NDArray[np.float64]]:
        """Return the numbers that products depend on, for checkpoints of the solver."""
        moments = self._moments
        known = {"mean": moments.mean, "variances": moments.variances}
        state = {name: array for name, array in known.items() if array is not None}
        return {**state, "n_passes": np.array([self.n_passes], dtype=np.float64)}

    def set_state(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Set what :meth:`get_state` has returned."""
        self._moments.mean = state.get("mean")
        self._moments.variances = state.get("variances")
        self.n_passes = int(state["n_passes"][0])

    def mult_block(self, V: NDArray[np.float64], product: NDArray[np.float64]) -> None:
        """Compute ``product = C V``. Collective: one gather, one reduction."""
        total = self.whole_product(gather_block(self.comm, V, self._owned))
        product[:] = scatter_block_sum(self.comm, total, self._owned)

    def whole_product(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return this rank's contribution to ``C V`` for the whole V. Collective."""
        if self.n_passes == self._most:
            raise PassLimitError(self.n_passes)
        moments = self._moments
        V = np.ascontiguousarray(V, dtype=self._dtype)
        shift = moments.shift if self._shifts else None
        guess = moments.shift if moments.mean is None else moments.mean
        offset = (guess if shift is None else guess - shift) @ V
        sums = _Sums(moments, V.shape[1], self._dtype)
        offset = offset.astype(self._dtype)
        with self._reading():
            if self._csr is not None:
                used = offset if moments.centred else None
                cross, sums.columns = sparse_pass(self._csr, V, used, threads=self._threads)
                sums.cross = cross.T
                sums.add_columns(slice(None), self._csr)
            elif self._sparse:
                self._sparse_pass(V, offset, sums)
            elif self._stored is not None:
                self._native_pass(V, offset, shift, sums)
            elif self._columns is not None:
                self._wide_pass(V, offset, shift, sums)
            else:
                self._dense_pass(V, offset, shift, sums)
        self.n_passes += 1
        sums.complete(self.comm, moments, shift)
        if moments.centred:
            assert moments.mean is not None  # from the first pass on
            # each rank subtracts its own share: one reduction serves both terms
            rest = moments.mean if shift is None else moments.mean - shift
            sums.cross -= np.outer(sums.columns, rest)
        sums.cross /= max(moments.n_rows - 1, 1)
        return sums.cross.T

    def _native_pass(
        self,
        V: NDArray[Any],
        offset: NDArray[Any],
        shift: NDArray[np.float64] | None,
        sums: _Sums,
    ) -> None:
        """Multiply the rows as they are stored by the compiled pass."""
        assert self._stored is not None  # checked by the caller
        found = dense_pass(
            self._stored.shifted(shift),
            V,
            offset if self._moments.centred else None,
            moments=sums.measures,
            threads=self._threads,
        )
        sums.add_pass(found)

    def _dense_pass(
        self,
        V: NDArray[Any],
        offset: NDArray[Any],
        shift: NDArray[np.float64] | None,
        sums: _Sums,
    ) -> None:
        d, dtype = self._shape[1], self._dtype
        block_bytes = max(_BLOCK_BYTES, _LEAST_ROWS * dtype.itemsize * d)
        part: NDArray[Any] = np.empty((V.shape[1], d), dtype=dtype)
        pending, rows_pending = np.zeros_like(part), 0
        shifted: NDArray[Any] | None = None
        for _, block in self._blocks(dtype.type, block_bytes):
            rows = block
            if shift is not None:
                shifted = np.empty_like(block) if shifted is None else shifted
                rows = np.subtract(block, shift, out=shifted[: len(block)], casting="same_kind")
            Y = rows @ V
            if self._moments.centred:
                Y -= offset
            np.matmul(Y.T, rows, out=part)
            pending += part
            sums.add(rows, Y)
            rows_pending += len(rows)
            if rows_pending >= _PENDING_ROWS:
                sums.cross += pending
                pending[:] = 0.0
                rows_pending = 0
        sums.cross += pending

    def _wide_pass(
        self,
        V: NDArray[Any],
        offset: NDArray[Any],
        shift: NDArray[np.float64] | None,
        sums: _Sums,
    ) -> None:
        """Read blocks of columns once for each product: rows are too long for the cache."""
        assert self._columns is not None  # checked by the caller
        Y = np.zeros((self._shape[0], V.shape[1]), dtype=self._dtype)
        for part, block in self._shifted_columns(shift):
            Y += block @ V[part]
            sums.add_columns(part, block)
        if self._moments.centred:
            Y -= offset
        sums.columns += Y.sum(axis=0, dtype=np.float64)
        for part, block in self._shifted_columns(shift):
            sums.cross[:, part] += Y.T @ block

    def _shifted_columns(
        self, shift: NDArray[np.float64] | None
    ) -> Iterator[tuple[slice, NDArray[Any]]]:
        assert self._columns is not None  # checked by the caller
        for first, block in self._columns(self._dtype.type):
            part = slice(first, first + block.shape[1])
            yield part, (block if shift is None else block - shift[part].astype(self._dtype))

    def _sparse_pass(self, V: NDArray[Any], offset: NDArray[Any], sums: _Sums) -> None:
        blocks, lock = self._blocks(self._dtype.type), Lock()

        def work() -> None:
            """Multiply blocks in turn; products with sparse rows let other threads run."""
            total = np.zeros((self._shape[1], V.shape[1]))
            while True:
                with lock:
                    _, rows = next(blocks, (0, None))
                if rows is None:
                    break
                Y = rows @ V
                if self._moments.centred:
                    Y -= offset
                total += rows.T @ Y
                with lock:
                    sums.add(rows, Y)
            with lock:
                sums.cross += total.T

        on_threads(lambda _: work(), range(self._threads))
