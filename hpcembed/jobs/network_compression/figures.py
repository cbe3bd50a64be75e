"""Figures of a network compression: loss over size, and the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hpcembed.jobs.network_compression.wording import one_line
from hpcembed.jobs.report.figures import style
from hpcembed.networks.low_rank.report import CompressionReport, FrontierPoint, LayerReport

__all__ = [
    "MOST_LAYERS",
    "chosen_point",
    "draw_frontier",
    "draw_layers",
    "drawn_layers",
    "frontier_columns",
    "frontier_line",
    "layer_columns",
]

#: Layers that the figure of layers has room for.
MOST_LAYERS = 48
#: Powers of ten of predicted losses that are drawn below the largest one.
_DECADES = 6
_MEASURES = {"parameters": "parameters kept (%)", "macs": "multiply-adds kept (%)"}
_LOSS_LABELS = {
    "accuracy": "points of accuracy",
    "loss": "nats",
    "divergence": "nats",
    "perplexity": "perplexity",
    "cosine": "1 - cosine",
}


def chosen_point(report: CompressionReport) -> FrontierPoint | None:
    """Return the point of the frontier with the ranks of the result; None if there is none.

    Of several points the one nearest to the result's parameters is returned, and a measured one
    before the others.
    """
    same = [
        point
        for point in report.frontier
        if {n: r for n, r in point.ranks.items() if r.side != "none"} == report.ranks
    ]
    size = report.after.parameters
    return min(
        same, key=lambda p: (abs(p.parameters - size), p.measured_loss is None), default=None
    )


def frontier_line(points: Sequence[FrontierPoint], measure: str) -> list[FrontierPoint]:
    """Select the points with a smaller predicted loss than every cheaper one, cheapest first.

    Parameters
    ----------
    measure : {"parameters", "macs"}
    """
    line: list[FrontierPoint] = []
    for point in sorted(points, key=lambda p: (getattr(p, measure), p.predicted_loss)):
        if not line or point.predicted_loss < line[-1].predicted_loss:
            line.append(point)
    return line


@style.with_grid
def draw_frontier(report: CompressionReport) -> Figure:
    """Draw predicted losses, and measured ones if there are any, over both costs.

    Predicted and measured losses have different units, so they have panels of their own. The
    result is marked by a star; by a vertical line where its loss is not known.
    """
    measures = [one for one in _MEASURES if getattr(report.before, one) > 0]
    measured = [p for p in report.frontier if p.measured_loss is not None]
    has_measured = bool(measured) or report.loss is not None
    height = 6.2 if has_measured else 3.6
    figure = style.new_figure(9.0 if len(measures) > 1 else 5.4, height)
    panels = figure.subplots(
        2 if has_measured else 1, len(measures), squeeze=False, sharex="col", sharey="row"
    )
    for column, measure in enumerate(measures):
        _draw_predicted(panels[0, column], report, measure)
        if has_measured:
            _draw_measured(panels[1, column], report, measured, measure)
        panels[-1, column].set_xlabel(_MEASURES[measure])
    panels[0, 0].set_ylabel("predicted loss")
    if has_measured:
        unit = _LOSS_LABELS.get(report.metric, report.metric)
        panels[1, 0].set_ylabel(f"measured loss ({unit})", parse_math=False)
        for axes in panels[0]:
            axes.tick_params(labelbottom=False)
    for axes in panels[-1]:
        axes.set_xlim(0, 104)
    style.legend_below(figure, _merged_legend(panels), columns=5, fontsize=9, columnspacing=1.4)
    return figure


def _merged_legend(panels: NDArray[Any]) -> Any:
    """Return an object with the legend entries of all panels, each once."""
    entries: dict[str, Any] = {}
    for axes in panels.ravel():
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)

    class Entries:
        @staticmethod
        def get_legend_handles_labels() -> tuple[list[Any], list[str]]:
            return list(entries.values()), list(entries)

    return Entries


def _share(report: CompressionReport, cost: object, measure: str) -> float:
    whole = float(getattr(report.before, measure))
    return 100.0 * float(getattr(cost, measure)) / whole


def _draw_predicted(axes: Any, report: CompressionReport, measure: str) -> None:
    line = [p for p in frontier_line(report.frontier, measure) if math.isfinite(p.predicted_loss)]
    chosen = chosen_point(report)
    values = np.array([point.predicted_loss for point in line])
    positive = values[values > 0]
    axes.set_yscale("log")
    if positive.size:
        floor = float(positive.max()) * 10.0**-_DECADES
        if chosen is not None and chosen.predicted_loss > 0:
            floor = min(floor, chosen.predicted_loss / 10.0)
        shown = [point for point in line if point.predicted_loss >= floor]
        axes.plot(
            [_share(report, point, measure) for point in shown],
            [point.predicted_loss for point in shown],
            color=style.BLUE, linewidth=1.4, label="least predicted loss",
            **style.markers(len(shown)),
        )  # fmt: skip
        ends = [point.predicted_loss for point in (*shown, *([chosen] if chosen else []))]
        style.plain_log_ticks(axes.yaxis, ends)
    at = _share(report, report.after, measure)
    if chosen is not None and chosen.predicted_loss > 0:
        _mark(axes, at, chosen.predicted_loss)
    else:
        axes.axvline(at, color=style.RED, linestyle="--", linewidth=1.2, label="size of the result")


def _draw_measured(
    axes: Any, report: CompressionReport, measured: Sequence[FrontierPoint], measure: str
) -> None:
    axes.axhline(0.0, color=style.GREY, linewidth=0.8)
    axes.plot(
        [_share(report, point, measure) for point in measured],
        [float(point.measured_loss or 0.0) for point in measured],
        linestyle="", marker="s", markersize=5, color=style.GREEN, label="measured",
    )  # fmt: skip
    axes.plot(
        [100.0], [0.0], linestyle="", marker="D", markersize=6, color=style.GREY,
        markerfacecolor="none", label="the model itself",
    )  # fmt: skip
    if report.loss is not None:
        _mark(axes, _share(report, report.after, measure), report.loss)
    limit = report.settings.get("request", {}).get("max_loss")
    if limit is not None:
        axes.axhline(
            float(limit), color=style.ORANGE, linestyle="--", linewidth=1.2, label="largest loss"
        )


def _mark(axes: Any, x: float, y: float) -> None:
    axes.plot(
        [x], [y], linestyle="", marker="*", markersize=13, color=style.RED,
        markeredgecolor="white", markeredgewidth=0.6, zorder=3, label="result",
    )  # fmt: skip


def frontier_columns(report: CompressionReport) -> dict[str, list[Any]]:
    """Collect the numbers of the frontier as columns."""
    chosen = chosen_point(report)
    points = report.frontier
    lines = {
        measure: {id(point) for point in frontier_line(points, measure)} for measure in _MEASURES
    }
    return {
        "parameters": [point.parameters for point in points],
        "macs": [point.macs for point in points],
        "predicted_loss": [point.predicted_loss for point in points],
        "measured_loss": [
            "" if point.measured_loss is None else point.measured_loss for point in points
        ],
        "layers_cut": [sum(r.side != "none" for r in point.ranks.values()) for point in points],
        "least_over_parameters": [id(point) in lines["parameters"] for point in points],
        "least_over_macs": [id(point) in lines["macs"] for point in points],
        "chosen": [point is chosen for point in points],
    }


def drawn_layers(report: CompressionReport) -> list[LayerReport]:
    """Return the layers that are drawn, in their order: those with most parameters before."""
    layers = [layer for layer in report.layers if layer.parameters[0] > 0]
    largest = sorted(layers, key=lambda layer: -layer.parameters[0])[:MOST_LAYERS]
    kept = {id(layer) for layer in largest}
    return [layer for layer in layers if id(layer) in kept]


@style.with_grid
def draw_layers(report: CompressionReport) -> Figure:
    """Draw a bar for the parameters that each layer keeps, and its captured share."""
    layers = drawn_layers(report)
    figure = style.new_figure(8.6, 1.5 + 0.24 * max(len(layers), 3))
    axes = figure.subplots()
    places = np.arange(len(layers))
    cut = np.array([layer.side != "none" for layer in layers], dtype=bool)
    kept = np.array([100.0 * layer.parameters[1] / layer.parameters[0] for layer in layers])
    captured = np.array([100.0 * layer.captured for layer in layers])
    if cut.any():
        axes.barh(places[cut], kept[cut], 0.66, color=style.SKY, label="parameters kept, cut layer")
    if not cut.all():
        axes.barh(
            places[~cut], kept[~cut], 0.66, color="#DDDDDD", edgecolor=style.GREY, linewidth=0.5,
            hatch="////", label="whole layer",
        )  # fmt: skip
    if cut.any():
        axes.plot(
            captured[cut], places[cut], linestyle="", marker="o", markersize=5, color=style.RED,
            label="captured share",
        )  # fmt: skip
    right = max(100.0, float(kept.max(initial=0.0)))
    for place, share in zip(places[cut], captured[cut], strict=True):
        axes.annotate(
            f"{share:.2f}", xy=(right, float(place)), xytext=(8, 0), textcoords="offset points",
            va="center", fontsize=8, color=style.RED, annotation_clip=False,
        )  # fmt: skip
    names = [style.shorten(one_line(layer.name), 32) for layer in layers]
    axes.set_yticks(places, names, parse_math=False, fontsize=8)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(0, right * 1.01)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("parameters kept and captured share (%)")
    style.legend_below(figure, axes, columns=3)
    return figure


def layer_columns(layers: Sequence[LayerReport]) -> dict[str, list[Any]]:
    """Collect all numbers of layers as columns."""
    columns: dict[str, list[Any]] = {
        "layer": [layer.name for layer in layers],
        "type": [layer.kind for layer in layers],
    }
    for place, name in enumerate(("outputs", "inputs", "kernel", "groups")):
        columns[name] = [layer.shape[place] for layer in layers]
    for name in (
        "side", "rank_in", "rank_out", "captured", "error_predicted", "error_measured",
        "max_residual", "orthogonality", "solver",
    ):  # fmt: skip
        columns[name] = [getattr(layer, name) for layer in layers]
    columns["shared_with"] = [" ".join(layer.shared_with) for layer in layers]
    for name in ("parameters", "macs", "seconds"):
        for place, when in enumerate(("before", "after")):
            columns[f"{name}_{when}"] = [getattr(layer, name)[place] for layer in layers]
    columns["reason"] = [layer.reason for layer in layers]
    return columns
