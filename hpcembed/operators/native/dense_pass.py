"""One pass over dense rows by the compiled library, shared by threads."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcembed.operators.native.stored_rows import StoredRows, pointer
from hpcembed.runtime.machine.native_library import pass_function

__all__ = ["PassSums", "dense_pass"]


class PassSums(NamedTuple):
    """Sums of a pass, in double: of X'Y, of Y, of X, and of the squares of X."""

    cross: NDArray[np.float64]
    columns: NDArray[np.float64]
    features: NDArray[np.float64] | None
    squares: NDArray[np.float64] | None


def dense_pass(
    X: StoredRows,
    V: NDArray[Any],
    offset: NDArray[Any] | None = None,
    *,
    moments: bool = False,
    threads: int = 1,
) -> PassSums:
    """Return the sums of ``X'Y`` and of Y, for ``Y = X V - 1 a'``, by one pass over the rows.

    Not collective. There must be an instruction set in use
    (:func:`hpcembed.runtime.machine.native_library.instruction_set`).

    Parameters
    ----------
    X : StoredRows
        n rows of d features. They are read once, and not copied as a whole.
    V : ndarray of shape (d, m), of type float32 or float64
        Its type is the precision of the products. Contributions of 4,096 rows are added in this
        precision, and then in double.
    offset : ndarray of shape (m,), of the type of V, optional
        a
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
    V = np.ascontiguousarray(V)
    d, m = V.shape
    function = pass_function(V.dtype, m)

    def work(rows: Any) -> PassSums:
        sums = PassSums(
            np.zeros((d, m)),
            np.zeros(m),
            np.zeros(d) if moments else None,
            np.zeros(d) if moments else None,
        )
        if function(rows, pointer(V), m, *map(pointer, (offset, *sums))):
            raise MemoryError(f"a pass over rows of {d} features needs more memory than there is")
        return sums

    first, *others = X.on_threads(threads, 2 * d * m, work)
    for other in others:
        for total, addend in zip(first, other, strict=True):
            if total is not None and addend is not None:
                total += addend
    return first
