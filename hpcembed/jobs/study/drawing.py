"""Figures of a study: each as PNG and SVG, with its numbers as CSV beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.embedding import Spectrum
from hpcembed.jobs.report import (
    Mark,
    Neighbours,
    RunFolder,
    TimeCurve,
    draw_components,
    draw_confusion,
    draw_pareto,
    draw_scatter,
    draw_spectrum,
    draw_times,
    pareto_front,
)
from hpcembed.jobs.report.page import Figure
from hpcembed.jobs.study.tables import Summary, network_name, with_projection

__all__ = [
    "Drawing",
    "Pictures",
    "confusion_figure",
    "eigenvector_figure",
    "pareto_figure",
    "scatter_figure",
    "spectrum_figure",
    "times_figure",
]

FORMS = ("png", "svg")


@dataclass(frozen=True, slots=True)
class Pictures:
    """What is drawn of the data and its components, on rank 0.

    Attributes
    ----------
    spectrum : Spectrum
    components : ndarray of shape (k, n_features)
        Of a projection; empty otherwise.
    image_shape : tuple of int
        Where rows are images: (height, width) or (channels, height, width); else empty.
    scatter : ndarray of shape (n, m)
        Leading components of some test rows, m up to 3.
    scatter_classes : list of str
        Classes of those rows.
    words : list of Neighbours
        Of a text: some words and those nearest to them.
    """

    spectrum: Spectrum
    components: NDArray[np.float64]
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...] = ()
    scatter: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    scatter_classes: list[str] = field(default_factory=list)
    words: list[Neighbours] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Writes figures into a folder, in every form, and keeps the SVG for the page."""

    folder: RunFolder

    def add(
        self, name: str, draw: Callable[[Path], None], data: Mapping[str, Any], caption: str
    ) -> Figure:
        """Draw a figure and write its numbers. Not collective."""
        svg = b""
        for form in FORMS:
            with self.folder.new_file(f"figures/{name}.{form}") as path:
                draw(path)
                svg = path.read_bytes()
        self.folder.write_csv(f"figures/{name}.csv", data)
        return Figure(svg, caption, f"figures/{name}.csv")


def pareto_figure(drawing: Drawing, summary: Summary, name: str) -> list[Figure]:
    """Draw accuracy against the size of a model. Not collective."""
    marks = [
        Mark(
            network_name(point.hidden), point.n_inputs, point.input != "full",
            with_projection(point, summary) or point.parameters, point.test_mean,
        )
        for point in summary.points
        if point.input in ("full", "spectral")
    ]  # fmt: skip
    if not marks:
        return []
    counted = "its projection counted" if summary.is_linear else "the embedding not counted"
    front = pareto_front(marks)
    keys = ("network", "n_inputs", "compressed", "parameters", "accuracy")
    data = {key: [getattr(mark, key) for mark in marks] for key in keys}
    data["on_front"] = [mark in front for mark in marks]
    return [
        drawing.add(
            "pareto", lambda path: draw_pareto(path, marks, name, counted), data,
            f"Test accuracy against all numbers of a model, {counted}. Squares are "
            "networks on all features; the line joins the models that no smaller one beats.",
        )
    ]  # fmt: skip


def times_figure(drawing: Drawing, summary: Summary, name: str) -> list[Figure]:
    """Draw training seconds against dimension. Not collective."""
    curves = []
    for hidden in dict.fromkeys(point.hidden for point in summary.points):
        mine = [p for p in summary.points if p.hidden == hidden]
        group = [p for p in mine if p.input == "spectral"]
        base = next((p.train_seconds for p in mine if p.input == "full"), None)
        if group:
            k, seconds = [p.n_inputs for p in group], [p.train_seconds for p in group]
            curves.append(TimeCurve(network_name(hidden), k, seconds, base))
    if not curves:
        return []
    rows = [
        (curve.network, k, seconds, curve.all_features)
        for curve in curves
        for k, seconds in zip(curve.dimensions, curve.seconds, strict=True)
    ]
    keys = ("network", "dimensions", "seconds", "all_features_seconds")
    return [
        drawing.add(
            "training_time", lambda path: draw_times(path, curves, name),
            {key: [row[i] for row in rows] for i, key in enumerate(keys)},
            "Seconds of one training, the median over the seeds. Networks are trained many at a "
            "time: the seconds of one are its share of those that were trained together.",
        )
    ]  # fmt: skip


def spectrum_figure(drawing: Drawing, pictures: Pictures, embedding: Mapping[str, Any]) -> Figure:
    """Draw the spectrum. Not collective."""
    spectrum = pictures.spectrum
    worst = max(np.asarray(embedding["residual_norms"], dtype=np.float64), default=math.nan)
    data: dict[str, Any] = {
        "component": range(1, len(spectrum.values) + 1),
        "eigenvalue": spectrum.values,
    }
    if spectrum.share is not None:
        data |= {"share": spectrum.share, "cumulative_share": np.cumsum(spectrum.share)}
    return drawing.add(
        "spectrum",
        lambda path: draw_spectrum(
            path,
            spectrum.values,
            spectrum.share,
            meaning=spectrum.meaning,
            share_of=spectrum.share_of,
        ),
        data,
        f"Eigenvalues of the {embedding['operator']}, by {embedding['solver']}; the largest true "
        f"residual of an eigenpair is {worst:.1e} of the largest eigenvalue.",
    )


def confusion_figure(
    drawing: Drawing,
    summary: Summary,
    confusion: Sequence[Sequence[int]],
    pictures: Pictures,
) -> list[Figure]:
    """Draw the confusion matrix of the chosen model. Not collective."""
    one = summary.compression
    if one is None or not len(confusion):
        return []
    counts, names = np.asarray(confusion), pictures.class_names
    title = f"{network_name(one.point.hidden)}, k = {one.point.n_inputs}"
    i, j = np.indices(counts.shape).reshape(2, -1)
    data = {
        "class": [names[row] for row in i],
        "said": [names[column] for column in j],
        "test_rows": counts.ravel(),
    }
    return [
        drawing.add(
            "confusion", lambda path: draw_confusion(path, counts, names, title), data,
            f"Test rows of each class by what the networks said, over all {len(one.point.seeds)} "
            "seeds, in percent of the class.",
        )
    ]  # fmt: skip


def scatter_figure(drawing: Drawing, pictures: Pictures, name: str) -> list[Figure]:
    """Draw the leading components of test rows. Not collective."""
    rows, classes = pictures.scatter, pictures.scatter_classes
    if not rows.size:
        return []
    data: dict[str, Any] = {f"component{i + 1}": rows[:, i] for i in range(rows.shape[1])}
    return [
        drawing.add(
            "scatter", lambda path: draw_scatter(path, rows, classes, name),
            data | {"class": classes},
            f"The first components of {len(rows):,} test rows, coloured by their class.",
        )
    ]  # fmt: skip


def eigenvector_figure(drawing: Drawing, pictures: Pictures, name: str) -> list[Figure]:
    """Draw eigenvectors as images. Not collective."""
    shape, components = pictures.image_shape, pictures.components[:20]
    if not shape or not len(components):
        return []
    data = {f"component{i + 1}": row for i, row in enumerate(components)}
    return [
        drawing.add(
            "eigenvectors", lambda path: draw_components(path, components, shape, name), data,
            f"The {len(components)} leading eigenvectors as images, each on a scale of its own.",
        )
    ]  # fmt: skip
