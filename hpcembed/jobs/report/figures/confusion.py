"""Figure of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hpcembed.jobs.report.figures import style

__all__ = ["confusion_columns", "draw_confusion"]


@style.without_grid
def draw_confusion(counts: NDArray[np.int64], class_names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix, each row in percent of its class.

    Parameters
    ----------
    counts : ndarray of shape (n_classes, n_classes)
        Number of rows of each class (first index) by their predicted class.
    """
    n = len(class_names)
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    share = 100.0 * counts / total
    side = 2.6 + 0.42 * min(n, style.MOST_LISTED_CLASSES)
    figure = style.new_figure(side + 1.2, side)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=100.0)
    figure.colorbar(image, ax=axes, label="% of the class", shrink=0.8)
    if n <= style.MOST_LISTED_CLASSES:
        names = [style.shorten(name) for name in class_names]
        long = max(map(len, names), default=0) > 2
        axes.set_xticks(
            range(n), names, rotation=45 if long else 0, ha="right" if long else "center"
        )
        axes.set_yticks(range(n), names)
        size = 8 if n <= 12 else 6
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if share[i, j] > 55.0 else "black"
            text = f"{share[i, j]:.1f}" if share[i, j] < 99.95 else "100"
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
    else:
        title += f" ({n} classes)"
    axes.set(title=title, xlabel="predicted class", ylabel="class")
    return figure


def confusion_columns(counts: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, Any]:
    """Collect the numbers of the figure as columns, one row for each pair of classes."""
    i, j = np.indices(counts.shape).reshape(2, -1)
    return {
        "class": [class_names[row] for row in i],
        "predicted": [class_names[column] for column in j],
        "test_rows": counts.ravel(),
    }
