"""Rows as they are stored, as arguments of the compiled library, divided among threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.runtime.machine.native_library import Rows, instruction_set
from hpcembed.runtime.machine.threads import on_threads

__all__ = [
    "STORED_TYPES",
    "StoredRows",
    "as_numbers",
    "compiled_rows",
    "pointer",
    "useful_threads",
]

#: Types of rows that the library reads.
STORED_TYPES = frozenset(np.dtype(kind) for kind in "fdBbHh")

#: Rows of a thread: multiples of a block of ``passes.c``.
_BLOCK_ROWS = 144

#: Least multiply-adds of a thread: less work takes less time than its start.
_THREAD_WORK = 2**23

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class StoredRows:
    """This rank's dense rows ``(rows - shift) * factor``.

    Attributes
    ----------
    rows : ndarray of shape (n, d)
        Of a type that the library reads; any strides.
    shift, factor : ndarray of shape (d,) or None
    by_rows : bool
        Whether shift and factor, of shape (n,), are those of rows, as in a transposed array.
    """

    rows: NDArray[Any]
    shift: NDArray[np.float64] | None = None
    factor: NDArray[np.float64] | None = None
    by_rows: bool = False

    @property
    def transposed(self) -> StoredRows:
        """The transpose, over the same memory: a row for each feature."""
        return StoredRows(self.rows.T, self.shift, self.factor, not self.by_rows)

    def shifted(self, shift: NDArray[np.float64] | None) -> StoredRows:
        """Return the rows ``(rows - self.shift) * factor - shift``."""
        if shift is None:
            return self
        if self.factor is not None:
            shift = shift / self.factor
        if self.shift is not None:
            shift = shift + self.shift
        return StoredRows(self.rows, np.ascontiguousarray(shift), self.factor, self.by_rows)

    def on_threads(
        self, threads: int, row_work: int, work: Callable[[Any], Result]
    ) -> list[Result]:
        """Call ``work(argument)`` for consecutive rows, at once, and return the results in order.

        `argument` is a reference to the structure that the library takes. There are fewer threads
        for little work: a row takes `row_work` multiply-adds.
        """
        threads = useful_threads(threads, len(self.rows) * row_work)
        blocks = -(-len(self.rows) // _BLOCK_ROWS)
        step = max(1, -(-blocks // threads)) * _BLOCK_ROWS
        starts = range(0, max(len(self.rows), 1), step)
        arguments = [self._argument(slice(first, first + step)) for first in starts]
        return on_threads(work, [ctypes.byref(argument) for argument in arguments])

    def _argument(self, part: slice) -> Rows:
        rows = self.rows[part]
        # the numbers of these rows, views whose memory this object keeps
        each = [
            array[part] if self.by_rows and array is not None else array
            for array in (self.shift, self.factor)
        ]
        return Rows(
            rows.ctypes.data,
            *rows.shape,
            *rows.strides,
            *map(pointer, each),
            ord(rows.dtype.char),
            self.by_rows,
        )


def compiled_rows(X: RowSource) -> StoredRows | None:
    """Return this rank's rows if the compiled library is in use and reads them.

    Raises
    ------
    ConfigError
        HPCEMBED_NATIVE names an instruction set that is not available.
    """
    if instruction_set() is None or not isinstance(X, DataMatrix) or X.is_sparse:
        return None
    rows, shift, factor = X.stored_rows
    rows = as_numbers(rows)
    if rows.dtype not in STORED_TYPES or (factor is not None and not factor.all()):
        return None
    return StoredRows(rows, shift, factor)


def useful_threads(threads: int, work: int) -> int:
    """Return the number of threads for so many multiply-adds, at most `threads`."""
    return max(1, min(threads, work // _THREAD_WORK))


def as_numbers(rows: NDArray[Any]) -> NDArray[Any]:
    """Return logical values as bytes over the same memory; other rows unchanged."""
    return rows.view(np.uint8) if rows.dtype == np.bool_ else rows


def pointer(array: NDArray[Any] | None) -> int | None:
    """Return the address of a contiguous array, or None."""
    return None if array is None else array.ctypes.data
