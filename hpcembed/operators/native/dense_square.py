"""The square X'X of dense rows by the compiled library, shared by threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.operators.native.stored_rows import StoredRows, pointer
from hpcembed.runtime.machine.native_library import square_function

__all__ = ["LARGEST_SQUARE", "dense_square", "square_bytes"]

#: Number of features up to which the compiled square is as fast as the update of a BLAS: the sums
#: of more do not stay in cache.
LARGEST_SQUARE = 1500


def square_bytes(d: int, threads: int) -> int:
    """Return the memory that the square of d features takes beyond its result."""
    return 20 * d**2 * threads


def dense_square(
    X: StoredRows, dtype: type[np.floating[Any]], *, exact: bool = False, threads: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``X'X`` and the sums of the columns of X by one pass over the rows.

    Not collective. There must be an instruction set in use
    (:func:`hpcembed.runtime.machine.native_library.instruction_set`). Columns that are zero in all
    rows of a block take no time.

    Parameters
    ----------
    X : StoredRows
        n rows of d features.
    dtype : {float64, float32}
        Precision of the products. Those of 48 rows are added in registers, those of 576 in this
        precision, and the rest in double.
    exact : bool
        X holds integers of at most 8 bits and a sign: all sums are exact. In double, sums of
        integers are exact up to 2**53.
    threads : int
        Each takes consecutive rows. The result depends on their number by rounding.

    Returns
    -------
    lower : ndarray of shape (d, d)
        Lower triangle, column-major. Entries above the diagonal are zero.
    sums : ndarray of shape (d,)

    Raises
    ------
    MemoryError
        There is no memory for the sums.
    """
    function = square_function(np.dtype(dtype))
    d = X.rows.shape[1]

    def work(rows: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        upper, sums = np.zeros((d, d)), np.zeros(d)
        if function(rows, exact, pointer(upper), pointer(sums)):
            raise MemoryError(f"the square of {d} features needs more memory than there is")
        return upper, sums

    (upper, sums), *others = X.on_threads(threads, d * d // 2, work)
    for other_upper, other_sums in others:
        upper += other_upper
        sums += other_sums
    return upper.T, sums
