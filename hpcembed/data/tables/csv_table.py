"""CSV files with a header line, with or without a column of labels.

Each rank parses the lines of its own byte range (:mod:`hpcembed.data.line_ranges`) block by block
into an array that is allocated for its rows. Several files with the same header are one table. The
separator is the separator of the header line. Every cell must be a finite number, except the
label, which may be text. An error names file, row, line and column of the first bad cell. Quoted
fields are read. Line breaks inside quotes are errors: a rank could not find where a row begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.file_validation import BLOCK_BYTES
from hpcembed.data.labels import unusable
from hpcembed.data.line_ranges import LineRange, Skipped, estimate_rows, share_lines
from hpcembed.data.table import Summary, Table
from hpcembed.data.tables.arrow_columns import BadBlockError, parse_block, single_blanks
from hpcembed.data.tables.csv_header import CsvHeader, read_headers
from hpcembed.data.tables.label_column import LabelColumn
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import place_rows

__all__ = ["CsvSource"]


class CsvSource:
    """Some CSV files with the same columns as one table.

    Parameters
    ----------
    paths : sequence of Path
    label_column : str or None
        Name of the column of the class. None: the label of every row is the empty text.
    delimiter : str
        A character, ``tab``, ``blank`` or ``auto``.

    Raises
    ------
    InputError
        A file is missing or empty, lacks the label column, or its columns differ from those of the
        first file.
    """

    def __init__(self, paths: Sequence[Path], label_column: str | None, delimiter: str) -> None:
        self.header, self._files = read_headers(paths, label_column, delimiter)
        self.source = ", ".join(map(str, paths))
        self._skipped: Skipped = "blank" if self.header.delimiter == " " else "empty"
        self._ranges: list[LineRange] = []
        self._n_rows = 0

    @property
    def summary(self) -> Summary:
        """Columns and the estimated number of rows. Not collective."""
        n_rows, is_estimate = estimate_rows(self._files, self._skipped)
        n_features = len(self.header.feature_names)
        return Summary(n_rows, n_features, np.dtype(np.float64), is_estimate=is_estimate)

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs on the rank that needs most; count the lines.

        Collective.
        """
        self._ranges, self._n_rows = share_lines(self._files, comm, skipped=self._skipped)
        if self._n_rows == 0:
            raise InputError(f"{self.source}: no data rows below the header")
        n_local = sum(lines.n_rows for lines in self._ranges)
        needed = n_local * 8 * (len(self.header.feature_names) + 1) + 6 * BLOCK_BYTES
        return int(comm.allreduce(needed, op=MPI.MAX))

    def read(self, comm: MPI.Comm) -> Table:
        """Read this rank's rows; :meth:`measure` must be called first. Collective."""
        n_local = sum(lines.n_rows for lines in self._ranges)
        names, label = self.header.feature_names, self.header.label
        label_name = f"{self.source}, " + (
            "no labels" if label is None else f"column {self.header.names[label]}"
        )
        with agreement(comm):
            rows = np.empty((n_local, len(names)))
            column = LabelColumn(n_local, label_name)
            place = 0
            for lines in self._ranges:
                self._read_range(lines, rows[place:], column)
                place += lines.n_rows
            labels = column.labels()
        start = place_rows(n_local, comm)[0]
        return Table(rows, labels, start, self._n_rows, names, self.source)

    def _read_range(
        self,
        lines: LineRange,
        rows: NDArray[np.float64],
        labels: LabelColumn,
    ) -> None:
        done = 0
        for line, block in lines.blocks():
            begin = _BlockBegin(lines.file.path, lines.first_row + done, line)
            done += self._parse(block, begin, rows[done : lines.n_rows], labels)
        if done != lines.n_rows:
            raise InputError(f"{lines.file.path}: changed while it was read: start again")

    def _parse(
        self,
        block: bytes,
        begin: _BlockBegin,
        rows: NDArray[np.float64],
        labels: LabelColumn,
    ) -> int:
        """Parse a block into the first of `rows`, add its labels, and return its rows."""
        has_quotes = b'"' in block
        if has_quotes:
            _check_quotes(block, begin)
        header = self.header
        types = {str(j): "float64" for j in range(len(header.names))}
        if header.label is not None:
            types[str(header.label)] = "string"
        try:
            text = single_blanks(block) if header.delimiter == " " else block
            if not text.strip(b"\r\n"):
                return 0
            table = parse_block(text, header.delimiter, types, has_quotes=has_quotes)
            if table.num_rows > len(rows):
                raise BadBlockError("carriage returns inside lines")
            target = rows[: table.num_rows]
            features = [j for j in range(len(header.names)) if j != header.label]
            for place, column in enumerate(features):
                target[:, place] = table.column(column).to_numpy()
            if not np.isfinite(target).all():
                raise BadBlockError("a number that is not finite")
            if header.label is None:
                labels.add([""], np.zeros(table.num_rows, dtype=np.int64))
                return int(table.num_rows)
            found = table.column(header.label).combine_chunks().dictionary_encode()
            texts = [text.strip() for text in found.dictionary.to_pylist()]
            if any(unusable(text) for text in texts):
                raise BadBlockError("an unusable label")
        except BadBlockError as error:
            raise _first_bad_cell(block, header, begin, str(error)) from error
        labels.add(texts, found.indices.to_numpy())
        return int(table.num_rows)


@dataclass(frozen=True, slots=True)
class _BlockBegin:
    """Start of a block: file, global index of its first row, number of its first line."""

    path: Path
    row: int
    line: int

    def error(self, row: int, line: int, message: str) -> InputError:
        where = f"data row {self.row + row + 1} (line {self.line + line})"
        return InputError(f"{self.path}: {where}: {message}")


def _check_quotes(block: bytes, begin: _BlockBegin) -> None:
    characters = np.frombuffer(block, dtype=np.uint8)
    line_ends = np.flatnonzero(characters == ord("\n"))
    quotes = np.searchsorted(np.flatnonzero(characters == ord('"')), line_ends)
    open_lines = np.flatnonzero(quotes % 2)
    if open_lines.size:
        raise InputError(
            f"{begin.path}: line {begin.line + int(open_lines[0])}: a quote is not closed on its "
            "line: line breaks inside quotes are not read; replace them"
        )


def _first_bad_cell(block: bytes, header: CsvHeader, begin: _BlockBegin, reason: str) -> InputError:
    """Error of the first bad cell of a block that cannot be parsed."""
    row = -1
    for line, raw in enumerate(block.split(b"\n")):
        raw = raw.removesuffix(b"\r")
        if not (raw.strip(b" \t") if header.delimiter == " " else raw):
            continue
        row += 1
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            return begin.error(row, line, "not UTF-8 text: convert the file")
        if "\r" in text:
            return begin.error(row, line, "a carriage return inside the line: remove it")
        fields = header.split(text)
        if len(fields) != len(header.names):
            message = f"{len(fields)} fields where the header has {len(header.names)}: correct it"
            return begin.error(row, line, message)
        for column, field in enumerate(fields):
            problem = _problem(field, is_label=column == header.label)
            if problem:
                name = f"column {column + 1} ({header.names[column]})"
                return begin.error(row, line, f"{name}: {problem}")
    return InputError(f"{begin.path}: from line {begin.line} on: cannot be parsed: {reason}")


def _problem(field: str, *, is_label: bool) -> str:
    field = field.strip()
    if is_label:
        reason = unusable(field)
        return reason and f"the label is {reason}: remove such rows"
    if not field:
        return "the cell is empty: fill in a number or remove the row"
    try:
        number = float(field)
    except ValueError:
        return f"{field[:40]!r} is not a number: leave such columns out or encode them"
    if not math.isfinite(number):
        return f"{field[:40]!r} is not a finite number: remove or replace such values"
    return ""
