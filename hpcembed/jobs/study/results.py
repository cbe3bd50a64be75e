"""What a study leaves: tables as CSV, Markdown and JSON, figures with their data, a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from hpcembed.jobs.configuration import NETWORK_SIZES
from hpcembed.jobs.report import AccuracyCurve, RunFolder, draw_accuracy, draw_rivals
from hpcembed.jobs.report.page import Figure
from hpcembed.jobs.study.drawing import Drawing, Pictures
from hpcembed.jobs.study.page import write_page
from hpcembed.jobs.study.published import Published
from hpcembed.jobs.study.resolution import too_few_rows
from hpcembed.jobs.study.settings import StudyConfig
from hpcembed.jobs.study.statistics import (
    Point,
    best_compression,
    smallest_without_loss,
    summarise,
)
from hpcembed.jobs.study.tables import Summary, network_name, row_of, study_markdown, summary_text
from hpcembed.jobs.study.trials import Result

__all__ = ["summarise_study", "write_study"]


def summarise_study(
    study: StudyConfig,
    results: Sequence[Result],
    n_features: int,
    embedding_seconds: float = math.nan,
    *,
    is_linear: bool = True,
    n_rows: tuple[int, int] | None = None,
) -> Summary:
    """Work out everything that is claimed. Not collective.

    Parameters
    ----------
    n_rows : tuple of int, optional
        Training and test rows.
    """
    margin, confidence = study.study.margin / 100.0, study.study.confidence
    found = summarise(results, confidence)
    share = study.training.validation_fraction
    return Summary(
        few_rows="" if n_rows is None else too_few_rows(*n_rows, share, margin),
        n_features=n_features,
        is_linear=is_linear,
        margin=margin,
        confidence=confidence,
        points=found,
        smallest=smallest_without_loss(found, margin),
        compression=best_compression(results, found, n_features, margin, confidence),
        embedding_seconds=embedding_seconds,
    )


def write_study(
    folder: RunFolder,
    study: StudyConfig,
    summary: Summary,
    results: Sequence[Result],
    published: Mapping[tuple[int, ...], Published],
    facts: Mapping[str, Any],
    pictures: Pictures,
) -> str:
    """Write tables, data, figures and the report; rank 0 only.

    Not collective.

    Parameters
    ----------
    facts : mapping
        What else belongs into study.json: data set, embedding, seconds, environment.

    Returns
    -------
    str
        What the terminal shows.
    """
    _write_cells(folder, results)
    _write_points(folder, summary, published)
    text = summary_text(study, summary)
    folder.write_text("study.md", study_markdown(study, summary, published))
    folder.write_json("study.json", _json(study, summary, published, facts, results))
    if study.output.figures:
        curves = _curves(summary, published)
        drawn = _draw(folder, study, curves) if curves else {}
        one = summary.compression
        confusion = _confusion(one.point, results) if one else []
        write_page(folder, study, summary, published, drawn, confusion, pictures, facts)
    return text


def _write_cells(folder: RunFolder, results: Sequence[Result]) -> None:
    ordered = sorted(results, key=lambda one: one.cell)
    columns: dict[str, list[Any]] = {
        "input": [one.cell.input for one in ordered],
        "hidden": [network_name(one.cell.hidden) for one in ordered],
        "n_inputs": [one.cell.n_inputs for one in ordered],
        "seed": [one.cell.seed for one in ordered],
    }
    for name in (
        "parameters",
        "train_seconds",
        "train_loss",
        "validation_accuracy",
        "test_accuracy",
        "best_epoch",
        "digest",
    ):
        columns[name] = [getattr(one, name) for one in ordered]
    folder.write_csv("cells.csv", columns)


def _write_points(
    folder: RunFolder, summary: Summary, published: Mapping[tuple[int, ...], Published]
) -> None:
    rows = [row_of(point, summary, published) for point in summary.points]
    if rows:
        folder.write_csv("accuracy.csv", {key: [row[key] for row in rows] for key in rows[0]})
    for hidden in dict.fromkeys(point.hidden for point in summary.points):
        chosen = [
            row for row, point in zip(rows, summary.points, strict=True) if point.hidden == hidden
        ]
        columns = {key: [row[key] for row in chosen] for key in chosen[0]}
        folder.write_csv(f"accuracy/{network_name(hidden)}.csv", columns)


def _json(
    study: StudyConfig,
    summary: Summary,
    published: Mapping[tuple[int, ...], Published],
    facts: Mapping[str, Any],
    results: Sequence[Result],
) -> dict[str, Any]:
    compression = summary.compression
    return {
        "study": msgspec.structs.asdict(study.study)
        | {"dimensions": study.dimensions, "seeds": study.seeds},
        "training": msgspec.structs.asdict(study.training),
        **facts,
        "points": [row_of(point, summary, published) for point in summary.points],
        "smallest": [
            {
                "input": one.input,
                "hidden": network_name(one.hidden),
                "n_inputs": one.point.n_inputs,
                "holds": one.holds,
                "confirmed": one.confirmed,
            }
            for one in summary.smallest
        ],
        "compression": None
        if compression is None
        else {
            "model": row_of(compression.point, summary, published),
            "baseline": row_of(compression.baseline, summary, published),
            "validation_difference": compression.validation_difference,
            "test_difference": compression.test_difference,
            "holds": compression.holds,
            "confusion": _confusion(compression.point, results),
        },
    }


def _confusion(point: Point, results: Sequence[Result]) -> list[list[int]]:
    """Test rows of each class by what the networks said, summed over the seeds."""
    chosen = [
        np.array(one.confusion)
        for one in results
        if (one.cell.input, one.cell.hidden, one.cell.n_inputs)
        == (point.input, point.hidden, point.n_inputs)
        and one.confusion
    ]
    return np.sum(chosen, axis=0).tolist() if chosen else []


def _curves(
    summary: Summary, published: Mapping[tuple[int, ...], Published]
) -> list[AccuracyCurve]:
    names = {widths: name for name, widths in NETWORK_SIZES.items()}
    curves = []
    for hidden in dict.fromkeys(point.hidden for point in summary.points):
        mine = [point for point in summary.points if point.hidden == hidden]
        base = next((point.test_mean for point in mine if point.input == "full"), None)
        other = published.get(hidden)
        title = network_name(hidden) + (f" ({names[hidden]})" if hidden in names else "")
        for kind in dict.fromkeys(point.input for point in mine if point.input != "full"):
            group = [point for point in mine if point.input == kind]
            largest = group[-1].n_inputs
            theirs = other.accuracy[:largest] if other and kind == "spectral" else ()
            curves.append(
                AccuracyCurve(
                    network=title,
                    embedding=kind,
                    dimensions=[point.n_inputs for point in group],
                    mean=[point.test_mean for point in group],
                    deviation=[point.test_deviation for point in group],
                    baseline=base,
                    published=list(enumerate(theirs, 1)),
                    published_baseline=other.baseline if theirs and other else None,
                )
            )
    return curves


def _draw(
    folder: RunFolder, study: StudyConfig, curves: Sequence[AccuracyCurve]
) -> dict[str, Figure]:
    """Draw accuracy against dimension, and the rivals of the first embedding."""
    title = f"{study.data.name}, recipe {study.study.recipe}, {len(study.seeds)} seeds"
    main = [curve for curve in curves if curve.embedding == curves[0].embedding]
    drawing = Drawing(folder)
    drawn = {
        "accuracy": drawing.add(
            "accuracy",
            lambda path: draw_accuracy(path, main, title),
            _figure_columns(main),
            "Test accuracy against the number of inputs: mean over the seeds, with a band of one "
            "standard deviation; dashed: the same network on all features.",
        )
    }
    if len(main) < len(curves):
        drawn["rivals"] = drawing.add(
            "rivals",
            lambda path: draw_rivals(path, curves, title),
            _figure_columns(curves),
            "The same networks on other inputs of as many columns.",
        )
    return drawn


def _figure_columns(curves: Sequence[AccuracyCurve]) -> dict[str, list[Any]]:
    rows = []
    for curve in curves:
        theirs = dict(curve.published)
        for k, mean, deviation in zip(curve.dimensions, curve.mean, curve.deviation, strict=True):
            rows.append(
                (
                    curve.network, curve.embedding, k, mean, deviation, curve.baseline,
                    theirs.get(k), curve.published_baseline,
                )
            )  # fmt: skip
    names = (
        "network", "embedding", "dimensions", "test_mean", "test_deviation", "all_features",
        "published", "published_all_features",
    )  # fmt: skip
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}
