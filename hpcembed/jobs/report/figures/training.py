"""Figures of training runs: loss and score over the epochs, and seconds over the dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpcembed.jobs.report.figures import style
from hpcembed.jobs.report.scores import ACCURACY, Score
from hpcembed.jobs.report.tables import columns_of

if TYPE_CHECKING:
    from hpcembed.networks.training.epochs import Epoch

__all__ = ["TimeCurve", "draw_training", "draw_training_times", "time_columns"]


@style.with_grid
def draw_training(curves: Mapping[str, Sequence[Epoch]], score: Score = ACCURACY) -> Figure:
    """Draw training loss and validation score over the epochs.

    Parameters
    ----------
    curves : mapping of str to sequence of Epoch
        Label of each network, and its epochs in order.
    """
    figure = style.new_figure(9.0, 3.8 + 0.22 * max(0, len(curves) - 4))
    left, right = figure.subplots(1, 2)
    losses: list[float] = []
    for position, (label, epochs) in enumerate(curves.items()):
        number = [one.epoch for one in epochs]
        curve_style = {
            "color": style.CURVES[position % len(style.CURVES)],
            "linestyle": style.LINES[position % len(style.LINES)],
            "marker": "o" if len(number) == 1 else "",
            "label": label,
        }
        loss = np.array([one.train_loss for one in epochs])
        losses += [value for value in loss if value > 0]
        left.plot(number, np.where(loss > 0, loss, np.nan), **curve_style)
        right.plot(number, [score.factor * one.validation_score for one in epochs], **curve_style)
    style.log_axis(left, np.array(losses))
    loss_name = "mean cross-entropy (nats)" if score.is_accuracy else "mean squared error"
    left.set(title="Training loss", ylabel=loss_name)
    right.set(title=f"Validation {score.name}", ylabel=score.axis("validation"))
    style.limit_scores(right, score.factor)
    longest = max((one.epoch for epochs in curves.values() for one in epochs), default=1)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        style.integer_axis(axes, np.arange(1, longest + 1))
    style.legend_below(figure, left, columns=4)
    return figure


@dataclass(frozen=True, slots=True)
class TimeCurve:
    """Seconds of one training of a network, by its number of inputs.

    Attributes
    ----------
    network : str
    dimensions : sequence of int
    seconds : sequence of float
    all_features : float or None
        Seconds of the same network on all features.
    """

    network: str
    dimensions: Sequence[int]
    seconds: Sequence[float]
    all_features: float | None


@style.with_grid
def draw_training_times(curves: Sequence[TimeCurve], title: str) -> Figure:
    """Draw the seconds of one training over the number of inputs."""
    figure = style.new_figure(8.6, 4.2)
    axes = figure.subplots()
    for position, curve in enumerate(curves):
        colour = style.CURVES[position % len(style.CURVES)]
        axes.plot(
            curve.dimensions, curve.seconds, color=colour, marker="o", markersize=3,
            linewidth=1.4, label=curve.network,
        )  # fmt: skip
        if curve.all_features is not None:
            axes.axhline(curve.all_features, color=colour, linestyle="--", linewidth=1.0)
    if any(curve.all_features is not None for curve in curves):
        style.legend_entry(axes, "all features", linestyle="--")
    given = [curve.all_features for curve in curves if curve.all_features]
    given += [seconds for curve in curves for seconds in curve.seconds]
    if any(seconds > 0 for seconds in given):
        axes.set_yscale("log")
        style.plain_log_ticks(axes.yaxis, given)
    axes.set(title=title, xlabel="number of components", ylabel="seconds of one training")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    style.legend_beside(axes)
    return figure


def time_columns(curves: Sequence[TimeCurve]) -> dict[str, list[Any]]:
    """Collect the numbers of :func:`draw_training_times` as columns."""
    rows = [
        (curve.network, k, seconds, curve.all_features)
        for curve in curves
        for k, seconds in zip(curve.dimensions, curve.seconds, strict=True)
    ]
    names = ("network", "dimensions", "seconds", "all_features_seconds")
    return columns_of(names, rows)
