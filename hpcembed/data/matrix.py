"""DataMatrix: the rows of a data set, distributed over ranks as a PETSc Mat.

The rows are stored in one of three ways:

``dense``
    Double precision, column-major, scaled once: a PETSc dense matrix in the same memory.
``shell``
    As read (uint8, float32, float64), row-major: a PETSc shell matrix. The rows are converted and
    scaled block by block in the cache, so the data is never copied as a whole.
``aij``
    Sparse rows, scaled once, in single precision if they were read so; the PETSc AIJ matrix is
    assembled at its first use.

Fast algorithms use :meth:`DataMatrix.blocks`, this rank's rows in blocks that fit the cache; other
PETSc code uses ``mat``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.data.graphs.graph import GraphNodes
from hpcembed.data.row_stream import RowStream
from hpcembed.data.row_validation import assign, checked_rows
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.machine.petsc_indices import check_index_range
from hpcembed.runtime.ranks import place_rows

__all__ = [
    "DataMatrix",
    "RowSource",
    "RowStream",
    "Storage",
    "gather_vector",
    "reading",
    "scatter_sum",
]

Storage = Literal["dense", "aij", "shell"]

#: Size of a block of converted rows: the block and its source fit a core's share of the cache.
_BLOCK_BYTES = 4 * 2**20


class DataMatrix:
    """Rows distributed over the ranks of a communicator, with labels and names.

    Collective.

    Parameters
    ----------
    rows : ndarray or sparse array of shape (n_local, d)
        This rank's consecutive rows, possibly none; real numbers. ``shell`` storage keeps them
        without a copy. Sparse rows may have any format; duplicate entries are added.
    labels : ndarray of shape (n_local,)
        Class codes, or float64 targets of a regression.
    comm : MPI.Comm
    shift, factor : ndarray of shape (d,), optional
        The matrix is ``(rows - shift) * factor``. Sparse rows allow no shift.
    storage : {"auto", "dense", "aij", "shell"}
        auto: aij for sparse rows, dense for double precision, shell otherwise.
    feature_names, class_names : tuple of str
    nodes : GraphNodes, optional
        If rows are nodes of a graph.

    Raises
    ------
    InputError
        Rows or labels cannot be used; raised on all ranks.
    ValueError
        `storage` does not fit the rows.

    Attributes
    ----------
    n_rows, n_features, n_local : int
    row_range : tuple of int
        First and one past last global row of this rank.
    storage : str

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> from hpcembed import DataMatrix
    >>> rows = np.array([[0, 255], [51, 0]], dtype=np.uint8)
    >>> X = DataMatrix(rows, np.array([0, 1]), MPI.COMM_WORLD, factor=np.full(2, 1 / 255))
    >>> X.storage, X.n_features
    ('shell', 2)
    >>> X.dense_rows()
    array([[0. , 1. ],
           [0.2, 0. ]], dtype=float32)
    >>> X.destroy()
    """

    #: Rows are in memory; they are not read from files in every pass.
    is_streamed = False

    def __init__(
        self,
        rows: Any,
        labels: NDArray[np.int64] | NDArray[np.float64],
        comm: MPI.Intracomm,
        *,
        shift: NDArray[np.float64] | None = None,
        factor: NDArray[np.float64] | None = None,
        storage: Literal["auto", "dense", "aij", "shell"] = "auto",
        feature_names: tuple[str, ...] = (),
        class_names: tuple[str, ...] = (),
        nodes: GraphNodes | None = None,
    ) -> None:
        rows, labels = checked_rows(rows, labels, comm)
        self.comm = comm
        self.labels = labels
        self.feature_names = feature_names
        self.class_names = class_names
        self.nodes = nodes
        self.n_local, self.n_features = rows.shape
        start, self.n_rows = place_rows(self.n_local, comm)
        self.row_range = (start, start + self.n_local)
        self.storage: Storage = _storage(rows, storage)
        self._shift = shift if shift is not None and np.any(shift) else None
        self._factor = factor if factor is not None and np.any(factor != 1) else None
        self._rows = self._take(rows)
        self._mat: PETSc.Mat | None = None

    def _take(self, rows: Any) -> Any:
        """Rows as they are stored: scaled once (dense, aij) or unchanged (shell)."""
        if self.storage == "shell":
            return rows
        if self.storage == "aij":
            if self._shift is not None:
                raise ValueError("sparse rows take no shift: it would fill them")
            single = rows.dtype == np.float32 and self._factor is None
            data = rows.data if single else rows.data.astype(np.float64)
            if self._factor is not None:
                data *= self._factor[rows.indices]
            self._factor = None
            return scipy.sparse.csr_array((data, rows.indices, rows.indptr), shape=rows.shape)
        taken = np.empty(rows.shape, order="F")
        step = self._block_rows(8, _BLOCK_BYTES)
        for first in range(0, self.n_local, step):
            self._scaled(rows[first : first + step], taken[first : first + step])
        self._shift = self._factor = None
        return taken

    @property
    def is_sparse(self) -> bool:
        """Whether the rows are sparse."""
        return self.storage == "aij"

    @property
    def n_nonzeros(self) -> int:
        """Stored entries on all ranks. Collective."""
        local = self._rows.nnz if self.is_sparse else self.n_local * self.n_features
        return int(self.comm.allreduce(local))

    @property
    def stored_bytes(self) -> int:
        """Memory of this rank's rows. Not collective."""
        if self.is_sparse:
            return int(
                self._rows.data.nbytes + self._rows.indices.nbytes + self._rows.indptr.nbytes
            )
        return int(self._rows.nbytes)

    @property
    def mat(self) -> PETSc.Mat:
        """The PETSc Mat of shape (n, d). Collective at first use."""
        if self._mat is None:
            self._mat = self._create_mat()
        return self._mat

    def _create_mat(self) -> PETSc.Mat:
        entries = 0 if self.storage == "shell" else self._rows.size
        check_index_range(self.comm, self.n_rows, self.n_features, entries)
        sizes = ((self.n_local, self.n_rows), (None, self.n_features))
        if self.storage == "dense":
            mat = PETSc.Mat().createDense(sizes, array=self._rows, comm=self.comm)
            mat.assemble()
        elif self.storage == "aij":
            csr = (part.astype(PETSc.IntType) for part in (self._rows.indptr, self._rows.indices))
            values = self._rows.data.astype(PETSc.ScalarType, copy=False)
            mat = PETSc.Mat().createAIJ(sizes, csr=(*csr, values), comm=self.comm)
        else:
            mat = PETSc.Mat().createPython(sizes, _RowProducts(self), comm=self.comm)
            mat.setUp()
        return mat

    def destroy(self) -> None:
        """Free the PETSc Mat. Collective."""
        if self._mat is not None:
            self._mat.destroy()
            self._mat = None

    @property
    def stored_type(self) -> np.dtype[Any]:
        """Type of the stored numbers."""
        return np.dtype(self._rows.dtype)

    @property
    def stored_rows(
        self,
    ) -> tuple[Any, NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """This rank's rows as they are stored, and the shift and the factor still to be applied."""
        return self._rows, self._shift, self._factor

    def blocks(
        self, dtype: type[np.floating[Any]] = np.float64, block_bytes: int | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Iterate over the scaled rows of this rank in blocks that fit the cache.

        Not collective.

        Parameters
        ----------
        dtype : {float64, float32}
            Type of the blocks. Rows of this type are not copied if they are not scaled.
        block_bytes : int, optional
            Approximate size of a dense block. Default: 4 MiB.

        Yields
        ------
        first : int
            Local index of the block's first row.
        block : ndarray of shape (b, d), or csr_array
            Read only; valid until the next block.
        """
        step = self._block_rows(np.dtype(dtype).itemsize, block_bytes or _BLOCK_BYTES)
        direct = self._shift is None and self._factor is None and self._rows.dtype == dtype
        buffer = None if direct or self.is_sparse else self._buffer(step, dtype)
        for first in range(0, self.n_local, step):
            last = min(first + step, self.n_local)
            if self.is_sparse:
                yield first, self._sparse_block(first, last, dtype)
            elif buffer is None:
                yield first, self._rows[first:last]
            else:
                yield first, self._scaled(self._rows[first:last], buffer[: last - first])

    def columns(self, dtype: type[np.floating[Any]] = np.float64) -> Iterator[tuple[int, Any]]:
        """Iterate over this rank's scaled rows in blocks of columns that fit the cache.

        Not collective. For dense data with few, long rows.

        Yields
        ------
        first : int
            Index of the block's first column.
        block : ndarray of shape (n_local, w)
            Read only; valid until the next block.
        """
        itemsize = np.dtype(dtype).itemsize
        width = max(64, _BLOCK_BYTES // (itemsize * max(self.n_local, 1)))
        direct = self._shift is None and self._factor is None and self._rows.dtype == dtype
        for first in range(0, self.n_features, width):
            part = slice(first, min(first + width, self.n_features))
            block = self._rows[:, part]
            yield first, block if direct else self._scaled(block, np.empty_like(block, dtype), part)

    def dense_rows(self, dtype: type[np.floating[Any]] = np.float32) -> NDArray[np.floating[Any]]:
        """Return the scaled rows of this rank as one array of shape (n_local, d).

        Not collective.

        Raises
        ------
        InputError
            A value overflows `dtype`.
        """
        rows = np.empty((self.n_local, self.n_features), dtype=dtype)
        for first, block in self.blocks():
            last = first + block.shape[0]
            assign(rows[first:last], block.toarray() if self.is_sparse else block)
        return rows

    def take(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float64]:
        """Return some scaled rows of this rank as a new dense array.

        Not collective.

        Parameters
        ----------
        rows : slice or ndarray of int64
            Local indices.
        """
        held = self._rows[rows]
        held = held.toarray() if self.is_sparse else held
        return self._scaled(held, np.empty(held.shape))

    def _block_rows(self, itemsize: int, block_bytes: int) -> int:
        if self.storage == "aij":
            return 2**15
        return max(16, block_bytes // (itemsize * max(self.n_features, 1)))

    def _buffer(self, step: int, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        """Memory that converted blocks share: reuse avoids page faults."""
        order: Literal["C", "F"] = "F" if self.storage == "dense" else "C"
        return np.empty((min(step, self.n_local), self.n_features), dtype=dtype, order=order)

    def _scaled(
        self, rows: NDArray[np.generic], block: NDArray[Any], columns: slice = slice(None)
    ) -> NDArray[Any]:
        """Convert and scale rows, or some of their columns, in `block`."""
        block[...] = rows
        if self._shift is not None:
            block -= self._shift[columns]
        if self._factor is not None:
            block *= self._factor[columns]
        return block

    def _sparse_block(self, first: int, last: int, dtype: type[np.floating[Any]]) -> Any:
        """Rows first..last-1 as a CSR array, in the same memory if the type is the same."""
        indptr = self._rows.indptr[first : last + 1]
        entries = slice(indptr[0], indptr[-1])
        return scipy.sparse.csr_array(
            (
                self._rows.data[entries].astype(dtype, copy=False),
                self._rows.indices[entries],
                indptr - indptr[0],
            ),
            shape=(last - first, self.n_features),
            copy=False,
        )


#: Input of operators and estimators: rows in memory or in files.
RowSource = DataMatrix | RowStream


def reading(X: RowSource) -> AbstractContextManager[None]:
    """Return a context for work on this rank's rows without collective calls.

    Collective at its end if rows are read from files: reading may fail on one rank alone.
    """
    return agreement(X.comm) if X.is_streamed else nullcontext()


class _RowProducts:
    """Context of the shell matrix: products with rows that are converted block by block."""

    def __init__(self, matrix: DataMatrix) -> None:
        # The matrix holds the Mat, and the Mat this context: DataMatrix.destroy ends the cycle.
        self._matrix = matrix

    def mult(self, _mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Y = X x. Collective."""
        v = gather_vector(self._matrix.comm, x)
        with y as rows:
            for first, block in self._matrix.blocks():
                rows[first : first + block.shape[0]] = block @ v

    def multTranspose(self, _mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:  # noqa: N802
        """Y = X' x. Collective."""
        total = np.zeros(self._matrix.n_features)
        rows = x.getArray(readonly=1)
        for first, block in self._matrix.blocks():
            total += rows[first : first + block.shape[0]] @ block
        scatter_sum(self._matrix.comm, total, y)


def _storage(rows: Any, storage: str) -> Storage:
    sparse = scipy.sparse.issparse(rows)
    if storage == "auto":
        if sparse:
            return "aij"
        return "dense" if rows.dtype == np.float64 else "shell"
    if sparse != (storage == "aij"):
        raise ValueError(f"storage {storage!r} does not fit {'sparse' if sparse else 'dense'} rows")
    return storage  # type: ignore[return-value]


def gather_vector(comm: MPI.Comm, vector: PETSc.Vec) -> NDArray[np.float64]:
    """Return all entries of a distributed vector on every rank. Collective."""
    local = vector.getArray(readonly=1)
    if comm.size == 1:
        return np.array(local)
    ranges = vector.getOwnershipRanges()
    whole = np.empty(ranges[-1])
    comm.Allgatherv(np.ascontiguousarray(local), (whole, np.diff(ranges), ranges[:-1], MPI.DOUBLE))
    return whole


def scatter_sum(comm: MPI.Comm, total: NDArray[np.float64], vector: PETSc.Vec) -> None:
    """Sum arrays of the vector's global length over ranks, into the vector. Collective."""
    with vector as local:
        if comm.size == 1:
            local[:] = total
        else:
            counts = np.diff(vector.getOwnershipRanges()).tolist()
            own = np.empty(local.shape[0])
            comm.Reduce_scatter(total, own, recvcounts=counts)
            local[:] = own
