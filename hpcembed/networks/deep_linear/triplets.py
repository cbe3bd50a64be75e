"""Tables of triplets in text files: user, item, rating; other columns are ignored.

Columns are separated by tabs, commas or ``::``, as in the files of MovieLens, or by semicolons,
bars or blanks, as in other CSV files; with a header or without one, plain or gzipped. Names of
users and items are texts, not numbers: they need not be consecutive.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.file_validation import (
    check_compression,
    check_line_ends,
    file_size,
    named_errors,
    open_stream,
)
from hpcembed.data.tables.csv_header import split_fields, split_widest
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["Triplets", "read_triplets", "triplets_from_arrays"]

Separator = Literal["auto", "tab", "comma", "double-colon", "semicolon", "bar", "blank"]
_SEPARATORS = {
    "tab": "\t", "comma": ",", "double-colon": "::", "semicolon": ";", "bar": "|", "blank": " ",
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Triplets:
    """Entries of a table of users and items, one for each pair.

    Attributes
    ----------
    users, items : tuple of str
        Names, in the order of their first appearance.
    rows, columns : ndarray of int64, shape (entries,)
        Numbers of users and items.
    values : ndarray of shape (entries,)
    duplicates : int
        Entries that repeated a pair; the mean of its values is kept.

    Examples
    --------
    >>> triplets_from_arrays(["u", "v", "u"], [7, 7, 7], [1.0, 2.0, 3.0]).values
    array([2., 2.])
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float64]
    duplicates: int

    def __repr__(self) -> str:
        return (
            f"<Triplets: {len(self.values):,} entries of {len(self.users):,} users and "
            f"{len(self.items):,} items>"
        )


def read_triplets(
    path: str | Path, *, separator: Separator = "auto", header: bool | None = None
) -> Triplets:
    """Read a file of triplets.

    Not collective.

    Parameters
    ----------
    path : str or Path
    separator : {"auto", "tab", "comma", "double-colon", "semicolon", "bar", "blank"}
        auto: the separator that gives most columns in the first line; ``::`` is preferred, and
        blanks separate columns only if no other separator occurs.
    header : bool, optional
        Whether the first line is a header. Default: if its third column is not a number.

    Raises
    ------
    InputError
        The file cannot be used; the message names the file and the first bad line.
    ConfigError
        `separator` is unknown.
    """
    path = Path(path)
    if separator != "auto" and separator not in _SEPARATORS:
        listed = ", ".join(["auto", *_SEPARATORS])
        raise ConfigError(f"separator = {separator!r} is not one of {listed}")
    file_size(path)
    check_compression(path)
    check_line_ends(path)
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for number, fields in _lines(path, separator):
        try:
            user, item, value = fields[0], fields[1], float(fields[2])
        except (IndexError, ValueError):
            if number == 1 and header is not False and _is_header(fields):
                continue
            raise InputError(f"{path}: line {number}: {_problem(fields)}") from None
        if number == 1 and header:
            continue
        if not (user and item and math.isfinite(value)):
            raise InputError(f"{path}: line {number}: {_problem(fields)}")
        rows.append(users.setdefault(user, len(users)))
        columns.append(items.setdefault(item, len(items)))
        values.append(value)
    if not values:
        raise InputError(f"{path}: no line has a rating: give lines of user, item, rating")
    return _merged(tuple(users), tuple(items), rows, columns, values)


def triplets_from_arrays(
    users: Sequence[Any] | NDArray[Any],
    items: Sequence[Any] | NDArray[Any],
    values: Sequence[float] | NDArray[Any],
) -> Triplets:
    """Return the triplets of three arrays of equal length; names become texts.

    Raises
    ------
    InputError
        Lengths differ, or a value is not a finite number.
    """
    if not len(users) == len(items) == len(values):
        raise InputError(
            f"{len(users)} users, {len(items)} items and {len(values)} values: give three arrays "
            "of equal length"
        )
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"values are not numbers ({error}): give one number each") from error
    if not len(numbers):
        raise InputError("no triplet is given: give at least one")
    if not np.isfinite(numbers).all():
        first = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise InputError(f"triplet {first}: value {numbers[first]} is not finite: remove it")
    names_of_users: dict[str, int] = {}
    names_of_items: dict[str, int] = {}
    rows = [names_of_users.setdefault(str(u), len(names_of_users)) for u in users]
    columns = [names_of_items.setdefault(str(i), len(names_of_items)) for i in items]
    return _merged(tuple(names_of_users), tuple(names_of_items), rows, columns, numbers)


def _lines(path: Path, separator: Separator) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the stripped fields of each line that is not blank."""
    number = 0
    with named_errors(path), io.TextIOWrapper(open_stream(path), encoding="utf-8-sig") as stream:
        try:
            mark = None if separator == "auto" else _SEPARATORS[separator]
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                line = line.rstrip("\n")
                mark = mark or _separator_of(line)
                plain = mark == "::" or (mark != " " and '"' not in line)
                fields = line.split(mark) if plain else split_fields(line, mark)
                yield number, [field.strip() for field in fields[:3]]
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: after line {number}: not UTF-8 text ({error.reason}): convert the file"
            ) from error


def _separator_of(line: str) -> str:
    """Return the separator that gives most columns."""
    separator, fields = split_widest(line)
    return "::" if len(line.split("::")) >= max(2, len(fields)) else separator


def _is_header(fields: list[str]) -> bool:
    return len(fields) >= 3 and all(fields)


def _problem(fields: list[str]) -> str:
    if len(fields) < 3:
        columns = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
        return f"{columns}, where user, item and rating are needed"
    for name, field in zip(("user", "item"), fields, strict=False):
        if not field:
            return f"the {name} is empty"
    return f"the rating {fields[2][:40]!r} is not a finite number"


def _merged(
    users: tuple[str, ...],
    items: tuple[str, ...],
    rows: Sequence[int],
    columns: Sequence[int],
    values: Sequence[float] | NDArray[np.float64],
) -> Triplets:
    """Return triplets with one entry for each pair: the mean of its values."""
    i, j = np.asarray(rows, dtype=np.int64), np.asarray(columns, dtype=np.int64)
    numbers = np.asarray(values, dtype=np.float64)
    cells, first, inverse, counts = np.unique(
        i * len(items) + j, return_index=True, return_inverse=True, return_counts=True
    )
    if len(cells) == len(i):
        return Triplets(users, items, i, j, numbers, 0)
    means = np.bincount(inverse.reshape(-1), weights=numbers) / counts
    order = np.argsort(first)
    first = first[order]
    return Triplets(users, items, i[first], j[first], means[order], len(i) - len(cells))
