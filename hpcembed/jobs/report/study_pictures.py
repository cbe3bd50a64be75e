"""Figures of a study beside its curves: parameters, seconds, confusion, components.

All are drawn for a white sheet and read as well when a page inverts them for a dark screen: no
colour alone carries a meaning that a label, a marker or a number does not carry too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from hpcembed.jobs.report.figures import CURVES, GREY, SETTINGS, save_figure

__all__ = [
    "LISTED_CLASSES",
    "Mark",
    "TimeCurve",
    "draw_components",
    "draw_confusion",
    "draw_pareto",
    "draw_scatter",
    "draw_times",
    "pareto_front",
]

#: Classes that a legend and the cells of a confusion matrix have room for.
LISTED_CLASSES = 20
#: Components drawn as images, at most.
MOST_IMAGES = 20
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
#: Further colours where there are more classes than :data:`CURVES` has.
_MORE = ("#882255", "#999933", "#44AA99", "#AA4499", "#332288", "#DDCC77")


@dataclass(frozen=True, slots=True)
class Mark:
    """One model: how many numbers it has, and its test accuracy, a share."""

    network: str
    n_inputs: int
    compressed: bool
    parameters: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class TimeCurve:
    """Seconds that one training of a network takes, by its number of inputs."""

    network: str
    dimensions: Sequence[int]
    seconds: Sequence[float]
    all_features: float | None


def pareto_front(marks: Sequence[Mark]) -> list[Mark]:
    """Models that no other one beats in both, the fewest numbers first. Not collective."""
    front: list[Mark] = []
    for mark in sorted(marks, key=lambda one: (one.parameters, -one.accuracy)):
        if not front or mark.accuracy > front[-1].accuracy:
            front.append(mark)
    return front


def draw_pareto(
    path: Path, marks: Sequence[Mark], title: str, counted: str = "the projection counted"
) -> None:
    """Draw accuracy against the numbers of a model, and the front of the best ones.

    Not collective. Circles are compressed models, squares those on all features.
    """
    networks = list(dict.fromkeys(mark.network for mark in marks))
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(8.6, 4.8), layout="constrained")
        axes = figure.subplots()
        for position, network in enumerate(networks):
            colour = CURVES[position % len(CURVES)]
            for compressed, marker in ((True, "o"), (False, "s")):
                chosen = [m for m in marks if (m.network, m.compressed) == (network, compressed)]
                axes.plot(
                    [mark.parameters for mark in chosen],
                    [100.0 * mark.accuracy for mark in chosen],
                    linestyle="", marker=marker, markersize=5 if compressed else 8, color=colour,
                    markerfacecolor=colour if compressed else "none",
                    label=network if compressed else None,
                )  # fmt: skip
        front = pareto_front(marks)
        axes.plot(
            [mark.parameters for mark in front], [100.0 * mark.accuracy for mark in front],
            color=GREY, linewidth=1.0, zorder=0.9, label="best for its size",
        )  # fmt: skip
        for mark in _labelled(front):
            axes.annotate(
                f"k = {mark.n_inputs}" if mark.compressed else "all", xytext=(-4, 6),
                xy=(mark.parameters, 100.0 * mark.accuracy), textcoords="offset points",
                ha="right", fontsize=8, color=GREY,
            )  # fmt: skip
        if any(not mark.compressed for mark in marks):
            axes.plot(
                [], [], linestyle="", marker="s", markersize=8, markerfacecolor="none", color=GREY,
                label="all features",
            )  # fmt: skip
        axes.set_xscale("log")
        _readable(axes.xaxis, [mark.parameters for mark in marks])
        axes.set_xlabel(f"parameters, {counted}")
        axes.set_ylabel("test accuracy (%)")
        axes.set_title(title)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        save_figure(figure, path)


def _readable(axis: Any, values: Sequence[float]) -> None:
    """Ticks of a logarithmic axis as plain numbers, closer where it spans little."""
    positive = [value for value in values if value > 0]
    span = max(positive, default=1.0) / min(positive, default=1.0)
    steps = (1.0,) if span > 1e3 else (1.0, 3.0) if span > 100.0 else (1.0, 2.0, 5.0)
    if span < 4.0:
        steps = tuple(np.arange(1.0, 10.0, 0.5))
    axis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1000.0 else f"{value:g}")
    )
    axis.set_minor_formatter(NullFormatter())


def _labelled(front: Sequence[Mark]) -> list[Mark]:
    """Some of a front, so far apart that their labels do not touch."""
    chosen: list[Mark] = []
    for mark in reversed(front):
        if not chosen or mark.parameters < 0.72 * chosen[-1].parameters:
            chosen.append(mark)
    return chosen


def draw_times(path: Path, curves: Sequence[TimeCurve], title: str) -> None:
    """Draw the seconds of one training against the number of inputs. Not collective."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(8.6, 4.2), layout="constrained")
        axes = figure.subplots()
        for position, curve in enumerate(curves):
            colour = CURVES[position % len(CURVES)]
            axes.plot(
                curve.dimensions, curve.seconds, color=colour, marker="o", markersize=3,
                linewidth=1.4, label=curve.network,
            )  # fmt: skip
            if curve.all_features is not None:
                axes.axhline(curve.all_features, color=colour, linestyle="--", linewidth=1.0)
        if any(curve.all_features is not None for curve in curves):
            axes.plot([], [], color=GREY, linestyle="--", linewidth=1.0, label="all features")
        given = [curve.all_features for curve in curves if curve.all_features]
        given += [second for curve in curves for second in curve.seconds]
        if any(second > 0 for second in given):
            axes.set_yscale("log")
            _readable(axes.yaxis, given)
        axes.set_xlabel("dimensions")
        axes.set_ylabel("seconds of one training")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        axes.set_title(title)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        save_figure(figure, path)


def draw_confusion(
    path: Path, counts: NDArray[np.int64], class_names: Sequence[str], title: str
) -> None:
    """Draw a confusion matrix, each row in percent of its class.

    Not collective.

    Parameters
    ----------
    counts : ndarray of shape (n_classes, n_classes)
        Rows of each class (first index) by what a network said.
    """
    n = len(class_names)
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    share = 100.0 * counts / total
    side = 2.6 + 0.42 * min(n, LISTED_CLASSES)
    with matplotlib.rc_context({**SETTINGS, "axes.grid": False}):
        figure = Figure(figsize=(side + 1.2, side), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=100.0)
        figure.colorbar(image, ax=axes, label="% of the class", shrink=0.8)
        if n <= LISTED_CLASSES:
            names = [_short(name) for name in class_names]
            long = max(map(len, names), default=0) > 2
            axes.set_xticks(
                range(n), names, rotation=45 if long else 0, ha="right" if long else "center"
            )
            axes.set_yticks(range(n), names)
            size = 8 if n <= 12 else 6
            for i, j in zip(*np.nonzero(counts), strict=True):
                colour = "white" if share[i, j] > 55.0 else "black"
                text = f"{share[i, j]:.1f}" if share[i, j] < 99.95 else "100"
                axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
        axes.set_xlabel("said")
        axes.set_ylabel("class")
        axes.set_title(title)
        save_figure(figure, path)


def _short(name: str, longest: int = 18) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def draw_scatter(path: Path, rows: NDArray[np.float64], classes: Sequence[str], title: str) -> None:
    """Draw the leading components of some rows against each other, coloured by class.

    Not collective.

    Parameters
    ----------
    rows : ndarray of shape (n, m)
        With m from 1 to 3; one component is drawn along the number of the row.
    classes : sequence of str
        Class of each row.
    """
    m = rows.shape[1]
    pairs = [(i, j) for i in range(m) for j in range(i + 1, m)] or [(-1, 0)]
    names = sorted(set(classes), key=_numbers_first)
    colours = CURVES + _MORE
    labels = np.asarray(classes)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(1.2 + 3.6 * len(pairs), 4.6), layout="constrained")
        panels = figure.subplots(1, len(pairs), squeeze=False).ravel()
        for axes, (i, j) in zip(panels, pairs, strict=True):
            for position, name in enumerate(names):
                chosen = np.flatnonzero(labels == name)
                across = chosen if i < 0 else rows[chosen, i]
                axes.plot(
                    across, rows[chosen, j], linestyle="", markersize=3, markeredgewidth=0,
                    marker=_MARKERS[(position // 3) % len(_MARKERS)], alpha=0.65,
                    color=colours[position % len(colours)], label=_short(name), rasterized=True,
                )  # fmt: skip
            axes.set_xlabel("row" if i < 0 else f"component {i + 1}")
            axes.set_ylabel(f"component {j + 1}")
        if len(names) <= LISTED_CLASSES:
            handles, texts = panels[0].get_legend_handles_labels()
            figure.legend(
                handles, texts, loc="outside lower center", ncols=min(10, len(names)),
                markerscale=2.0,
            )  # fmt: skip
        figure.suptitle(title)
        save_figure(figure, path)


def _numbers_first(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def draw_components(
    path: Path, components: NDArray[np.float64], shape: tuple[int, ...], title: str
) -> None:
    """Draw eigenvectors as images.

    Not collective. One channel: red is positive, blue negative, white zero; three channels: mid
    grey is zero. Each image has a scale of its own.

    Parameters
    ----------
    components : ndarray of shape (k, d)
    shape : tuple of int
        Of an image: (height, width) or (3, height, width).
    """
    count = min(len(components), MOST_IMAGES)
    columns = min(10, max(1, count))
    lines = -(-count // columns)
    with matplotlib.rc_context({**SETTINGS, "axes.grid": False}):
        figure = Figure(figsize=(1.05 * columns + 0.4, 1.25 * lines + 0.5), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for i, axes in enumerate(panels):
            axes.set_axis_off()
            if i >= count:
                continue
            values = components[i].reshape(shape)
            largest = float(np.abs(values).max()) or 1.0
            if len(shape) == 3:
                axes.imshow(0.5 + 0.5 * np.moveaxis(values, 0, -1) / largest)
            else:
                axes.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest)
            axes.set_title(str(i + 1), fontsize=8, pad=2)
        figure.suptitle(title)
        save_figure(figure, path)
