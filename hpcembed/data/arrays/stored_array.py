"""Arrays that files store as plain or compressed bytes: each rank reads its rows only.

IDX and NPY files and the members of NPZ archives consist of a short header and the elements, in C
or Fortran order, in one byte order, possibly compressed. :class:`StoredArray` reads any range of
rows: at its offset in uncompressed bytes, by streaming past the rows of other ranks in compressed
ones. Apart from the rows themselves it takes the memory of one block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.file_validation import BLOCK_BYTES, named_errors
from hpcembed.runtime.errors import InputError

__all__ = ["RowBlocks", "StoredArray", "blocks_between", "features_of", "row_dtype"]


class RowBlocks(Protocol):
    """An array in a file, whose rows are read block by block."""

    @property
    def name(self) -> str:
        """File, or file and array, for messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape; the first number is the number of rows."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Read rows first..last-1, flattened to (m, d), in consecutive blocks."""


def row_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return the type in which stored rows are held: uint8, float32 or float64.

    Integers of 8 and 16 bits and half precision are exact in float32; other types become float64.

    Raises
    ------
    InputError
        The type is complex, text or a record.

    Examples
    --------
    >>> import numpy as np
    >>> row_dtype(np.dtype(">i2"), "x.npy")
    dtype('float32')
    """
    if dtype.kind == "b" or (dtype.kind == "u" and dtype.itemsize == 1):
        return np.dtype(np.uint8)
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return np.dtype(np.float32 if dtype.itemsize <= 4 else np.float64)
    if dtype.kind in "iu":
        return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    raise InputError(f"{name}: features of type {dtype}: use real numbers")


def features_of(arrays: Sequence[RowBlocks]) -> tuple[int, np.dtype[Any]]:
    """Return the number of features of arrays that are one table, and the type of their rows.

    Raises
    ------
    InputError
        An array has no rows or no features, or its features differ from those of the first array.
    """
    kinds = []
    for array in arrays:
        if not array.shape or array.shape[0] == 0:
            raise InputError(f"{array.name}: zero rows: there is nothing to read")
        if len(array.shape) < 2 or 0 in array.shape:
            raise InputError(
                f"{array.name}: shape {array.shape} has no features: an array of "
                "shape (rows, features) is needed"
            )
        kinds.append((math.prod(array.shape[1:]), row_dtype(array.dtype, array.name)))
        if kinds[-1] != kinds[0]:
            raise InputError(
                f"{array.name}: {kinds[-1][0]} features of type {kinds[-1][1]}, unlike "
                f"{arrays[0].name}, which has {kinds[0][0]} of type {kinds[0][1]}: files of one "
                "table need the same columns and type"
            )
    return kinds[0]


def blocks_between(
    arrays: Sequence[RowBlocks], start: int, stop: int
) -> Iterator[tuple[RowBlocks, int, int, NDArray[Any]]]:
    """Read rows start..stop-1 of several arrays, counted as one, in consecutive blocks.

    Yields
    ------
    array : RowBlocks
    first : int
        Index of the block's first row in this array.
    place : int
        Index of the block's first row, counted from `start`.
    block : ndarray of shape (m, d)
    """
    begin = place = 0
    for array in arrays:
        end = begin + array.shape[0]
        first, last = max(start, begin) - begin, min(stop, end) - begin
        if first < last:
            for block in array.blocks(first, last):
                yield array, first, place, block
                first += len(block)
                place += len(block)
        begin = end


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array whose elements are consecutive in a (possibly compressed) stream.

    Attributes
    ----------
    name : str
        File, or file and member, for messages.
    open : callable
        Returns a binary stream that supports forward seeks.
    offset : int
        Position of the first element in the stream.
    shape : tuple of int
        The first number is the number of rows.
    dtype : numpy.dtype
        As stored, including the byte order.
    is_fortran : bool
        Elements are in column-major order.
    is_compressed : bool
        The length of the stream is checked when the last row is read.
    """

    name: str
    open: Callable[[], BinaryIO]
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool = False
    is_compressed: bool = False

    @property
    def n_bytes(self) -> int:
        """Bytes of the elements, uncompressed."""
        return math.prod(self.shape) * self.dtype.itemsize

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Read rows first..last-1, flattened to (m, d), in consecutive blocks.

        Raises
        ------
        InputError
            The stream ends too early, is damaged, or is longer than the header declares.
        """
        with named_errors(self.name), self.open() as stream:
            if self.is_fortran and len(self.shape) > 1:
                yield self._gather_columns(stream, first, last)
            else:
                yield from self._consecutive(stream, first, last)
            if self.is_compressed and last == self.shape[0]:
                # This also makes the decompressor verify the checksum of the whole stream.
                stream.seek(self.offset + self.n_bytes)
                if stream.read(1):
                    raise InputError(f"{self.name}: longer than its header declares")

    def _consecutive(self, stream: BinaryIO, first: int, last: int) -> Iterator[NDArray[Any]]:
        n_columns = math.prod(self.shape[1:])
        row_bytes = n_columns * self.dtype.itemsize
        step = max(1, BLOCK_BYTES // max(row_bytes, 1))
        if first < last:
            stream.seek(self.offset + first * row_bytes)
        for begin in range(first, last, step):
            block = np.empty((min(step, last - begin), n_columns), dtype=self.dtype)
            self._fill(stream, block)
            yield block

    def _gather_columns(self, stream: BinaryIO, first: int, last: int) -> NDArray[Any]:
        n_columns = math.prod(self.shape[1:])
        # Element (i, j, ...) of a Fortran array: the first index varies fastest.
        block = np.empty((n_columns, last - first), dtype=self.dtype)
        for column in range(n_columns if first < last else 0):
            stream.seek(self.offset + (column * self.shape[0] + first) * self.dtype.itemsize)
            self._fill(stream, block[column])
        folded = block.reshape(*reversed(self.shape[1:]), last - first)
        return folded.transpose().reshape(last - first, n_columns)

    def _fill(self, stream: BinaryIO, block: NDArray[Any]) -> None:
        target = block.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(target):
            count = stream.readinto(target[done:])  # type: ignore[attr-defined]
            if not count:
                raise InputError(
                    f"{self.name}: truncated: it ends before the {self.n_bytes} bytes that its "
                    "header declares: copy or download it again"
                )
            done += count
