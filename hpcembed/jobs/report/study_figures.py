"""Figures of a study: accuracy against the number of dimensions.

The form of the published figure: one curve for each network, its baseline on all features as a
dashed line of the same colour, published accuracies as open circles. Rivals of the spectral
embedding have a figure with one panel for each network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpcembed.jobs.report.figures import CURVES, GREY, MARKED, SETTINGS, STYLES, save_figure

__all__ = ["AccuracyCurve", "draw_accuracy", "draw_rivals"]


@dataclass(frozen=True, slots=True)
class AccuracyCurve:
    """Test accuracy of one network on one input; shares between 0 and 1.

    Attributes
    ----------
    network, embedding : str
    dimensions : sequence of int
    mean, deviation : sequence of float
        Over the seeds; a deviation that is NaN draws no band.
    baseline : float or None
        Of the same network on all features.
    published : sequence of (int, float)
        Dimensions and accuracies that others reported.
    published_baseline : float or None
    """

    network: str
    embedding: str
    dimensions: Sequence[int]
    mean: Sequence[float]
    deviation: Sequence[float]
    baseline: float | None = None
    published: Sequence[tuple[int, float]] = ()
    published_baseline: float | None = None


def draw_accuracy(path: Path, curves: Sequence[AccuracyCurve], title: str) -> None:
    """Draw accuracy against dimension, one curve for each network. Not collective."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(8.6, 5.2), layout="constrained")
        axes = figure.subplots()
        for position, curve in enumerate(curves):
            colour = CURVES[position % len(CURVES)]
            _draw_curve(axes, curve, colour, "-", curve.network)
            if curve.baseline is not None:
                axes.axhline(100.0 * curve.baseline, color=colour, linestyle="--", linewidth=1.0)
            if curve.published:
                k, accuracy = zip(*curve.published, strict=True)
                axes.plot(
                    k, 100.0 * np.asarray(accuracy), linestyle="", marker="o", markersize=4,
                    markerfacecolor="none", markeredgewidth=0.8, color=colour,
                )  # fmt: skip
            if curve.published_baseline is not None:
                axes.axhline(
                    100.0 * curve.published_baseline, color=colour, linestyle=":", linewidth=1.0
                )
        _explain(axes, curves)
        axes.set_title(title)
        _label(axes)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        save_figure(figure, path)


def draw_rivals(path: Path, curves: Sequence[AccuracyCurve], title: str) -> None:
    """Draw the embeddings against each other, one panel for each network. Not collective."""
    networks = list(dict.fromkeys(curve.network for curve in curves))
    embeddings = list(dict.fromkeys(curve.embedding for curve in curves))
    columns = min(2, len(networks))
    rows = -(-len(networks) // columns)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(4.6 * columns + 1.0, 3.4 * rows + 0.8), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for axes, network in zip(panels, networks, strict=False):
            for curve in curves:
                if curve.network != network:
                    continue
                position = embeddings.index(curve.embedding)
                style = STYLES[position % len(STYLES)]
                _draw_curve(axes, curve, CURVES[position], style, curve.embedding)
                if curve.baseline is not None and position == 0:
                    axes.axhline(100.0 * curve.baseline, color=GREY, linestyle="--", linewidth=1.0)
            if any(curve.baseline is not None for curve in curves):
                axes.plot([], [], color=GREY, linestyle="--", linewidth=1.0, label="all features")
            axes.set_title(network)
            _label(axes)
        for axes in panels[len(networks) :]:
            axes.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(handles)))
        figure.suptitle(title)
        save_figure(figure, path)


def _draw_curve(axes: Any, curve: AccuracyCurve, colour: str, style: str, label: str) -> None:
    k = np.asarray(curve.dimensions)
    mean = 100.0 * np.asarray(curve.mean)
    spread = 100.0 * np.asarray(curve.deviation, dtype=np.float64)
    marker = {"marker": "s", "markersize": 3} if k.size <= MARKED // 2 else {}
    axes.plot(k, mean, color=colour, linestyle=style, linewidth=1.4, label=label, **marker)
    if np.isfinite(spread).all():
        axes.fill_between(k, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)


def _explain(axes: Any, curves: Sequence[AccuracyCurve]) -> None:
    """Entries of the legend for what is drawn in every colour."""
    if any(curve.baseline is not None for curve in curves):
        axes.plot([], [], color=GREY, linestyle="--", linewidth=1.0, label="all features")
    if any(curve.published for curve in curves):
        axes.plot(
            [], [], color=GREY, linestyle="", marker="o", markersize=4, markerfacecolor="none",
            label="published",
        )  # fmt: skip
    if any(curve.published_baseline is not None for curve in curves):
        label = "published,\nall features"
        axes.plot([], [], color=GREY, linestyle=":", linewidth=1.0, label=label)


def _label(axes: Any) -> None:
    axes.set_xlabel("dimensions")
    axes.set_ylabel("test accuracy (%)")
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
