"""Raw columns of CSV files, for tables whose cells are not all numbers.

Two passes. The first finds the columns whose cells, on all ranks, are plain numbers or missing;
they are stored as numbers. The second stores the other columns as texts, each different text once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.columns.raw_columns import Column, RawColumns, RowPiece, TextColumn
from hpcembed.data.labels import unusable
from hpcembed.data.line_ranges import LineRange, count_skipped
from hpcembed.data.tables.arrow_columns import BadBlockError, parse_block, single_blanks
from hpcembed.data.tables.csv_errors import BlockBegin, check_quotes, first_bad_cell
from hpcembed.data.tables.csv_header import CsvHeader
from hpcembed.data.tables.label_column import LabelColumn
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError

__all__ = ["ColumnReader", "label_texts"]


class ColumnReader:
    """Reader of this rank's lines as raw columns and labels.

    Parameters
    ----------
    header : CsvHeader
    features : sequence of int
        The columns that are read, besides the label.
    marks : frozenset of str
        Texts that mean "missing", in small letters.
    text_columns : collection of str
        Columns that are kept as texts.
    ranges : sequence of LineRange
        The lines of this rank.
    """

    def __init__(
        self,
        header: CsvHeader,
        features: Sequence[int],
        marks: frozenset[str],
        text_columns: Collection[str],
        ranges: Sequence[LineRange],
    ) -> None:
        self._header, self._features, self._ranges = header, list(features), ranges
        self._marks = sorted(marks)
        self._texts = {j for j in features if header.names[j] in text_columns}

    def read(self, labels: LabelColumn, comm: MPI.Comm) -> RawColumns:
        """Read the columns, and add the labels to `labels`. Collective."""
        with agreement(comm):
            texts = self._find_texts()
        mine = np.array([j in texts for j in self._features], dtype=np.int64)
        comm.Allreduce(MPI.IN_PLACE, mine, op=MPI.MAX)
        is_text = dict(zip(self._features, mine.astype(bool).tolist(), strict=True))
        with agreement(comm):
            return self._store(is_text, labels)

    def _find_texts(self) -> set[int]:
        """Return the columns with a cell that is neither a plain number nor missing."""
        texts = set(self._texts)
        for _, table in self._blocks(texts):
            names = [name for name in table.column_names if int(name) != self._header.label]
            texts.update(
                int(name)
                for name in names
                if _plain_numbers(table.column(name), self._marks) is None
            )
        return texts

    def _store(self, is_text: dict[int, bool], labels: LabelColumn) -> RawColumns:
        names = self._header.names
        builders: dict[int, _Texts | _Numbers] = {
            j: _Texts() if is_text[j] else _Numbers(self._marks) for j in self._features
        }
        pieces: list[RowPiece] = []
        n_rows = 0
        for piece, table in self._blocks(frozenset()):
            for j, builder in builders.items():
                builder.append(table.column(str(j)))
            labels.add(*label_texts(table, self._header))
            pieces.append(RowPiece(piece.file, n_rows, piece.row, piece.lines))
            n_rows += table.num_rows
        return RawColumns(
            tuple(names[j] for j in self._features),
            tuple(builders[j].column() for j in self._features),
            n_rows,
            tuple(pieces),
            {names[j]: j + 1 for j in self._features},
        )

    def _blocks(self, skipped: Collection[int]) -> Iterator[tuple[RowPiece, Any]]:
        """Yield the blocks of this rank's lines: their place, and an Arrow table of texts.

        Parameters
        ----------
        skipped : collection of int
            Columns that are not parsed; it may grow between the blocks.
        """
        for lines in self._ranges:
            row = lines.first_row
            for line, block in lines.blocks():
                begin = BlockBegin(lines.file.path, row, line)
                table = self._parse(block, begin, skipped)
                if table is None:
                    continue
                place = RowPiece(str(lines.file.path), 0, row, self._line_numbers(block, line))
                row += table.num_rows
                yield place, table
            if row - lines.first_row != lines.n_rows:
                raise InputError(f"{lines.file.path}: changed while it was read: start again")

    def _parse(self, block: bytes, begin: BlockBegin, skipped: Collection[int]) -> Any:
        header = self._header
        has_quotes = b'"' in block
        if has_quotes:
            check_quotes(block, begin)
        text = single_blanks(block) if header.delimiter == " " else block
        if not text.strip(b"\r\n"):
            return None
        # A column is always parsed: the number of rows must be known.
        features = [j for j in self._features if j not in skipped]
        taken = [*features, *([] if header.label is None else [header.label])] or [0]
        try:
            table = parse_block(
                text,
                header.delimiter,
                {str(j): "string" for j in range(len(header.names))},
                has_quotes=has_quotes,
                taken=[str(j) for j in taken],
            )
            if table.num_rows != len(self._line_numbers(block, 0)):
                raise BadBlockError("carriage returns inside lines")
            label_texts(table, header)
        except BadBlockError as error:
            raise first_bad_cell(block, header, begin, str(error)) from error
        return table

    def _line_numbers(self, block: bytes, first: int) -> NDArray[np.int64]:
        """Return the line numbers of the rows of a block."""
        is_blank = self._header.delimiter == " "
        n_lines = block.count(b"\n") + (not block.endswith(b"\n"))
        if not count_skipped(block, "blank" if is_blank else "empty"):
            return np.arange(first, first + n_lines)
        drop = b" \t\r" if is_blank else b"\r"
        kept = [bool(line.strip(drop)) for line in block.split(b"\n")[:n_lines]]
        return first + np.flatnonzero(kept)


def label_texts(table: Any, header: CsvHeader) -> tuple[list[str], NDArray[np.int64]]:
    """Return the different labels of a block, and the position of the label of each row in them.

    Raises
    ------
    BadBlockError
        A label is empty or not a finite number.
    """
    if header.label is None:
        return [""], np.zeros(table.num_rows, dtype=np.int64)
    found = table.column(str(header.label)).combine_chunks().dictionary_encode()
    texts = [text.strip() for text in found.dictionary.to_pylist()]
    if any(unusable(text) for text in texts):
        raise BadBlockError("an unusable label")
    return texts, found.indices.to_numpy().astype(np.int64)


class _Numbers:
    """Blocks of one column of numbers."""

    def __init__(self, marks: Sequence[str]) -> None:
        self._marks = marks
        self._parts: list[NDArray[np.float64]] = [np.empty(0)]

    def append(self, column: Any) -> None:
        numbers = _plain_numbers(column, self._marks)
        if numbers is None:
            raise InputError("a file changed while it was read: start again")
        self._parts.append(numbers)

    def column(self) -> Column:
        return np.concatenate(self._parts)


class _Texts:
    """Blocks of one column of texts."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._parts: list[NDArray[np.int32]] = [np.empty(0, dtype=np.int32)]

    def append(self, column: Any) -> None:
        found = column.combine_chunks().dictionary_encode()
        index = self._index
        codes = [index.setdefault(t.strip(), len(index)) for t in found.dictionary.to_pylist()]
        self._parts.append(np.array(codes, dtype=np.int32)[found.indices.to_numpy()])

    def column(self) -> Column:
        return TextColumn(np.concatenate(self._parts), tuple(self._index))


def _plain_numbers(column: Any, marks: Sequence[str]) -> NDArray[np.float64] | None:
    """Return texts as numbers, NaN if missing; None if one of them is not a finite number."""
    import pyarrow
    from pyarrow import compute

    texts = compute.utf8_trim_whitespace(column)
    is_missing = compute.is_in(compute.utf8_lower(texts), value_set=pyarrow.array(marks))
    given = compute.if_else(is_missing, pyarrow.scalar(None, texts.type), texts)
    try:
        numbers = given.cast(pyarrow.float64())
    except pyarrow.ArrowException:
        return None
    if not compute.all(compute.is_finite(numbers), min_count=0).as_py():
        return None
    return np.array(numbers.to_numpy(), dtype=np.float64)
