"""Figure of differences with their intervals: one row for each name, zero as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from hpcembed.jobs.report.figures import style

__all__ = ["IntervalPanel", "draw_intervals"]


@dataclass(frozen=True, slots=True)
class IntervalPanel:
    """Differences of some names from one reference.

    Attributes
    ----------
    title : str
    names : sequence of str
        From top to bottom.
    mean, low, high : sequence of float
        Differences and ends of their intervals, in points.
    """

    title: str
    names: Sequence[str]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@style.with_grid
def draw_intervals(panels: Sequence[IntervalPanel], title: str, axis: str) -> Figure:
    """Draw panels beside each other: a dot and a bar for each name.

    Intervals above zero are green squares, those below zero red triangles, others grey dots.

    Parameters
    ----------
    axis : str
        Label of the horizontal axes.
    """
    rows = max(len(panel.names) for panel in panels)
    figure = style.new_figure(1.5 + 3.6 * len(panels), 1.4 + 0.34 * rows)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        places = -np.arange(len(panel.names), dtype=float)
        axes.axvline(0.0, color="#000000", linewidth=1.0)
        for place, mean, low, high in zip(places, panel.mean, panel.low, panel.high, strict=True):
            colour, marker = style.GREY, "o"
            if low > 0:
                colour, marker = style.GREEN, "s"
            elif high < 0:
                colour, marker = style.RED, "v"
            axes.plot([low, high], [place, place], color=colour, linewidth=1.6)
            axes.plot([mean], [place], color=colour, marker=marker, markersize=5)
        axes.set_yticks(places, [style.shorten(name, 28) for name in panel.names])
        axes.set(title=panel.title, xlabel=axis)
        axes.set_ylim(-len(panel.names) + 0.4, 0.6)
    figure.suptitle(title)
    return figure
