"""Sizes that a classic MATLAB file declares, compared with its length before scipy reads it.

A file of version 5 consists of elements, each with a tag of type and size: matrices, which consist
of elements themselves, and compressed elements, which contain one matrix. A matrix begins with its
class and its dimensions. A file of version 4 has a header of five integers before each variable.
:mod:`scipy.io` allocates what tags and dimensions declare, so they are checked first: no element is
longer than the one that contains it, and no matrix has more entries than bytes. A compressed
element is unpacked block by block for this purpose.
Reference: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import math
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Protocol

from hpcembed.data.file_validation import named_errors
from hpcembed.runtime.errors import InputError

__all__ = ["check_sizes"]

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
#: Types of elements: integers, floating-point numbers, matrices, compressed elements, texts.
_TYPES = frozenset((*range(1, 8), 9, *range(12, 19)))
#: Classes whose entries are stored: all but sparse (5), function handles (16) and objects (17).
_CLASSES_WITH_ENTRIES = frozenset(range(1, 16)) - {5}
_STRUCTURE_CLASSES = (1, 2, 3)  # cells, structures, objects: each entry is an element
_MOST_DEPTH = 50
_PIECE = 2**20
_VERSION_4_BYTES = (8, 4, 4, 2, 2, 1)


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def skip(self, size: int, /) -> None: ...


def check_sizes(path: Path) -> None:
    """Raise InputError if a classic file declares more than it can contain.

    Raises
    ------
    InputError
        The message has both sizes.
    """
    facts = path.stat()
    _check_once(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _check_once(path: Path, size: int, changed: int) -> None:
    with named_errors(path), path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if 0 in head[:4]:
            _check_version_4(path, file, size)
            return
        order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
        if order is not None:  # else scipy refuses the file
            _Elements(path, order).check(_Plain(file), size - _HEADER_BYTES, 0)


class _Plain:
    """Bytes of the file."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self._file = file

    def skip(self, size: int) -> None:
        self._file.seek(size, 1)


class _Unpacked:
    """Bytes of a compressed element of the file."""

    def __init__(self, file: _Stream, size: int) -> None:
        self._file, self._left, self._buffer = file, size, b""
        self._decompressor = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size and not self._decompressor.eof:
            packed = self._decompressor.unconsumed_tail
            if not packed:
                packed = self._file.read(min(self._left, _PIECE))
                self._left -= len(packed)
                if not packed:
                    break
            self._buffer += self._decompressor.decompress(packed, _PIECE)
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def skip(self, size: int) -> None:
        while size > 0:
            found = len(self.read(min(size, _PIECE)))
            if not found:
                raise EOFError
            size -= found

    def finish(self) -> None:
        """Read up to the end of the element in the file."""
        self._file.skip(self._left)


class _Elements:
    """The elements of a file of version 5 in one byte order."""

    def __init__(self, path: Path, order: str) -> None:
        self._path, self._order = path, order

    def check(self, stream: _Stream, n_bytes: int, depth: int) -> None:
        """Check consecutive elements that have `n_bytes` together."""
        if depth > _MOST_DEPTH:
            raise InputError(f"{self._path}: its arrays are nested more than {_MOST_DEPTH} deep")
        while n_bytes >= 8:
            kind, size, is_small = self._tag(stream)
            n_bytes -= 8
            if kind not in _TYPES:
                raise InputError(
                    f"{self._path}: damaged: an element has the unknown type {kind}: copy or "
                    "download it again"
                )
            if is_small:
                continue
            if size > n_bytes:
                raise InputError(
                    f"{self._path}: truncated or damaged: an element declares {size} bytes, and "
                    f"{n_bytes} are left: copy or download it again"
                )
            if kind == _MATRIX:
                self._check_matrix(stream, size, depth)
            elif kind == _COMPRESSED:
                self._check_compressed(stream, size, depth)
            else:
                stream.skip(size)
            padding = min(-size % 8, n_bytes - size) if kind != _COMPRESSED else 0
            stream.skip(padding)
            n_bytes -= size + padding

    def _check_compressed(self, stream: _Stream, size: int, depth: int) -> None:
        """Check the element in a compressed one; it is not longer than its packed data allow."""
        unpacked = _Unpacked(stream, size)
        kind, inside, is_small = self._tag(unpacked)
        if inside > size * 1032:
            raise InputError(
                f"{self._path}: a compressed element declares {inside} bytes, more than {size} "
                "compressed bytes can hold: the file is damaged"
            )
        if kind == _MATRIX and not is_small:
            self._check_matrix(unpacked, inside, depth)
        unpacked.finish()

    def _check_matrix(self, stream: _Stream, size: int, depth: int) -> None:
        """Check class and dimensions of a matrix, then its further elements."""
        left = size
        flags, left = self._small_part(stream, left)
        dimensions, left = self._small_part(stream, left)
        if len(flags) >= 4 and dimensions:
            kind = struct.unpack(self._order + "I", flags[:4])[0] & 255
            sizes = struct.unpack(f"{self._order}{len(dimensions) // 4}i",
                                  dimensions[: len(dimensions) // 4 * 4])  # fmt: skip
            n_entries = math.prod(sizes)
            most = size // 8 if kind in _STRUCTURE_CLASSES else size
            if min(sizes, default=0) < 0 or (kind in _CLASSES_WITH_ENTRIES and n_entries > most):
                raise InputError(
                    f"{self._path}: damaged: an array of {size} bytes declares the shape {sizes}: "
                    "copy or download it again"
                )
        self.check(stream, left, depth + 1)
        stream.skip(left % 8 if left > 0 else 0)

    def _small_part(self, stream: _Stream, left: int) -> tuple[bytes, int]:
        """Read an element that is short in every valid file; return it and the bytes left."""
        if left < 8:
            return b"", left
        head = stream.read(8)
        if len(head) < 8:
            raise EOFError
        kind, size = struct.unpack(self._order + "2I", head)
        if kind >> 16:
            return head[4 : 4 + (kind >> 16)], left - 8
        padded = size + -size % 8
        if padded > left - 8 or size > 4096:
            raise InputError(
                f"{self._path}: damaged: flags or sizes of an array have {size} bytes: copy or "
                "download it again"
            )
        return stream.read(padded)[:size], left - 8 - padded

    def _tag(self, stream: _Stream) -> tuple[int, int, bool]:
        """Read type and size of an element, and whether its data are in the tag."""
        head = stream.read(8)
        if len(head) < 8:
            raise EOFError
        kind, size = struct.unpack(self._order + "2I", head)
        return (kind & 0xFFFF, kind >> 16, True) if kind >> 16 else (kind, size, False)


def _check_version_4(path: Path, file: BinaryIO, size: int) -> None:
    """Check the variables of a file of version 4; its byte order shows in the first integer."""
    position = 0
    while position + 20 <= size:
        file.seek(position)
        head = file.read(20)
        order = "<" if 0 <= struct.unpack("<i", head[:4])[0] <= 5000 else ">"
        kind, rows, columns, is_complex, name = struct.unpack(order + "5i", head)
        width = _VERSION_4_BYTES[min(kind // 10 % 10, 5)]
        n_bytes = rows * columns * width * (2 if is_complex else 1)
        if min(rows, columns, name) < 0 or 20 + name + n_bytes > size - position:
            raise InputError(
                f"{path}: truncated or damaged: a variable of {rows} x {columns} numbers where "
                f"{size - position} bytes are left: copy or download it again"
            )
        position += 20 + name + n_bytes
