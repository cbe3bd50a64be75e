"""Figure of the predictions of a regression over the targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hpcembed.jobs.report.figures import style

__all__ = ["draw_predictions", "prediction_columns"]


@style.with_grid
def draw_predictions(predictions: Mapping[str, NDArray[np.float64]], title: str) -> Figure:
    """Draw predictions over targets, with the line on which both are equal.

    Parameters
    ----------
    predictions : mapping of str to ndarray of shape (m, 2)
        Label of each network, and targets and predictions of test rows.
    """
    figure = style.new_figure(6.4, 5.4 + 0.22 * max(0, len(predictions) - 2))
    axes = figure.subplots()
    for position, (label, pairs) in enumerate(predictions.items()):
        axes.plot(
            pairs[:, 0], pairs[:, 1], linestyle="", marker="o", markersize=3, markeredgewidth=0,
            alpha=0.6, color=style.CURVES[position % len(style.CURVES)], label=label,
            rasterized=True,
        )  # fmt: skip
    targets = np.concatenate([pairs[:, 0] for pairs in predictions.values()])
    ends = [float(targets.min()), float(targets.max())]
    axes.plot(ends, ends, color=style.GREY, linewidth=1.0, label="prediction = target")
    axes.set(title=title, xlabel="target", ylabel="prediction")
    style.legend_below(figure, axes, columns=3, markerscale=2.0)
    return figure


def prediction_columns(predictions: Mapping[str, NDArray[np.float64]]) -> dict[str, list[Any]]:
    """Collect the numbers of the figure as columns."""
    return {
        "network": [label for label, pairs in predictions.items() for _ in pairs],
        "target": [one for pairs in predictions.values() for one in pairs[:, 0].tolist()],
        "prediction": [one for pairs in predictions.values() for one in pairs[:, 1].tolist()],
    }
