"""Figures of a run as PNG or SVG files: the spectrum, the solver's convergence, the training.

Drawn on figure objects with the Agg canvas; no display, no global state of matplotlib. Colours are
those of Okabe and Ito (2008), told apart with any colour vision; lines differ in style as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

__all__ = [
    "Check",
    "TrainedEpoch",
    "draw_convergence",
    "draw_spectrum",
    "draw_training",
    "save_figure",
]

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#666666",
)
CURVES = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, "#000000", GREY)
STYLES = ("-", "--", "-.", ":")
#: Points beyond which markers would merge into a band.
MARKED = 60
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "hpcembed",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


class Check(Protocol):
    """One nested size at one restart, as a solver's history holds it."""

    @property
    def restart(self) -> int: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def n_matvec(self) -> int: ...  # noqa: D102
    @property
    def measure(self) -> float: ...  # noqa: D102
    @property
    def n_converged(self) -> int: ...  # noqa: D102
    @property
    def chosen(self) -> bool: ...  # noqa: D102


class TrainedEpoch(Protocol):
    """What is read of one epoch of a training."""

    @property
    def epoch(self) -> int: ...  # noqa: D102
    @property
    def train_loss(self) -> float: ...  # noqa: D102
    @property
    def validation_accuracy(self) -> float: ...  # noqa: D102


def draw_spectrum(
    path: Path,
    eigenvalues: NDArray[np.float64],
    share: NDArray[np.float64] | None,
    *,
    meaning: str = "variance",
    share_of: str = "variance",
) -> None:
    """Draw the eigenvalues on a logarithmic axis, and what they hold of a whole, added up.

    Not collective.

    Parameters
    ----------
    eigenvalues : ndarray of shape (k,)
        Those that are not positive have no place on the axis; the title counts them.
    share : ndarray of shape (k,) or None
        Of each component; without it there is no second panel.
    meaning : str
        What an eigenvalue is, for the axis; empty for nothing but an eigenvalue.
    share_of : str
        What the shares are of. "Explained variance" is said of "variance" only.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    number = np.arange(1, values.size + 1)
    with matplotlib.rc_context(SETTINGS):
        width = 4.8 if share is None else 9.0
        figure = Figure(figsize=(width, 3.8), layout="constrained")
        panels = figure.subplots(1, 1 if share is None else 2, squeeze=False)[0]
        left = panels[0]
        positive = values > 0
        _log_axis(left, values[positive])
        left.plot(number[positive], values[positive], color=BLUE, **_marks(values.size))
        missing = int(values.size - positive.sum())
        left.set_title("Eigenvalues" + (f" ({missing} not positive)" if missing else ""))
        left.set_xlabel("number of the eigenvalue")
        left.set_ylabel(f"eigenvalue ({meaning})" if meaning else "eigenvalue")
        if share is not None:
            _draw_share(panels[1], np.cumsum(share), share_of)
        for axes in panels:
            _integer_axis(axes, number)
        save_figure(figure, path)


def _draw_share(axes: Any, cumulative: NDArray[np.float64], share_of: str) -> None:
    number = np.arange(1, cumulative.size + 1)
    axes.plot(number, 100.0 * cumulative, color=GREEN, **_marks(cumulative.size))
    axes.set_ylim(0.0, 105.0)
    axes.set_title("Explained variance" if share_of == "variance" else f"Share of {share_of}")
    axes.set_xlabel("number of components")
    axes.set_ylabel(f"cumulative share of {share_of} (%)")
    if cumulative.size:
        axes.annotate(
            f"{100.0 * cumulative[-1]:.1f} %",
            (number[-1], 100.0 * cumulative[-1]),
            xytext=(0, 9),
            textcoords="offset points",
            ha="right",
            color=GREEN,
        )


def draw_convergence(path: Path, history: Sequence[Check], tol: float) -> None:
    """Draw how the largest residual estimate fell, and which nested size each restart took.

    Not collective. Both panels share the axis of matrix-vector products; vertical lines are
    restarts while there are few of them. A measure of zero stands on the floor of the axis.

    Parameters
    ----------
    history : sequence of Check
        Every nested size examined, in the order of the run.
    tol : float
        Tolerance of the run, on the scale of ``measure``.
    """
    matvecs = np.array([check.n_matvec for check in history])
    measures = np.array([check.measure for check in history], dtype=np.float64)
    sizes = np.array([check.size for check in history])
    chosen = np.array([check.chosen for check in history], dtype=bool)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(9.0, 6.4), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1.0))
        _draw_measures(upper, matvecs, measures, chosen, tol)
        few = len(history) <= MARKED
        lower.plot(
            matvecs, sizes, linestyle="", marker="o", markersize=5 if few else 3,
            markerfacecolor="none", color=GREY, label="examined",
        )  # fmt: skip
        lower.plot(
            matvecs[chosen], sizes[chosen], linestyle="", marker="s",
            markersize=6 if few else 3.5, color=BLUE, label="chosen",
        )  # fmt: skip
        lower.set_title("Nested sizes", loc="left")
        lower.set_ylabel("subspace size")
        lower.set_xlabel("matrix-vector products")
        lower.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        _integer_axis(lower, matvecs)
        if sizes.size:
            lower.set_ylim(0.0, 1.12 * float(sizes.max()))
        lower.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        starts = _restart_places(history)
        if len(starts) <= MARKED:
            for axes in (upper, lower):
                for start in starts:
                    axes.axvline(start, color=ORANGE, linewidth=0.8, zorder=0.5)
            if starts:
                upper.plot([], [], color=ORANGE, linewidth=0.8, label=f"{len(starts)} restarts")
        else:
            upper.plot([], [], linestyle="", label=f"{len(starts)} restarts")
        upper.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        save_figure(figure, path)


def _draw_measures(
    axes: Any,
    matvecs: NDArray[Any],
    measures: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    tol: float,
) -> None:
    shown = _log_axis(axes, np.append(measures, tol))[:-1]
    zero = np.isfinite(measures) & (measures <= 0.0)
    few = measures.size <= MARKED
    axes.plot(
        matvecs, shown, linestyle="", marker="o", markersize=5 if few else 3,
        markerfacecolor="none", color=GREY, label="nested size examined",
    )  # fmt: skip
    axes.plot(
        matvecs[chosen], shown[chosen], marker="s", markersize=6 if few else 3.5,
        color=BLUE, label="size chosen",
    )  # fmt: skip
    if zero.any():
        axes.plot(
            matvecs[zero], shown[zero], linestyle="", marker="v", markersize=8, color=GREEN,
            label="exactly zero",
        )  # fmt: skip
    axes.axhline(tol, color=RED, linestyle="--", label=f"tolerance {tol:g}")
    axes.set_title("Convergence", loc="left")
    axes.set_ylabel("largest relative residual estimate")


def _restart_places(history: Sequence[Check]) -> list[int]:
    """Number of products at the end of each restart but the last: where the next one begins."""
    last: dict[int, int] = {}
    for check in history:
        last[check.restart] = max(check.n_matvec, last.get(check.restart, 0))
    return [last[restart] for restart in sorted(last)[:-1]]


def draw_training(path: Path, curves: Mapping[str, Sequence[TrainedEpoch]]) -> None:
    """Draw training loss and validation accuracy of each network over the epochs.

    Not collective.

    Parameters
    ----------
    curves : mapping of str to sequence of TrainedEpoch
        Label of the network, and its epochs in order.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(9.0, 3.8 + 0.22 * max(0, len(curves) - 4)), layout="constrained")
        left, right = figure.subplots(1, 2)
        everything: list[float] = []
        for position, (label, epochs) in enumerate(curves.items()):
            number = [one.epoch for one in epochs]
            style = {
                "color": CURVES[position % len(CURVES)],
                "linestyle": STYLES[position % len(STYLES)],
                "marker": "o" if len(number) == 1 else "",
                "label": label,
            }
            loss = np.array([one.train_loss for one in epochs])
            everything += [value for value in loss if value > 0]
            left.plot(number, np.where(loss > 0, loss, np.nan), **style)
            right.plot(number, [100.0 * one.validation_accuracy for one in epochs], **style)
        _log_axis(left, np.array(everything))
        left.set_title("Training loss")
        left.set_ylabel("mean cross-entropy (nats)")
        right.set_title("Validation accuracy")
        right.set_ylabel("validation accuracy (%)")
        longest = max((one.epoch for epochs in curves.values() for one in epochs), default=1)
        for axes in (left, right):
            axes.set_xlabel("epoch")
            _integer_axis(axes, np.arange(1, longest + 1))
        handles, labels = left.get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(handles)))
        save_figure(figure, path)


def _log_axis(axes: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give `axes` a logarithmic y axis that holds `values`, with ticks also when they lie close.

    Returns the values with zeros on the floor of the axis, and NaN where they are not finite.
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
    if high / low < 8.0:
        # Fewer than one power of ten in sight: label the ticks between the powers too.
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    return shown


def _integer_axis(axes: Any, numbers: NDArray[Any]) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    if numbers.size:
        low, high = float(numbers.min()), float(numbers.max())
        margin = max(0.5, 0.03 * (high - low))
        axes.set_xlim(low - margin, high + margin)


def _marks(n_points: int) -> dict[str, Any]:
    return {"marker": "o", "markersize": 4} if n_points <= MARKED else {}


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as what the ending of the path says: ``.png`` or ``.svg``. Not collective.

    An SVG file drawn under :data:`SETTINGS` is the same for the same figure: it holds no date and
    no random identifiers.
    """
    if path.suffix == ".svg":
        canvas = FigureCanvasSVG(figure)
        canvas.print_figure(path, format="svg", dpi=130, metadata={"Date": None})
    else:
        FigureCanvasAgg(figure).print_figure(path, format="png", dpi=130)
