"""Edge lists: one edge per line, two node ids and an optional weight, between blanks or commas.

Lines that begin with ``#`` or ``%`` are comments; a first line without numbers is a header. Further
columns (times, for example) are ignored. Ids are whole numbers up to 2^63 - 1, with any gaps. Each
rank reads the lines of its own byte range.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.file_validation import file_size, named_errors, open_stream
from hpcembed.data.graphs.graph import GraphOptions, LocalEdges
from hpcembed.data.line_ranges import LineRange, TextFile, share_lines
from hpcembed.data.tables.arrow_columns import BadBlockError, parse_block, single_blanks
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.memory import available_per_rank, check_fits

__all__ = [
    "EDGE_BYTES",
    "PairColumns",
    "node_id",
    "numbered_lines",
    "pair_columns",
    "read_edge_list",
]

#: Memory of an edge while it is read, joined, sent and sorted: ids and weight.
EDGE_BYTES = 10 * 24

_COMMENT = re.compile(rb"(?m)^[ \t]*[#%][^\n]*(?:\n|\Z)")
_BLANK = re.compile(rb"(?m)^[ \t]*\r?\n")
_AROUND = re.compile(rb"(?m)^[ \t]+|[ \t]+(?=,|\r?$)|(?<=,)[ \t]+")
_ID = re.compile(r"\d{1,19}", re.ASCII)
_LONGEST_LINE = 2**16
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class PairColumns:
    """Layout of a file whose lines begin with a pair of columns.

    Attributes
    ----------
    file : TextFile
        Begins after the comments and the header at the top.
    delimiter : str
        A blank or a comma.
    n_columns : int
    header : str
        The header line, if there is one.
    """

    file: TextFile
    delimiter: str
    n_columns: int
    header: str


def pair_columns(path: Path, pair: str) -> PairColumns:
    """Determine the layout of a file from its first lines. Not collective.

    Parameters
    ----------
    path : Path
    pair : str
        Name of the pair of columns, for messages.

    Raises
    ------
    InputError
        A file that is missing, empty, or without a line of two columns.
    """
    file_size(path)
    offset, number, header = 0, 0, ""
    with named_errors(path), open_stream(path) as stream:
        while line := stream.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE:
                raise InputError(f"{path}: line {number}: longer than 64 KiB: no {pair}")
            fields = _fields(line, _delimiter(line))
            if any(field.lstrip("+-")[:1].isdigit() for field in fields) or header:
                if fields and len(fields) < 2:
                    raise InputError(f"{path}: line {number}: one column where {pair} are needed")
                if fields:
                    return PairColumns(
                        TextFile(path, offset, number), _delimiter(line), len(fields), header
                    )
            header = header or " ".join(fields)[:80]
            offset += len(line)
    raise InputError(f"{path}: no line with {pair}: check data.format")


def _delimiter(line: bytes) -> str:
    return "," if b"," in line else " "


def _fields(line: bytes, delimiter: str) -> list[str]:
    text = line.decode("latin-1").strip()
    if not text or text[0] in "#%":
        return []
    return [field.strip() for field in text.split(",")] if delimiter == "," else text.split()


def numbered_lines(
    block: bytes, first_line: int, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of every line with data. Not collective."""
    for number, line in enumerate(block.split(b"\n"), first_line):
        fields = _fields(line, delimiter)
        if fields:
            yield number, fields


def read_edge_list(path: Path, comm: MPI.Comm, options: GraphOptions) -> LocalEdges:
    """Read this rank's lines of an edge list.

    Collective.

    Raises
    ------
    InputError
        On all ranks, with file and line: an id that is not a whole number, a weight that is not
        finite, a negative weight if these are refused, a line with too few columns.
    MemoryLimitError
        The edges will not fit; raised before they are read.
    """
    with agreement(comm):
        columns = pair_columns(path, "two node ids")
    ranges, _ = share_lines([columns.file], comm, skipped="comment")
    share = comm.allreduce(sum(part.n_rows for part in ranges), op=MPI.MAX)
    check_fits(share * EDGE_BYTES, available_per_rank(comm), f"reading {path}", "use more ranks")
    weighted = columns.n_columns > 2 and options.weights == "auto"
    pieces = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    with agreement(comm):
        for part in ranges:
            pieces += _read_range(part, columns, weighted, options.negative_weights == "keep")
    source, target, weight = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return LocalEdges(source, target, weight if weighted else None, None, str(path))


def _read_range(
    lines: LineRange, columns: PairColumns, weighted: bool, negative: bool
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    types = {"source": "int64", "target": "int64"}
    types |= {f"column {i}": "string" for i in range(2, columns.n_columns)}
    if weighted:
        types["column 2"] = "float64"
    pieces = []
    for line, block in lines.blocks():
        clean = _without_comments(block, columns.delimiter)
        if clean:
            try:
                table = parse_block(clean, columns.delimiter, types, has_quotes=False)
            except BadBlockError as error:
                _refuse_block(block, line, columns, weighted, str(error))
            i, j = (table.column(c).to_numpy().astype(np.int64) for c in (0, 1))
            w = table.column(2).to_numpy() if weighted else np.empty(0)
            bad_ids = bool((i < 0).any() or (j < 0).any())
            bad_weights = not np.isfinite(w).all() or (not negative and bool((w < 0).any()))
            if bad_ids or bad_weights:
                _refuse_block(block, line, columns, weighted, "a weight below zero")
            pieces.append((i, j, w))
    return pieces


def _without_comments(block: bytes, delimiter: str) -> bytes:
    if b"#" in block or b"%" in block:
        block = _COMMENT.sub(b"", block)
    if delimiter != ",":
        block = single_blanks(block)
    elif b" " in block or b"\t" in block:
        block = _AROUND.sub(b"", block)
    return _BLANK.sub(b"", block)


def _refuse_block(
    block: bytes, first_line: int, columns: PairColumns, weighted: bool, reason: str
) -> NoReturn:
    """Raise the error of the first bad line of a block; `reason` without one. Not collective."""
    path = columns.file.path
    between = "commas" if columns.delimiter == "," else "blanks"
    for number, fields in numbered_lines(block, first_line, columns.delimiter):
        if len(fields) != columns.n_columns:
            raise InputError(
                f"{path}: line {number}: {len(fields)} columns where the first line of data has "
                f"{columns.n_columns} between {between}: give every edge the same columns and "
                "separators"
            )
        for text in fields[:2]:
            node_id(text, path, number)
        if weighted and (problem := _bad_weight(fields[2])):
            raise InputError(f"{path}: line {number}: weight {fields[2][:40]!r}: {problem}")
    if b"\r" in block.replace(b"\r\n", b""):
        raise InputError(
            f"{path}: near line {first_line}: lines that end in a carriage return alone: convert "
            "them to line feeds"
        )
    raise InputError(f"{path}: near line {first_line}: {reason}")


def node_id(text: str, path: Path, line: int) -> int:
    """Convert a node id in a file. Not collective.

    Raises
    ------
    InputError
        Text that is not a whole number from 0 to 2^63 - 1.
    """
    if _ID.fullmatch(text) and int(text) <= _LARGEST_ID:
        return int(text)
    remedy = "number the nodes"
    if len(text.split()) > 1:  # between commas
        remedy = "lines with commas are divided at commas alone; write decimals with points"
    raise InputError(
        f"{path}: line {line}: node id {text[:40]!r} is not a whole number from 0 to 2^63 - 1: "
        f"{remedy}"
    )


def _bad_weight(text: str) -> str:
    """Return why a weight is refused, or ""."""
    try:
        value = float(text)
    except ValueError:
        return "not a number"
    if not np.isfinite(value):
        return "not a finite number: remove such edges"
    if value < 0:
        return (
            "negative, which defines no degrees; set graph.negative_weights = keep for the "
            "plain adjacency"
        )
    return ""
