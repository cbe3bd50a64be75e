"""What a study says, as text and Markdown tables, and each of its points as one flat row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcembed.report import markdown_table, percent, points
from hpcembed.study.published import Published
from hpcembed.study.settings import StudyConfig
from hpcembed.study.statistics import Compression, Difference, Point, Smallest

__all__ = ["Summary", "network_name", "row_of", "study_markdown", "summary_text"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a study says.

    Attributes
    ----------
    margin : float
        Share of accuracy that may be lost.
    """

    n_features: int
    margin: float
    confidence: float
    points: list[Point]
    smallest: list[Smallest]
    compression: Compression | None


def network_name(hidden: Sequence[int]) -> str:
    """Widths joined by dashes, or the number of classes only: "linear"."""
    return "-".join(map(str, hidden)) if hidden else "linear"


def row_of(
    point: Point, summary: Summary, published: Mapping[tuple[int, ...], Published]
) -> dict[str, Any]:
    """One network on one input as flat columns; accuracies between 0 and 1."""
    other = published.get(point.hidden)
    theirs: float | None = None
    if other is not None:
        theirs = {"full": other.baseline, "spectral": other.at(point.n_inputs)}.get(point.input)
    row = {
        "input": point.input,
        "hidden": network_name(point.hidden),
        "n_inputs": point.n_inputs,
        "n_seeds": len(point.seeds),
        "parameters": point.parameters,
        "parameters_with_projection": with_projection(point, summary.n_features),
        "train_seconds": point.train_seconds,
        "validation_mean": point.validation_mean,
        "validation_deviation": point.validation_deviation,
        "test_mean": point.test_mean,
        "test_deviation": point.test_deviation,
        "test_lowest": point.test_lowest,
        "test_highest": point.test_highest,
    }
    for name, difference in (
        ("validation", point.validation_difference),
        ("test", point.test_difference),
    ):
        for part in ("mean", "low", "high"):
            key = f"{name}_difference" if part == "mean" else f"{name}_difference_{part}"
            row[key] = getattr(difference, part) if difference else math.nan
    within = point.validation_difference
    row["without_loss"] = bool(within and within.within(summary.margin))
    row["published"] = math.nan if theirs is None else theirs
    return row


def with_projection(point: Point, n_features: int) -> int:
    """Numbers of a model with its fixed projection, which takes no shift of its own: k x d."""
    return point.parameters + (point.n_inputs * n_features if point.input != "full" else 0)


def summary_text(study: StudyConfig, summary: Summary) -> str:
    """What the terminal shows: smallest k of each network, the smallest model. Not collective."""
    parts = [_smallest_table(summary)] if summary.smallest else [_points_table(summary, {})]
    if summary.compression is not None:
        parts.append(_compression_text(summary, summary.compression))
    if len(study.seeds) < 5:
        parts.append(
            f"{len(study.seeds)} seed(s): at least 5 are needed for what is claimed to be sound"
        )
    return "\n\n".join(parts)


def _smallest_table(summary: Summary) -> str:
    rows = []
    for one in summary.smallest:
        point, baseline = one.point, one.baseline
        rows.append(
            (
                network_name(one.hidden),
                one.input,
                str(point.n_inputs) if one.holds else f"none (best {point.n_inputs})",
                _difference(point.validation_difference),
                _difference(point.test_difference),
                "yes" if one.confirmed else "no",
                percent(point.test_mean, point.test_deviation),
                percent(baseline.test_mean, baseline.test_deviation),
            )
        )
    title = (
        f"smallest k without loss: lower end of the {100 * summary.confidence:g} % interval of the "
        f"paired difference to the same network on all features above "
        f"-{100 * summary.margin:g} points, on validation rows; then read off the test rows"
    )
    headings = (
        "network", "input", "smallest k", "validation difference", "test difference",
        "test agrees", "test %", "all features %",
    )  # fmt: skip
    return f"{title}\n\n{markdown_table(headings, rows, 2)}"


def _difference(difference: Difference | None) -> str:
    return points(difference.mean, difference.low, difference.high) if difference else "-"


def _compression_text(summary: Summary, one: Compression) -> str:
    point, base, d = one.point, one.baseline, summary.n_features
    whole = with_projection(point, d)
    rows = [
        ("inputs", f"{base.n_inputs:,}", f"{point.n_inputs:,}", _ratio(d, point.n_inputs)),
        (
            "parameters trained", f"{base.parameters:,}", f"{point.parameters:,}",
            _ratio(base.parameters, point.parameters),
        ),
        (
            "with the projection", f"{base.parameters:,}", f"{whole:,}",
            _ratio(base.parameters, whole),
        ),
        (
            "training seconds", f"{base.train_seconds:.2f}", f"{point.train_seconds:.2f}",
            _ratio(base.train_seconds, point.train_seconds),
        ),
        (
            "test accuracy %", percent(base.test_mean, base.test_deviation),
            percent(point.test_mean, point.test_deviation), _difference(one.test_difference),
        ),
    ]  # fmt: skip
    what = "the smallest model without loss" if one.holds else "no model without loss; the nearest"
    title = (
        f"{what} against the best baseline: {point.input}, k = {point.n_inputs}, "
        f"{network_name(point.hidden)}"
    )
    headings = ("", f"all features, {network_name(base.hidden)}", "compressed", "ratio")
    return f"{title}\n\n{markdown_table(headings, rows)}"


def _ratio(large: float, small: float) -> str:
    return f"{large / small:.1f}x" if small else "-"


def _points_table(summary: Summary, published: Mapping[tuple[int, ...], Published]) -> str:
    rows = []
    for point in summary.points:
        row = row_of(point, summary, published)
        rows.append(
            (
                network_name(point.hidden),
                point.input,
                str(point.n_inputs),
                f"{point.parameters:,}",
                f"{point.train_seconds:.2f}",
                percent(point.validation_mean, point.validation_deviation),
                percent(point.test_mean, point.test_deviation),
                _difference(point.test_difference),
                percent(row["published"]),
            )
        )
    headings = (
        "network", "input", "k", "parameters", "train s", "validation %", "test %",
        "difference to all features", "published %",
    )  # fmt: skip
    return markdown_table(headings, rows, 2)


def study_markdown(
    study: StudyConfig, summary: Summary, published: Mapping[tuple[int, ...], Published]
) -> str:
    """The whole study as Markdown. Not collective."""
    name = study.data.name
    head = (
        f"# Compression study: {name}\n\nRecipe {study.study.recipe}, {len(study.seeds)} seeds; "
        "mean ± deviation over the seeds, differences with their intervals in points. Seconds of "
        "one network are its share of those that were trained together."
    )
    parts = [head, summary_text(study, summary), "## All cells", _points_table(summary, published)]
    reproduced = _reproduction(summary, published)
    if reproduced:
        parts.insert(2, reproduced)
    return "\n\n".join(parts) + "\n"


def _reproduction(summary: Summary, published: Mapping[tuple[int, ...], Published]) -> str:
    """How many published cells are reached within one point."""
    compared = [
        (point, row["published"])
        for point in summary.points
        for row in [row_of(point, summary, published)]
        if math.isfinite(row["published"])
    ]
    if not compared:
        return ""
    below = [(p, theirs) for p, theirs in compared if p.test_mean < theirs - 0.01]
    text = (
        f"{len(compared) - len(below)} of {len(compared)} published cells reached within 1.0 point "
        "or exceeded."
    )
    if below:
        listed = ", ".join(
            f"{network_name(p.hidden)} {p.input} k = {p.n_inputs} "
            f"({100 * p.test_mean:.2f}, published {100 * theirs:.2f})"
            for p, theirs in below
        )
        text += f" Not reached: {listed}."
    return text
