"""Validation of files, plain or compressed, before their contents are read.

A header of a few bytes may declare an array of petabytes, and a small compressed file may expand to
one. Every reader therefore compares the declared size, a product of Python integers, with the bytes
on disk before it allocates memory. For compressed files the bound is the best ratio of DEFLATE,
1032 bytes per byte (a match of 258 bytes in two bits); the actual size is checked while reading.

Errors of decompressors and other libraries contain neither file name nor remedy:
:func:`named_errors` and :func:`library_errors` add both.
"""

from __future__ import annotations

import gzip
import io
import lzma
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from hpcembed.runtime.errors import InputError
from hpcembed.runtime.input_limits import MAX_EXPANSION, limit_of
from hpcembed.runtime.machine.memory import format_bytes, memory_error

__all__ = [
    "BLOCK_BYTES",
    "MissingFileError",
    "check_compression",
    "check_declared_size",
    "check_line_ends",
    "file_size",
    "is_gzip",
    "library_errors",
    "named_errors",
    "open_plain",
    "open_stream",
]

#: Approximate size of the blocks in which rows and text are read.
BLOCK_BYTES = 8 * 2**20

_DEFLATE_RATIO = 1032
#: Largest ratio of a gzipped file that is read; tables of text have ratios below about 20.
_MOST_EXPANSION = 200
#: Bytes up to which the ratio does not matter: they are read in seconds.
_FREE_EXPANSION = 2**30
_GZIP_MAGIC = b"\x1f\x8b"

#: First bytes of formats that could be mistaken for a text of one long line.
_OTHER_MAGIC = {
    b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
}  # fmt: skip
_BZIP2_BLOCK = b"1AY&SY"


class MissingFileError(InputError):
    """A file or folder does not exist."""


def file_size(path: Path) -> int:
    """Return the size of a regular file that is not empty, in bytes.

    Raises
    ------
    MissingFileError
        The file does not exist.
    InputError
        The file is not a regular file, or empty.
    """
    try:
        if not path.is_file():
            if path.exists():
                raise InputError(f"{path}: is not a regular file")
            raise MissingFileError(f"{path}: no such file")
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if size == 0:
        raise InputError(f"{path}: the file is empty: copy or download it again")
    return size


def is_gzip(path: Path) -> bool:
    """Return whether the file begins as a gzip stream; its name does not matter."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP_MAGIC


def check_compression(path: Path) -> None:
    """Raise an error if a file is compressed in a format other than gzip.

    Raises
    ------
    InputError
        The message names the format.
    """
    with named_errors(path), path.open("rb") as stream:
        first = stream.read(10)
    for magic, name in _OTHER_MAGIC.items():
        if first.startswith(magic) and (name != "bzip2" or first[4:] == _BZIP2_BLOCK):
            raise InputError(
                f"{path}: is compressed with {name}: unpack it, or compress it with gzip"
            )


def check_line_ends(path: Path) -> None:
    """Raise an error if lines end in carriage returns alone, as in files of old systems.

    The file is read up to its first line feed.

    Raises
    ------
    InputError
        There are carriage returns, but no line feeds.
    """
    last, n_returns = b"", 0
    with named_errors(path), open_stream(path) as stream:
        while block := stream.read(BLOCK_BYTES // 8):
            if b"\n" in block:
                return
            last, n_returns = block[-1:], n_returns + block.count(b"\r")
    if n_returns > (last == b"\r"):
        raise InputError(
            f"{path}: its lines end in carriage returns alone: convert these to line feeds"
        )


def open_stream(path: Path) -> BinaryIO:
    """Open a plain or gzipped file to read its content; forward seeks are supported.

    Use it inside :func:`named_errors`. A gzipped file that expands to far more bytes than text and
    numbers do is refused while it is read.
    """
    if is_gzip(path):
        return cast(BinaryIO, _ModestReader(_BoundedGzip(path), 2**20))
    return open_plain(path)


def open_plain(path: Path) -> BinaryIO:
    """Open a file; a long read allocates the bytes that exist, not those that are asked for."""
    return cast(BinaryIO, _ModestReader(path.open("rb", buffering=0)))


class _ModestReader(io.BufferedReader):
    """A reader that allocates the bytes that exist, not those that a header asks for."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and 0 <= size <= 2 * BLOCK_BYTES:
            return super().read(size)
        size = sys.maxsize if size is None or size < 0 else size
        pieces = []
        while size > 0 and (piece := super().read(min(size, 2 * BLOCK_BYTES))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


class _BoundedGzip(gzip.GzipFile):
    """A gzipped file that must not expand to more than :data:`_MOST_EXPANSION` times its size."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._path = path
        self._ratio = limit_of(MAX_EXPANSION, _MOST_EXPANSION)
        self._most = max(_FREE_EXPANSION, self._ratio * path.stat().st_size)

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(self._most + 1 if size is None or size < 0 else size)
        self._check(super().seek(0, io.SEEK_CUR))
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        here = 0 if whence == io.SEEK_SET else super().seek(0, io.SEEK_CUR)
        self._check(here + offset)
        return super().seek(offset, whence)

    def _check(self, position: int) -> None:
        if position > self._most:
            raise InputError(
                f"{self._path}: expands to more than {format_bytes(self._most)}, "
                f"{self._ratio} times its size: if this is correct, unpack it first, or set the "
                f"environment variable {MAX_EXPANSION}"
            )


@contextmanager
def named_errors(name: object) -> Iterator[None]:
    """Add the name of the file and a remedy to errors of decompression and of the file system."""
    again = "copy or download it again"
    try:
        yield
    except EOFError as error:
        raise InputError(
            f"{name}: truncated: its compressed data ends too early: {again}"
        ) from error
    except (zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise InputError(f"{name}: its compressed data is damaged ({error}): {again}") from error
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from error
    except MemoryError as error:
        raise memory_error(error, name) from error


@contextmanager
def library_errors(name: object, format: str, *kinds: type[Exception]) -> Iterator[None]:
    """Report errors of a library that reads a format, of the given types, as errors of the file."""
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise memory_error(error, name) from error
    except kinds as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: cannot be read as {format}: {reason}") from error


def check_declared_size(name: object, declared: int, size: int, *, is_compressed: bool) -> None:
    """Raise an error if the size that a header declares differs from the actual size.

    Parameters
    ----------
    name : object
        The file, for the message.
    declared : int
        Bytes of the file according to its header.
    size : int
        Bytes on disk: compressed bytes if `is_compressed`.

    Raises
    ------
    InputError
        With both sizes. For compressed files: the file cannot contain as many bytes as declared.
    """
    if is_compressed:
        if declared > size * _DEFLATE_RATIO:
            raise InputError(
                f"{name}: its header declares {format_bytes(declared)}, more than {size} "
                "compressed bytes can hold: the file is damaged or of another format"
            )
    elif declared != size:
        what = "truncated" if declared > size else "longer than its header declares"
        raise InputError(
            f"{name}: {what}: its header declares {declared} bytes, the file has {size}: "
            "copy or download it again"
        )
