"""Figures of leading components: rows as points in them, and eigenvectors as images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hpcembed.jobs.report.figures import style

__all__ = ["MOST_IMAGES", "draw_eigenvector_images", "draw_scatter"]

#: Eigenvectors that are drawn as images.
MOST_IMAGES = 20
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
#: Further colours for data with more classes than :data:`style.CURVES` has colours.
_MORE_COLOURS = ("#882255", "#999933", "#44AA99", "#AA4499", "#332288", "#DDCC77")
#: Colours of the most frequent classes, if the other classes share grey.
_FREQUENT = tuple(colour for colour in style.CURVES if colour != style.GREY) + _MORE_COLOURS[:3]


@style.with_grid
def draw_scatter(
    rows: NDArray[np.float64],
    classes: Sequence[str],
    title: str,
    targets: NDArray[np.float64] | None = None,
) -> Figure:
    """Draw the leading components of rows against each other, coloured by class or target.

    Of more than 20 classes the most frequent ones have colours, and the others are grey.

    Parameters
    ----------
    rows : ndarray of shape (n, m)
        With m from 1 to 3; a single component is drawn over the number of the row.
    classes : sequence of str
        Class of each row; not used with `targets`.
    targets : ndarray of shape (n,), optional
        Targets of a regression.
    """
    m = rows.shape[1]
    pairs = [(i, j) for i in range(m) for j in range(i + 1, m)] or [(-1, 0)]
    groups = _groups(classes)
    figure = style.new_figure(1.2 + 3.6 * len(pairs), 4.6)
    panels = figure.subplots(1, len(pairs), squeeze=False).ravel()
    for axes, (i, j) in zip(panels, pairs, strict=True):
        across_label = "row" if i < 0 else f"component {i + 1}"
        axes.set(xlabel=across_label, ylabel=f"component {j + 1}")
        if targets is not None:
            across = np.arange(len(rows)) if i < 0 else rows[:, i]
            points = axes.scatter(
                across, rows[:, j], c=targets, s=9, linewidths=0, alpha=0.8, cmap="viridis",
                rasterized=True,
            )  # fmt: skip
            continue
        for position, (name, colour, chosen) in enumerate(groups):
            across = chosen if i < 0 else rows[chosen, i]
            is_grey = colour == style.GREY and position == len(groups) - 1
            axes.plot(
                across, rows[chosen, j], linestyle="", markersize=3, markeredgewidth=0,
                marker=_MARKERS[(position // 3) % len(_MARKERS)], alpha=0.35 if is_grey else 0.65,
                color=colour, label=style.shorten(name, 24), rasterized=True,
                zorder=1.9 if is_grey else 2.0,
            )  # fmt: skip
    if targets is not None:
        figure.colorbar(points, ax=panels.tolist(), label="target", shrink=0.8)
    else:
        style.legend_below(figure, panels[0], columns=10 if m > 2 else 5, markerscale=2.0)
    figure.suptitle(title)
    return figure


def _groups(classes: Sequence[str]) -> list[tuple[str, str, NDArray[np.int64]]]:
    """Return name, colour and rows of each class; those of the less frequent of many together."""
    counts, labels = Counter(classes), np.asarray(classes)
    names = sorted(counts, key=_numbers_first)
    colours: tuple[str, ...] = style.CURVES + _MORE_COLOURS
    others: set[str] = set()
    if len(names) > style.MOST_LISTED_CLASSES:
        colours = _FREQUENT
        by_count = sorted(names, key=lambda name: -counts[name])  # stable
        others = set(by_count[len(colours) :])
        names = [name for name in names if name not in others]
    groups = [
        (name, colours[place % len(colours)], np.flatnonzero(labels == name))
        for place, name in enumerate(names)
    ]
    if others:
        chosen = np.flatnonzero(~np.isin(labels, names))
        groups.append((f"{len(others):,} other classes", style.GREY, chosen))
    return groups


def _numbers_first(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


@style.without_grid
def draw_eigenvector_images(
    components: NDArray[np.float64], shape: tuple[int, ...], title: str
) -> Figure:
    """Draw leading eigenvectors as images, each on its own scale.

    In one channel red is positive, blue is negative and white is zero. In three channels middle
    grey is zero.

    Parameters
    ----------
    components : ndarray of shape (k, d)
    shape : tuple of int
        Shape of an image: (height, width) or (3, height, width).
    """
    count = min(len(components), MOST_IMAGES)
    columns = min(10, max(1, count))
    lines = -(-count // columns)
    figure = style.new_figure(1.05 * columns + 0.4, 1.25 * lines + 0.5)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for i, axes in enumerate(panels):
        axes.set_axis_off()
        if i >= count:
            continue
        values = components[i].reshape(shape)
        largest = float(np.abs(values).max()) or 1.0
        if len(shape) == 3:
            axes.imshow(0.5 + 0.5 * np.moveaxis(values, 0, -1) / largest)
        else:
            axes.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest)
        axes.set_title(str(i + 1), fontsize=8, pad=2)
    figure.suptitle(title)
    return figure
