"""Words of a study: headings, sentences and tables, for the terminal, ``study.md`` and the page.

Titles of sections of the page are in :mod:`hpcembed.jobs.study.report`, captions of figures in
:mod:`hpcembed.jobs.study.figures`; phrases that other reports use too
are in :mod:`hpcembed.jobs.report.wording`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from scipy import special

from hpcembed.jobs.report.dimensions import DIMENSIONS_TITLE, dimensions_note, dimensions_table
from hpcembed.jobs.report.tables import TextTable
from hpcembed.jobs.report.wording import (
    few_seeds_warning,
    network_name,
    points,
    ratio,
)
from hpcembed.jobs.study.headline import headline
from hpcembed.jobs.study.intrinsic.wording import (
    intrinsic_caption,
    intrinsic_table,
    intrinsic_text,
)
from hpcembed.jobs.study.rivals.wording import answer_text, rivals_table, table_caption
from hpcembed.jobs.study.statistics import Compression, Difference, StudyPoint
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.runtime.wording import counted

__all__ = [
    "NEAREST_WORDS_CAPTION",
    "compression_heading",
    "compression_table",
    "dimensions_panel",
    "lead_paragraphs",
    "points_table",
    "reproduction_text",
    "smallest_heading",
    "smallest_table",
    "study_markdown",
    "summary_text",
]

NEAREST_WORDS_CAPTION = (
    "Terms of large variance, and the terms whose vectors have the most similar direction."
)


def summary_text(
    summary: StudySummary, table_text: Callable[[TextTable], str] = TextTable.terminal
) -> str:
    """Write smallest k of each network, smallest model and warnings; for the terminal by default.

    Parameters
    ----------
    table_text : callable
        Returns the text of a table.
    """
    parts = [table_text(points_table(summary))]
    if summary.smallest:
        parts = [smallest_heading(summary), table_text(smallest_table(summary))]
    if summary.compression is not None:
        table = compression_table(summary, summary.compression)
        sentences = headline(summary, summary.compression)
        parts += [compression_heading(summary.compression), table_text(table), *sentences]
    if summary.rivals is not None:
        found = summary.rivals
        parts += [table_caption(summary, found), table_text(rivals_table(summary, found))]
        parts.append(answer_text(summary, found))
    if summary.intrinsic:
        searches = summary.intrinsic, summary.score
        parts += [intrinsic_caption(*searches), table_text(intrinsic_table(*searches))]
        parts.append(intrinsic_text(*searches))
    if summary.smallest:
        parts.append(summary.few_rows)
    parts += ["\n".join(summary.not_learnt), few_seeds_warning(len(summary.study.seeds))]
    return "\n\n".join(filter(None, parts))


def study_markdown(summary: StudySummary) -> str:
    """Write the whole study as Markdown."""
    study = summary.study
    parts = [
        f"# Compression study: {study.data.name}",
        f"Recipe {study.study.recipe}, {counted(len(study.seeds), 'seed')}; mean ± standard "
        "deviation over the seeds, differences with their intervals in points. Networks are "
        "trained together; the seconds of one network are its share.",
        summary_text(summary, TextTable.markdown),
        *_dimensions_markdown(summary),
        reproduction_text(summary),
        "## All networks and inputs",
        points_table(summary).markdown(),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def dimensions_panel(summary: StudySummary) -> tuple[TextTable, str] | None:
    """Return the table of the diagnostics beside the smallest k, and the note below it.

    Returns
    -------
    tuple or None
        None without diagnostics.
    """
    record = summary.dimensions
    if record is None:
        return None
    found = [one for one in summary.smallest if one.point.input == "spectral"]
    smallest = ", ".join(
        f"{one.point.n_inputs if one.holds else 'none'} ({network_name(one.point.hidden)})"
        for one in found
    )
    table = dimensions_table(record, smallest, max(summary.study.dimensions))
    return (table, dimensions_note(record)) if table.rows else None


def _dimensions_markdown(summary: StudySummary) -> list[str]:
    panel = dimensions_panel(summary)
    return [] if panel is None else [f"## {DIMENSIONS_TITLE}", panel[0].markdown(), panel[1]]


def smallest_heading(summary: StudySummary) -> str:
    """Define the smallest k without loss, for the heading of its table."""
    point = f"; {summary.score.point}" if summary.score.point else ""
    return (
        f"smallest k without loss: the lower end of the {100 * summary.confidence:g} % interval of "
        "the paired difference to the same network on all features is above "
        f"-{100 * summary.margin:g} points on validation rows; the chosen k is then measured on "
        f"test rows{point}"
    )


def smallest_table(summary: StudySummary) -> TextTable:
    """Make the table of the smallest k of each network and input."""
    score = summary.score
    rows = [
        (
            network_name(one.point.hidden),
            one.point.input,
            str(one.point.n_inputs) if one.holds else f"none (best {one.point.n_inputs})",
            _difference(one.point.validation_difference),
            _difference(one.point.test_difference),
            "yes" if one.confirmed else "no",
            score.text(one.point.test_mean, one.point.test_deviation),
            score.text(one.baseline.test_mean, one.baseline.test_deviation),
        )
        for one in summary.smallest
    ]
    headings = (
        "network", "input", "smallest k", "validation difference", "test difference",
        "test agrees", score.heading("test"), score.heading("all features"),
    )  # fmt: skip
    return TextTable(headings, rows, text_columns=(0, 1))


def _difference(difference: Difference | None) -> str:
    return points(difference.mean, difference.low, difference.high) if difference else "-"


def compression_heading(one: Compression) -> str:
    """Name the chosen model, for the heading of its table."""
    point = one.point
    model = "the smallest model without loss"
    if not one.holds:
        model = "no model without loss; the nearest one by the lower end of its interval"
    return (
        f"{model}, compared with the best network on all features and with the same network on "
        f"all features: {point.input}, k = {point.n_inputs}, {network_name(point.hidden)}"
    )


def compression_table(summary: StudySummary, one: Compression) -> TextTable:
    """Compare the chosen model with both networks on all features.

    Rows are inputs, parameters with and without the projection, seconds and test score; a ratio is
    that of the baseline to the model.
    """
    point, base, score = one.point, one.baseline, summary.score
    beside = [base] if one.same is None or one.same.hidden == base.hidden else [base, one.same]
    own = summary.stored_numbers(point)
    counts = [
        ("inputs", [summary.n_features] * len(beside), point.n_inputs),
        ("parameters with the projection", [full.parameters for full in beside], own),
        ("without the projection", [full.parameters for full in beside], point.parameters),
    ]
    times = [("training seconds", point.train_seconds)]
    seconds = point.train_seconds + summary.embedding_seconds
    if math.isfinite(seconds):
        times.append(("with the embedding", seconds))
    rows = [
        (name, *map(_count, large), _count(small), ratio(large[0], small or 0))
        for name, large, small in counts
    ]
    rows += [
        (
            name, *(f"{full.train_seconds:.2f}" for full in beside), f"{own_seconds:.2f}",
            ratio(base.train_seconds, own_seconds),
        )
        for name, own_seconds in times
    ]  # fmt: skip
    rows.append(
        (
            "test accuracy %" if score.is_accuracy else f"test {score.name}",
            *(score.text(full.test_mean, full.test_deviation) for full in beside),
            score.text(point.test_mean, point.test_deviation), "",
        )
    )  # fmt: skip
    of_network = [_difference(one.of_network)] * (len(beside) - 1)
    rows.append(("points from the baseline", "", *of_network, _difference(one.test_difference), ""))
    named = [f"all features, {network_name(full.hidden)}" for full in beside]
    return TextTable(("", *named, "compressed", "ratio"), rows)


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def points_table(summary: StudySummary) -> TextTable:
    """Make the table of all networks on all inputs."""
    score = summary.score
    rows = [
        (
            network_name(point.hidden),
            point.input,
            str(point.n_inputs),
            _count(summary.stored_numbers(point)),
            f"{point.parameters:,}",
            f"{point.train_seconds:.2f}",
            score.text(point.validation_mean, point.validation_deviation),
            score.text(point.test_mean, point.test_deviation),
            _difference(point.test_difference),
            score.text(summary.published_accuracy(point)),
        )
        for point in summary.points
    ]
    headings = (
        "network", "input", "k", "parameters", "of the network", "train s",
        score.heading("validation"), score.heading("test"),
        "difference to all features", score.heading("published"),
    )  # fmt: skip
    return TextTable(headings, rows, text_columns=(0, 1))


def reproduction_text(summary: StudySummary) -> str:
    """Compare with published accuracies; empty if there are none.

    A published accuracy is that of one seed. It is therefore also compared with the Student-t
    prediction interval of one further seed.
    """
    compared = [(point, summary.published_accuracy(point)) for point in summary.points]
    compared = [(point, accuracy) for point, accuracy in compared if math.isfinite(accuracy)]
    if not compared:
        return ""
    below = [(point, accuracy) for point, accuracy in compared if point.test_mean < accuracy - 0.01]
    text = (
        f"{len(compared) - len(below)} of {len(compared)} published accuracies are reached within "
        "1.0 point or exceeded."
    )
    if all(len(point.seeds) > 1 for point, _ in compared):
        confidence = summary.confidence
        likely = [p for p, accuracy in compared if accuracy <= _next_seed(p, confidence)]
        text += (
            f" Published accuracies are those of one seed: {len(likely)} of {len(compared)} lie "
            f"within or below the {100 * confidence:g} % prediction interval of one further seed."
        )
    if below:
        listed = ", ".join(
            f"{network_name(point.hidden)} {point.input} k = {point.n_inputs} "
            f"({100 * point.test_mean:.2f}, published {100 * accuracy:.2f})"
            for point, accuracy in below
        )
        text += f" Not reached: {listed}."
    return text


def _next_seed(point: StudyPoint, confidence: float) -> float:
    """Upper end of the prediction interval for the accuracy of one further seed."""
    n = len(point.seeds)
    quantile = float(special.stdtrit(n - 1, 0.5 + 0.5 * confidence))
    return point.test_mean + quantile * point.test_deviation * math.sqrt(1.0 + 1.0 / n)


def lead_paragraphs(summary: StudySummary, dataset: Mapping[str, Any]) -> list[str]:
    """Return the first paragraphs of the page: the data, the recipe, and the smallest model."""
    study, one, score = summary.study, summary.compression, summary.score
    labels = f"{len(dataset['class_names'])} classes" if score.is_accuracy else "a numeric target"
    lead = [
        f"{dataset['n_train']:,} training and {counted(dataset['n_test'], 'test row')} of "
        f"{counted(summary.n_features, 'feature')}, {labels}. Recipe {study.study.recipe}; every "
        f"{score.name} is the mean over {counted(len(study.seeds), 'seed')} ± its standard "
        "deviation."
    ]
    if one is not None:
        lead += [f"{text[:1].upper()}{text[1:]}." for text in headline(summary, one)]
    return lead
