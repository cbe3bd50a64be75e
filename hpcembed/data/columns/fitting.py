"""Fit of an encoding: kinds from all rows, parameters from the training rows of all ranks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.columns.encoding import (
    ColumnEncoding,
    DroppedColumn,
    EncodedColumn,
)
from hpcembed.data.columns.kinds import Decision, decide, odd_cell, prefers_comma
from hpcembed.data.columns.medians import exact_medians
from hpcembed.data.columns.options import ColumnOptions
from hpcembed.data.columns.raw_columns import RawColumns, TextColumn, level_text
from hpcembed.data.columns.scan import ColumnSummary, scan_columns
from hpcembed.runtime.agreement import agree, agreement
from hpcembed.runtime.errors import InputError

__all__ = ["ScannedTable", "fit_encoding", "scan_table"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScannedTable:
    """Kinds of the columns of a table, from all its rows.

    Attributes
    ----------
    summaries : dict of str to ColumnSummary
    decisions : dict of str to Decision
    options : ColumnOptions
    source : str
    """

    summaries: Mapping[str, ColumnSummary]
    decisions: Mapping[str, Decision]
    options: ColumnOptions
    source: str


def scan_table(
    rows: RawColumns, options: ColumnOptions, comm: MPI.Comm, *, start: int = 0, source: str = ""
) -> ScannedTable:
    """Determine the kinds of columns from all rows of a table.

    Collective: one reduction.

    Parameters
    ----------
    rows : RawColumns
        This rank's consecutive share of the rows.
    start : int
        Global index of its first row.
    source : str
        Name of the file, for messages.

    Raises
    ------
    InputError, ConfigError
        A cell or a column cannot be read in one way only: one line, on all ranks.
    """
    source = source or "the table"
    options.check([*rows.names, *rows.left_out], source)
    summaries = scan_columns(rows, options.marks, comm, start)
    for name, summary in summaries.items():
        if name not in options.dropped:
            _check_cells(name, summary, rows, options, comm, start, source)
    comma = prefers_comma(summaries)
    decisions = {
        name: decide(name, summary, options, comma, source) for name, summary in summaries.items()
    }
    left_out = Decision("drop", reason="left out by the settings")
    decisions |= dict.fromkeys(rows.left_out, left_out)
    if all(decision.kind == "drop" for decision in decisions.values()):
        reasons = ", ".join(f"{name} ({one.reason})" for name, one in decisions.items())
        raise InputError(f"{source}: no column is left: {reasons[:300]}: set data.columns")
    with agreement(comm):
        # A kind in the settings may contradict cells; other kinds are those of all cells.
        asked = [
            EncodedColumn(name, one.kind, style=one.style, order=one.order)
            for name, one in decisions.items()
            if name in options.kinds
        ]
        encoding = ColumnEncoding(tuple(asked), missing=options.missing)
        for column in asked:
            if column.kind not in ("drop", "category"):
                _values(column, encoding, rows, start, source)
    return ScannedTable(summaries, decisions, options, source)


def fit_encoding(scanned: ScannedTable, training: RawColumns, comm: MPI.Comm) -> ColumnEncoding:
    """Learn levels, medians and indicators from the training rows.

    Collective.

    Parameters
    ----------
    scanned : ScannedTable
        Kinds of the columns, from :func:`scan_table`.
    training : RawColumns
        This rank's training rows.

    Returns
    -------
    ColumnEncoding
        The same on all ranks, and on any number of ranks.

    Raises
    ------
    InputError
        A cell is not of the kind in the settings: one line, on all ranks.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from hpcembed.data.columns import raw_columns_of
    >>> rows = raw_columns_of({"age": [30.0, None, 50.0], "sex": ["m", "f", "m"]})
    >>> scanned = scan_table(rows, ColumnOptions(), MPI.COMM_SELF)
    >>> encoding = fit_encoding(scanned, rows, MPI.COMM_SELF)
    >>> encoding.feature_names_out
    ('age', 'age is missing', 'sex=f', 'sex=m')
    >>> encoding.transform(rows)[1]
    array([40.,  1.,  1.,  0.])
    """
    options = scanned.options
    kept = [
        EncodedColumn(name, one.kind, style=one.style, order=one.order)
        for name, one in scanned.decisions.items()
        if one.kind != "drop"
    ]
    dropped = tuple(
        DroppedColumn(name, one.reason)
        for name, one in scanned.decisions.items()
        if one.kind == "drop"
    )
    plain = ColumnEncoding(tuple(kept), dropped, options.missing, tuple(scanned.summaries))
    with agreement(comm):
        values = {one.name: _values(one, plain, training) for one in kept if one.kind != "category"}
        counts = [
            _level_counts(training, one.name, plain.marks) for one in kept if one.kind == "category"
        ]
    of_all: Sequence[Counter[str | None]] = comm.allreduce(counts, op=_add_counts)
    levels = iter(of_all)
    medians, gaps, low, high = _statistics(list(values.values()), comm)
    places = {name: i for i, name in enumerate(values)}
    fitted = [
        _with_levels(one, next(levels), options)
        if one.kind == "category"
        else replace(
            one,
            fill=float(medians[places[one.name]]),
            has_indicator=bool(gaps[places[one.name]]),
            n_missing=int(gaps[places[one.name]]),
            low=float(low[places[one.name]]),
            high=float(high[places[one.name]]),
            unit=_unit(one, scanned.summaries[one.name]),
        )
        for one in kept
    ]
    return replace(plain, columns=tuple(fitted))


def _unit(one: EncodedColumn, summary: ColumnSummary) -> str | None:
    """Return the unit of a column of numbers."""
    return "".join(summary.units) if one.kind == "number" else None


def _check_cells(
    name: str,
    summary: ColumnSummary,
    rows: RawColumns,
    options: ColumnOptions,
    comm: MPI.Comm,
    start: int,
    source: str,
) -> None:
    """Raise the error of a column whose cells are not of one kind. Collective if there is one."""
    row, message = -1, ""
    if options.gaps == "refuse" and summary.n_missing:
        raise InputError(
            f"{source}: column {name!r} has {summary.n_missing:,} missing cells: fill them, drop "
            "the rows, or set data.gaps = impute"
        )
    if summary.infinite_row >= 0:
        row, message = summary.infinite_row, "the number is not a finite number: replace it"
    elif name not in options.kinds and summary.storage == {"text"}:
        text = odd_cell(summary)
        if text:
            row = summary.odd[text][1]
            reason = "is not a number" if not _is_infinite(text) else "is not a finite number"
            message = (
                f"{text[:40]!r} {reason}, as other cells of the column are: correct it, add it to "
                "data.missing, or set the column to category in data.columns"
            )
    if row < 0:
        return
    error = None
    if start <= row < start + rows.n_rows:
        error = InputError(
            f"{rows.place(row - start, start, source)}: {rows.title(name)}: {message}"
        )
    agree(comm, error)


def _is_infinite(text: str) -> bool:
    try:
        return not np.isfinite(float(text))
    except ValueError:
        return False


def _values(
    one: EncodedColumn,
    encoding: ColumnEncoding,
    rows: RawColumns,
    start: int = 0,
    source: str = "",
) -> NDArray[np.float64]:
    """Return the numbers of a column that is no category, NaN if missing."""
    if one.kind != "boolean":
        return encoding.read_numbers(one, rows, start, source)
    codes = one.codes(rows.column(one.name), encoding.marks)
    unknown = np.flatnonzero(codes == 3)
    if unknown.size:
        raise encoding.unreadable(one, rows, int(unknown[0]), start, source)
    return np.where(codes < 2, codes, np.nan)


def _level_counts(training: RawColumns, name: str, marks: frozenset[str]) -> Counter[str | None]:
    column = training.column(name)
    if isinstance(column, TextColumn):
        pairs = list(zip([*column.values, None], column.counts().tolist(), strict=True))
    else:
        different, numbers = np.unique(column, return_counts=True)
        pairs = list(zip([level_text(one) for one in different], numbers.tolist(), strict=True))
    found: Counter[str | None] = Counter()
    for text, count in pairs:
        level = None if text is None or text.strip().casefold() in marks else text.strip()
        if count:
            found[level] += count
    return found


def _add_counts(
    left: Sequence[Counter[str | None]], right: Sequence[Counter[str | None]]
) -> list[Counter[str | None]]:
    return [a + b for a, b in zip(left, right, strict=True)]


def _with_levels(
    one: EncodedColumn, counts: Counter[str | None], options: ColumnOptions
) -> EncodedColumn:
    n_missing = counts.pop(None, 0)
    named = {text: count for text, count in counts.items() if text is not None}
    is_ordinal = options.categories == "ordinal" or (
        options.categories == "auto" and len(named) > options.one_hot_limit
    )
    levels = sorted(named, key=lambda text: (named[text], text)) if is_ordinal else sorted(named)
    return replace(
        one,
        levels=tuple(levels),
        is_ordinal=is_ordinal,
        has_indicator=n_missing > 0,
        n_missing=n_missing,
    )


def _statistics(
    values: Sequence[NDArray[np.float64]], comm: MPI.Comm
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Medians, numbers of missing cells, and ranges over all ranks."""
    given = [column[~np.isnan(column)] for column in values]
    counts = np.array(
        [[len(a), len(b)] for a, b in zip(values, given, strict=True)], dtype=np.int64
    )
    counts = counts.reshape(-1, 2)
    comm.Allreduce(MPI.IN_PLACE, counts)
    bounds = np.array(
        [[a.max(initial=-np.inf), -a.min(initial=np.inf)] for a in given], dtype=np.float64
    ).reshape(-1, 2)
    comm.Allreduce(MPI.IN_PLACE, bounds, op=MPI.MAX)
    medians = exact_medians(given, counts[:, 1], comm)
    return medians, counts[:, 0] - counts[:, 1], -bounds[:, 1], bounds[:, 0]
