"""One pass over dense rows by the compiled library, shared by threads."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.native_library import Rows, pass_function

__all__ = ["STORED_TYPES", "PassSums", "dense_pass"]

#: Types of rows that a compiled pass reads.
STORED_TYPES = frozenset(np.dtype(kind) for kind in "fdBbHh")

#: Rows of a thread: multiples of a block of ``passes.c``.
_BLOCK_ROWS = 144


class PassSums(NamedTuple):
    """Sums of a pass, in double: of X'Y, of Y, of X, and of the squares of X."""

    cross: NDArray[np.float64]
    columns: NDArray[np.float64]
    features: NDArray[np.float64] | None
    squares: NDArray[np.float64] | None


def dense_pass(
    rows: NDArray[Any],
    V: NDArray[Any],
    offset: NDArray[Any] | None = None,
    *,
    shift: NDArray[np.float64] | None = None,
    factor: NDArray[np.float64] | None = None,
    moments: bool = False,
    threads: int = 1,
) -> PassSums:
    """Return the sums of ``X'Y`` and of Y, for ``Y = X V - 1 a'``, by one pass over the rows.

    The rows of X are ``(rows - shift) * factor``. Not collective. There must be an instruction set
    in use (:func:`hpcembed.runtime.native_library.instruction_set`).

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Of one of STORED_TYPES; any strides. Rows are read once, and not copied as a whole.
    V : ndarray of shape (d, m), of type float32 or float64
        Its type is the precision of the products. Contributions of 4,096 rows are added in this
        precision, and then in double.
    offset : ndarray of shape (m,), of the type of V, optional
        a
    shift, factor : ndarray of shape (d,), optional
    moments : bool
        Whether to return the sums of the features and of their squares.
    threads : int
        Each takes consecutive rows. The result depends on their number by rounding.

    Returns
    -------
    sums : PassSums
        `cross` of shape (d, m), `columns` of shape (m,); `features` and `squares` of shape (d,).

    Raises
    ------
    MemoryError
        There is no memory for packed vectors and sums.
    """
    function = pass_function(V.dtype)
    V = np.ascontiguousarray(V)
    blocks = -(-len(rows) // _BLOCK_ROWS)
    step = max(1, -(-blocks // threads)) * _BLOCK_ROWS
    parts = [rows[first : first + step] for first in range(0, len(rows), step)]

    def work(part: NDArray[Any]) -> PassSums:
        (d, m), (along_rows, along_columns) = V.shape, part.strides
        sums = PassSums(
            np.zeros((d, m)),
            np.zeros(m),
            np.zeros(d) if moments else None,
            np.zeros(d) if moments else None,
        )
        address = part.ctypes.data
        argument = Rows(
            address,
            *part.shape,
            along_rows,
            along_columns,
            _pointer(shift),
            _pointer(factor),
            ord(part.dtype.char),
        )
        pointers = [_pointer(array) for array in (offset, *sums)]
        if function(ctypes.byref(argument), _pointer(V), m, *pointers):
            raise MemoryError(f"a pass over rows of {d} features needs more memory than there is")
        return sums

    if len(parts) <= 1:
        return work(rows)
    with ThreadPoolExecutor(len(parts)) as pool:
        first, *others = pool.map(work, parts)
    for other in others:
        for total, addend in zip(first, other, strict=True):
            if total is not None and addend is not None:
                total += addend
    return first


def _pointer(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
