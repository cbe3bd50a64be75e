"""Parquet files and Arrow files (IPC, Feather) as tables with a column of labels.

All rows of all files are counted as one table, and each rank reads a consecutive share: the row
groups or record batches that contain its rows, one at a time. If all columns hold numbers without
gaps, the rows are an array; otherwise they are raw columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.columns.named_tables import arrow_column
from hpcembed.data.columns.options import ColumnOptions
from hpcembed.data.columns.raw_columns import Column, RawColumns, RowPiece, TextColumn
from hpcembed.data.file_validation import BLOCK_BYTES, file_size, library_errors
from hpcembed.data.labels import RowLabels, labels_from_array, labels_from_text, no_labels
from hpcembed.data.table import Summary, Table
from hpcembed.data.tables.arrow_sizes import read_batch_sizes
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range

__all__ = ["ArrowSource", "arrow_column_names"]


class ArrowSource:
    """Some Parquet or Arrow files with the same columns as one table.

    Parameters
    ----------
    paths : sequence of Path
    kind : {"parquet", "arrow"}
    label_column : str or None
        Name of the column of the class. None: the label of every row is the empty text.
    options : ColumnOptions, optional

    Raises
    ------
    InputError
        A file is missing or damaged, lacks the label column, or has other columns than the first.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        kind: str,
        label_column: str | None,
        options: ColumnOptions | None = None,
    ) -> None:
        self._files = [_ArrowFile(path, kind) for path in paths]
        self.source = ", ".join(map(str, paths))
        self._options = options or ColumnOptions()
        #: whether a cell that is not a number is an error
        self.takes_numbers_only = False
        names = self._files[0].names
        for file in self._files[1:]:
            if set(file.names) != set(names):
                raise InputError(f"{file.path}: its columns differ from those of {paths[0]}")
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise InputError(
                f"{paths[0]}: {names.count(repeated[0])} columns are named {repeated[0]!r}: rename "
                "all but one"
            )
        self._label = label_column
        if label_column is not None and names.count(label_column) != 1:
            shown = ", ".join(names[:40])
            if not label_column:
                raise InputError(f"{paths[0]}: set data.label_column, one of: {shown}")
            raise InputError(
                f"{paths[0]}: no column {label_column!r} (data.label_column); it has: {shown}"
            )
        self._features = tuple(name for name in names if name != label_column)
        if not self._features:
            raise InputError(f"{paths[0]}: no column besides the label")
        self._n_rows = sum(file.n_rows for file in self._files)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns that are read as features."""
        return self._features

    def take(self, names: Sequence[str]) -> None:
        """Read these columns only, in this order; the others may hold anything."""
        self._features = tuple(names)

    @property
    def summary(self) -> Summary:
        """Columns and number of rows. Not collective."""
        return Summary(self._n_rows, len(self._features), np.dtype(np.float64))

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs on the rank that needs most. Collective."""
        if self._n_rows == 0:
            raise InputError(f"{self.source}: no rows")
        first, last = ownership_range(self._n_rows, comm)
        largest = max(file.largest_piece for file in self._files)
        needed = (last - first) * 16 * (len(self._features) + 1) + 2 * largest + BLOCK_BYTES
        return int(comm.allreduce(needed, op=MPI.MAX))

    def read(self, comm: MPI.Comm) -> Table:
        """Read this rank's rows. Collective."""
        first, last = ownership_range(self._n_rows, comm)
        with agreement(comm):
            self._options.check(self._features, self.source)
            names = [name for name in self._features if name not in self._options.dropped]
            raw, labels = self._read(first, last, names)
            left_out = tuple(name for name in self._features if name not in names)
            raw = replace(raw, left_out=left_out)
        dense = _dense(raw)
        if self.takes_numbers_only:
            with agreement(comm):
                if dense is None:
                    raise InputError(
                        f"{self.source}: a cell is missing or is not a finite number: the model "
                        "takes numbers"
                    )
        is_explicit = self._options.are_explicit and not self.takes_numbers_only
        rows: Any = dense
        if comm.allreduce(
            dense is None or is_explicit,
            op=MPI.LOR,
        ):
            rows = raw
        return Table(rows, labels, first, self._n_rows, raw.names, self.source)

    def _read(self, first: int, last: int, names: list[str]) -> tuple[RawColumns, RowLabels]:
        import pyarrow

        wanted = [*names, *([] if self._label is None else [self._label])]
        tables, pieces, offset = [], [], 0
        for file in self._files:
            begin, end = max(first - offset, 0), min(last - offset, file.n_rows)
            if begin < end:
                pieces.append(RowPiece(str(file.path), offset + begin - first, offset + begin,
                                       np.empty(0, dtype=np.int64)))  # fmt: skip
                tables += file.read(begin, end, wanted)
            offset += file.n_rows
        if not tables:
            tables = [self._files[0].empty(wanted)]
        with _errors(self.source, "Arrow"):
            whole = pyarrow.concat_tables(tables, promote_options="permissive").unify_dictionaries()
        columns = tuple(self._column(whole, name) for name in names)
        raw = RawColumns(tuple(names), columns, whole.num_rows, tuple(pieces))
        if self._label is None:
            return raw, no_labels(raw.n_rows)
        return raw, self._labels(whole, first)

    def _column(self, table: Any, name: str | None) -> Column:
        with _errors(self.source, "Arrow"):
            try:
                return arrow_column(table.column(name), name or "")
            except InputError as error:
                raise InputError(f"{self.source}: {error}") from error

    def _labels(self, table: Any, first: int) -> RowLabels:
        source, column = f"{self.source}, column {self._label}", table.column(self._label)
        if column.null_count:
            row = first + int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1
            raise InputError(f"{source}: row {row}: the label is missing: remove such rows")
        found = self._column(table, self._label)
        if isinstance(found, TextColumn):
            return labels_from_text([found.values[code] for code in found.codes], source, first)
        if found.dtype.kind == "M":
            raise InputError(f"{source}: labels are dates: use integers or text")
        return labels_from_array(found, source, first)


class _ArrowFile:
    """One file: names of its columns, and its pieces, which are read one at a time."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self._kind = path, kind
        file_size(path)
        with _errors(path, kind), self._open() as file:
            self._schema = file.schema_arrow if kind == "parquet" else file.schema
            sizes = _piece_sizes(path, file, kind)
            self.names = tuple(map(str, self._schema.names))
        self._ends = np.cumsum([0, *(rows for rows, _ in sizes)])
        self.n_rows = int(self._ends[-1])
        self.largest_piece = max((size for _, size in sizes), default=0)

    def read(self, first: int, last: int, names: Collection[str]) -> list[Any]:
        """Read rows first..last-1 of some columns: one Arrow table for each piece."""
        import pyarrow

        tables = []
        with _errors(self.path, self._kind), self._open() as file:
            for piece in range(len(self._ends) - 1):
                begin, end = int(self._ends[piece]), int(self._ends[piece + 1])
                if end <= first or begin >= last or begin == end:
                    continue
                if self._kind == "parquet":
                    table = file.read_row_group(piece, columns=list(names))
                else:
                    table = pyarrow.Table.from_batches([file.get_batch(piece)])
                    table.validate(full=True)  # offsets and indices of a damaged file lead anywhere
                rows = slice(max(first - begin, 0), min(last, end) - begin)
                tables.append(table.select(list(names))[rows])
        return tables

    def empty(self, names: Collection[str]) -> Any:
        """Return a table of some columns without rows."""
        return self._schema.empty_table().select(list(names))

    def _open(self) -> Any:
        import pyarrow.ipc
        import pyarrow.parquet

        if self._kind == "parquet":
            return pyarrow.parquet.ParquetFile(self.path)
        return pyarrow.ipc.open_file(pyarrow.memory_map(str(self.path)))


def arrow_column_names(path: Path, kind: str) -> tuple[str, ...]:
    """Return the names of the columns of a file."""
    return _ArrowFile(path, kind).names


def _dense(raw: RawColumns) -> NDArray[np.float64] | None:
    """Return columns as an array, None unless all are finite numbers."""
    columns = [one for one in raw.columns if not isinstance(one, TextColumn)]
    if len(columns) < len(raw.columns) or any(one.dtype.kind == "M" for one in columns):
        return None
    dense = np.ascontiguousarray(np.array(columns).T) if columns else np.empty((raw.n_rows, 0))
    return dense if np.isfinite(dense).all() else None


def _piece_sizes(path: Path, file: Any, kind: str) -> list[tuple[int, int]]:
    """Return rows and bytes of every row group or record batch."""
    if kind == "parquet":
        groups = (file.metadata.row_group(piece) for piece in range(file.metadata.num_row_groups))
        return [(int(group.num_rows), int(group.total_byte_size)) for group in groups]
    batches, dictionaries = read_batch_sizes(path)
    return [(one.n_rows, one.n_bytes + dictionaries) for one in batches]


def _errors(name: object, kind: str) -> AbstractContextManager[None]:
    import pyarrow

    kinds = (pyarrow.ArrowException, OSError, ValueError, TypeError)
    return library_errors(name, {"parquet": "Parquet", "arrow": "Arrow"}.get(kind, kind), *kinds)
