"""A rank's rows of named columns before encoding.

A column is an array of float64 (NaN: missing), an array of ``datetime64[us]`` (NaT: missing), or a
:class:`TextColumn`, which stores every different text once. Booleans are the texts ``true`` and
``false``. Texts that mean "missing" are texts until the columns are scanned.
"""

from __future__ import annotations

import datetime
import decimal
import math
import numbers
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.errors import InputError

__all__ = ["Column", "RawColumns", "RowPiece", "TextColumn", "level_text", "text_column"]


@dataclass(frozen=True, eq=False, slots=True)
class TextColumn:
    """Texts: ``values[codes[i]]`` is the text of row i; code -1: missing.

    Attributes
    ----------
    codes : ndarray of int32, shape (n,)
    values : tuple of str
        Different texts; some may occur in no row.
    """

    codes: NDArray[np.int32]
    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> TextColumn:
        return TextColumn(self.codes[rows], self.values)

    @property
    def nbytes(self) -> int:
        """Memory of the codes."""
        return self.codes.nbytes

    def counts(self) -> NDArray[np.int64]:
        """Return the number of rows of each text; the last entry counts missing cells."""
        found = np.bincount(self.codes + 1, minlength=len(self.values) + 1)
        return np.roll(found, -1).astype(np.int64)

    def spread(self, of_values: Sequence[Any], of_missing: Any, dtype: Any) -> NDArray[Any]:
        """Return an array with one entry per row from one entry per different text."""
        return np.array([*of_values, of_missing], dtype=dtype)[self.codes]


Column = NDArray[Any] | TextColumn


@dataclass(frozen=True, slots=True)
class RowPiece:
    """Place of consecutive rows in a file, for messages.

    Attributes
    ----------
    begin : int
        Index of the first row of the piece on this rank.
    row : int
        Index of this row over all files and ranks.
    lines : ndarray of int64
        Line number of every row; empty if the file has no lines.
    """

    file: str
    begin: int
    row: int
    lines: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RawColumns:
    """This rank's rows of named columns, before encoding.

    Attributes
    ----------
    names : tuple of str
    columns : tuple of (ndarray or TextColumn)
        One for each name, see :mod:`hpcembed.data.columns.raw_columns`.
    n_rows : int
        Rows on this rank.
    pieces : tuple of RowPiece
        Places of the rows in files; empty if unknown.
    numbers_of_columns : mapping of str to int
        Position of a column in its file, from 1; empty if unknown.
    left_out : tuple of str
        Further columns of the file that the settings leave out and that were not read.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcembed.data.columns import raw_columns_of
    >>> columns = raw_columns_of({"mass": [1.5, 2.0, 3.0], "kind": ["fig", None, "pear"]})
    >>> columns.shape, columns[np.array([True, False, True])].n_rows
    ((3, 2), 2)
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    n_rows: int
    pieces: tuple[RowPiece, ...] = ()
    numbers_of_columns: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"{self.pieces[0].file}: " if self.pieces else ""
        repeated = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if repeated:
            raise InputError(
                f"{where}several columns are named {repeated[0]!r}: rename all but one"
            )
        for name, column in zip(self.names, self.columns, strict=True):
            if len(column) != self.n_rows:
                raise InputError(
                    f"{where}column {name!r} has {len(column)} rows, others have {self.n_rows}: "
                    "give columns of equal length"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return self.n_rows, len(self.names)

    @property
    def nbytes(self) -> int:
        """Memory of the columns without their different texts."""
        return sum(column.nbytes for column in self.columns)

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, rows: Any) -> RawColumns:
        """Return the rows of a mask, a slice or an array of indices."""
        chosen = tuple(column[rows] for column in self.columns)
        n_rows = int(np.arange(self.n_rows)[rows].size)
        return replace(self, columns=chosen, n_rows=n_rows, pieces=())

    def column(self, name: str) -> Column:
        """Return the column of a name."""
        return self.columns[self._places[name]]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def place(self, row: int, start: int, source: str) -> str:
        """Return file and place of a row of this rank; `start` is the global index of row 0."""
        if not self.pieces:
            return f"{source}: data row {start + row + 1}"
        piece = self.pieces[bisect_right([one.begin for one in self.pieces], row) - 1]
        offset = row - piece.begin
        line = f" (line {piece.lines[offset]})" if piece.lines.size else ""
        return f"{piece.file}: data row {piece.row + offset + 1}{line}"

    def title(self, name: str) -> str:
        """Return a column as it is called in messages."""
        number = self.numbers_of_columns.get(name)
        return f"column {name!r}" if number is None else f"column {number} ({name})"


def level_text(value: Any) -> str | None:
    """Return a value as the text of a category; None for a missing value.

    Examples
    --------
    >>> [level_text(value) for value in (3.0, 2.5, True, " red ", None, float("nan"))]
    ['3', '2.5', 'true', 'red', None, None]
    """
    if value is None or value != value:  # NaN and NaT differ from themselves
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace").strip()
    raise InputError(f"a value of type {type(value).__name__}: give numbers, texts or dates")


def text_column(values: Iterable[Any], name: str) -> Column:
    """Return a column of arbitrary Python values: numbers alone as float64, else texts.

    Raises
    ------
    InputError
        A value is neither a number, a text, a date, a boolean nor missing.
    """
    listed = list(values)
    if all(_is_number(value) for value in listed):
        return np.array([math.nan if _is_gap(v) else float(v) for v in listed], dtype=np.float64)
    index: dict[str, int] = {}
    codes = np.empty(len(listed), dtype=np.int32)
    for row, value in enumerate(listed):
        try:
            text = None if _is_gap(value) else level_text(value)
        except InputError as error:
            raise InputError(f"column {name!r}: row {row + 1}: {error}") from error
        codes[row] = -1 if text is None else index.setdefault(text, len(index))
    return TextColumn(codes, tuple(index))


def _is_gap(value: Any) -> bool:
    """Whether a value marks a missing cell: None, NaN, NaT, pandas.NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating | np.datetime64) and bool(value != value)


def _is_number(value: Any) -> bool:
    if _is_gap(value):
        return True
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
