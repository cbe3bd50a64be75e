"""Arrays that a file holds as plain bytes: each rank reads its rows only.

IDX, NPY and the members of NPZ archives are a short header and then the elements, in C or Fortran
order, in one byte order, perhaps compressed. :class:`StoredArray` reads any range of rows of such
an array: by offset where the bytes lie open, by streaming past what belongs to other ranks where
they are compressed. Memory beyond the rows themselves is one block.

:class:`ArrayTable` joins feature and label arrays, possibly of several files, to one table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.dataset import RawTable, Summary
from hpcembed.data.files import BLOCK_BYTES, check_finite, named_errors
from hpcembed.data.labels import LocalLabels, check_lengths, labels_from_array
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import agreement, ownership_range

__all__ = ["ArrayTable", "LabelFile", "RowBlocks", "StoredArray", "overlaps", "row_dtype"]


class RowBlocks(Protocol):
    """An array in a file whose rows can be had block by block."""

    @property
    def name(self) -> str:
        """File, or file and array, for messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The first number is that of the rows."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Rows first..last-1, flattened to (m, d), in consecutive blocks. Not collective."""


class LabelFile(Protocol):
    """Labels that lie in a file of their own."""

    name: str
    n_labels: int

    def read(self, first: int, last: int) -> LocalLabels:
        """Labels first..last-1. Not collective."""


def row_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Type in which rows stored as `dtype` are held: uint8, float32 or float64. Not collective.

    Eight- and 16-bit integers and half precision fit float32 exactly; the rest becomes float64.

    Raises
    ------
    InputError
        For complex numbers, text and records.
    """
    if dtype.kind == "b" or (dtype.kind == "u" and dtype.itemsize == 1):
        return np.dtype(np.uint8)
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return np.dtype(np.float32 if dtype.itemsize <= 4 else np.float64)
    if dtype.kind in "iu":
        return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    raise InputError(f"{name}: features of type {dtype}: use real numbers")


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array whose elements lie one after the other in a (possibly compressed) stream.

    Attributes
    ----------
    name : str
        File, or file and member, for messages.
    open : callable
        Gives a binary stream that can seek forward.
    offset : int
        Position of the first element in the stream.
    shape : tuple of int
        The first number is that of the rows.
    dtype : numpy.dtype
        As stored, byte order included.
    is_fortran : bool
        Elements in column-major order.
    is_compressed : bool
        The stream's length is then checked by whoever reads the last row.
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
        """Bytes that the elements take, uncompressed."""
        return math.prod(self.shape) * self.dtype.itemsize

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Rows first..last-1, flattened to (m, d), in consecutive blocks. Not collective.

        Raises
        ------
        InputError
            When the stream ends too early, is damaged, or is longer than the header says.
        """
        with named_errors(self.name), self.open() as stream:
            if self.is_fortran and len(self.shape) > 1:
                yield self._gather_columns(stream, first, last)
            else:
                yield from self._consecutive(stream, first, last)
            if self.is_compressed and last == self.shape[0]:
                # Also makes the decompressor verify the checksum of the whole.
                stream.seek(self.offset + self.n_bytes)
                if stream.read(1):
                    raise InputError(f"{self.name}: longer than its header says")

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
        # Element (i, j, ...) of a Fortran array: the later axes vary slowest, the last most slowly.
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


class ArrayTable:
    """Feature arrays of one or several files, their rows counted as one table, and the labels.

    Parameters
    ----------
    features : sequence of RowBlocks
        Same number of features and same type.
    labels : sequence of RowBlocks, or LabelFile
        One array per feature array, or one file for all.

    Raises
    ------
    InputError
        Zero rows or features, arrays that do not fit together.
    """

    def __init__(
        self, features: Sequence[RowBlocks], labels: Sequence[RowBlocks] | LabelFile
    ) -> None:
        self.features = features
        self.labels = labels
        head = features[0]
        self.dtype = row_dtype(head.dtype, head.name)
        self.n_features = math.prod(head.shape[1:])
        for array in features:
            if not array.shape or array.shape[0] == 0:
                raise InputError(f"{array.name}: zero rows: there is nothing to read")
            if len(array.shape) < 2 or math.prod(array.shape[1:]) == 0:
                raise InputError(
                    f"{array.name}: shape {array.shape} has no features: rows x features needed"
                )
            if (math.prod(array.shape[1:]), row_dtype(array.dtype, array.name)) != (
                self.n_features,
                self.dtype,
            ):
                raise InputError(
                    f"{array.name}: {math.prod(array.shape[1:])} features of type {array.dtype}, "
                    f"but {head.name} has {self.n_features} of type {head.dtype}"
                )
        self.n_rows = sum(array.shape[0] for array in features)
        self.source = ", ".join(dict.fromkeys(array.name for array in features))
        self._check_labels()

    def _check_labels(self) -> None:
        if not isinstance(self.labels, Sequence):
            return
        for array, labels in zip(self.features, self.labels, strict=True):
            if math.prod(labels.shape[1:]) != 1 or not labels.shape:
                raise InputError(
                    f"{labels.name}: labels of shape {labels.shape}: one label a row needed"
                )
            if labels.shape[0] != array.shape[0]:
                raise InputError(
                    f"{labels.name}: {labels.shape[0]} labels for the {array.shape[0]} rows of "
                    f"{array.name}: they do not belong together"
                )

    @property
    def summary(self) -> Summary:
        """What the headers say. Not collective."""
        return Summary(self.n_rows, self.n_features, self.dtype)

    def measure(self, comm: MPI.Comm) -> int:
        """Bytes that reading will need on the rank that needs most. Collective."""
        share = -(-self.n_rows // comm.size)
        # Column-major rows are gathered whole before they are turned.
        copies = 2 if any(getattr(array, "is_fortran", False) for array in self.features) else 1
        return share * (self.n_features * self.dtype.itemsize * copies + 8) + BLOCK_BYTES

    def read(self, comm: MPI.Comm) -> RawTable:
        """This rank's rows. Collective."""
        if not isinstance(self.labels, Sequence):
            check_lengths(comm, self.n_rows, self.labels.n_labels, self.source, self.labels.name)
        start, stop = ownership_range(self.n_rows, comm)
        with agreement(comm):
            rows = np.empty((stop - start, self.n_features), dtype=self.dtype)
            for array, first, last, place in overlaps(self.features, start, stop):
                for block in array.blocks(first, last):
                    rows[place : place + len(block)] = block
                    check_finite(rows[place : place + len(block)], array.name, first)
                    first += len(block)
                    place += len(block)
            labels = self._read_labels(start, stop)
        return RawTable(rows, labels, start, self.n_rows, (), self.source)

    def _read_labels(self, start: int, stop: int) -> LocalLabels:
        if not isinstance(self.labels, Sequence):
            return self.labels.read(start, stop)
        pieces = [np.empty(0, dtype=self.labels[0].dtype)]
        for array, first, last, _ in overlaps(self.labels, start, stop):
            pieces += [block.reshape(-1) for block in array.blocks(first, last)]
        name = ", ".join(dict.fromkeys(array.name for array in self.labels))
        return labels_from_array(np.concatenate(pieces), name, start)


def overlaps(
    arrays: Sequence[RowBlocks], start: int, stop: int
) -> Iterator[tuple[RowBlocks, int, int, int]]:
    """Parts of arrays that lie in rows start..stop-1 of all together. Not collective.

    Yields
    ------
    array : RowBlocks
    first, last : int
        The range of its own rows.
    place : int
        Where they begin, counted from `start`.
    """
    begin = 0
    for array in arrays:
        end = begin + array.shape[0]
        first, last = max(start, begin), min(stop, end)
        if first < last:
            yield array, first - begin, last - begin, first - start
        begin = end
