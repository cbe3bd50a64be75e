"""What a file declares against what it can hold, before anything is allocated.

A header of a few bytes may declare an array of petabytes, and a small compressed file may unfold
to one. Every reader therefore compares the declared size, as a product of Python integers, with
the bytes on disk. For compressed files the bound is what DEFLATE can achieve at best, 1032 bytes
out of one (a match of 258 bytes coded in two bits); what really comes out is checked on reading.

Errors of the decompressor carry no file name and no advice: :func:`named_errors` adds both.
"""

from __future__ import annotations

import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.errors import InputError
from hpcembed.runtime.memory import format_bytes

__all__ = [
    "BLOCK_BYTES",
    "check_compression",
    "check_declared_size",
    "check_finite",
    "check_line_ends",
    "file_size",
    "is_gzip",
    "named_errors",
    "open_stream",
]

#: Rows and text travel from disk in blocks of about this size.
BLOCK_BYTES = 8 * 2**20

_DEFLATE_RATIO = 1032
_GZIP_MAGIC = b"\x1f\x8b"

#: First bytes of what would pass for a text of one odd line.
_OTHER_MAGIC = {
    b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
}  # fmt: skip
_BZIP2_BLOCK = b"1AY&SY"


def file_size(path: Path) -> int:
    """Size of a regular file that is there and not empty, in bytes. Not collective.

    Raises
    ------
    InputError
        When the file is missing, not a regular file, or empty.
    """
    try:
        if not path.is_file():
            what = "is not a regular file" if path.exists() else "no such file"
            raise InputError(f"{path}: {what}: those in [data] of a job are relative to --data-dir")
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if size == 0:
        raise InputError(f"{path}: the file is empty: copy or download it again")
    return size


def is_gzip(path: Path) -> bool:
    """Whether the file starts as a gzip stream, whatever its name. Not collective."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP_MAGIC


def check_compression(path: Path) -> None:
    """Refuse a file that is compressed in a way other than gzip. Not collective.

    Raises
    ------
    InputError
        With the name of the compression.
    """
    with named_errors(path), path.open("rb") as stream:
        first = stream.read(10)
    for magic, name in _OTHER_MAGIC.items():
        if first.startswith(magic) and (name != "bzip2" or first[4:] == _BZIP2_BLOCK):
            raise InputError(
                f"{path}: is compressed with {name}: unpack it, or compress it with gzip"
            )


def check_line_ends(path: Path) -> None:
    """Refuse lines that end in carriage returns alone, as on old systems. Not collective.

    The file is read up to its first line feed.

    Raises
    ------
    InputError
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
    """Open a plain or gzipped file for reading its content; seeking forward works. Not collective.

    Use it inside :func:`named_errors`.
    """
    if is_gzip(path):
        return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(path, "rb"), 2**20))
    return path.open("rb")


@contextmanager
def named_errors(name: object) -> Iterator[None]:
    """Give errors of decompression and of the file system the file's name and a remedy.

    Not collective.
    """
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


def check_declared_size(name: object, declared: int, size: int, *, is_compressed: bool) -> None:
    """Refuse a header that promises another number of bytes than the file has. Not collective.

    Parameters
    ----------
    name : object
        The file, for the message.
    declared : int
        Bytes that the file has to hold according to its header.
    size : int
        Bytes on disk: compressed ones when `is_compressed`.

    Raises
    ------
    InputError
        With both sizes. A compressed file is refused only when it cannot hold that much.
    """
    if is_compressed:
        if declared > size * _DEFLATE_RATIO:
            raise InputError(
                f"{name}: its header declares {format_bytes(declared)}, more than {size} "
                "compressed bytes can hold: the file is damaged or not what its name says"
            )
    elif declared != size:
        what = "truncated" if declared > size else "longer than its header says"
        raise InputError(
            f"{name}: {what}: its header declares {declared} bytes, the file has {size}: "
            "copy or download it again"
        )


def check_finite(
    block: NDArray[np.generic],
    name: object,
    first_row: int,
    feature_names: tuple[str, ...] = (),
) -> None:
    """Refuse NaN and infinite values in a block of rows. Not collective.

    Parameters
    ----------
    block : ndarray of shape (m, d)
    first_row : int
        Index of the block's first row in the file, from 0.

    Raises
    ------
    InputError
        Naming file, row and column, both counted from 1.
    """
    if block.dtype.kind != "f":
        return
    finite = np.isfinite(block)
    if finite.all():
        return
    row, column = (int(index[0]) for index in np.nonzero(~finite))
    feature = f" ({feature_names[column]})" if feature_names else ""
    raise InputError(
        f"{name}: row {first_row + row + 1}, column {column + 1}{feature}: {block[row, column]} is "
        "not a finite number: remove or replace such values"
    )
