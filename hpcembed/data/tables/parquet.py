"""Tables in Parquet files, by rows: a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.files import file_size
from hpcembed.runtime.errors import InputError

__all__ = ["ParquetTable", "named_columns", "open_parquet"]


class ParquetTable:
    """Number columns of a Parquet file as one table.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype : numpy.dtype
        One that holds all columns.
    feature_names : tuple of str
    largest_piece : int
        Bytes of the largest row group as a table.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], dtype: np.dtype[Any]) -> None:
        import pyarrow.parquet

        self.name = str(path)
        self.feature_names = columns
        self.dtype = dtype
        self._path = path
        metadata = pyarrow.parquet.read_metadata(path)
        groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._ends = np.cumsum([0, *groups])
        self.shape = (int(self._ends[-1]), len(columns))
        self.largest_piece = max(groups, default=0) * len(columns) * dtype.itemsize

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Rows first..last-1 in consecutive blocks, one for each row group. Not collective.

        Raises
        ------
        InputError
            When the file is damaged, or a value is missing.
        """
        import pyarrow.parquet

        with _named_errors(self.name), pyarrow.parquet.ParquetFile(self._path) as file:
            for group in range(len(self._ends) - 1):
                begin, end = int(self._ends[group]), int(self._ends[group + 1])
                if end <= first or begin >= last:
                    continue
                table = file.read_row_group(group, columns=list(self.feature_names))
                rows = np.empty((end - begin, len(self.feature_names)), dtype=self.dtype)
                for j, name in enumerate(self.feature_names):
                    column = table.column(name)
                    if column.null_count:
                        raise InputError(
                            f"{self.name}: column {name!r} lacks {column.null_count} values in "
                            f"rows {begin + 1} to {end}: fill or drop them"
                        )
                    rows[:, j] = column.to_numpy()
                yield rows[max(first - begin, 0) : last - begin]


def open_parquet(path: Path, columns: Sequence[str] | str | None = None) -> ParquetTable:
    """Look at a Parquet file without reading its rows. Not collective.

    Parameters
    ----------
    columns : sequence of str, or str, optional
        A string is one name. Default: all.

    Raises
    ------
    InputError
        When none is named, or the file is no Parquet file, lacks a column, or has one that does
        not hold numbers.
    """
    import pyarrow.parquet

    is_unsigned = pyarrow.types.is_unsigned_integer
    names = named_columns(columns)
    file_size(path)
    with _named_errors(path):
        schema = pyarrow.parquet.read_schema(path)
    missing = [name for name in names or () if name not in schema.names]
    if missing:
        raise InputError(
            f"{path}: no column {missing[0]!r}; it has {', '.join(schema.names[:20]) or 'none'}"
        )
    names = names or tuple(schema.names)
    types = []
    for name in names:
        kind = schema.field(name).type
        if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)):
            raise InputError(
                f"{path}: column {name!r} holds {kind}, not numbers: name the columns to take"
            )
        letter = "f" if pyarrow.types.is_floating(kind) else "u" if is_unsigned(kind) else "i"
        types.append(np.dtype(f"{letter}{kind.bit_width // 8}"))
    if not types:
        raise InputError(f"{path}: has no columns")
    return ParquetTable(path, names, np.result_type(*types))


def named_columns(columns: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """Names as they are asked for, None for all columns. Not collective.

    Raises
    ------
    InputError
        When none is named.
    """
    if columns is None:
        return None
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    if not names:
        raise InputError("columns = [] takes none: name one, or leave columns out to take all")
    return names


@contextmanager
def _named_errors(name: object) -> Iterator[None]:
    """Errors of the Arrow library as errors of the file."""
    import pyarrow

    try:
        yield
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: cannot be read as Parquet: {reason}") from error
