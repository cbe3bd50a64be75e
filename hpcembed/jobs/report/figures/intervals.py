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
    """Draw panels below each other: a dot and a bar for each name.

    Each panel has a scale of its own. Intervals above zero are green squares, those below zero red
    triangles, others grey dots.

    Parameters
    ----------
    axis : str
        Label of the horizontal axes.
    """
    rows = [len(panel.names) for panel in panels]
    figure = style.new_figure(6.4, 0.9 + 0.7 * len(panels) + 0.3 * sum(rows))
    places_of_panels = figure.subplots(len(panels), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axes, panel in zip(places_of_panels, panels, strict=True):
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
        axes.set_title(panel.title)
        axes.set_ylim(-len(panel.names) + 0.4, 0.6)
    axes.set_xlabel(axis)
    figure.suptitle(title)
    return figure
