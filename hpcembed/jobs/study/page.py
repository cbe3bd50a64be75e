"""The report of a study, ``report.html``: tables, figures and all numbers in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from hpcembed.jobs.report import RunFolder, percent
from hpcembed.jobs.report.page import Figure, Paragraph, Section, Sheet, render_page
from hpcembed.jobs.study.drawing import (
    Drawing,
    Pictures,
    confusion_figure,
    eigenvector_figure,
    pareto_figure,
    scatter_figure,
    spectrum_figure,
    times_figure,
)
from hpcembed.jobs.study.published import Published
from hpcembed.jobs.study.settings import StudyConfig
from hpcembed.jobs.study.tables import (
    Summary,
    compression_rows,
    compression_title,
    network_name,
    points_rows,
    reproduction_text,
    smallest_rows,
    smallest_title,
    with_projection,
)

__all__ = ["write_page"]


def write_page(
    folder: RunFolder,
    study: StudyConfig,
    summary: Summary,
    published: Mapping[tuple[int, ...], Published],
    curves: Mapping[str, Figure],
    confusion: Sequence[Sequence[int]],
    pictures: Pictures,
    facts: Mapping[str, Any],
) -> None:
    """Draw what belongs to the report and write ``report.html``; rank 0 only.

    Not collective.

    Parameters
    ----------
    curves : mapping of str to Figure
        The figures of accuracy against dimensions, which are drawn already.
    confusion : sequence of sequence of int
        At the chosen model; empty where there is none.
    """
    drawing, name = Drawing(folder), study.data.name
    data = facts["dataset"]
    lead = [
        f"{data['n_train']:,} training and {data['n_test']:,} test rows of "
        f"{summary.n_features:,} features, {len(pictures.class_names)} classes. Recipe "
        f"{study.study.recipe}; every accuracy is the mean over {len(study.seeds)} seeds, with "
        "its standard deviation behind ±.",
        *_headline(summary),
    ]
    sections = [
        Section("The smallest model that keeps the accuracy", _compression(summary)),
        Section("Accuracy against dimension", [*curves.values()]),
        Section("Smallest number of components without loss", _smallest(summary)),
        Section("Accuracy for a given size", pareto_figure(drawing, summary, name)),
        Section("Training time", times_figure(drawing, summary, name)),
        Section("Spectrum", [spectrum_figure(drawing, pictures, facts["embedding"])]),
        Section(
            "Where the chosen model errs", confusion_figure(drawing, summary, confusion, pictures)
        ),
        Section("The data in its leading components", scatter_figure(drawing, pictures, name)),
        Section("Nearest words", _words(pictures)),
        Section("Eigenvectors as images", eigenvector_figure(drawing, pictures, name)),
        Section("Beside the published figures", _reproduction(summary, published)),
        Section("All numbers", _everything(study, summary, published, facts)),
    ]
    folder.write_text("report.html", render_page(f"How small can it go: {name}", lead, sections))


def _headline(summary: Summary) -> list[str]:
    one = summary.compression
    if one is None:
        return []
    point, base, d = one.point, one.baseline, summary.n_features
    whole = with_projection(point, summary)
    margin = f"{100 * summary.margin:g} points"
    verdict = f"keeps the accuracy within {margin}" if one.holds else f"loses more than {margin}"
    return [
        f"A {network_name(point.hidden)} network on {point.n_inputs} of {d:,} inputs {verdict} "
        f"of the best network on all features ({network_name(base.hidden)}): "
        f"{percent(point.test_mean, point.test_deviation)} % against "
        f"{percent(base.test_mean, base.test_deviation)} % on the test rows, with "
        f"{base.parameters / (whole or point.parameters):.1f} times fewer parameters, "
        f"{'the projection counted' if whole else 'the embedding not counted'}."
    ]


def _compression(summary: Summary) -> list[Sheet]:
    one = summary.compression
    if one is None:
        return []
    headings = ("", f"all features, {network_name(one.baseline.hidden)}", "compressed", "ratio")
    return [Sheet(headings, compression_rows(summary, one), compression_title(one).capitalize())]


def _smallest(summary: Summary) -> list[Sheet]:
    if not summary.smallest:
        return []
    headings, rows = smallest_rows(summary)
    return [Sheet(headings, rows, smallest_title(summary).capitalize(), n_left=2)]


def _reproduction(
    summary: Summary, published: Mapping[tuple[int, ...], Published]
) -> list[Paragraph]:
    text = reproduction_text(summary, published)
    return [Paragraph(text)] if text else []


def _words(pictures: Pictures) -> list[Sheet]:
    rows = [(one.word, ", ".join(one.nearest)) for one in pictures.words]
    caption = "Terms of large variance, and the terms whose vectors point most nearly their way."
    return [Sheet(("term", "nearest"), rows, caption, n_left=2)] if rows else []


def _everything(
    study: StudyConfig,
    summary: Summary,
    published: Mapping[tuple[int, ...], Published],
    facts: Mapping[str, Any],
) -> list[Sheet]:
    headings, rows = points_rows(summary, published)
    training = [(key, str(value)) for key, value in structs.asdict(study.training).items()]
    seconds = [(key, f"{value:.2f}") for key, value in facts["seconds"].items()]
    environment = [(key, _plain(value)) for key, value in facts["environment"].items()]
    return [
        Sheet(headings, rows, n_left=2, folded=f"{len(rows)} networks on their inputs"),
        Sheet(("key", "value"), training, n_left=2, folded=f"Recipe {study.study.recipe}"),
        Sheet(("stage", "seconds"), seconds, folded="Seconds of reading and embedding"),
        Sheet(("", ""), environment, n_left=2, folded="Software and machine"),
    ]


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one}" for key, one in value.items() if one)
    return str(value)
