"""CSV files with a header line, with or without a column of labels.

Each rank parses the lines of its own byte range (:mod:`hpcembed.data.line_ranges`) block by block
into an array that is allocated for its rows. Several files with the same header are one table. The
separator is the separator of the header line. If every cell but the label is a finite number, the
rows are an array. Otherwise all ranks read the columns again as raw columns
(:mod:`hpcembed.data.tables.csv_columns`). An error names file, row, line and column of the first
bad cell. Quoted fields are read. Line breaks inside quotes are errors: a rank could not find where
a row begins.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.columns.options import ColumnOptions
from hpcembed.data.columns.raw_columns import RawColumns
from hpcembed.data.file_validation import BLOCK_BYTES
from hpcembed.data.labels import RowLabels
from hpcembed.data.line_ranges import LineRange, Skipped, estimate_rows, share_lines
from hpcembed.data.table import Summary, Table
from hpcembed.data.tables.arrow_columns import BadBlockError, parse_block, single_blanks
from hpcembed.data.tables.csv_columns import ColumnReader, label_texts
from hpcembed.data.tables.csv_errors import (
    BadCellError,
    BlockBegin,
    check_quotes,
    first_bad_cell,
)
from hpcembed.data.tables.csv_header import read_headers
from hpcembed.data.tables.label_column import LabelColumn
from hpcembed.runtime.agreement import agree, agreement
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
    options : ColumnOptions, optional
        Kinds of columns, and columns that are left out.

    Raises
    ------
    InputError
        A file is missing or empty, lacks the label column, or its columns differ from those of the
        first file.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        label_column: str | None,
        delimiter: str,
        options: ColumnOptions | None = None,
    ) -> None:
        self._options = options or ColumnOptions()
        #: whether a cell that is not a number is an error
        self.takes_numbers_only = False
        self.header, self._files = read_headers(paths, label_column, delimiter)
        self.source = ", ".join(map(str, paths))
        self._skipped: Skipped = "blank" if self.header.delimiter == " " else "empty"
        self._ranges: list[LineRange] = []
        self._n_rows = 0
        self._features = [j for j in range(len(self.header.names)) if j != self.header.label]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns that are read as features."""
        return tuple(self.header.names[j] for j in self._features)

    def take(self, names: Sequence[str]) -> None:
        """Read these columns only, in this order; the others may hold anything."""
        self._features = [self.header.names.index(name) for name in names]

    @property
    def summary(self) -> Summary:
        """Columns and the estimated number of rows. Not collective."""
        n_rows, is_estimate = estimate_rows(self._files, self._skipped)
        return Summary(n_rows, len(self._features), np.dtype(np.float64), is_estimate=is_estimate)

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs on the rank that needs most; count the lines.

        Collective.
        """
        self._ranges, self._n_rows = share_lines(self._files, comm, skipped=self._skipped)
        if self._n_rows == 0:
            raise InputError(f"{self.source}: no data rows below the header")
        n_local = sum(lines.n_rows for lines in self._ranges)
        needed = n_local * 8 * (len(self._features) + 1) + 6 * BLOCK_BYTES
        return int(comm.allreduce(needed, op=MPI.MAX))

    def read(self, comm: MPI.Comm) -> Table:
        """Read this rank's rows; :meth:`measure` must be called first.

        Collective. The rows are an array if all cells are numbers, else raw columns.
        """
        if self._options.are_explicit and not self.takes_numbers_only:
            return self.read_columns(comm)
        n_local = sum(lines.n_rows for lines in self._ranges)
        bad_cell: BadCellError | None = None
        rows = np.empty((n_local, len(self._features)))
        labels = LabelColumn(n_local, self._label_name)
        with agreement(comm):
            try:
                place = 0
                for lines in self._ranges:
                    self._read_range(lines, rows[place:], labels)
                    place += lines.n_rows
            except BadCellError as error:
                bad_cell = error
        is_gap = bad_cell is not None and bad_cell.is_gap
        is_refused = self.takes_numbers_only or (self._options.gaps == "refuse" and is_gap)
        agree(comm, bad_cell if is_refused else None)
        if comm.allreduce(bad_cell is not None, op=MPI.LOR):
            del rows, labels
            return self.read_columns(comm)
        return self._table(rows, labels.labels(), comm)

    def read_columns(self, comm: MPI.Comm, text_columns: Collection[str] = ()) -> Table:
        """Read this rank's rows as raw columns; :meth:`measure` must be called first.

        Collective.

        Parameters
        ----------
        text_columns : collection of str
            Columns that are kept as texts, even if all their cells are numbers.
        """
        kept = ("number", "decimal_point", "decimal_comma")
        self._options.check(self.feature_names, self.source)
        texts = {name for name, kind in self._options.kinds.items() if kind not in kept}
        features = [j for j in self._features if self.header.names[j] not in self._options.dropped]
        reader = ColumnReader(
            self.header, features, self._options.marks, {*texts, *text_columns}, self._ranges
        )
        labels = LabelColumn(sum(lines.n_rows for lines in self._ranges), self._label_name)
        rows = reader.read(labels, comm)
        left_out = tuple(name for name in self.feature_names if name not in rows.names)
        rows = replace(rows, left_out=left_out)
        return self._table(rows, labels.labels(), comm)

    @property
    def _label_name(self) -> str:
        label = self.header.label
        name = "no labels" if label is None else f"column {self.header.names[label]}"
        return f"{self.source}, {name}"

    def _table(
        self, rows: NDArray[np.float64] | RawColumns, labels: RowLabels, comm: MPI.Comm
    ) -> Table:
        names = rows.names if isinstance(rows, RawColumns) else self.feature_names
        start = place_rows(len(rows), comm)[0]
        return Table(rows, labels, start, self._n_rows, names, self.source)

    def _read_range(
        self,
        lines: LineRange,
        rows: NDArray[np.float64],
        labels: LabelColumn,
    ) -> None:
        done = 0
        for line, block in lines.blocks():
            begin = BlockBegin(lines.file.path, lines.first_row + done, line)
            done += self._parse(block, begin, rows[done : lines.n_rows], labels)
        if done != lines.n_rows:
            raise InputError(f"{lines.file.path}: changed while it was read: start again")

    def _parse(
        self,
        block: bytes,
        begin: BlockBegin,
        rows: NDArray[np.float64],
        labels: LabelColumn,
    ) -> int:
        """Parse a block into the first of `rows`, add its labels, and return its rows."""
        has_quotes = b'"' in block
        if has_quotes:
            check_quotes(block, begin)
        header = self.header
        taken = [*self._features, *([] if header.label is None else [header.label])]
        types = {str(j): "float64" for j in range(len(header.names))}
        if header.label is not None:
            types[str(header.label)] = "string"
        try:
            text = single_blanks(block) if header.delimiter == " " else block
            if not text.strip(b"\r\n"):
                return 0
            table = parse_block(
                text, header.delimiter, types, has_quotes=has_quotes, taken=list(map(str, taken))
            )
            if table.num_rows > len(rows):
                raise BadBlockError("carriage returns inside lines")
            target = rows[: table.num_rows]
            for place, column in enumerate(self._features):
                target[:, place] = table.column(str(column)).to_numpy()
            if not np.isfinite(target).all():
                raise BadBlockError("a number that is not finite")
            texts, indices = label_texts(table, header)
        except BadBlockError as error:
            raise first_bad_cell(block, header, begin, str(error), self._features) from error
        labels.add(texts, indices)
        return int(table.num_rows)
