"""Seconds of every method as bars, a panel per table and k, ours highlighted, in PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcembed.bench.records import Record
from hpcembed.bench.tables import cases

__all__ = ["draw"]

_OURS, _PEER, _BOUND = "#D55E00", "#7FA8C9", "#BBBBBB"
_SETTINGS: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.8,
    "svg.hashsalt": "hpcembed",
}
_BAR = 0.23


def draw(folder: Path, records: Sequence[Record]) -> bool:
    """Draw ``fit.png`` and ``fit.svg``.

    Returns
    -------
    bool
        False, and no picture, where nothing was timed.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    panels = {case: _bars(members) for case, members in cases(records).items()}
    panels = {case: bars for case, bars in panels.items() if bars}
    if not panels:
        return False
    heights = [len(bars) + 2.5 for bars in panels.values()]
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(8.0, _BAR * sum(heights) + 0.9), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, ((data, k), bars) in zip(grid, panels.items(), strict=True):
            _panel(axes, bars)
            axes.set_title(f"{data}, k = {k}", loc="left")
        grid[-1].set_xlabel("seconds of fit, median (logarithmic)")
        figure.legend(
            handles=[
                Patch(facecolor=_OURS, label="hpcembed"),
                Patch(facecolor=_PEER, label="exact"),
                Patch(facecolor=_PEER, edgecolor="white", hatch="////", label="approximate"),
                Patch(facecolor=_BOUND, label="bound: bare X'X"),
            ],
            loc="outside upper right",
            ncols=4,
            frameon=False,
        )
        figure.savefig(folder / "fit.png", dpi=150)
        figure.savefig(folder / "fit.svg", metadata={"Date": None})
    return True


def _bars(records: Sequence[Record]) -> list[Record]:
    """What is drawn, fastest first."""
    timed = [one for one in records if one.timed and one.fit_s]
    return sorted(timed, key=lambda one: one.fit_s or math.inf)


def _panel(axes: Any, bars: Sequence[Record]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    seconds = [one.fit_s or math.nan for one in bars]
    left = 10 ** math.floor(math.log10(min(seconds) / 1.5))
    colours = {"ours": _OURS, "peer": _PEER, "bound": _BOUND}
    for position, (one, value) in enumerate(zip(bars, seconds, strict=True)):
        axes.barh(
            position,
            value - left,
            left=left,
            height=0.72,
            color=colours[one.group],
            edgecolor="white",
            hatch="////" if one.status == "approximate" else None,
        )
        weight = "bold" if one.group == "ours" else "normal"
        axes.annotate(
            f"{value:.3g}", (value, position), xytext=(3, 0), textcoords="offset points",
            va="center", fontweight=weight,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(left, max(seconds) * 2.0)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_yticks(range(len(bars)), [one.method for one in bars])
    for label, one in zip(axes.get_yticklabels(), bars, strict=True):
        if one.group == "ours":
            label.set(fontweight="bold", color=_OURS)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
