"""Headers of numpy's NPY format, read without pickle.

An NPY stream consists of the magic string, two bytes of version, the length of the header, the
header (a Python dictionary literal: type, order, shape) and the elements. Arrays of Python objects
need pickle and are not read; records are not read either. The length of the header is limited, its
literal is parsed without evaluation, and sizes are products of Python integers.
Reference: NEP 1 and the documentation of ``numpy.lib.format``.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from hpcembed.runtime.errors import InputError

__all__ = ["NpyHeader", "read_npy_header"]

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 2**16
_TYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5})")


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """Type, order and shape of an array, and the offset of its elements in the stream."""

    dtype: np.dtype[Any]
    is_fortran: bool
    shape: tuple[int, ...]
    offset: int

    @property
    def n_bytes(self) -> int:
        """Bytes of header and elements."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(stream: BinaryIO, name: str) -> NpyHeader:
    """Read the header at the beginning of an NPY stream.

    Raises
    ------
    InputError
        The stream is not an NPY stream, or needs pickle.
    """
    head = stream.read(8)
    if len(head) < 8 or head[:6] != _MAGIC or head[6] not in (1, 2, 3):
        raise InputError(f"{name}: not an NPY array (magic string or version): check the file")
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > _LONGEST_HEADER:
        raise InputError(f"{name}: an NPY header of {length} bytes: the file is damaged")
    raw = stream.read(length)
    if len(raw) < length:
        raise InputError(f"{name}: truncated inside its NPY header: copy it again")
    fields = _parse(raw, "utf-8" if head[6] == 3 else "latin-1", name)
    descr, is_fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if not isinstance(descr, str) or not _TYPE.fullmatch(descr):
        what = "Python objects" if isinstance(descr, str) and "O" in descr else "such elements"
        raise InputError(
            f"{name}: elements of type {str(descr)[:40]!r}: {what} are not read; save the array as "
            "plain numbers or text"
        )
    is_shape = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not is_shape or not isinstance(is_fortran, bool):
        raise InputError(f"{name}: its NPY header has no valid shape or order: it is damaged")
    return NpyHeader(np.dtype(descr), is_fortran, shape, 8 + width + length)


def _parse(raw: bytes, encoding: str, name: str) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser warns of damaged literals
            fields = ast.literal_eval(raw.decode(encoding).strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise InputError(f"{name}: its NPY header cannot be parsed: it is damaged") from error
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise InputError(f"{name}: its NPY header lacks type, order or shape: it is damaged")
    return fields
