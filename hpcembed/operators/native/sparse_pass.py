"""One pass over sparse rows by the compiled library, shared by threads."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.operators.native.stored_rows import pointer, useful_threads
from hpcembed.runtime.machine.native_library import (
    SparseRows,
    instruction_set,
    sparse_pass_function,
)
from hpcembed.runtime.machine.threads import on_threads

__all__ = ["compiled_csr", "sparse_pass"]

#: Rows whose contributions are added in the precision of the pass, unless adding them takes longer
#: than computing them.
_PENDING_ROWS = 4096


def compiled_csr(X: RowSource) -> Any | None:
    """Return this rank's rows in CSR form if the compiled library is in use and reads them.

    Raises
    ------
    ConfigError
        HPCEMBED_NATIVE names an instruction set that is not available.
    """
    if instruction_set() is None or not isinstance(X, DataMatrix) or not X.is_sparse:
        return None
    rows, _, _ = X.stored_rows
    is_known = rows.data.dtype in (np.float32, np.float64) and rows.indices.dtype.itemsize in (4, 8)
    return rows if is_known and rows.indices.dtype == rows.indptr.dtype else None


def sparse_pass(
    X: Any, V: NDArray[Any], offset: NDArray[Any] | None = None, *, threads: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums of ``X'Y`` and of Y, for ``Y = X V - 1 a'``, by one pass over the rows.

    Not collective. There must be an instruction set in use
    (:func:`hpcembed.runtime.machine.native_library.instruction_set`).

    Parameters
    ----------
    X : csr_array of shape (n, d)
        Values of type float32 or float64.
    V : ndarray of shape (d, m), of type float32 or float64
        Its type is the precision of the products. Contributions of at least 4,096 rows are added
        in this precision, and then in double.
    offset : ndarray of shape (m,), of the type of V, optional
        a
    threads : int
        Each takes consecutive rows. The result depends on their number by rounding.

    Returns
    -------
    cross : ndarray of shape (d, m)
    columns : ndarray of shape (m,)

    Raises
    ------
    MemoryError
        There is no memory for the sums.
    """
    function = sparse_pass_function(V.dtype)
    V = np.ascontiguousarray(V)
    n, (d, m) = X.shape[0], V.shape
    # adding the sums takes as long as 4 d entries
    flush = max(_PENDING_ROWS, 4 * d * n // max(X.nnz, 1))

    def work(rows: SparseRows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        cross, columns = np.zeros((d, m)), np.zeros(m)
        arguments = (pointer(V), m, pointer(offset), flush, pointer(cross), pointer(columns))
        if function(ctypes.byref(rows), *arguments):
            raise MemoryError(f"a pass over rows of {d} features needs more memory than there is")
        return cross, columns

    parts = list(_parts(X, useful_threads(threads, 2 * X.nnz * m)))
    (cross, columns), *others = on_threads(work, parts)
    for other_cross, other_columns in others:
        cross += other_cross
        columns += other_columns
    return cross, columns


def _parts(X: Any, threads: int) -> Iterator[SparseRows]:
    """Yield consecutive rows with about the same number of entries for each thread."""
    n, d = X.shape
    targets = X.nnz * np.arange(1, threads) / threads
    cuts = np.unique([0, *np.searchsorted(X.indptr, targets), n])
    for first, last in itertools.pairwise(cuts) if n else [(0, 0)]:
        yield SparseRows(
            pointer(X.data),
            pointer(X.indices),
            X.indptr[first:].ctypes.data,
            last - first,
            d,
            X.data.itemsize,
            X.indices.itemsize,
        )
