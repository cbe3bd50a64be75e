"""Edge lists: one edge per line, two node ids and an optional weight, between blanks or commas.

Lines that begin with ``#`` or ``%`` are comments; :mod:`hpcembed.data.graphs.pair_columns` decides
about a header. Further columns are ignored. Ids are whole numbers up to 2^63 - 1, with any gaps, or
words. Each rank reads the lines of its own byte range. Two readings that are usually wrong are
refused: a first line of counts as an edge, and times in the third column as weights.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.graph import GraphOptions, LocalEdges
from hpcembed.data.graphs.node_words import LONGEST_WORD, WordIndex
from hpcembed.data.graphs.pair_columns import (
    PairColumns,
    counts_error,
    is_utf8,
    numbered_lines,
    pair_columns,
)
from hpcembed.data.line_ranges import LineRange, share_lines
from hpcembed.data.tables.arrow_columns import BadBlockError, parse_block, single_blanks
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.machine.memory import available_per_rank, check_fits

__all__ = ["EDGE_BYTES", "node_id", "read_edge_list", "word_problem"]

_log = logging.getLogger(__name__)

#: Memory of an edge while it is read, joined, sent and sorted: ids and weight.
EDGE_BYTES = 10 * 24

_COMMENT = re.compile(rb"(?m)^[ \t]*[#%][^\n]*(?:\n|\Z)")
_BLANK = re.compile(rb"(?m)^[ \t]*\r?\n")
_AROUND = re.compile(rb"(?m)^[ \t]+|[ \t]+(?=,|\r?$)|(?<=,)[ \t]+")
_ID = re.compile(r"\d{1,19}", re.ASCII)
#: Whole numbers from here on, all of them, are times rather than weights: seconds since 1970, or
#: dates as 20240131.
_SMALLEST_TIME = 10**7
_LARGEST_ID = 2**63 - 1


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
        columns = pair_columns(path, "two node ids", options.header, options.ids)
    ranges, n_lines = share_lines([columns.file], comm, skipped="comment")
    share = comm.allreduce(sum(part.n_rows for part in ranges), op=MPI.MAX)
    check_fits(share * EDGE_BYTES, available_per_rank(comm), f"reading {path}", "use more ranks")
    weighted = columns.n_columns > 2 and options.weights != "ignore"
    index = WordIndex() if columns.has_words else None
    pieces = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    with agreement(comm):
        for part in ranges:
            negative = options.negative_weights == "keep"
            pieces += _read_range(part, columns, weighted, negative, index)
    source, target, weight = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    if weighted and options.weights == "auto":
        _refuse_times(path, weight, comm)
    if options.header == "auto" and not columns.has_words and not columns.header:
        is_first = bool(ranges) and ranges[0].first_row == 0 and ranges[0].n_rows > 0
        others = np.concatenate([source[is_first:], target[is_first:]])
        _refuse_counts(columns, n_lines, int(others.max(initial=-1)), comm)
    if columns.header and comm.rank == 0:
        _log.info("%s: the first line, %r, is read as a header", path, columns.header)
    words = None if index is None else index.words()
    return LocalEdges(source, target, weight if weighted else None, None, str(path), words)


def _refuse_times(path: Path, weight: NDArray[np.float64], comm: MPI.Comm) -> None:
    """Raise InputError if the third column may hold times. Collective."""
    whole = bool((weight == np.floor(weight)).all())
    low, high = float(weight.min(initial=np.inf)), float(weight.max(initial=-np.inf))
    low, high = comm.allreduce(low, op=MPI.MIN), comm.allreduce(high, op=MPI.MAX)
    if comm.allreduce(whole, op=MPI.LAND) and _SMALLEST_TIME <= low < high:
        raise InputError(
            f"{path}: the third column holds whole numbers from {low:.0f} to {high:.0f}, which may "
            "be times: set graph.weights = ignore, or graph.weights = use if they are weights"
        )


def _refuse_counts(columns: PairColumns, n_lines: int, largest: int, comm: MPI.Comm) -> None:
    """Raise InputError if the first line may hold the counts of nodes and edges. Collective.

    Parameters
    ----------
    largest : int
        Largest id of this rank's other lines.
    """
    largest = comm.allreduce(largest, op=MPI.MAX)
    n_edges = n_lines - 1
    first = columns.first[: columns.n_columns]
    if n_edges < 1 or not all(map(_ID.fullmatch, first)) or len(first) > 3:
        return
    counts = [int(field) for field in first]
    # Ids from 0 or from 1: the number of nodes is at least the largest id.
    if counts[-1] == n_edges and all(count >= largest for count in counts[:-1]):
        path, line = columns.file.path, columns.file.first_line
        raise counts_error(path, line, first, f"{n_edges} lines follow")


def _read_range(
    lines: LineRange,
    columns: PairColumns,
    weighted: bool,
    negative: bool,
    index: WordIndex | None,
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    ids = "int64" if index is None else "string"
    types = {"source": ids, "target": ids}
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
            if index is None:
                i, j = (table.column(c).to_numpy().astype(np.int64) for c in (0, 1))
            else:
                i, j = (_word_codes(table.column(c), index) for c in (0, 1))
            w = table.column(2).to_numpy() if weighted else np.empty(0)
            bad_ids = bool((i < 0).any() or (j < 0).any())  # also of words that are refused
            bad_weights = not np.isfinite(w).all() or (not negative and bool((w < 0).any()))
            if bad_ids or bad_weights:
                _refuse_block(block, line, columns, weighted, "a weight below zero")
            pieces.append((i, j, w))
    return pieces


def _word_codes(column: Any, index: WordIndex) -> NDArray[np.int64]:
    """Return the index of each word, -1 for those that are refused."""
    encoded = column.combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_pylist()
    if any(map(word_problem, words)):
        return np.full(len(column), -1)
    codes: NDArray[np.int64] = index.codes(words)[encoded.indices.to_numpy()]
    return codes


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
            if not columns.has_words:
                node_id(text, path, number)
            elif problem := word_problem(text):
                raise InputError(f"{path}: line {number}: node id {text[:40]!a} {problem}")
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
    remedy = "number the nodes, or set graph.ids = words"
    if len(text.split()) > 1:  # between commas
        remedy = "lines with commas are divided at commas alone; write decimals with points"
    raise InputError(
        f"{path}: line {line}: node id {text[:40]!r} is not a whole number from 0 to 2^63 - 1: "
        f"{remedy}"
    )


def word_problem(text: str) -> str:
    """Return why a word cannot be a node id, or ""."""
    if not text:
        return "is empty: name both nodes"
    if not is_utf8(text):
        return "is not UTF-8 text: convert the file"
    if "\0" in text:
        return "has a NUL character: remove it"
    if len(text.encode("utf-8")) > LONGEST_WORD:
        return f"is longer than {LONGEST_WORD} bytes: shorten it"
    return ""


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
