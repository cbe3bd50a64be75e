"""Figures of a benchmark in PNG and SVG files.

They are drawn on figure objects with matplotlib's Agg canvas, which is imported only when a figure
is drawn; the settings of the user's other figures stay as they are. The colours are from Okabe
and Ito (2008).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#888888")
_STYLES = ("-", "--", "-.", ":")
_SETTINGS: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "miramns",
}


@contextlib.contextmanager
def figure_in(
    *paths: Path, width: float, height: float, dpi: int = 130, **settings: Any
) -> Iterator[Any]:
    """Yield an empty figure, which is written to all paths at the end.

    Parameters
    ----------
    paths : Path
        Files; the format follows from the suffix, ``.png`` or ``.svg``.
    width, height : float
        In inches.
    dpi : int
        Pixels per inch of PNG files.
    **settings
        Further settings of matplotlib, with ``_`` for ``.``: ``font_size=9``.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    changed = {name.replace("_", ".", 1): value for name, value in settings.items()}
    with matplotlib.rc_context(_SETTINGS | changed):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=dpi, metadata=metadata)


def line_style(position: int, label: str, *, wide: bool = False) -> dict[str, Any]:
    """Return colour, style, width and label of a line; `position` counts the lines."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": _STYLES[(position // len(COLOURS)) % len(_STYLES)],
        "linewidth": 2.6 if wide else 1.5,
        "label": label,
    }
