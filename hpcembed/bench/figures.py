"""Figure of the seconds of every method as bars, with one panel for each table and k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcembed.bench.pca_record import PcaRecord
from miramns.bench.harness.figures import figure_in
from miramns.bench.harness.records import by_case

_HPCEMBED = "#D55E00"
_COLOURS = {"hpcembed": _HPCEMBED, "peer": "#7FA8C9", "bound": "#BBBBBB"}
_BAR_HEIGHT = 0.23


def draw(folder: Path, records: Sequence[PcaRecord]) -> bool:
    """Draw ``fit.png`` and ``fit.svg``.

    Returns
    -------
    bool
        False, without a figure, if no method is timed.
    """
    from matplotlib.patches import Patch

    panels = by_case([one for one in records if one.seconds])
    if not panels:
        return False
    heights = [len(bars) + 2.5 for bars in panels.values()]
    paths = folder / "fit.png", folder / "fit.svg"
    height = _BAR_HEIGHT * sum(heights) + 0.9
    style = {"font_size": 9.0, "hatch_linewidth": 0.8}
    with figure_in(*paths, width=8.0, height=height, dpi=150, **style) as figure:
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, ((data, k), bars) in zip(grid, panels.items(), strict=True):
            _draw_panel(axes, sorted(bars, key=lambda one: one.seconds or 0.0))
            axes.set_title(f"{data}, k = {k}", loc="left")
        grid[-1].set_xlabel("seconds of fit, median (logarithmic)")
        peer = _COLOURS["peer"]
        figure.legend(
            handles=[
                Patch(facecolor=_HPCEMBED, label="hpcembed"),
                Patch(facecolor=peer, label="exact"),
                Patch(facecolor=peer, edgecolor="white", hatch="////", label="approximate"),
                Patch(facecolor=_COLOURS["bound"], label="bound: bare X'X"),
            ],
            loc="outside upper right",
            ncols=4,
        )
    return True


def _draw_panel(axes: Any, bars: Sequence[PcaRecord]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    seconds = [one.seconds or math.nan for one in bars]
    left = 10 ** math.floor(math.log10(min(seconds) / 1.5))
    for position, (one, value) in enumerate(zip(bars, seconds, strict=True)):
        axes.barh(
            position,
            value - left,
            left=left,
            height=0.72,
            color=_COLOURS[one.group],
            edgecolor="white",
            hatch="////" if one.status == "approximate" else None,
        )
        weight = "bold" if one.group == "hpcembed" else "normal"
        axes.annotate(
            f"{value:.3g}", (value, position), xytext=(3, 0), textcoords="offset points",
            va="center", fontweight=weight,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(left, max(seconds) * 2.0)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_yticks(range(len(bars)), [one.method for one in bars])
    for label, one in zip(axes.get_yticklabels(), bars, strict=True):
        if one.group == "hpcembed":
            label.set(fontweight="bold", color=_HPCEMBED)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x")
