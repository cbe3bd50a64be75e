"""Raw columns of tables in memory: data frames, Arrow tables, dictionaries, records, arrays.

No library of tables is imported: a table of pandas, polars or Arrow comes with its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.columns.raw_columns import (
    Column,
    RawColumns,
    TextColumn,
    level_text,
    text_column,
)
from hpcembed.runtime.errors import InputError

__all__ = ["arrow_column", "raw_columns_of"]


def raw_columns_of(
    X: Any, names: Sequence[str] | None = None, all_names: Sequence[str] = ()
) -> RawColumns:
    """Return the columns of a table.

    Parameters
    ----------
    X : table
        A DataFrame of pandas or polars, an Arrow table or record batch, a dict of columns, a list
        of dicts, a structured array, or an array of shape (n, d). The types of columns are kept:
        numbers, booleans, dates, categories; texts and Python objects are read like texts of files.
    names : sequence of str, optional
        The columns to take, in this order; default: all. They are the names of the columns of an
        array without names, which otherwise are ``x1``, ``x2``, ...
    all_names : sequence of str
        Names of the columns of an array without names that has more columns than `names`.

    Raises
    ------
    InputError
        A column is missing, repeated, or holds values that are not numbers, texts or dates.

    Examples
    --------
    >>> columns = raw_columns_of([{"a": 1, "b": "x"}, {"a": None, "b": "y"}], ["b", "a"])
    >>> columns.names, columns.column("b").values
    (('b', 'a'), ('x', 'y'))
    """
    if isinstance(X, RawColumns):
        if names is None or tuple(names) == X.names:
            return X
        chosen = _choose(X.names, names)
        columns = tuple(X.column(name) for name in chosen)
        return RawColumns(tuple(chosen), columns, X.n_rows, X.pieces, X.numbers_of_columns)
    library = type(X).__module__.partition(".")[0]
    found, column = _reader(X, library, names, all_names)
    repeated = sorted(name for name, count in Counter(found).items() if count > 1)
    if repeated and (names is None or set(names) & set(repeated)):
        raise InputError(f"several columns are named {repeated[0]!r}: rename all but one")
    chosen = found if names is None else _choose(found, names)
    columns = tuple(column(name) for name in chosen)
    n_rows = len(columns[0]) if columns else 0
    return RawColumns(tuple(chosen), columns, n_rows)


Reader = tuple[list[str], Callable[[str], Column]]


def _reader(X: Any, library: str, names: Sequence[str] | None, all_names: Sequence[str]) -> Reader:
    """Return the names of the columns of a table, and a function that returns one of them."""
    if library in ("pandas", "polars", "modin", "cudf") and hasattr(X, "columns"):
        keys = {str(key): key for key in X.columns}
        read = _polars_column if library == "polars" else _pandas_column
        return [str(key) for key in X.columns], lambda name: read(X[keys[name]], name)
    if library == "pyarrow":
        found = [str(name) for name in X.schema.names]
        places = {name: place for place, name in enumerate(found)}
        return found, lambda name: arrow_column(X.column(places[name]), name)
    if isinstance(X, Mapping):
        of = {str(key): value for key, value in X.items()}
        return list(of), lambda name: _any_column(of[name], name)
    if isinstance(X, np.ndarray) and X.dtype.names:
        return list(X.dtype.names), lambda name: _array_column(X[name], name)
    if isinstance(X, Sequence) and X and all(isinstance(row, Mapping) for row in X):
        records = [{str(key): value for key, value in row.items()} for row in X]
        keys_of_all = list(dict.fromkeys(key for row in records for key in row))
        return keys_of_all, lambda name: text_column((row.get(name) for row in records), name)
    return _array_reader(X, names, all_names)


def _array_reader(X: Any, names: Sequence[str] | None, all_names: Sequence[str]) -> Reader:
    # A list of rows may mix numbers and texts: an array of them would turn numbers into texts.
    rows = X if isinstance(X, np.ndarray) else np.asarray(X, dtype=object)
    if rows.ndim != 2:
        raise InputError(f"rows of shape {rows.shape}: give a table of shape (rows, columns)")
    found = [f"x{j + 1}" for j in range(rows.shape[1])] if names is None else list(names)
    if len(found) != rows.shape[1] == len(all_names):
        found = list(all_names)
    if len(found) != rows.shape[1]:
        with_all = f", or all {len(all_names)} of its training rows" if all_names else ""
        raise InputError(f"rows of {rows.shape[1]} columns: the model takes {len(found)}{with_all}")
    places = {name: place for place, name in enumerate(found)}
    return found, lambda name: _array_column(rows[:, places[name]], name)


def _choose(found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    known = set(found)
    missing = [name for name in wanted if name not in known]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InputError(f"columns are missing: {', '.join(missing[:5])}{more}")
    return list(wanted)


def _any_column(values: Any, name: str) -> Column:
    library = type(values).__module__.partition(".")[0]
    if library == "pandas" and hasattr(values, "dtype"):
        return _pandas_column(values, name)
    if library == "polars":
        return _polars_column(values, name)
    if library == "pyarrow":
        return arrow_column(values, name)
    if isinstance(values, np.ndarray):
        return _array_column(values, name)
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"column {name!r}: one value: give a list with one value for each row")
    return text_column(values, name)


def _array_column(values: NDArray[Any], name: str) -> Column:
    if values.ndim != 1:
        raise InputError(f"column {name!r} has shape {values.shape}: give one value for each row")
    kind = values.dtype.kind
    if kind in "iuf":
        return values.astype(np.float64)
    if kind == "b":
        return TextColumn(values.astype(np.int32), ("false", "true"))
    if kind == "M":
        return values.astype("datetime64[us]")
    if kind in "UT":
        different, codes = np.unique(values, return_inverse=True)
        return TextColumn(codes.reshape(-1).astype(np.int32), tuple(map(str, different)))
    if kind in "SO":
        return text_column(values.tolist(), name)
    raise InputError(f"column {name!r} has type {values.dtype}: give numbers, texts or dates")


def _pandas_column(series: Any, name: str) -> Column:
    dtype = series.dtype
    if hasattr(series, "cat"):
        texts = tuple(_category_text(value, name) for value in series.cat.categories)
        return TextColumn(series.cat.codes.to_numpy(dtype=np.int32), texts)
    if getattr(dtype, "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return _array_column(series.to_numpy(), name)
    if getattr(dtype, "_is_numeric", False) and not getattr(dtype, "_is_boolean", False):
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    if getattr(dtype, "kind", "O") == "M":
        return _array_column(series.to_numpy(dtype="datetime64[us]"), name)
    return text_column(series.to_numpy(dtype=object, na_value=None).tolist(), name)


def _category_text(value: Any, name: str) -> str:
    if type(value).__name__ == "Interval":  # of pandas.cut
        return str(value)
    try:
        return level_text(value) or ""
    except InputError as error:
        raise InputError(f"column {name!r}: {error}") from error


def _polars_column(series: Any, name: str) -> Column:
    dtype = series.dtype
    if dtype.is_numeric() and "Decimal" not in str(dtype):
        return np.asarray([np.nan if v is None else v for v in series.to_list()], dtype=np.float64)
    if str(dtype).startswith(("Datetime", "Date")):
        moments = series.cast(_polars_microseconds(series)).to_physical().to_list()
        nat = np.iinfo(np.int64).min
        return np.array([nat if v is None else v for v in moments], dtype=np.int64).view(
            "datetime64[us]"
        )
    return text_column(series.to_list(), name)


def _polars_microseconds(series: Any) -> Any:
    import polars  # the library of the series

    return polars.Datetime("us", getattr(series.dtype, "time_zone", None))


def arrow_column(column: Any, name: str) -> Column:
    """Return a column of an Arrow table.

    Raises
    ------
    InputError
        The type is not a number, a boolean, a date or a text.
    """
    import pyarrow  # the library of the column
    from pyarrow import types

    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pyarrow.ChunkedArray):
            column = pyarrow.concat_arrays(column.chunks) if column.num_chunks else column.chunk(0)
    kind = column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        numbers = column.cast(pyarrow.float64(), safe=False)
        return np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)
    if types.is_date(kind) or types.is_timestamp(kind):
        moments = column.cast(pyarrow.timestamp("us"), safe=False)
        return np.array(moments.to_numpy(zero_copy_only=False), dtype="datetime64[us]")
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    if types.is_boolean(kind):
        codes = column.cast(pyarrow.int32()).fill_null(-1).to_numpy(zero_copy_only=False)
        return TextColumn(np.array(codes, dtype=np.int32), ("false", "true"))
    if types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return arrow_column(column.dictionary_decode(), name)
    elif not _is_text(kind):
        raise InputError(f"column {name!r} holds {kind}: give numbers, texts or dates, or drop it")
    else:
        column = column.dictionary_encode()
    codes = column.indices.cast(pyarrow.int32()).fill_null(-1).to_numpy(zero_copy_only=False)
    return TextColumn(
        np.array(codes, dtype=np.int32), tuple(v or "" for v in column.dictionary.to_pylist())
    )


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    found = types.is_string(kind) or types.is_large_string(kind)
    return bool(found or getattr(types, "is_string_view", lambda _: False)(kind))
