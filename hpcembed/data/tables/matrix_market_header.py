"""Header of a Matrix Market file, and of files of bare triplets.

A header consists of the banner ``%%MatrixMarket matrix LAYOUT FIELD SYMMETRY``, comments, and a
line with the sizes. A file without a banner, whose first line is ``rows columns entries``, contains
real triplets with indices from 1.
Reference: R. F. Boisvert, R. Pozo, K. A. Remington, The Matrix Market exchange formats, NISTIR
5935 (1996).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hpcembed.data.file_validation import file_size, is_gzip, named_errors, open_stream
from hpcembed.data.line_ranges import TextFile
from hpcembed.runtime.errors import InputError

__all__ = ["MatrixHeader", "read_matrix_header"]

_LAYOUTS = ("coordinate", "array")
_FIELDS = ("real", "double", "integer", "pattern")
_SYMMETRIES = ("general", "symmetric", "skew-symmetric")
_LONGEST_LINE = 2**16
_LARGEST_SIZE = 2**62


@dataclass(frozen=True, slots=True)
class MatrixHeader:
    """Contents of the header of a Matrix Market file.

    Attributes
    ----------
    file : TextFile
        The file, with the position of its first entry.
    is_coordinate : bool
        Sparse entries; else a dense array by columns.
    is_pattern : bool
        Entries without values, which are 1.
    symmetry : {"general", "symmetric", "skew-symmetric"}
    n_rows, n_columns : int
    n_entries : int
        Entries (coordinate) or values (array) that the file lists.
    has_banner : bool
        False for bare triplets.
    index_base : {0, 1}
        Number of the first row and column; 0 in bare triplets only.
    """

    file: TextFile
    is_coordinate: bool
    is_pattern: bool
    symmetry: str
    n_rows: int
    n_columns: int
    n_entries: int
    has_banner: bool = True
    index_base: int = 1

    @property
    def is_full(self) -> bool:
        """Whether the coordinates list every entry."""
        return self.symmetry == "general" and self.n_entries == self.n_rows * self.n_columns


def read_matrix_header(path: Path) -> MatrixHeader:
    """Read banner and sizes, and compare them with the size of the file.

    Raises
    ------
    InputError
        The file is not a Matrix Market file, is of an unsupported kind, or declares more entries
        than it can contain.
    """
    size = file_size(path)
    with named_errors(path), open_stream(path) as stream:
        first = _text(stream.readline(_LONGEST_LINE), path)
        words = first.lower().split()
        has_banner = words[:1] == ["%%matrixmarket"]
        if has_banner:
            layout, field, symmetry = _banner(words, path)
            sizes, line = _size_line(stream, path)
        else:
            layout, field, symmetry = "coordinate", "real", "general"
            sizes, line = words, 1
        offset = stream.tell()
    if not has_banner:
        _check_bare(words, path)
    numbers = _numbers(sizes, 3 if layout == "coordinate" else 2, path, line)
    n_rows, n_columns = numbers[:2]
    if symmetry != "general" and n_rows != n_columns:
        raise InputError(f"{path}: line {line}: a {symmetry} matrix of {n_rows} x {n_columns}")
    if n_rows == 0 or n_columns == 0:
        raise InputError(f"{path}: line {line}: zero rows or columns: there is nothing to read")
    if layout == "coordinate":
        n_entries = numbers[2]
    else:
        below = n_rows * (n_rows - 1) // 2
        full = {"general": n_rows * n_columns, "symmetric": below + n_rows, "skew-symmetric": below}
        n_entries = full[symmetry]
    header = MatrixHeader(
        TextFile(path, offset, line + 1),
        layout == "coordinate",
        field == "pattern",
        symmetry,
        n_rows,
        n_columns,
        n_entries,
        has_banner,
    )
    _check_size(header, size)
    return header


def _check_bare(words: list[str], path: Path) -> None:
    """Raise InputError if bare triplets begin with an entry in place of the sizes."""
    is_entry = len(words) == 3 and words[0].isdigit() and words[1].isdigit()
    if is_entry and (not words[2].isdigit() or "0" in words[:2]):
        raise InputError(
            f"{path}: line 1: {' '.join(words)[:60]!r} is an entry, not a line of sizes: put the "
            "numbers of rows, columns and entries into the first line (and set data.index_base = 0 "
            "if the first row is 0)"
        )


def _text(raw: bytes, path: Path) -> str:
    if len(raw) == _LONGEST_LINE or b"\0" in raw:
        raise InputError(f"{path}: not a Matrix Market file: check data.format")
    return raw.decode("latin-1")


def _banner(words: list[str], path: Path) -> tuple[str, str, str]:
    if len(words) != 5 or words[1] != "matrix":
        raise InputError(f"{path}: line 1: a banner is %%MatrixMarket matrix layout field symmetry")
    layout, field, symmetry = words[2:]
    allowed = ((layout, _LAYOUTS), (field, _FIELDS), (symmetry, _SYMMETRIES))
    for word, known in allowed:
        if word not in known:
            raise InputError(f"{path}: line 1: {word[:40]!r} is not read; {', '.join(known)} are")
    if layout == "array" and field == "pattern":
        raise InputError(f"{path}: line 1: an array cannot be a pattern")
    return layout, field, symmetry


def _size_line(stream: BinaryIO, path: Path) -> tuple[list[str], int]:
    line = 1
    while raw := stream.readline(_LONGEST_LINE):
        line += 1
        text = _text(raw, path).strip()
        if text and not text.startswith("%"):
            return text.split(), line
    raise InputError(f"{path}: truncated: it ends before the line with its sizes")


def _numbers(words: list[str], count: int, path: Path, line: int) -> list[int]:
    # The length is checked first: conversion of millions of digits takes long.
    if len(words) != count or not all(
        word.isascii() and word.isdigit() and len(word) < 20 for word in words
    ):
        shown = " ".join(words)[:60]
        raise InputError(
            f"{path}: line {line}: {shown!r} is not a line of {count} sizes: not a Matrix "
            "Market file"
        )
    numbers = [int(word) for word in words]
    if math.prod(numbers[:2]) > _LARGEST_SIZE:
        raise InputError(f"{path}: line {line}: {numbers[0]} x {numbers[1]} is too large a matrix")
    return numbers


def _check_size(header: MatrixHeader, size: int) -> None:
    # "1 1 0" and its line end, "1 1", or "0"; the last line end may be missing.
    shortest = (4 if header.is_pattern else 6) if header.is_coordinate else 2
    needed = shortest * header.n_entries - 1
    path = header.file.path
    content = size * 1032 if is_gzip(path) else size - header.file.first_byte
    if needed > content:
        raise InputError(
            f"{path}: truncated: it declares {header.n_entries} entries, more than {size} bytes "
            "can hold: copy or download it again"
        )
