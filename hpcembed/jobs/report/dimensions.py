"""How many dimensions the data need: records of the diagnostics, and their words.

The definitions are in :mod:`hpcembed.embedding.diagnostics`. Reports omit a diagnostic whose bounds
are so far apart that it does not help to choose k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

import msgspec

from hpcembed.jobs.report.tables import TextTable
from hpcembed.runtime.wording import counted

__all__ = [
    "DIMENSIONS_TITLE",
    "DimensionsRecord",
    "EstimateRecord",
    "IntervalRecord",
    "IntrinsicRecord",
    "Number",
    "SpectrumRecord",
    "SuggestedSizeRecord",
    "dimensions_line",
    "dimensions_note",
    "dimensions_table",
]

DIMENSIONS_TITLE = "How many dimensions?"

#: A number in JSON; null if it is not finite.
Number = float | None

#: Quotient of the ends of an interval from which on it is not shown.
_WIDE = 2.0

_SIZES = {
    "marchenko_pastur": (
        "Marchenko-Pastur edge",
        "components of more variance than independent noise of equal variances reaches",
    ),
    "gavish_donoho": (
        "Gavish-Donoho threshold",
        "components that denoise the rows with the least squared error",
    ),
    "minka": ("Minka's evidence", "components of the most probable model, signal and equal noise"),
}


class IntervalRecord(msgspec.Struct, frozen=True):
    """Ends of an interval that contains a number; equal if it is known."""

    low: Number
    high: Number


class SpectrumRecord(msgspec.Struct, frozen=True):
    """Effective numbers of dimensions of the whole spectrum.

    Attributes
    ----------
    entropy, effective_rank, participation_ratio, stable_rank : IntervalRecord
    n_known, n_possible : int
        Eigenvalues that were computed, and those that can differ from zero.
    """

    entropy: IntervalRecord
    effective_rank: IntervalRecord
    participation_ratio: IntervalRecord
    stable_rank: IntervalRecord
    n_known: int
    n_possible: int


class SuggestedSizeRecord(msgspec.Struct, frozen=True):
    """Number of components that one rule suggests; a size of None has a reason."""

    method: str
    size: int | None
    at_least: int
    threshold: Number = None
    noise_variance: Number = None
    noise: str = ""
    reason: str = ""


class EstimateRecord(msgspec.Struct, frozen=True):
    """An intrinsic dimension, its standard error, and the estimates of halves of the rows."""

    value: Number
    standard_error: Number
    halves: tuple[Number, Number]


class IntrinsicRecord(msgspec.Struct, frozen=True):
    """Intrinsic dimension of the projected training rows.

    Attributes
    ----------
    mle, two_nn : EstimateRecord
    n_queries : int
        Rows whose neighbours were found.
    n_rows, n_all_rows : int
        Rows among which they were found, and all training rows.
    n_columns : int
        Number of coordinates.
    n_duplicates : int
        Rows, of those whose neighbours were found, that are equal to another one.
    """

    mle: EstimateRecord
    two_nn: EstimateRecord
    n_neighbours: int
    n_queries: int
    n_rows: int
    n_all_rows: int
    n_columns: int
    n_duplicates: int
    seconds: Number


class DimensionsRecord(msgspec.Struct, frozen=True):
    """All diagnostics of one embedding; None where they do not fit its method."""

    spectrum: SpectrumRecord | None
    suggested_sizes: Sequence[SuggestedSizeRecord]
    intrinsic: IntrinsicRecord | None
    seconds: Number


def dimensions_line(record: DimensionsRecord | None) -> str:
    """Write the diagnostics as one line for the terminal; empty if there are none.

    Examples
    --------
    >>> known, wide = IntervalRecord(4.0, 4.0), IntervalRecord(9.0, 30.0)
    >>> spectrum = SpectrumRecord(wide, wide, IntervalRecord(7.0, 7.26), known, 5, 64)
    >>> dimensions_line(DimensionsRecord(spectrum, [], None, 0.0))
    'dimensions: participation ratio 7.0 to 7.3, stable rank 4.0'
    """
    if record is None:
        return ""
    parts = [f"{name} {value}" for name, value, _ in _spectrum_rows(record)]
    of_rows = [(name.split(", "), value) for name, value, _ in _intrinsic_rows(record)]
    if of_rows:
        estimates = ", ".join(f"{value} ({method})" for (_, method), value in of_rows)
        parts.append(f"intrinsic dimension {estimates}")
    return f"dimensions: {', '.join(parts)}" if parts else ""


def dimensions_table(record: DimensionsRecord, smallest: str, largest_k: int) -> TextTable:
    """Make the table of the diagnostics beside the measured number of components.

    Parameters
    ----------
    smallest : str
        Smallest k without loss of each network; empty if it was not measured.
    largest_k : int
        Largest k that was measured.

    Returns
    -------
    TextTable
        Without rows if no diagnostic is shown.
    """
    rows = [*_spectrum_rows(record), *_size_rows(record), *_intrinsic_rows(record)]
    if rows and smallest:
        meaning = f"measured by trained networks, up to k = {largest_k}"
        rows.append(("smallest k without loss", smallest, meaning))
    return TextTable(("diagnostic", "dimensions", "meaning"), rows, text_columns=(0, 1, 2))


def dimensions_note(record: DimensionsRecord) -> str:
    """Describe the rows and the eigenvalues of the diagnostics, for the line below their table."""
    parts = []
    if record.spectrum is not None:
        n, possible = record.spectrum.n_known, record.spectrum.n_possible
        parts.append(
            f"Intervals contain the value of all {possible:,} eigenvalues; they follow from "
            f"{n:,} of them and the total variance."
            if n < possible
            else f"From all {counted(possible, 'eigenvalue')}."
        )
    one = record.intrinsic
    if one is not None:
        text = f"Intrinsic dimension in {one.n_columns:,} coordinates, from the neighbours of "
        text += f"{one.n_queries:,} training rows"
        if one.n_queries < one.n_rows or one.n_rows < one.n_all_rows:
            drawn = " drawn" if one.n_rows < one.n_all_rows else ""
            text += f" among {one.n_rows:,}{drawn}"
        if one.n_duplicates:
            text += f"; {one.n_duplicates:,} of them equal another row"
        parts.append(f"{text}; ± is a standard error.")
        halves = [value for value in one.mle.halves if _is_known(value)]
        if halves:
            mean = math.fsum(halves) / len(halves)
            parts.append(f"With half of the rows the MLE is {mean:.1f}.")
    return " ".join([*parts, "No diagnostic uses labels, so none can replace the measured k."])


def _spectrum_rows(record: DimensionsRecord) -> list[tuple[str, str, str]]:
    one = record.spectrum
    if one is None:
        return []
    rows = [
        ("effective rank", one.effective_rank, "exponential of the entropy of the variances"),
        (
            "participation ratio",
            one.participation_ratio,
            "the same with squares: the largest variances count most",
        ),
        ("stable rank", one.stable_rank, "total variance over the largest one"),
    ]
    return [(name, _interval(value), text) for name, value, text in rows if _is_narrow(value)]


def _size_rows(record: DimensionsRecord) -> list[tuple[str, str, str]]:
    return [
        (_SIZES[one.method][0], f"{one.size:,}", _SIZES[one.method][1])
        for one in record.suggested_sizes
        if one.size is not None and one.method in _SIZES
    ]


def _intrinsic_rows(record: DimensionsRecord) -> list[tuple[str, str, str]]:
    one = record.intrinsic
    if one is None:
        return []
    rows = [
        (
            "intrinsic dimension, MLE",
            one.mle,
            f"of a curved surface near the rows, from {one.n_neighbours} neighbours of each; a "
            "linear projection needs more",
        ),
        ("intrinsic dimension, TwoNN", one.two_nn, "the same from 2 neighbours of each"),
    ]
    return [(name, _estimate(value), text) for name, value, text in rows if _is_known(value.value)]


def _is_narrow(one: IntervalRecord) -> bool:
    return one.low is not None and one.high is not None and one.high <= _WIDE * one.low


def _is_known(number: Number) -> TypeGuard[float]:
    return number is not None and math.isfinite(number)


def _interval(one: IntervalRecord) -> str:
    low, high = f"{one.low:.1f}", f"{one.high:.1f}"
    return low if low == high else f"{low} to {high}"


def _estimate(one: EstimateRecord) -> str:
    error = one.standard_error
    return f"{one.value:.1f}" + (f" ± {error:.1g}" if _is_known(error) else "")
