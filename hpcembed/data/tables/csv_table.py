"""CSV files with a header line and a named label column, or none for rows without labels.

Each rank parses the lines of its own byte range (:mod:`hpcembed.data.line_ranges`) block by block
into an array that was allocated for exactly its rows. Several files with the same header count as
one table. The separator is the one that the header line uses. Every cell must be a finite number,
except the label, which may be text; a cell that is not is named with file, row, line and column.
Quoted fields are understood; line breaks inside quotes are refused, because no rank could then
tell where a row begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.dataset import RawTable, Summary, place_rows
from hpcembed.data.files import BLOCK_BYTES
from hpcembed.data.labels import LocalLabels, unusable
from hpcembed.data.line_ranges import LineRange, estimate_rows, line_blocks, share_lines
from hpcembed.data.tables.arrow_columns import BadBlockError, parse_block, single_blanks
from hpcembed.data.tables.csv_header import CsvHeader, read_header
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import agreement

__all__ = ["CsvTable"]


class CsvTable:
    """Some CSV files with the same columns as one table.

    Parameters
    ----------
    paths : sequence of Path
    label_column : str or None
        Name of the column that holds the class; None: every row's label is then the empty text.
    delimiter : str
        A character, ``tab``, ``blank`` or ``auto``.

    Raises
    ------
    InputError
        A file is missing or empty, lacks the label column, or its columns differ from the first's.
    """

    def __init__(self, paths: Sequence[Path], label_column: str | None, delimiter: str) -> None:
        self.headers = [read_header(path, label_column, delimiter) for path in paths]
        self.header = self.headers[0]
        for header in self.headers[1:]:
            if header.names != self.header.names:
                raise InputError(
                    f"{header.file.path}: its columns differ from those of {self.header.file.path}"
                )
        self.source = ", ".join(map(str, paths))
        self._ranges: list[LineRange] = []
        self._n_rows = 0

    @property
    def summary(self) -> Summary:
        """Columns and the estimated number of rows. Not collective."""
        n_rows, is_estimate = estimate_rows(
            [header.file for header in self.headers], has_blanks=self.header.delimiter == " "
        )
        n_features = len(self.header.feature_names)
        return Summary(n_rows, n_features, np.dtype(np.float64), is_estimate=is_estimate)

    def measure(self, comm: MPI.Comm) -> int:
        """Bytes that reading will need on the rank that needs most. Collective: counts lines."""
        self._ranges, self._n_rows = share_lines(
            [header.file for header in self.headers],
            comm,
            has_blanks=self.header.delimiter == " ",
        )
        if self._n_rows == 0:
            raise InputError(f"{self.source}: no data rows below the header")
        n_local = sum(lines.n_rows for lines in self._ranges)
        needed = n_local * 8 * (len(self.header.feature_names) + 1) + 6 * BLOCK_BYTES
        return int(comm.allreduce(needed, op=MPI.MAX))

    def read(self, comm: MPI.Comm) -> RawTable:
        """This rank's rows; call :meth:`measure` first. Collective."""
        n_local = sum(lines.n_rows for lines in self._ranges)
        label = self.header.label
        label_name = f"{self.source}, " + (
            "no labels" if label is None else f"column {self.header.names[label]}"
        )
        with agreement(comm):
            rows = np.empty((n_local, len(self.header.feature_names)))
            codes = np.empty(n_local, dtype=np.int64)
            values: dict[str, int] = {}
            place = 0
            for lines in self._ranges:
                self._read_range(lines, rows[place:], codes[place:], values)
                place += lines.n_rows
        start = place_rows(n_local, comm)[0]
        labels = LocalLabels(codes, tuple(values), label_name)
        return RawTable(rows, labels, start, self._n_rows, self.header.feature_names, self.source)

    def _read_range(
        self,
        lines: LineRange,
        rows: NDArray[np.float64],
        codes: NDArray[np.int64],
        values: dict[str, int],
    ) -> None:
        done, line = 0, lines.first_line
        for block in line_blocks(lines.file, lines.begin, lines.end):
            where = _Place(lines.file.path, lines.first_row + done, line)
            count = self._parse(block, where, rows[done : lines.n_rows], codes[done:], values)
            done += count
            line += block.count(b"\n")
        if done != lines.n_rows:
            raise InputError(f"{lines.file.path}: changed while it was read: start again")

    def _parse(
        self,
        block: bytes,
        where: _Place,
        rows: NDArray[np.float64],
        codes: NDArray[np.int64],
        values: dict[str, int],
    ) -> int:
        has_quotes = b'"' in block
        if has_quotes:
            _refuse_open_quotes(block, where)
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
                codes[: table.num_rows] = values.setdefault("", 0)
                return int(table.num_rows)
            found = table.column(header.label).combine_chunks().dictionary_encode()
            texts = [text.strip() for text in found.dictionary.to_pylist()]
            if any(unusable(text) for text in texts):
                raise BadBlockError("a label that is none")
        except BadBlockError as error:
            raise _culprit(block, header, where, str(error)) from error
        new_codes = [values.setdefault(text, len(values)) for text in texts]
        codes[: table.num_rows] = np.array(new_codes, dtype=np.int64)[found.indices.to_numpy()]
        return int(table.num_rows)


class _Place:
    """Where a block begins: file, global index of its first row, number of its first line."""

    def __init__(self, path: Path, row: int, line: int) -> None:
        self.path, self.row, self.line = path, row, line

    def error(self, row: int, line: int, message: str) -> InputError:
        where = f"data row {self.row + row + 1} (line {self.line + line})"
        return InputError(f"{self.path}: {where}: {message}")


def _refuse_open_quotes(block: bytes, where: _Place) -> None:
    characters = np.frombuffer(block, dtype=np.uint8)
    line_ends = np.flatnonzero(characters == ord("\n"))
    quotes = np.searchsorted(np.flatnonzero(characters == ord('"')), line_ends)
    open_lines = np.flatnonzero(quotes % 2)
    if open_lines.size:
        raise InputError(
            f"{where.path}: line {where.line + int(open_lines[0])}: a quote is not closed on its "
            "line: line breaks inside quotes are not read; replace them"
        )


def _culprit(block: bytes, header: CsvHeader, where: _Place, reason: str) -> InputError:
    """The error for the first bad cell of a block that Arrow refused."""
    row = -1
    for line, raw in enumerate(block.split(b"\n")):
        raw = raw.removesuffix(b"\r")
        if not (raw.strip(b" \t") if header.delimiter == " " else raw):
            continue
        row += 1
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            return where.error(row, line, "not UTF-8 text: convert the file")
        if "\r" in text:
            return where.error(row, line, "a carriage return inside the line: remove it")
        fields = header.split(text)
        if len(fields) != len(header.names):
            message = f"{len(fields)} fields where the header has {len(header.names)}: mend it"
            return where.error(row, line, message)
        for column, field in enumerate(fields):
            problem = _problem(field, is_label=column == header.label)
            if problem:
                name = f"column {column + 1} ({header.names[column]})"
                return where.error(row, line, f"{name}: {problem}")
    return InputError(f"{where.path}: from line {where.line} on: cannot be parsed: {reason}")


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
