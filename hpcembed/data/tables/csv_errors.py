"""Errors of CSV files: the first bad cell of a block, by file, row, line and column."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcembed.data.columns.cells import missing_marks
from hpcembed.data.labels import unusable
from hpcembed.data.tables.csv_header import CsvHeader
from hpcembed.runtime.errors import InputError

__all__ = ["BadCellError", "BlockBegin", "check_quotes", "first_bad_cell"]


class BadCellError(InputError):
    """A cell of a feature is not a number; columns of other kinds may have such cells.

    Attributes
    ----------
    is_gap : bool
        Whether the cell is missing.
    """

    def __init__(self, message: str, *, is_gap: bool = False) -> None:
        super().__init__(message)
        self.is_gap = is_gap


@dataclass(frozen=True, slots=True)
class BlockBegin:
    """Start of a block: file, global index of its first row, number of its first line."""

    path: Path
    row: int
    line: int

    def error(self, row: int, line: int, message: str) -> InputError:
        """Return the error of a row and a line of the block, both counted from 0."""
        where = f"data row {self.row + row + 1} (line {self.line + line})"
        return InputError(f"{self.path}: {where}: {message}")


def check_quotes(block: bytes, begin: BlockBegin) -> None:
    """Raise InputError if a quote of a block is not closed on its line."""
    characters = np.frombuffer(block, dtype=np.uint8)
    line_ends = np.flatnonzero(characters == ord("\n"))
    quotes = np.searchsorted(np.flatnonzero(characters == ord('"')), line_ends)
    open_lines = np.flatnonzero(quotes % 2)
    if open_lines.size:
        raise InputError(
            f"{begin.path}: line {begin.line + int(open_lines[0])}: a quote is not closed on its "
            "line: line breaks inside quotes are not read; replace them"
        )


def first_bad_cell(
    block: bytes,
    header: CsvHeader,
    begin: BlockBegin,
    reason: str,
    number_columns: Collection[int] = (),
) -> InputError:
    """Return the error of the first bad cell of a block that cannot be parsed.

    Parameters
    ----------
    reason : str
        Message of the parser, for a block without a bad cell.
    number_columns : collection of int
        Columns whose cells must be numbers; a bad cell of these is a :class:`BadCellError`.
    """
    row = -1
    for line, raw in enumerate(block.split(b"\n")):
        raw = raw.removesuffix(b"\r")
        if not (raw.strip(b" \t") if header.delimiter == " " else raw):
            continue
        row += 1
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            return begin.error(row, line, "not UTF-8 text: convert the file to UTF-8")
        if "\r" in text:
            return begin.error(row, line, "a carriage return inside the line: remove it")
        fields = header.split(text)
        if len(fields) != len(header.names):
            message = f"{len(fields)} fields where the header has {len(header.names)}: correct it"
            return begin.error(row, line, message)
        for column, field in enumerate(fields):
            is_label = column == header.label
            if not is_label and column not in number_columns:
                continue
            problem = _problem(field, is_label=is_label)
            if problem:
                name = f"column {column + 1} ({header.names[column]})"
                error = begin.error(row, line, f"{name}: {problem}")
                return error if is_label else BadCellError(str(error), is_gap=_is_gap(field))
    return InputError(f"{begin.path}: from line {begin.line} on: cannot be parsed: {reason}")


def _problem(field: str, *, is_label: bool) -> str:
    field = field.strip()
    if is_label:
        reason = unusable(field)
        return reason and f"the label is {reason}: remove such rows"
    if not field:
        return "the cell is empty: fill in a number, remove the row, or set data.gaps = impute"
    try:
        number = float(field)
    except ValueError:
        return f"{field[:40]!r} is not a number: leave such columns out or encode them"
    if not math.isfinite(number):
        return f"{field[:40]!r} is not a finite number: remove or replace such values"
    return ""


def _is_gap(field: str) -> bool:
    return field.strip().casefold() in missing_marks()
