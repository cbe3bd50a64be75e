"""Figure of a solver's convergence over its matrix-vector products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hpcembed.jobs.report.figures import style
from hpcembed.runtime.wording import counted

if TYPE_CHECKING:
    from miramns import IterationRecord

__all__ = ["draw_convergence"]


@style.with_grid
def draw_convergence(history: Sequence[IterationRecord], tol: float) -> Figure:
    """Draw the largest residual estimate and the nested sizes over matrix-vector products.

    Vertical lines mark restarts while there are few of them. A residual estimate of zero is drawn
    at the lower end of the axis.

    Parameters
    ----------
    history : sequence of IterationRecord
        One record for each nested size at which convergence was tested, in the order of the run.
    tol : float
        Tolerance of the run, in the units of ``measure``.
    """
    matvecs = np.array([record.n_matvec for record in history])
    measures = np.array([record.measure for record in history], dtype=np.float64)
    sizes = np.array([record.size for record in history])
    chosen = np.array([record.chosen for record in history], dtype=bool)
    figure = style.new_figure(9.0, 6.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1.0))
    shown = style.log_axis(upper, np.append(measures, tol))[:-1]
    labels = "nested size examined", "size chosen"
    _draw_records(upper, matvecs, shown, chosen, labels, line="-")
    zero = np.isfinite(measures) & (measures <= 0.0)
    if zero.any():
        upper.plot(
            matvecs[zero], shown[zero], linestyle="", marker="v", markersize=8, color=style.GREEN,
            label="exactly zero",
        )  # fmt: skip
    upper.axhline(tol, color=style.RED, linestyle="--", label=f"tolerance {tol:g}")
    upper.set_title("Convergence", loc="left")
    upper.set_ylabel("largest relative residual estimate")
    _draw_records(lower, matvecs, sizes, chosen, ("examined", "chosen"), line="")
    lower.set_title("Nested sizes", loc="left")
    lower.set(xlabel="matrix-vector products", ylabel="subspace size")
    lower.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    style.integer_axis(lower, matvecs)
    if sizes.size:
        lower.set_ylim(0.0, 1.12 * float(sizes.max()))
    lower.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    restarts = _restarts(history)
    marked = restarts if len(restarts) <= style.MOST_MARKERS else []
    for axes in (upper, lower):
        for products in marked:
            axes.axvline(products, color=style.ORANGE, linewidth=0.8, zorder=0.5)
    if restarts:
        line = {"color": style.ORANGE, "linewidth": 0.8, "linestyle": "-" if marked else ""}
        upper.plot([], [], label=counted(len(restarts), "restart"), **line)
    upper.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _draw_records(
    axes: Any,
    matvecs: NDArray[Any],
    values: NDArray[Any],
    chosen: NDArray[np.bool_],
    labels: tuple[str, str],
    line: str,
) -> None:
    """Draw all records as open circles, and the chosen ones as squares joined by `line`."""
    few = values.size <= style.MOST_MARKERS
    axes.plot(
        matvecs, values, linestyle="", marker="o", markersize=5 if few else 3,
        markerfacecolor="none", color=style.GREY, label=labels[0],
    )  # fmt: skip
    axes.plot(
        matvecs[chosen], values[chosen], linestyle=line, marker="s",
        markersize=6 if few else 3.5, color=style.BLUE, label=labels[1],
    )  # fmt: skip


def _restarts(history: Sequence[IterationRecord]) -> list[int]:
    """Numbers of products at each restart."""
    last: dict[int, int] = {}
    for record in history:
        last[record.restart] = max(record.n_matvec, last.get(record.restart, 0))
    return [last[restart] for restart in sorted(last)[:-1]]
