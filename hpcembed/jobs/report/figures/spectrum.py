"""Figures of eigenvalues: the spectrum with its cumulative share, and the gaps in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hpcembed.jobs.report.figures import style

if TYPE_CHECKING:
    from hpcembed.embedding import Spectrum

__all__ = ["draw_gaps", "draw_spectrum", "spectrum_columns"]

#: Number of the largest gaps that are labelled.
LABELLED_GAPS = 3


@style.with_grid
def draw_spectrum(spectrum: Spectrum) -> Figure:
    """Draw the eigenvalues on a logarithmic axis, and their cumulative share of a total.

    Values that are not positive have no place on the axis; the title counts them. Without shares
    there is no second panel.
    """
    values, share = spectrum.values, spectrum.share
    number = np.arange(1, values.size + 1)
    figure = style.new_figure(4.8 if share is None else 9.0, 3.8)
    panels = figure.subplots(1, 1 if share is None else 2, squeeze=False)[0]
    left = panels[0]
    positive = values > 0
    style.log_axis(left, values[positive])
    left.plot(number[positive], values[positive], color=style.BLUE, **style.markers(values.size))
    missing = int(values.size - positive.sum())
    left.set(
        title="Eigenvalues" + (f" ({missing} not positive)" if missing else ""),
        xlabel="number of the eigenvalue",
        ylabel=f"eigenvalue ({spectrum.meaning})" if spectrum.meaning else "eigenvalue",
    )
    if share is not None:
        _draw_share(panels[1], np.cumsum(share), spectrum.share_of)
    for axes in panels:
        style.integer_axis(axes, number)
    return figure


def _draw_share(axes: Any, cumulative: NDArray[np.float64], share_of: str) -> None:
    number = np.arange(1, cumulative.size + 1)
    axes.plot(number, 100.0 * cumulative, color=style.GREEN, **style.markers(cumulative.size))
    axes.set(
        title="Explained variance" if share_of == "variance" else f"Share of {share_of}",
        xlabel="number of components",
        ylabel=f"cumulative share of {share_of} (%)",
        ylim=(0.0, 105.0),
    )
    if cumulative.size:
        axes.annotate(
            f"{100.0 * cumulative[-1]:.1f} %",
            (number[-1], 100.0 * cumulative[-1]),
            xytext=(0, 9),
            textcoords="offset points",
            ha="right",
            color=style.GREEN,
        )


def spectrum_columns(spectrum: Spectrum) -> dict[str, Any]:
    """Collect the numbers of :func:`draw_spectrum` as columns."""
    values, share = spectrum.values, spectrum.share
    columns: dict[str, Any] = {"component": range(1, len(values) + 1), "eigenvalue": values}
    if share is not None:
        columns |= {"share": share, "cumulative_share": np.cumsum(share)}
    return columns


@style.with_grid
def draw_gaps(eigenvalues: NDArray[np.float64]) -> Figure:
    """Draw the distance from each eigenvalue to the next.

    A large gap after k eigenvalues of a graph indicates k communities.

    Parameters
    ----------
    eigenvalues : ndarray of shape (k,)
        In the order of the coordinates.
    """
    gaps = np.abs(np.diff(np.asarray(eigenvalues, dtype=np.float64)))
    number = np.arange(1, gaps.size + 1)
    figure = style.new_figure(6.4, 3.6)
    axes = figure.subplots()
    axes.vlines(number, 0.0, gaps, color=style.BLUE, linewidth=1.4)
    axes.plot(number, gaps, "o", color=style.BLUE, markersize=3.5)
    for place in np.argsort(-gaps, kind="stable")[:LABELLED_GAPS]:
        axes.annotate(
            f"{number[place]}",
            (number[place], gaps[place]),
            xytext=(4, 2),
            textcoords="offset points",
        )
    axes.set(
        title="Gaps between eigenvalues",
        xlabel="number of coordinates before the gap",
        ylabel="distance to the next eigenvalue",
        ylim=(0.0, 1.12 * max(float(gaps.max(initial=0.0)), 1e-300)),
    )
    style.integer_axis(axes, number)
    return figure
