"""Values of raw columns: numbers, days and texts of levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.columns.cells import DateOrder, NumberStyle, date_of, number_of
from hpcembed.data.columns.raw_columns import Column, TextColumn, level_text

__all__ = ["days_of", "numbers_of", "shown_cell", "texts_of"]

_DAY = 86_400_000_000.0  # microseconds


def numbers_of(
    column: Column, style: NumberStyle, marks: frozenset[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the numbers of a column, NaN if missing, and the rows that are not numbers."""
    if isinstance(column, TextColumn):
        return _read(column, marks, [number_of(text, style) for text in column.values])
    if column.dtype.kind == "M":
        return np.full(len(column), np.nan), np.flatnonzero(~np.isnat(column))
    marked = [value for value in (number_of(mark, "plain") for mark in marks) if value == value]
    values = np.where(np.isin(column, marked), np.nan, column) if marked else column
    return values, np.flatnonzero(np.isinf(values))


def days_of(
    column: Column, order: DateOrder, marks: frozenset[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the days since 1970-01-01 (UTC), NaN if missing, and the rows that are not dates."""
    if isinstance(column, TextColumn):
        orders: Sequence[DateOrder] = ("iso",) if order == "iso" else (order, "iso")
        values = []
        for text in column.values:
            days = [date_of(text, one) for one in orders]
            values.append(days[0] if days[0] == days[0] else days[-1])
        return _read(column, marks, values)
    if column.dtype.kind != "M":
        return np.full(len(column), np.nan), np.flatnonzero(~np.isnan(column))
    is_missing = np.isnat(column)
    days_given = np.where(is_missing, 0, column.view(np.int64)) / _DAY
    return np.where(is_missing, np.nan, days_given), np.empty(0, dtype=np.int64)


def _read(
    column: TextColumn, marks: frozenset[str], values: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    is_mark = [text.strip().casefold() in marks for text in column.values]
    read = [np.nan if gap else value for gap, value in zip(is_mark, values, strict=True)]
    bad = [not gap and value != value for gap, value in zip(is_mark, values, strict=True)]
    return (
        column.spread(read, np.nan, np.float64),
        np.flatnonzero(column.spread(bad, False, np.bool_)),
    )


def texts_of(column: NDArray[Any]) -> TextColumn:
    """Return the values of an array as texts of levels."""
    different, codes = np.unique(column, return_inverse=True)
    texts = [level_text(value) for value in different]
    positions = np.cumsum([text is not None for text in texts]) - 1
    of_value = np.where([text is not None for text in texts], positions, -1)
    return TextColumn(
        of_value[codes.reshape(-1)].astype(np.int32) if len(column) else codes.astype(np.int32),
        tuple(text for text in texts if text is not None),
    )


def shown_cell(column: Column, row: int) -> str:
    """Return a cell as it is shown in messages."""
    if isinstance(column, TextColumn):
        return repr(column.values[int(column.codes[row])].strip()[:40])
    return str(column[row])
