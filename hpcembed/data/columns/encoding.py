"""Encoding of raw columns as rows of numbers; needs numpy only.

A number or a date is one column; a missing cell gets the median of the training rows, and a second
column marks missing cells if training rows have some. A boolean is 0 or 1, likewise. The levels of
a category are one column each (one-hot), or one column with their rank by frequency in the training
rows, from 0 (unknown) to 1 (most frequent). An unknown level gives zeros.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.columns.cells import (
    DateOrder,
    NumberStyle,
    boolean_of,
    missing_marks,
    number_of,
)
from hpcembed.data.columns.column_values import days_of, numbers_of, shown_cell, texts_of
from hpcembed.data.columns.named_tables import raw_columns_of
from hpcembed.data.columns.raw_columns import Column, RawColumns, TextColumn
from hpcembed.data.number_text import other_unit
from hpcembed.runtime.errors import InputError

__all__ = ["ColumnEncoding", "DroppedColumn", "EncodedColumn"]


@dataclass(frozen=True)
class EncodedColumn:
    """Encoding of one raw column.

    Attributes
    ----------
    name : str
    kind : {"number", "date", "boolean", "category"}
    style, order : str
        How the numbers and dates of the training data are written.
    fill : float
        Value of a missing number, date or boolean: the median of the training rows.
    has_indicator : bool
        Whether a further column marks missing cells.
    levels : tuple of str
        Levels of a category: sorted for one-hot, from rare to frequent for ordinal.
    is_ordinal : bool
    n_missing : int
        Missing cells of the training rows.
    low, high : float
        Range of the numbers or dates in the training rows; NaN for other kinds.
    unit : str or None
        ``%`` or the currency of the numbers of the training data; None: unknown, not compared.
    """

    name: str
    kind: str
    style: NumberStyle = "plain"
    order: DateOrder = "iso"
    fill: float = 0.0
    has_indicator: bool = False
    levels: tuple[str, ...] = ()
    is_ordinal: bool = False
    n_missing: int = 0
    low: float = float("nan")
    high: float = float("nan")
    unit: str | None = None

    @property
    def takes_text(self) -> bool:
        """Whether the cells are levels, not numbers."""
        return self.kind in ("category", "boolean")

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of numbers."""
        names = [self.name]
        if self.kind == "category" and not self.is_ordinal:
            names = [f"{self.name}={level}" for level in self.levels]
        return tuple([*names, f"{self.name} is missing"] if self.has_indicator else names)

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """Values of each code of :meth:`codes`, shape (n_codes, n_columns)."""
        if self.kind == "boolean":
            values = np.array([[0.0], [1.0], [self.fill], [self.fill]])
        elif self.is_ordinal:
            n = len(self.levels)
            values = np.array([*(np.arange(1, n + 1) / max(n, 1)), 0.0, 0.0])[:, None]
        else:
            values = np.vstack([np.eye(len(self.levels)), np.zeros((2, len(self.levels)))])
        if not self.has_indicator:
            return values
        is_missing = np.zeros((len(values), 1))
        is_missing[-2:] = 1.0 if self.kind == "boolean" else [[1.0], [0.0]]
        return np.hstack([values, is_missing])

    def codes(self, column: Column, marks: frozenset[str]) -> NDArray[np.int64]:
        """Return the code of each cell: index of its level, then missing, then unknown."""
        n = 2 if self.kind == "boolean" else len(self.levels)
        if not isinstance(column, TextColumn):
            column = texts_of(column)
        return column.spread([self._code(text, marks, n) for text in column.values], n, np.int64)

    def _code(self, text: str, marks: frozenset[str], n: int) -> int:
        text = text.strip()
        if text.casefold() in marks:
            return n
        if self.kind == "boolean":
            value = boolean_of(text)
            return n + 1 if np.isnan(value) else int(value)
        code = self._index.get(text)
        return self._by_number.get(number_of(text, "plain"), n + 1) if code is None else code

    @cached_property
    def _index(self) -> dict[str, int]:
        return {level: code for code, level in enumerate(self.levels)}

    @cached_property
    def _by_number(self) -> dict[float, int]:
        """Codes of levels that are numbers, for cells that write the number differently."""
        values = [number_of(level, "plain") for level in self.levels]
        counts = Counter(value for value in values if value == value)
        return {value: code for code, value in enumerate(values) if counts.get(value) == 1}

    def numbers(
        self, column: Column, marks: frozenset[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the numbers of the cells, NaN if missing, and the rows that cannot be read."""
        if self.kind == "date":
            return days_of(column, self.order, marks)
        values, bad = numbers_of(column, self.style, marks)
        if self.unit is not None and isinstance(column, TextColumn):
            differs = [other_unit(text, self.style, self.unit) for text in column.values]
            bad = np.union1d(bad, np.flatnonzero(column.spread(differs, False, np.bool_)))
        return values, bad


@dataclass(frozen=True, slots=True)
class DroppedColumn:
    """A column that is left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ColumnEncoding:
    """Encoding of all columns of a table.

    Attributes
    ----------
    columns : tuple of EncodedColumn
    dropped : tuple of DroppedColumn
    missing : tuple of str
        Texts that mean "missing", in addition to the default ones.
    names : tuple of str
        All columns of the training rows in their order, with those that are left out; empty if
        unknown.

    Examples
    --------
    >>> size = EncodedColumn("size", "number", fill=2.5, has_indicator=True)
    >>> colour = EncodedColumn("colour", "category", levels=("blue", "red"))
    >>> encoding = ColumnEncoding((size, colour))
    >>> encoding.feature_names_out
    ('size', 'size is missing', 'colour=blue', 'colour=red')
    >>> encoding.transform({"colour": ["red", "lilac"], "size": [1.0, None]})
    array([[1. , 0. , 0. , 1. ],
           [2.5, 1. , 0. , 0. ]])
    """

    columns: tuple[EncodedColumn, ...]
    dropped: tuple[DroppedColumn, ...] = ()
    missing: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @cached_property
    def marks(self) -> frozenset[str]:
        """All texts that mean "missing", in small letters."""
        return missing_marks(self.missing)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the raw columns that are needed."""
        return tuple(column.name for column in self.columns)

    @property
    def feature_names_out(self) -> tuple[str, ...]:
        """Names of the columns of numbers."""
        return tuple(name for column in self.columns for name in column.feature_names)

    @property
    def n_features_out(self) -> int:
        """Number of columns of numbers."""
        return sum(len(column.feature_names) for column in self.columns)

    def transform(self, X: Any, start: int = 0, source: str = "") -> NDArray[np.float64]:
        """Return rows of numbers.

        Parameters
        ----------
        X : RawColumns, DataFrame, Arrow table, dict of columns, list of dicts, or array
            A table with the columns :attr:`input_names` in any order; superfluous columns are
            ignored. An array without names has exactly these columns in this order, or all columns
            of the training rows.
        start : int
            Global index of the first row, for messages.
        source : str
            File, for messages.

        Returns
        -------
        ndarray of float64, shape (n, n_features_out)

        Raises
        ------
        InputError
            A column is missing, or a cell of a number or date cannot be read.
        """
        raw = raw_columns_of(X, self.input_names, self.names)
        rows = np.empty((raw.n_rows, self.n_features_out))
        place = 0
        for one in self.columns:
            width = len(one.feature_names)
            self._transform_column(one, raw, rows[:, place : place + width], start, source)
            place += width
        return rows

    def _transform_column(
        self, one: EncodedColumn, raw: RawColumns, target: NDArray[np.float64], start: int, src: str
    ) -> None:
        column = raw.column(one.name)
        if one.takes_text:
            target[...] = one.table[one.codes(column, self.marks)]
            return
        values = self.read_numbers(one, raw, start, src)
        is_missing = np.isnan(values)
        target[:, 0] = np.where(is_missing, one.fill, values)
        if one.has_indicator:
            target[:, 1] = is_missing

    def read_numbers(
        self, one: EncodedColumn, raw: RawColumns, start: int = 0, source: str = ""
    ) -> NDArray[np.float64]:
        """Return the numbers of a column, NaN if missing.

        Raises
        ------
        InputError
            A cell cannot be read.
        """
        column = raw.column(one.name)
        values, bad = one.numbers(column, self.marks)
        if bad.size:
            raise self.unreadable(one, raw, int(bad[0]), start, source)
        return values

    def unreadable(
        self, one: EncodedColumn, raw: RawColumns, row: int, start: int, source: str
    ) -> InputError:
        """Return the error of a cell that is not of the kind of its column."""
        cell = shown_cell(raw.column(one.name), row)
        return InputError(
            f"{raw.place(row, start, source or 'the table')}: {raw.title(one.name)}: "
            f"{cell} is not a {one.kind}{_unit_text(one, cell)}: "
            "correct it, add it to data.missing, or set the kind of the column in data.columns"
        )


def _unit_text(one: EncodedColumn, cell: str) -> str:
    """Return the unit of a column of numbers, for messages."""
    if one.unit:
        return f" in {one.unit}, as in the training rows"
    return " without a percent sign, as in the training rows" if cell.endswith("%'") else ""
