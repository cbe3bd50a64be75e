"""Scan of raw columns: each rank summarises its own rows, and one reduction joins the summaries.

A summary does not depend on the number of ranks. The number of different texts is exact up to
:data:`SKETCH`, and above it an estimate with an error of 2 %: the smallest hashes of all texts are
kept (Bar-Yossef et al., Counting distinct elements in a data stream, RANDOM 2002).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.columns.cells import (
    BOOLEAN_WORDS,
    DATE_ORDERS,
    DateOrder,
    date_of,
)
from hpcembed.data.columns.raw_columns import Column, RawColumns, TextColumn
from hpcembed.data.number_text import NUMBER_STYLES, NumberStyle, number_of, unit_of

__all__ = ["MOST_ODD", "SKETCH", "ColumnSummary", "number_marks", "scan_columns"]

#: Number of hashes that are kept for each column.
SKETCH = 2048
#: Texts that are not numbers are kept up to this number.
MOST_ODD = 4


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """Counts of the cells of one column.

    Attributes
    ----------
    storage : frozenset of str
        Types of the arrays: ``number``, ``date``, ``text``.
    n, n_missing : int
        Cells, and missing cells.
    n_styles, n_dates : dict of str to int
        Cells that are a number in a style, a date in an order.
    n_fractions : int
        Numbers with a decimal point, as evidence of how numbers are written in this table.
    n_words : dict of tuple to int
        Cells that are one of the two words of a boolean.
    n_characters, n_blanks : int
        Total length of the texts, and blanks in them.
    hashes : ndarray of uint64
        The smallest hashes of the different texts.
    odd : dict of str to (int, int)
        Texts that are not numbers: cells, and global index of the first row.
    low, high : float
        Range of the numbers.
    are_integers : bool
    infinite_row : int
        Global index of the first infinite number; -1 without.
    units : frozenset of str
        Currencies of the numbers, and ``%``; no number has two.
    n_plain : int
        Numbers without a unit that are not 0.
    runs : tuple of (int, float, float, int, bool)
        Consecutive rows: first row, first and last value, rows, and whether each value is one more
        than the previous one.
    """

    storage: frozenset[str]
    n: int
    n_missing: int
    n_styles: dict[NumberStyle, int] = field(default_factory=dict)
    n_dates: dict[DateOrder, int] = field(default_factory=dict)
    n_fractions: int = 0
    n_words: dict[tuple[str, str], int] = field(default_factory=dict)
    n_characters: int = 0
    n_blanks: int = 0
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    odd: dict[str, tuple[int, int]] = field(default_factory=dict)
    low: float = math.inf
    high: float = -math.inf
    are_integers: bool = True
    infinite_row: int = -1
    runs: tuple[tuple[int, float, float, int, bool], ...] = ()
    units: frozenset[str] = frozenset()
    n_plain: int = 0

    @property
    def n_given(self) -> int:
        """Cells that are not missing."""
        return self.n - self.n_missing

    @property
    def n_distinct(self) -> int:
        """Number of different texts: exact up to :data:`SKETCH`, else an estimate."""
        if self.hashes.size < SKETCH:
            return int(self.hashes.size)
        return round((SKETCH - 1) * 2.0**64 / (float(self.hashes[-1]) + 1.0))

    @property
    def counts_rows(self) -> bool:
        """Whether the values are consecutive integers in the order of the rows."""
        if self.n_missing or not self.are_integers or not self.runs:
            return False
        runs = sorted(self.runs)
        joined = all(a[2] + 1 == b[1] for a, b in pairwise(runs))
        return joined and all(run[4] for run in runs)

    def merge(self, other: ColumnSummary) -> ColumnSummary:
        """Return the summary of the rows of both."""
        hashes = np.union1d(self.hashes, other.hashes)[:SKETCH]
        odd = dict(self.odd)
        for text, (count, row) in other.odd.items():
            before, first = odd.get(text, (0, row))
            odd[text] = before + count, min(first, row)
        kept = sorted(odd, key=lambda text: (odd[text][1], text))[:MOST_ODD]
        infinite = [row for row in (self.infinite_row, other.infinite_row) if row >= 0]
        return ColumnSummary(
            self.storage | other.storage,
            self.n + other.n,
            self.n_missing + other.n_missing,
            _sum(self.n_styles, other.n_styles),
            _sum(self.n_dates, other.n_dates),
            self.n_fractions + other.n_fractions,
            _sum(self.n_words, other.n_words),
            self.n_characters + other.n_characters,
            self.n_blanks + other.n_blanks,
            hashes,
            {text: odd[text] for text in kept},
            min(self.low, other.low),
            max(self.high, other.high),
            self.are_integers and other.are_integers,
            min(infinite, default=-1),
            self.runs + other.runs,
            self.units | other.units,
            self.n_plain + other.n_plain,
        )


def scan_columns(
    rows: RawColumns, marks: frozenset[str], comm: MPI.Comm, start: int = 0
) -> dict[str, ColumnSummary]:
    """Summarise columns over all ranks.

    Collective: one reduction.

    Parameters
    ----------
    rows : RawColumns
        This rank's rows; the same columns on all ranks.
    marks : frozenset of str
        Texts that mean "missing", in small letters.
    start : int
        Global index of the first local row.

    Returns
    -------
    dict of str to ColumnSummary
        The same on all ranks, and on any number of ranks.
    """
    mine = [_summarise(column, marks, start) for column in rows.columns]
    joined: Sequence[ColumnSummary] = comm.allreduce(mine, op=_merge_all)
    return dict(zip(rows.names, joined, strict=True))


def number_marks(marks: Iterable[str]) -> list[float]:
    """Return the numbers among the texts that mean "missing"."""
    values = (number_of(mark, "plain") for mark in marks)
    return [value for value in values if not math.isnan(value)]


def _merge_all(
    left: Sequence[ColumnSummary], right: Sequence[ColumnSummary]
) -> list[ColumnSummary]:
    return [a.merge(b) for a, b in zip(left, right, strict=True)]


def _sum(left: dict[Any, int], right: dict[Any, int]) -> dict[Any, int]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in {**left, **right}}


def _summarise(column: Column, marks: frozenset[str], start: int) -> ColumnSummary:
    if isinstance(column, TextColumn):
        return _summarise_texts(column, marks, start)
    if column.dtype.kind == "M":
        days = column[~np.isnat(column)].view(np.int64)
        low, high = (int(days.min()), int(days.max())) if days.size else (math.inf, -math.inf)
        return ColumnSummary(
            frozenset(["date"]),
            len(column),
            len(column) - days.size,
            dict.fromkeys(NUMBER_STYLES, 0),
            dict.fromkeys(DATE_ORDERS, int(days.size)),
            low=low,
            high=high,
        )
    return _summarise_numbers(column, marks, start)


def _summarise_numbers(
    column: NDArray[np.float64], marks: Collection[str], start: int
) -> ColumnSummary:
    is_missing = np.isnan(column) | np.isin(column, number_marks(marks))
    given = column[~is_missing]
    infinite = np.flatnonzero(np.isinf(column))
    are_integers = bool((given == np.floor(given)).all())
    runs: tuple[tuple[int, float, float, int, bool], ...] = ()
    if column.size:
        with np.errstate(invalid="ignore"):
            consecutive = bool((np.diff(column) == 1).all())
        runs = ((start, float(column[0]), float(column[-1]), len(column), consecutive),)
    return ColumnSummary(
        frozenset(["number"]),
        len(column),
        int(np.count_nonzero(is_missing)),
        dict.fromkeys(NUMBER_STYLES, int(given.size)),
        dict.fromkeys(DATE_ORDERS, 0),
        n_fractions=int(given.size) if not are_integers else 0,
        low=float(given.min(initial=math.inf)),
        high=float(given.max(initial=-math.inf)),
        are_integers=are_integers,
        infinite_row=start + int(infinite[0]) if infinite.size else -1,
        runs=runs,
        n_plain=int(np.count_nonzero(given)),
    )


def _summarise_texts(column: TextColumn, marks: frozenset[str], start: int) -> ColumnSummary:
    counts = column.counts().tolist()
    n_missing = counts[-1]
    styles, orders = dict.fromkeys(NUMBER_STYLES, 0), dict.fromkeys(DATE_ORDERS, 0)
    words = dict.fromkeys(BOOLEAN_WORDS, 0)
    fractions = characters = blanks = 0
    odd: list[int] = []
    given: list[str] = []
    units: set[str] = set()
    n_plain = 0
    low, high = math.inf, -math.inf
    for code, text in enumerate(column.values):
        count, text = counts[code], text.strip()
        if not count:
            continue
        folded = text.casefold()
        if folded in marks:
            n_missing += count
            continue
        given.append(text)
        characters += count * len(text)
        blanks += count * text.count(" ")
        is_number = is_nonzero = False
        for style in NUMBER_STYLES:
            value = number_of(text, style)
            if not math.isnan(value):
                styles[style] += count
                is_number = True
                is_nonzero |= bool(value)
                low, high = min(low, value), max(high, value)
        if is_number:
            unit = unit_of(text)
            units.add(unit)
            n_plain += count * (is_nonzero and not unit)
            fractions += count * ("." in text and not math.isnan(number_of(text, "plain")))
        elif len(odd) < MOST_ODD:
            odd.append(code)
        if text[:1].isdigit():
            for order in DATE_ORDERS:
                orders[order] += count * (not math.isnan(date_of(text, order)))
        for pair in BOOLEAN_WORDS:
            words[pair] += count * (folded in pair)
    first_rows = {
        column.values[code].strip(): (
            counts[code],
            start + int(np.flatnonzero(column.codes == code)[0]),
        )
        for code in odd
    }
    return ColumnSummary(
        frozenset(["text"]),
        len(column),
        n_missing,
        styles,
        orders,
        fractions,
        words,
        characters,
        blanks,
        _smallest_hashes(given),
        first_rows,
        low,
        high,
        units=frozenset(units - {""}),
        n_plain=n_plain,
    )


def _smallest_hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(t.encode("utf-8", "replace"), digest_size=8).digest()
                       for t in texts)  # fmt: skip
    return np.unique(np.frombuffer(digests, dtype="<u8"))[:SKETCH].astype(np.uint64)
