"""Number columns of Parquet files, read one row group at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.file_validation import file_size, library_errors
from hpcembed.runtime.errors import InputError

__all__ = ["ParquetColumns", "named_columns", "open_parquet"]


class ParquetColumns:
    """Number columns of a Parquet file, read by rows.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype : numpy.dtype
        A type that represents the values of all columns.
    feature_names : tuple of str
    largest_piece : int
        Bytes of the rows of the largest row group.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], dtype: np.dtype[Any]) -> None:
        import pyarrow.parquet

        self.name = str(path)
        self.feature_names = columns
        self.dtype = dtype
        self._path = path
        with _arrow_errors(path):
            metadata = pyarrow.parquet.read_metadata(path)
            groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._ends = np.cumsum([0, *groups])
        self.shape = (int(self._ends[-1]), len(columns))
        self.largest_piece = max(groups, default=0) * len(columns) * dtype.itemsize

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Read rows first..last-1 in consecutive blocks, one for each row group.

        Raises
        ------
        InputError
            The file is damaged, or a value is missing.
        """
        import pyarrow.parquet

        with _arrow_errors(self.name), pyarrow.parquet.ParquetFile(self._path) as file:
            for group in range(len(self._ends) - 1):
                begin, end = int(self._ends[group]), int(self._ends[group + 1])
                if end <= first or begin >= last:
                    continue
                table = file.read_row_group(group, columns=list(self.feature_names))
                if table.num_rows != end - begin:
                    raise InputError(
                        f"{self.name}: damaged: {table.num_rows} rows in a group of {end - begin}: "
                        "copy or download it again"
                    )
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


def open_parquet(path: Path, columns: Sequence[str] | str | None = None) -> ParquetColumns:
    """Open a Parquet file without reading its rows.

    Parameters
    ----------
    columns : sequence of str, or str, optional
        Names of columns; a string is one name. Default: all columns.

    Raises
    ------
    InputError
        No column is named, the file is not a Parquet file or lacks a column, or a column does not
        contain numbers.
    """
    import pyarrow.parquet

    is_unsigned = pyarrow.types.is_unsigned_integer
    names = named_columns(columns)
    file_size(path)
    with _arrow_errors(path):
        schema = pyarrow.parquet.read_schema(path)
        found = Counter(schema.names)
    repeated = [name for name in names or found if found[name] > 1]
    if repeated:
        raise InputError(
            f"{path}: {found[repeated[0]]} columns are named {repeated[0]!r}: rename all but one"
        )
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
                f"{path}: column {name!r} contains {kind}, not numbers: name the columns to take"
            )
        letter = "f" if pyarrow.types.is_floating(kind) else "u" if is_unsigned(kind) else "i"
        types.append(np.dtype(f"{letter}{kind.bit_width // 8}"))
    if not types:
        raise InputError(f"{path}: has no columns")
    return ParquetColumns(path, names, np.result_type(*types))


def named_columns(columns: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """Return names of columns as a tuple, None for all columns.

    Raises
    ------
    InputError
        The sequence of names is empty.
    """
    if columns is None:
        return None
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    if not names:
        raise InputError("columns = [] selects none: name one, or omit columns to select all")
    return names


def _arrow_errors(name: object) -> AbstractContextManager[None]:
    import pyarrow

    kinds = (pyarrow.ArrowException, OSError, ValueError, TypeError)
    return library_errors(name, "Parquet", *kinds)
