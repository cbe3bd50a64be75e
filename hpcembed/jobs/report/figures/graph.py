"""Figure of a graph: its nodes at their spectral coordinates, over its edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hpcembed.jobs.report.figures import style

if TYPE_CHECKING:
    from hpcembed.data.graphs.graph_drawing import GraphDrawing

__all__ = ["draw_graph"]

#: Colours of the largest classes; the other classes share grey.
_COLOURS = style.CURVES[:-1]


@style.without_grid
def draw_graph(drawing: GraphDrawing, class_names: Sequence[str]) -> Figure:
    """Draw nodes at two spectral coordinates, coloured by class, over thin edges.

    Parameters
    ----------
    drawing : GraphDrawing
        Nodes and edges; a sample of those of a large graph.
    class_names : sequence of str
        The largest classes among the drawn nodes have colours; the others are grey.
    """
    figure = style.new_figure(7.2, 5.8)
    axes = figure.subplots()
    ends = drawing.edges.reshape(-1, 2, 2)
    opacity = float(np.clip(400.0 / max(len(ends), 1), 0.03, 0.3))
    lines = LineCollection(list(ends), colors=style.GREY, linewidths=0.4, alpha=opacity, zorder=1)
    axes.add_collection(lines, autolim=False)
    _draw_nodes(axes, drawing, class_names)
    axes.set(
        title=_title(drawing),
        xlabel=f"spectral coordinate {drawing.axes[0]}",
        ylabel=f"spectral coordinate {drawing.axes[1]}",
        xlim=_limits(drawing.positions[:, 0]),
        ylim=_limits(drawing.positions[:, 1]),
    )
    return figure


def _draw_nodes(axes: Any, drawing: GraphDrawing, class_names: Sequence[str]) -> None:
    size = float(np.clip(30000.0 / max(len(drawing.positions), 1), 1.5, 18.0))
    counts = np.bincount(drawing.classes[drawing.classes >= 0], minlength=len(class_names))
    largest = [
        int(code) for code in np.argsort(-counts, kind="stable")[: len(_COLOURS)] if counts[code]
    ]
    coloured = len(class_names) > 1 and bool(largest)
    marks = {"s": size, "linewidths": 0.0, "zorder": 2}
    if not coloured:
        axes.scatter(*drawing.positions.T, color=style.BLUE, alpha=0.5, **marks)
        return
    for colour, code in zip(_COLOURS, largest, strict=False):
        points = drawing.positions[drawing.classes == code]
        axes.scatter(
            *points.T, color=colour, alpha=0.8, label=style.shorten(class_names[code], 24), **marks
        )
    others = ~np.isin(drawing.classes, largest)
    if others.any():
        below = {**marks, "zorder": 1.9}
        points = drawing.positions[others]
        axes.scatter(*points.T, color=style.GREY, alpha=0.5, label="others", **below)
    style.legend_beside(axes, title="class", markerscale=1.5)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Limits with a margin that hold all values but the outermost half percent on each side."""
    if values.size == 0:
        return -1.0, 1.0
    low, high = np.quantile(values, [0.005, 0.995])
    margin = 0.06 * (high - low) or 1e-3 + 0.06 * abs(high)
    return float(low - margin), float(high + margin)


def _title(drawing: GraphDrawing) -> str:
    nodes = f"{drawing.n_nodes:,} nodes"
    if len(drawing.positions) < drawing.n_nodes:
        nodes = f"{len(drawing.positions):,} of {nodes}"
    edges = f"{drawing.n_edges:,} edges"
    if len(drawing.edges) < drawing.n_edges:
        edges = f"{len(drawing.edges):,} of {edges}"
    return f"{nodes}, {edges}"
