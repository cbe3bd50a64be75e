"""Output of a study: tables as CSV, Markdown and JSON, figures with their data, and a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hpcembed.jobs.report.dimensions import DIMENSIONS_TITLE, dimensions_line
from hpcembed.jobs.report.figures.style import FigureWriter
from hpcembed.jobs.report.page import PageFigure, PageSection, PageTable, render_page
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.tables import TextTable
from hpcembed.jobs.report.wording import network_name
from hpcembed.jobs.study.figures import DrawnData, StudyFigures
from hpcembed.jobs.study.headline import headline_record
from hpcembed.jobs.study.intrinsic.wording import (
    INTRINSIC_TITLE,
    intrinsic_caption,
    intrinsic_record,
    intrinsic_table,
    intrinsic_text,
)
from hpcembed.jobs.study.rivals.wording import (
    answer_text,
    rival_columns,
    rival_record,
    rivals_table,
    table_caption,
)
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.jobs.study.wording import (
    NEAREST_WORDS_CAPTION,
    compression_heading,
    compression_table,
    dimensions_panel,
    lead_paragraphs,
    points_table,
    reproduction_text,
    smallest_heading,
    smallest_table,
    study_markdown,
    summary_text,
)
from hpcembed.runtime.wording import counted

__all__ = ["write_study"]


def write_study(
    folder: RunFolder, summary: StudySummary, facts: Mapping[str, Any], data: DrawnData
) -> str:
    """Write tables, data, figures and the page; rank 0 only.

    Parameters
    ----------
    facts : mapping
        Further entries of ``study.json``: dataset, embedding, seconds, environment.
    data : DrawnData

    Returns
    -------
    str
        Text for the terminal.
    """
    _write_trials(folder, summary)
    _write_points(folder, summary)
    if summary.rivals is not None:
        folder.write_csv("rivals.csv", rival_columns(summary, summary.rivals))
    folder.write_text("study.md", study_markdown(summary))
    folder.write_json("study.json", _record(summary, facts))
    if summary.study.output.figures:
        figures = StudyFigures(FigureWriter(folder), summary, data)
        folder.write_text("report.html", _page(summary, figures, facts))
    return "\n\n".join(filter(None, (summary_text(summary), dimensions_line(summary.dimensions))))


def _write_trials(folder: RunFolder, summary: StudySummary) -> None:
    ordered = sorted(summary.results, key=lambda one: one.trial)
    columns: dict[str, list[Any]] = {
        key: [getattr(one.trial, key) for one in ordered]
        for key in ("input", "hidden", "n_inputs", "seed")
    }
    columns["hidden"] = [network_name(hidden) for hidden in columns["hidden"]]
    score = summary.score.file_name
    names = {name: name for name in ("parameters", "train_seconds", "train_loss")}
    names |= {f"validation_{score}": "validation_score", f"test_{score}": "test_score"}
    if summary.task == "regression":
        names |= {"test_rmse": "test_rmse", "test_mae": "test_mae"}
    for name, field in (names | {"best_epoch": "best_epoch", "digest": "digest"}).items():
        columns[name] = [getattr(one, field) for one in ordered]
    folder.write_csv("trials.csv", columns)


def _write_points(folder: RunFolder, summary: StudySummary) -> None:
    score = summary.score.file_name
    files = {f"{score}.csv": summary.points} if summary.points else {}
    for hidden, points in summary.networks.items():
        files[f"{score}/{network_name(hidden)}.csv"] = points
    for name, points in files.items():
        rows = [summary.row(point) for point in points]
        folder.write_csv(name, {key: [row[key] for row in rows] for key in rows[0]})


def _record(summary: StudySummary, facts: Mapping[str, Any]) -> dict[str, Any]:
    study, one = summary.study, summary.compression
    settings = msgspec.to_builtins(study.study)
    return {
        "study": settings | {"dimensions": study.dimensions, "seeds": study.seeds},
        "training": study.training,
        **facts,
        "dimensions": summary.dimensions,
        "points": [summary.row(point) for point in summary.points],
        "smallest": [
            {
                "input": found.point.input,
                "hidden": network_name(found.point.hidden),
                "n_inputs": found.point.n_inputs,
                "holds": found.holds,
                "confirmed": found.confirmed,
            }
            for found in summary.smallest
        ],
        "rivals": rival_record(summary),
        "intrinsic": intrinsic_record(summary.intrinsic, summary.score),
        "compression": one
        and {
            "model": summary.row(one.point),
            "baseline": summary.row(one.baseline),
            "validation_difference": one.validation_difference,
            "test_difference": one.test_difference,
            "holds": one.holds,
            **headline_record(summary, one),
            "confusion": summary.confusion(),
        },
    }


def _page(summary: StudySummary, figures: StudyFigures, facts: Mapping[str, Any]) -> str:
    one, reproduction = summary.compression, reproduction_text(summary)
    score = summary.score
    compression, smallest = [], []
    if one is not None:
        caption = _sentence(compression_heading(one))
        compression.append(PageTable(compression_table(summary, one), caption))
    if summary.smallest:
        caption = _sentence(smallest_heading(summary))
        smallest.append(PageTable(smallest_table(summary), caption))
    panel = dimensions_panel(summary)
    sections = [
        PageSection(f"The smallest model that keeps the {score.name}", compression),
        PageSection(f"{score.title} over dimension", figures.accuracy_over_dimension()),
        PageSection("Smallest number of components without loss", smallest),
        PageSection(DIMENSIONS_TITLE, [] if panel is None else [PageTable(*panel)]),
        PageSection(f"{score.title} over model size", figures.accuracy_over_size()),
        PageSection("Which projection?", _rivals(summary, figures)),
        PageSection(INTRINSIC_TITLE, _intrinsic(summary)),
        PageSection("Training time", figures.seconds_over_dimension()),
        PageSection("Spectrum", figures.spectrum_figure(facts["embedding"])),
        PageSection(
            "Errors of the chosen model",
            figures.confusion_figure() or figures.predictions_figure(),
        ),
        PageSection("Leading components of the data", figures.scatter_figure()),
        PageSection("Nearest words", _words(figures.data)),
        PageSection("Eigenvectors as images", figures.eigenvectors_figure()),
        PageSection("Comparison with published accuracies", [reproduction] if reproduction else []),
        PageSection("All numbers", _all_numbers(summary, facts)),
    ]
    title = f"Compression study: {summary.study.data.name}"
    return render_page(title, lead_paragraphs(summary, facts["dataset"]), sections)


def _rivals(summary: StudySummary, figures: StudyFigures) -> list[str | PageTable | PageFigure]:
    """Return the answer, the figure and the table about rival projections; nothing without any."""
    found = summary.rivals
    if found is None:
        return []
    table = PageTable(rivals_table(summary, found), table_caption(summary, found))
    return [answer_text(summary, found), *figures.rivals_figure(), table]


def _intrinsic(summary: StudySummary) -> list[str | PageTable]:
    """Return the answers and the table about random subspaces; nothing without a search."""
    found, score = summary.intrinsic, summary.score
    if not found:
        return []
    table = PageTable(intrinsic_table(found, score), intrinsic_caption(found, score))
    return [*intrinsic_text(found, score).split("\n"), table]


def _sentence(text: str) -> str:
    """Begin a text with a capital.

    Examples
    --------
    >>> _sentence("a point is 0.01 of R2")
    'A point is 0.01 of R2'
    """
    return text[:1].upper() + text[1:]


def _words(data: DrawnData) -> list[PageTable]:
    rows = [(one.word, ", ".join(one.nearest)) for one in data.words]
    table = TextTable(("term", "nearest"), rows, text_columns=(0, 1))
    return [PageTable(table, NEAREST_WORDS_CAPTION)] if rows else []


def _all_numbers(summary: StudySummary, facts: Mapping[str, Any]) -> list[PageTable]:
    training = msgspec.to_builtins(summary.study.training)
    seconds = {stage: f"{value:.2f}" for stage, value in facts["seconds"].items()}
    points = points_table(summary)
    shown = "network with its input", "networks with their inputs"
    return [
        PageTable(points, summary=counted(len(points.rows), *shown)),
        _pairs(("key", "value"), training, f"Recipe {summary.study.study.recipe}", text=(0, 1)),
        _pairs(("stage", "seconds"), seconds, "Seconds of reading and embedding", text=(0,)),
        _pairs(("", ""), facts["environment"], "Software and machine", text=(0, 1)),
    ]


def _pairs(
    headings: tuple[str, str], values: Mapping[str, object], summary: str, text: tuple[int, ...]
) -> PageTable:
    rows = [(key, _plain(value)) for key, value in values.items()]
    return PageTable(TextTable(headings, rows, text_columns=text), summary=summary)


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one}" for key, one in value.items() if one)
    return str(value)
