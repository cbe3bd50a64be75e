"""Figures of a graph's embedding: where eigenvalues part, and the nodes in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hpcembed.jobs.report.figures import BLUE, CURVES, GREY, SETTINGS, _integer_axis, save_figure

__all__ = ["draw_gaps", "draw_graph"]

#: Classes that have a colour of their own; the others share grey.
_COLOURS = CURVES[:-1]

#: Largest gaps that are named in the figure.
_NAMED = 3


class Drawing(Protocol):
    """Nodes and edges of a figure; see :class:`hpcembed.embedding.graph_drawing.GraphDrawing`."""

    @property
    def axes(self) -> tuple[int, int]: ...
    @property
    def positions(self) -> NDArray[np.float64]: ...
    @property
    def classes(self) -> NDArray[np.int64]: ...
    @property
    def edges(self) -> NDArray[np.float64]: ...
    @property
    def n_nodes(self) -> int: ...
    @property
    def n_edges(self) -> int: ...


def draw_gaps(path: Path, eigenvalues: NDArray[np.float64]) -> None:
    """Draw the distance from each eigenvalue to the next; large gaps tell the number of parts.

    Not collective.

    Parameters
    ----------
    eigenvalues : ndarray of shape (k,)
        In the order of the coordinates.
    """
    gaps = np.abs(np.diff(np.asarray(eigenvalues, dtype=np.float64)))
    number = np.arange(1, gaps.size + 1)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.vlines(number, 0.0, gaps, color=BLUE, linewidth=1.4)
        axes.plot(number, gaps, "o", color=BLUE, markersize=3.5)
        for place in np.argsort(-gaps, kind="stable")[:_NAMED]:
            axes.annotate(
                f"{number[place]}",
                (number[place], gaps[place]),
                xytext=(4, 2),
                textcoords="offset points",
            )
        axes.set_ylim(0.0, 1.12 * max(float(gaps.max(initial=0.0)), 1e-300))
        axes.set_xlabel("number of coordinates before the gap")
        axes.set_ylabel("distance to the next eigenvalue")
        axes.set_title("Gaps between eigenvalues")
        _integer_axis(axes, number)
        save_figure(figure, path)


def draw_graph(path: Path, drawing: Drawing, class_names: Sequence[str]) -> None:
    """Draw nodes at their two leading coordinates, coloured by class, over thin edges.

    Not collective.

    Parameters
    ----------
    class_names : sequence of str
        The largest classes among the nodes drawn have colours; the others are grey.
    """
    with matplotlib.rc_context({**SETTINGS, "axes.grid": False}):
        figure = Figure(figsize=(7.2, 5.8), layout="constrained")
        axes = figure.subplots()
        ends = drawing.edges.reshape(-1, 2, 2)
        opacity = float(np.clip(400.0 / max(len(ends), 1), 0.03, 0.3))
        lines = LineCollection(list(ends), colors=GREY, linewidths=0.4, alpha=opacity, zorder=1)
        axes.add_collection(lines, autolim=False)
        _draw_nodes(axes, drawing, class_names)
        for which, limits in ((0, axes.set_xlim), (1, axes.set_ylim)):
            limits(*_limits(drawing.positions[:, which]))
        axes.set_xlabel(f"spectral coordinate {drawing.axes[0]}")
        axes.set_ylabel(f"spectral coordinate {drawing.axes[1]}")
        axes.set_title(_title(drawing))
        save_figure(figure, path)


def _draw_nodes(axes: Any, drawing: Drawing, class_names: Sequence[str]) -> None:
    size = float(np.clip(30000.0 / max(len(drawing.positions), 1), 1.5, 18.0))
    counts = np.bincount(drawing.classes[drawing.classes >= 0], minlength=len(class_names))
    largest = [
        int(code) for code in np.argsort(-counts, kind="stable")[: len(_COLOURS)] if counts[code]
    ]
    told = len(class_names) > 1 and bool(largest)
    rest = ~np.isin(drawing.classes, largest) if told else np.ones(len(drawing.classes), dtype=bool)
    marks = {"s": size, "linewidths": 0.0, "zorder": 2}
    if rest.any():
        label = "others" if told else None
        colour = GREY if told else BLUE
        axes.scatter(*drawing.positions[rest].T, color=colour, alpha=0.5, label=label, **marks)
    for colour, code in zip(_COLOURS, largest if told else [], strict=False):
        points = drawing.positions[drawing.classes == code]
        axes.scatter(*points.T, color=colour, alpha=0.8, label=class_names[code][:24], **marks)
    if told:
        handles, labels = axes.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda place: labels[place] == "others")
        place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "markerscale": 1.5}
        axes.legend([handles[i] for i in order], [labels[i] for i in order], title="class", **place)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """What holds all but the outermost half per cent on either side, and a margin."""
    if values.size == 0:
        return -1.0, 1.0
    low, high = np.quantile(values, [0.005, 0.995])
    margin = 0.06 * (high - low) or 1e-3 + 0.06 * abs(high)
    return float(low - margin), float(high + margin)


def _title(drawing: Drawing) -> str:
    nodes = f"{drawing.n_nodes:,} nodes"
    if len(drawing.positions) < drawing.n_nodes:
        nodes = f"{len(drawing.positions):,} of {nodes}"
    edges = f"{drawing.n_edges:,} edges"
    if len(drawing.edges) < drawing.n_edges:
        edges = f"{len(drawing.edges):,} of {edges}"
    return f"{nodes}, {edges}"
