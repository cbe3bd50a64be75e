"""Rows and bytes of the record batches of an Arrow file, from its metadata alone.

pyarrow allocates the sizes that a file declares for compressed columns before it unpacks them. They
are read here without unpacking, so that they are compared with the available memory first. The
footer of a file lists the places of its messages; a message lists its buffers; a compressed buffer
begins with its size (-1: it is stored as it is). The metadata are FlatBuffers: a table begins with
the distance to its list of fields, and a reference is a distance from its own place.
References: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format,
https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from hpcembed.data.file_validation import named_errors
from hpcembed.runtime.errors import InputError

__all__ = ["BatchSize", "read_batch_sizes"]

_MAGIC = b"ARROW1"
_MOST_METADATA = 2**28
#: Fields of tables of the format, by their numbers.
_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 3
_MESSAGE_HEADER = 2
_BATCH_LENGTH, _BATCH_BUFFERS, _BATCH_COMPRESSION = 0, 2, 3
_DICTIONARY_DATA = 1


@dataclass(frozen=True, slots=True)
class BatchSize:
    """Rows of a record batch, and the bytes of its columns in memory."""

    n_rows: int
    n_bytes: int


def read_batch_sizes(path: Path) -> tuple[list[BatchSize], int]:
    """Return the size of each record batch, and the bytes of all dictionaries.

    Raises
    ------
    InputError
        The file is damaged or no Arrow file.
    """
    with named_errors(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            footer = _footer(_Bytes(file.fileno(), size))
            batches = [footer.batch(*one) for one in footer.blocks(_FOOTER_BATCHES)]
            dictionaries = [
                footer.batch(*one, is_dictionary=True)
                for one in footer.blocks(_FOOTER_DICTIONARIES)
            ]
        except (struct.error, _DamagedError) as error:
            raise InputError(f"{path}: not a whole Arrow file: copy or write it again") from error
    return batches, sum(one.n_bytes for one in dictionaries)


class _DamagedError(Exception):
    pass


class _Bytes:
    """Ranges of a file."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor, self.size = descriptor, size

    def read(self, begin: int, length: int) -> bytes:
        if begin < 0 or length < 0 or begin + length > self.size or length > _MOST_METADATA:
            raise _DamagedError
        return os.pread(self._descriptor, length, begin)


class _Table:
    """A table of a FlatBuffer."""

    def __init__(self, content: bytes, place: int) -> None:
        if not 0 <= place <= len(content):
            raise _DamagedError
        self.content, self.place = content, place
        self._fields = place - self.number("i", place)

    def number(self, kind: str, place: int) -> int:
        if place < 0:
            raise _DamagedError
        return int(struct.unpack_from("<" + kind, self.content, place)[0])

    def field(self, number: int) -> int | None:
        """Return the place of a field, None if the table does not have it."""
        entry = 4 + 2 * number
        if entry + 2 > self.number("H", self._fields):
            return None
        offset = self.number("H", self._fields + entry)
        return self.place + offset if offset else None

    def table(self, number: int) -> _Table | None:
        place = self.field(number)
        return None if place is None else _Table(self.content, place + self.number("I", place))

    def vector(self, number: int, width: int) -> list[int]:
        """Return the places of the elements of a vector."""
        place = self.field(number)
        if place is None:
            return []
        begin = place + self.number("I", place)
        count = self.number("I", begin)
        if begin + 4 + count * width > len(self.content):
            raise _DamagedError
        return [begin + 4 + i * width for i in range(count)]


def _root(content: bytes) -> _Table:
    return _Table(content, struct.unpack_from("<I", content)[0])


def _footer(file: _Bytes) -> _Footer:
    end = file.read(file.size - 10, 10)
    (length,) = struct.unpack("<i", end[:4])
    if end[4:] != _MAGIC:
        raise _DamagedError
    return _Footer(file, file.read(file.size - 10 - length, length))


class _Footer:
    """Footer of a file, and the messages that it lists."""

    def __init__(self, file: _Bytes, content: bytes) -> None:
        self._file, self._table = file, _root(content)

    def blocks(self, number: int) -> list[tuple[int, int]]:
        """Return the places of messages and of their bodies."""
        found = []
        for place in self._table.vector(number, 24):
            begin = self._table.number("q", place)
            found.append((begin, begin + self._table.number("i", place + 8)))
        return found

    def batch(self, begin: int, body: int, *, is_dictionary: bool = False) -> BatchSize:
        """Return rows and bytes of the batch in a message."""
        head = self._file.read(begin, 8)
        skipped = 8 if head[:4] == b"\xff\xff\xff\xff" else 4  # before format 0.15: no mark
        batch = _root(self._file.read(begin + skipped, body - begin - skipped)).table(
            _MESSAGE_HEADER
        )
        if batch is not None and is_dictionary:
            batch = batch.table(_DICTIONARY_DATA)
        if batch is None:
            raise _DamagedError
        length = batch.field(_BATCH_LENGTH)
        n_rows = 0 if length is None else batch.number("q", length)
        is_packed = batch.table(_BATCH_COMPRESSION) is not None
        n_bytes = 0
        for place in batch.vector(_BATCH_BUFFERS, 16):
            offset, stored = batch.number("q", place), batch.number("q", place + 8)
            if stored > 0:
                n_bytes += self._unpacked(body + offset, stored) if is_packed else stored
        if n_rows < 0:
            raise _DamagedError
        return BatchSize(n_rows, n_bytes)

    def _unpacked(self, place: int, stored: int) -> int:
        (declared,) = struct.unpack("<q", self._file.read(place, 8))
        if declared < -1:
            raise _DamagedError
        return stored if declared == -1 else int(declared)
