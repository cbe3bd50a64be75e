"""Style of all figures: colours, markers, axes, and how a figure becomes a file.

Figures are figure objects of matplotlib, which need no display and leave its global state
unchanged. Colours are those of Okabe and Ito (2008), which remain distinct in every kind of colour
vision. Colour is never the only distinction: labels, markers or line styles repeat it, so figures
also read well when a page inverts them for a dark screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from hpcembed.jobs.report.page import PageFigure
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.runtime.printable_text import one_line, printable

__all__ = ["FigureWriter", "save_figure"]

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#666666"
CURVES = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, "#000000", GREY)
LINES = ("-", "--", "-.", ":")
#: Marker of a chosen model; black is also distinct from every curve on an inverted page.
RING: dict[str, Any] = {
    "linestyle": "", "marker": "o", "markersize": 13, "markerfacecolor": "none",
    "markeredgecolor": "#000000", "markeredgewidth": 2.0,
}  # fmt: skip
#: Points beyond which markers would merge into a band.
MOST_MARKERS = 60
#: Classes that a legend and the cells of a confusion matrix have room for.
MOST_LISTED_CLASSES = 20
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "hpcembed",
    # A dollar sign in a name is a dollar sign.
    "text.parse_math": False,
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}

#: Decorators of functions that draw a figure, with and without grid lines.
with_grid = matplotlib.rc_context(SETTINGS)
without_grid = matplotlib.rc_context({**SETTINGS, "axes.grid": False})


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches, whose parts are laid out without overlap."""
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the ending of the path.

    The SVG files of equal figures are equal: they hold no date and no random identifiers.
    """
    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(path, dpi=130, metadata=metadata)


@dataclass(frozen=True, slots=True)
class FigureWriter:
    """Writes the figures of a run folder, in every form, with their numbers as CSV."""

    folder: RunFolder
    forms: tuple[str, ...] = ("png", "svg")

    def write(
        self,
        name: str,
        figure: Figure,
        data: Mapping[str, Any] | None = None,
        caption: str = "",
    ) -> PageFigure:
        """Write ``figures/NAME.*``.

        Parameters
        ----------
        data : mapping of str to sequence, optional
            Columns of the CSV file.

        Returns
        -------
        PageFigure
            The figure for a page; without content if ``"svg"`` is not one of the forms.
        """
        svg = b""
        for form in self.forms:
            with self.folder.new_file(f"figures/{name}.{form}") as path:
                save_figure(figure, path)
                svg = path.read_bytes() if form == "svg" else svg
        if data is not None:
            self.folder.write_csv(f"figures/{name}.csv", data)
        return PageFigure(svg, caption, f"figures/{name}.csv")


def markers(n_points: int) -> dict[str, Any]:
    """Marker of a line of some points: none where markers would merge."""
    return {"marker": "o", "markersize": 4} if n_points <= MOST_MARKERS else {}


def legend_beside(axes: Any, **options: Any) -> None:
    """Put the legend to the right of the axes."""
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), **options)


def legend_below(figure: Figure, axes: Any, columns: int, **options: Any) -> None:
    """Put the legend of `axes` below the whole figure."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = min(columns, len(handles))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, **options)


def legend_entry(axes: Any, label: str, **style: Any) -> None:
    """Add a grey entry to the legend for a style that occurs in several colours."""
    axes.plot([], [], color=GREY, label=label, **{"linewidth": 1.0, **style})


def log_axis(axes: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make the y axis logarithmic, with limits around `values` and ticks for any range.

    Returns
    -------
    ndarray
        The values, with zeros moved to the lower end of the axis and NaN where they are not
        finite.
    """
    shown = np.where(np.isfinite(values), values, np.nan)
    positive = shown[shown > 0]
    axes.set_yscale("log")
    if not positive.size:
        return shown
    low, high = float(positive.min()), float(positive.max())
    floor = low / 10.0
    if (shown <= 0).any():
        shown = np.where(shown <= 0, floor, shown)
        low = floor
    margin = max(1.15, (high / low) ** 0.05)
    axes.set_ylim(low / margin, high * margin)
    plain_log_ticks(axes.yaxis, (low, high))
    return shown


def limit_scores(axes: Any, largest: float) -> None:
    """End the y axis just above the largest possible score, if it extends further."""
    low, high = axes.get_ylim()
    if high > largest > low:
        axes.set_ylim(low, largest + 0.04 * (largest - low))


def plain_log_ticks(axis: Any, values: Sequence[float]) -> None:
    """Label a logarithmic axis with plain numbers, at closer ticks for a smaller range."""
    positive = [value for value in values if value > 0]
    span = max(positive, default=1.0) / min(positive, default=1.0)
    steps = (1.0,) if span > 1e3 else (1.0, 3.0) if span > 100.0 else (1.0, 2.0, 5.0)
    if span < 4.0:
        steps = tuple(np.arange(1.0, 10.0, 0.5))
    if span < 1.5:  # fewer than two of those ticks may lie in the range
        axis.set_major_locator(MaxNLocator(nbins=5))
    else:
        axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    axis.set_minor_formatter(NullFormatter())


def plain_number(value: float) -> str:
    """Write a number of an axis: 0.05, 20, 10,000; with an exponent where it is far from 1.

    Examples
    --------
    >>> [plain_number(value) for value in (0.05, 20.0, 10000.0, 1e-7, 2e9)]
    ['0.05', '20', '10,000', '1e-07', '2e+09']
    """
    return f"{value:,.0f}" if 1000.0 <= value < 1e7 else f"{value:.6g}"


def integer_axis(axes: Any, numbers: NDArray[Any]) -> None:
    """Put the ticks of the x axis at integers, with limits around `numbers`."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    if numbers.size:
        low, high = float(numbers.min()), float(numbers.max())
        margin = max(0.5, 0.03 * (high - low))
        axes.set_xlim(low - margin, high + margin)


def shorten(name: str, longest: int = 18) -> str:
    """Cut a long name and end it with an ellipsis; control characters become escapes."""
    name = one_line(name)
    return name if len(name) <= longest else name[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
