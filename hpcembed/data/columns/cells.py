"""A text as number, date, boolean or missing value.

Numbers are those of :mod:`hpcembed.data.number_text`. A date is ``2024-01-31`` or ``2024/01/31``,
with a time after a blank or ``T``, or has day, month and year in the order that a column implies.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable
from typing import Literal

from hpcembed.data.number_text import DEFAULT_MISSING, NUMBER_STYLES, NumberStyle, number_of

__all__ = [
    "BOOLEAN_WORDS",
    "DATE_ORDERS",
    "DEFAULT_MISSING",
    "NUMBER_STYLES",
    "DateOrder",
    "NumberStyle",
    "boolean_of",
    "date_of",
    "missing_marks",
    "number_of",
]

DateOrder = Literal["iso", "day_first", "month_first"]

DATE_ORDERS: tuple[DateOrder, ...] = ("iso", "day_first", "month_first")

#: The words of booleans: false, true.
BOOLEAN_WORDS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"), ("off", "on"))

_FALSE = {false for false, _ in BOOLEAN_WORDS} | {"0"}
_TRUE = {true for _, true in BOOLEAN_WORDS} | {"1"}

_TIME = r"(?:[T ]\s*(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*(Z|[+-]\d{2}:?\d{2})?)?"
_YEAR_FIRST = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_TIME}", re.ASCII)
_YEAR_LAST = re.compile(rf"(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}){_TIME}", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1)
_MICROSECONDS_PER_DAY = 86_400_000_000


def missing_marks(further: Iterable[str] = ()) -> frozenset[str]:
    """Return the texts that mean "missing", in small letters and without blanks at their ends."""
    return frozenset(text.strip().casefold() for text in (*DEFAULT_MISSING, *further))


def date_of(text: str, order: DateOrder) -> float:
    """Return a text as days since 1970-01-01 (UTC); NaN if it is not a date in this order.

    A time without a zone is taken as UTC.

    Examples
    --------
    >>> date_of("1970-01-02 12:00", "iso"), date_of("3/1/1970", "day_first")
    (1.5, 2.0)
    """
    match = (_YEAR_FIRST if order == "iso" else _YEAR_LAST).fullmatch(text.strip())
    if match is None:
        return math.nan
    first, _, second, third, *time = match.groups()
    if order == "iso":
        year, month, day = int(first), int(second), int(third)
    elif order == "day_first":
        day, month, year = int(first), int(second), int(third)
    else:
        month, day, year = int(first), int(second), int(third)
    hour, minute, second_of_minute, fraction, zone = time
    try:
        moment = datetime.datetime(
            year,
            month,
            day,
            int(hour or 0),
            int(minute or 0),
            int(second_of_minute or 0),
            int((fraction or "0")[:6].ljust(6, "0")),
        )
    except ValueError:
        return math.nan
    elapsed = (moment - _EPOCH) // datetime.timedelta(microseconds=1)
    return (elapsed - _zone_microseconds(zone)) / _MICROSECONDS_PER_DAY


def boolean_of(text: str) -> float:
    """Return 1.0 or 0.0 for a word of a boolean; NaN for another text.

    Examples
    --------
    >>> [boolean_of(text) for text in ("Yes", "off", "1", "maybe")]
    [1.0, 0.0, 1.0, nan]
    """
    word = text.strip().casefold()
    return 1.0 if word in _TRUE else 0.0 if word in _FALSE else math.nan


def _zone_microseconds(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    minutes = 60 * int(zone[1:3]) + int(zone[-2:])
    return (-1 if zone[0] == "-" else 1) * minutes * 60_000_000
