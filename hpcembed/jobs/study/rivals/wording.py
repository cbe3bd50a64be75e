"""Words of the comparison of projections: the answer in one sentence, and the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hpcembed.jobs.report.tables import TextTable
from hpcembed.jobs.report.wording import network_name, points, seconds_text
from hpcembed.jobs.study.rivals.catalogue import RIVALS
from hpcembed.jobs.study.rivals.comparison import RivalComparison, RivalPoint
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.runtime.wording import counted

__all__ = ["answer_text", "rival_columns", "rival_record", "rivals_table", "table_caption"]


def answer_text(summary: StudySummary, found: RivalComparison) -> str:
    """State in one sentence which rivals are better than the embedding.

    Parameters
    ----------
    found : RivalComparison
        That of `summary`.
    """
    method, score = summary.study.embedding.method, summary.score.name
    begin = f"At k = {found.dimension}, with the network {network_name(found.hidden)},"
    rivals = [point for point in found.answer if point.difference is not None]
    if not found.answer:
        return f"{begin} no rival projection is trained yet."
    if not rivals:
        return f"{begin} one seed gives no interval, so the projections are not compared."
    confidence = f"{100 * found.confidence:g} %"
    together = f"{confidence} interval"
    if len(rivals) > 1:
        together += f"s that hold for {len(rivals)} rivals together"
    better = [point for point in rivals if point.difference and point.difference.low > 0]
    if better:
        names, verb = _joined([_named(point) for point in better]), "are"
        listed = ": " + _joined([f"{point.input} by {_points(point)}" for point in better])
        if len(better) == 1:
            verb, listed = "is", f" by {_points(better[0])}"
        return (
            f"{begin} {names} {verb} better than {method}{listed} points of test {score} "
            f"({together})."
        )
    best = rivals[0]
    is_worse = best.difference is not None and best.difference.high < 0
    end = "its interval is below zero" if is_worse else "its interval contains zero"
    return (
        f"{begin} no rival is better than {method} in test {score} ({together}); the best mean "
        f"is that of {_named(best)}, {_points(best)} points from {method}, and {end}."
    )


def _joined(parts: Sequence[str]) -> str:
    """Join names to a list.

    Examples
    --------
    >>> _joined(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _named(point: RivalPoint) -> str:
    fewer = point.n_inputs < point.dimension
    return point.input + (f" ({counted(point.n_inputs, 'coordinate')})" if fewer else "")


def _points(point: RivalPoint) -> str:
    one = point.difference
    return points(one.mean, one.low, one.high) if one else "-"


def table_caption(summary: StudySummary, found: RivalComparison) -> str:
    """Explain the columns of the table."""
    method = summary.study.embedding.method
    return (
        f"The network {network_name(found.hidden)} on the coordinates of each projection, with the "
        f"same seeds; differences to {method} in points of test {summary.score.name}, with "
        f"intervals that hold together for all rivals of one k ({100 * found.confidence:g} %). "
        "Fit s: seconds of one fit. Rivals that are fitted on labels know those of the validation "
        "rows, so test rows are compared."
    )


def rivals_table(summary: StudySummary, found: RivalComparison) -> TextTable:
    """Make the table of the network of the answer."""
    score = summary.score
    rows = [
        (
            str(point.dimension),
            summary.study.embedding.method if point.input == "spectral" else point.input,
            str(point.n_inputs),
            _fitted_on(point),
            seconds_text(_seconds(summary, point)),
            score.text(point.test_mean, point.test_deviation),
            _points(point),
        )
        for point in found.of_network
    ]
    method = summary.study.embedding.method
    headings = (
        "k", "projection", "coordinates", "fitted on", "fit s", score.heading("test"),
        f"difference to {method}",
    )  # fmt: skip
    return TextTable(headings, rows, text_columns=(1, 3))


def _fitted_on(point: RivalPoint) -> str:
    return "rows" if point.input == "spectral" else RIVALS[point.input].fitted_on


def _seconds(summary: StudySummary, point: RivalPoint) -> float:
    """Return the seconds of the fit: that of all coordinates of the study, or of these alone."""
    if point.input == "spectral":
        return summary.embedding_seconds
    known = summary.fit_seconds.get(point.input, {})
    wider = [k for k in known if k >= point.n_inputs]
    return known[min(wider)] if wider else math.nan


def rival_columns(summary: StudySummary, found: RivalComparison) -> dict[str, list[Any]]:
    """Collect all points as columns of numbers."""
    rows = [
        {
            "input": point.input,
            "hidden": network_name(point.hidden),
            "dimension": point.dimension,
            "n_inputs": point.n_inputs,
            "fitted_on": _fitted_on(point),
            "fit_seconds": _seconds(summary, point),
            "n_seeds": point.n_seeds,
            "test_mean": point.test_mean,
            "test_deviation": point.test_deviation,
            "difference": point.difference.mean if point.difference else math.nan,
            "difference_low": point.difference.low if point.difference else math.nan,
            "difference_high": point.difference.high if point.difference else math.nan,
        }
        for point in found.points
    ]
    return {key: [row[key] for row in rows] for key in rows[0]}


def rival_record(summary: StudySummary) -> dict[str, Any] | None:
    """Return the entry of ``study.json`` about the rivals; None without any."""
    found = summary.rivals
    if found is None:
        return None
    columns = rival_columns(summary, found)
    keys = list(columns)
    return {
        "answer": answer_text(summary, found),
        "hidden": network_name(found.hidden),
        "dimension": found.dimension,
        "confidence": found.confidence,
        "points": [
            dict(zip(keys, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ],
    }
