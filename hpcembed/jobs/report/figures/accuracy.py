"""Figures of a study's accuracies: over the dimensions, and by embedding.

The form is the same as in the published figure: one curve for each network, its baseline on all
features as a dashed line of the same colour, published accuracies as open circles. A second figure
compares embeddings, with one panel for each network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpcembed.jobs.report.figures import style
from hpcembed.jobs.report.scores import ACCURACY, Score
from hpcembed.jobs.report.tables import columns_of

__all__ = ["AccuracyCurve", "accuracy_columns", "draw_accuracy", "draw_embeddings"]


@dataclass(frozen=True, slots=True)
class AccuracyCurve:
    """Test accuracy, or R2 of a regression, of one network on one embedding; at most 1.

    Attributes
    ----------
    network, embedding : str
    dimensions : sequence of int
    mean, deviation : sequence of float
        Over the seeds; there is no band where a deviation is NaN.
    baseline : float or None
        Accuracy of the same network on all features.
    published : sequence of (int, float)
        Dimensions and published accuracies.
    published_baseline : float or None
    chosen : int or None
        Dimension of the chosen model, if it is one of this curve.
    is_kept : bool
        Whether the chosen model keeps the accuracy; else it is called the nearest one.
    """

    network: str
    embedding: str
    dimensions: Sequence[int]
    mean: Sequence[float]
    deviation: Sequence[float]
    baseline: float | None = None
    published: Sequence[tuple[int, float]] = ()
    published_baseline: float | None = None
    chosen: int | None = None
    is_kept: bool = True


@style.with_grid
def draw_accuracy(curves: Sequence[AccuracyCurve], title: str, score: Score = ACCURACY) -> Figure:
    """Draw accuracy, or another score, over dimension, one curve for each network."""
    figure = style.new_figure(8.6, 5.2)
    axes = figure.subplots()
    for position, curve in enumerate(curves):
        colour = style.CURVES[position % len(style.CURVES)]
        _draw_curve(axes, curve, colour, "-", curve.network, score)
        if curve.baseline is not None:
            _draw_level(axes, curve.baseline, colour, "--", score)
        if curve.published:
            k, accuracy = zip(*curve.published, strict=True)
            axes.plot(
                k, score.factor * np.asarray(accuracy), linestyle="", marker="o", markersize=4,
                markerfacecolor="none", markeredgewidth=0.8, color=colour,
            )  # fmt: skip
        if curve.published_baseline is not None:
            _draw_level(axes, curve.published_baseline, colour, ":", score)
    if any(curve.baseline is not None for curve in curves):
        style.legend_entry(axes, "all features", linestyle="--")
    if any(curve.published for curve in curves):
        circle = {"marker": "o", "markersize": 4, "markerfacecolor": "none"}
        style.legend_entry(axes, "published", linestyle="", **circle)
    if any(curve.published_baseline is not None for curve in curves):
        style.legend_entry(axes, "published,\nall features", linestyle=":")
    for curve in curves:
        _mark_chosen(axes, curve, score)
    _label(axes, title, score)
    style.legend_beside(axes)
    return figure


@style.with_grid
def draw_embeddings(curves: Sequence[AccuracyCurve], title: str, score: Score = ACCURACY) -> Figure:
    """Compare embeddings: accuracy over dimension, with one panel for each network."""
    networks = list(dict.fromkeys(curve.network for curve in curves))
    embeddings = list(dict.fromkeys(curve.embedding for curve in curves))
    columns = min(2, len(networks))
    rows = -(-len(networks) // columns)
    figure = style.new_figure(4.6 * columns + 1.0, 3.4 * rows + 0.8)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, network in zip(panels, networks, strict=False):
        for curve in curves:
            if curve.network != network:
                continue
            position = embeddings.index(curve.embedding)
            line = style.LINES[position % len(style.LINES)]
            _draw_curve(axes, curve, style.CURVES[position], line, curve.embedding, score)
            if curve.baseline is not None and position == 0:
                _draw_level(axes, curve.baseline, style.GREY, "--", score)
        if any(curve.baseline is not None for curve in curves):
            style.legend_entry(axes, "all features", linestyle="--")
        _label(axes, network, score)
    for axes in panels[len(networks) :]:
        axes.set_visible(False)
    style.legend_below(figure, panels[0], columns=5)
    figure.suptitle(title)
    return figure


def _draw_curve(
    axes: Any, curve: AccuracyCurve, colour: str, line: str, label: str, score: Score
) -> None:
    k = np.asarray(curve.dimensions)
    mean = score.factor * np.asarray(curve.mean)
    spread = score.factor * np.asarray(curve.deviation, dtype=np.float64)
    marker = {"marker": "s", "markersize": 3} if k.size <= style.MOST_MARKERS // 2 else {}
    axes.plot(k, mean, color=colour, linestyle=line, linewidth=1.4, label=label, **marker)
    if np.isfinite(spread).all():
        # no accuracy and no R2 is above 1
        high = np.minimum(mean + spread, score.factor)
        axes.fill_between(k, mean - spread, high, color=colour, alpha=0.15, linewidth=0)


def _draw_level(axes: Any, accuracy: float, colour: str, line: str, score: Score) -> None:
    axes.axhline(score.factor * accuracy, color=colour, linestyle=line, linewidth=1.0)


def _mark_chosen(axes: Any, curve: AccuracyCurve, score: Score) -> None:
    """Draw a ring around the chosen point, and a line to its dimension."""
    if curve.chosen is None:
        return
    height = score.factor * curve.mean[list(curve.dimensions).index(curve.chosen)]
    axes.axvline(curve.chosen, color=style.RING["markeredgecolor"], linestyle=":", linewidth=1.4)
    title = "chosen" if curve.is_kept else "nearest"
    axes.plot(
        [curve.chosen], [height], label=f"{title}:\n{curve.network},\nk = {curve.chosen}",
        **style.RING,
    )  # fmt: skip


def _label(axes: Any, title: str, score: Score) -> None:
    axes.set(title=title, xlabel="number of components", ylabel=score.axis("test"))
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
    style.limit_scores(axes, score.factor)


def accuracy_columns(curves: Sequence[AccuracyCurve]) -> dict[str, list[Any]]:
    """Collect the numbers of both figures as columns."""
    names = (
        "network", "embedding", "dimensions", "test_mean", "test_deviation", "all_features",
        "published", "published_all_features", "chosen",
    )  # fmt: skip
    rows = [
        (
            curve.network, curve.embedding, k, mean, deviation, curve.baseline,
            dict(curve.published).get(k), curve.published_baseline, k == curve.chosen,
        )
        for curve in curves
        for k, mean, deviation in zip(curve.dimensions, curve.mean, curve.deviation, strict=True)
    ]  # fmt: skip
    return columns_of(names, rows)
