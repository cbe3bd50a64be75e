"""What a study says, as text and Markdown tables, and each of its points as one flat row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import special

from hpcembed.jobs.report import markdown_table, percent, points
from hpcembed.jobs.study.published import Published
from hpcembed.jobs.study.settings import StudyConfig
from hpcembed.jobs.study.statistics import Compression, Difference, Point, Smallest

__all__ = [
    "Summary",
    "compression_rows",
    "compression_title",
    "network_name",
    "points_rows",
    "reproduction_text",
    "row_of",
    "smallest_rows",
    "smallest_title",
    "study_markdown",
    "summary_text",
    "with_projection",
]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a study says.

    Attributes
    ----------
    margin : float
        Share of accuracy that may be lost.
    embedding_seconds : float
        Of operator, solver and projection: what a compressed network takes beside its training.
    is_linear : bool
        Whether the embedding is a projection, whose numbers can be counted.
    few_rows : str
        That a loss of the margin cannot be seen on so few rows, where that is so.
    """

    n_features: int
    margin: float
    confidence: float
    points: list[Point]
    smallest: list[Smallest]
    compression: Compression | None
    embedding_seconds: float = math.nan
    is_linear: bool = True
    few_rows: str = ""


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
        "parameters_with_projection": with_projection(point, summary),
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


def with_projection(point: Point, summary: Summary) -> int | None:
    """Numbers of a model with its fixed projection, which takes no shift of its own: k x d.

    None where the embedding is no projection.
    """
    if point.input == "full":
        return point.parameters
    if point.input in ("spectral", "whitened") and not summary.is_linear:
        return None
    return point.parameters + point.n_inputs * summary.n_features


def summary_text(study: StudyConfig, summary: Summary) -> str:
    """What the terminal shows: smallest k of each network, the smallest model. Not collective."""
    parts = [_smallest_table(summary)] if summary.smallest else [_points_table(summary, {})]
    if summary.compression is not None:
        parts.append(_compression_text(summary, summary.compression))
    if summary.few_rows and summary.smallest:
        parts.append(summary.few_rows)
    if len(study.seeds) < 5:
        parts.append(
            f"{len(study.seeds)} seed(s): at least 5 are needed for what is claimed to be sound"
        )
    return "\n\n".join(parts)


def _smallest_table(summary: Summary) -> str:
    headings, rows = smallest_rows(summary)
    return f"{smallest_title(summary)}\n\n{markdown_table(headings, rows, 2)}"


def smallest_title(summary: Summary) -> str:
    """Say what "without loss" means here. Not collective."""
    return (
        f"smallest k without loss: lower end of the {100 * summary.confidence:g} % interval of the "
        f"paired difference to the same network on all features above "
        f"-{100 * summary.margin:g} points, on validation rows; then read off the test rows"
    )


def smallest_rows(summary: Summary) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows: for each network and input the smallest k. Not collective."""
    rows: list[tuple[str, ...]] = [
        (
            network_name(one.hidden),
            one.input,
            str(one.point.n_inputs) if one.holds else f"none (best {one.point.n_inputs})",
            _difference(one.point.validation_difference),
            _difference(one.point.test_difference),
            "yes" if one.confirmed else "no",
            percent(one.point.test_mean, one.point.test_deviation),
            percent(one.baseline.test_mean, one.baseline.test_deviation),
        )
        for one in summary.smallest
    ]
    headings = (
        "network", "input", "smallest k", "validation difference", "test difference",
        "test agrees", "test %", "all features %",
    )  # fmt: skip
    return headings, rows


def _difference(difference: Difference | None) -> str:
    return points(difference.mean, difference.low, difference.high) if difference else "-"


def _compression_text(summary: Summary, one: Compression) -> str:
    headings = ("", f"all features, {network_name(one.baseline.hidden)}", "compressed", "ratio")
    table = markdown_table(headings, compression_rows(summary, one))
    return f"{compression_title(one)}\n\n{table}"


def compression_title(one: Compression) -> str:
    """Name the model that is compared. Not collective."""
    what = "the smallest model without loss" if one.holds else "no model without loss; the nearest"
    return (
        f"{what} against the best baseline: {one.point.input}, k = {one.point.n_inputs}, "
        f"{network_name(one.point.hidden)}"
    )


def compression_rows(summary: Summary, one: Compression) -> list[tuple[str, str, str, str]]:
    """Rows of the model beside its baseline: quantity, baseline, model, ratio. Not collective."""
    point, base, d = one.point, one.baseline, summary.n_features
    whole = with_projection(point, summary)
    seconds = point.train_seconds + summary.embedding_seconds
    rows = [
        ("inputs", f"{base.n_inputs:,}", f"{point.n_inputs:,}", _ratio(d, point.n_inputs)),
        (
            "parameters trained", f"{base.parameters:,}", f"{point.parameters:,}",
            _ratio(base.parameters, point.parameters),
        ),
        (
            "with the projection", f"{base.parameters:,}", f"{whole:,}" if whole else "-",
            _ratio(base.parameters, whole or 0),
        ),
        (
            "training seconds", f"{base.train_seconds:.2f}", f"{point.train_seconds:.2f}",
            _ratio(base.train_seconds, point.train_seconds),
        ),
    ]  # fmt: skip
    if math.isfinite(seconds):
        rows.append(
            (
                "with the embedding", f"{base.train_seconds:.2f}", f"{seconds:.2f}",
                _ratio(base.train_seconds, seconds),
            )
        )  # fmt: skip
    rows.append(
        (
            "test accuracy %", percent(base.test_mean, base.test_deviation),
            percent(point.test_mean, point.test_deviation), _difference(one.test_difference),
        )
    )  # fmt: skip
    return rows


def _ratio(large: float, small: float) -> str:
    return f"{large / small:.1f}x" if small else "-"


def _points_table(summary: Summary, published: Mapping[tuple[int, ...], Published]) -> str:
    return markdown_table(*points_rows(summary, published), 2)


def points_rows(
    summary: Summary, published: Mapping[tuple[int, ...], Published]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of all networks on all inputs. Not collective."""
    rows: list[tuple[str, ...]] = [
        (
            network_name(point.hidden),
            point.input,
            str(point.n_inputs),
            f"{point.parameters:,}",
            f"{point.train_seconds:.2f}",
            percent(point.validation_mean, point.validation_deviation),
            percent(point.test_mean, point.test_deviation),
            _difference(point.test_difference),
            percent(row_of(point, summary, published)["published"]),
        )
        for point in summary.points
    ]
    headings = (
        "network", "input", "k", "parameters", "train s", "validation %", "test %",
        "difference to all features", "published %",
    )  # fmt: skip
    return headings, rows


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
    reproduced = reproduction_text(summary, published)
    if reproduced:
        parts.insert(2, reproduced)
    return "\n\n".join(parts) + "\n"


def reproduction_text(summary: Summary, published: Mapping[tuple[int, ...], Published]) -> str:
    """How many published cells are reached; empty where none is known. Not collective.

    A published accuracy is that of one seed. So it is also compared with what one more seed of ours
    would give: the Student-t prediction interval of the seeds there are.
    """
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
    if all(len(point.seeds) > 1 for point, _ in compared):
        likely = [p for p, theirs in compared if theirs <= _next_seed(p, summary.confidence)]
        text += (
            f" Published are single seeds: {len(likely)} of {len(compared)} lie within or below "
            f"the {100 * summary.confidence:g} % interval in which one more seed of ours would."
        )
    if below:
        listed = ", ".join(
            f"{network_name(p.hidden)} {p.input} k = {p.n_inputs} "
            f"({100 * p.test_mean:.2f}, published {100 * theirs:.2f})"
            for p, theirs in below
        )
        text += f" Not reached: {listed}."
    return text


def _next_seed(point: Point, confidence: float) -> float:
    """Upper end of the interval in which the accuracy of one more seed is expected."""
    n = len(point.seeds)
    quantile = float(special.stdtrit(n - 1, 0.5 + 0.5 * confidence))
    return point.test_mean + quantile * point.test_deviation * math.sqrt(1.0 + 1.0 / n)
