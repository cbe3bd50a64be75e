"""Check of the global heaps of an HDF5 file, which hold texts of any length.

A heap is a collection of objects, each with a header of its number and size; number 0 is the free
space at the end. The HDF5 library reads a free space of size 0, which only a damaged file has,
without end, and it cannot be interrupted. So the collections are found by their signature before
the library opens the file. Files of more than 256 MiB are not searched.
Reference: HDF5 File Format Specification, section III.E.
"""

from __future__ import annotations

import mmap
import struct
from functools import lru_cache
from pathlib import Path

from hpcembed.data.file_validation import named_errors
from hpcembed.runtime.errors import InputError

__all__ = ["check_heaps"]

_SIGNATURE = b"GCOL\x01\0\0\0"
_MOST_SEARCHED = 2**28
_HEADER_BYTES = 16


def check_heaps(path: Path) -> None:
    """Raise InputError for a file that the HDF5 library would read without end."""
    with named_errors(path):
        facts = path.stat()
    _check_once(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _check_once(path: Path, size: int, changed: int) -> None:
    if not 0 < size <= _MOST_SEARCHED:
        return
    with (
        named_errors(path),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        begin = content.find(_SIGNATURE)
        while begin >= 0:
            _check_collection(path, content, begin)
            begin = content.find(_SIGNATURE, begin + 1)


def _check_collection(path: Path, content: mmap.mmap, begin: int) -> None:
    if begin + _HEADER_BYTES > len(content):
        return
    (size,) = struct.unpack_from("<Q", content, begin + 8)
    end = min(begin + size, len(content))
    place = begin + _HEADER_BYTES
    while place + _HEADER_BYTES <= end:
        number, _, _, length = struct.unpack_from("<HHIQ", content, place)
        # As the library computes it, in 64 bits.
        step = length if number == 0 else (_HEADER_BYTES + length + -length % 8) % 2**64
        if step == 0:
            raise InputError(
                f"{path}: cannot be read as HDF5: a heap of texts is damaged at byte {place}: copy "
                "or write the file again"
            )
        place += step
