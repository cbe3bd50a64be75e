"""Figure of accuracy over model size, with the front of the best models of each size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from hpcembed.jobs.report.figures import style
from hpcembed.jobs.report.scores import ACCURACY, Score

__all__ = ["SizedModel", "draw_model_sizes", "model_size_columns", "pareto_front"]


@dataclass(frozen=True, slots=True)
class SizedModel:
    """Size and test accuracy of one model.

    Attributes
    ----------
    network : str
    n_inputs : int
    compressed : bool
        Whether the inputs are coordinates of an embedding.
    parameters : int
        Numbers that the model stores.
    accuracy : float
        Between 0 and 1; R2 of a regression.
    chosen : bool
        Whether this is the chosen model, which gets a ring.
    is_kept : bool
        Whether the chosen model keeps the accuracy; else it is called the nearest one.
    """

    network: str
    n_inputs: int
    compressed: bool
    parameters: int
    accuracy: float
    chosen: bool = False
    is_kept: bool = True


def pareto_front(models: Sequence[SizedModel]) -> list[SizedModel]:
    """Select the models that are more accurate than every smaller one, the smallest first."""
    front: list[SizedModel] = []
    for model in sorted(models, key=lambda one: (one.parameters, -one.accuracy)):
        if not front or model.accuracy > front[-1].accuracy:
            front.append(model)
    return front


@style.with_grid
def draw_model_sizes(
    models: Sequence[SizedModel],
    title: str,
    counted: str = "the projection included",
    score: Score = ACCURACY,
) -> Figure:
    """Draw accuracy over the number of parameters, and the Pareto front.

    Circles are compressed models, squares are models on all features.

    Parameters
    ----------
    counted : str
        Parts of a model whose parameters are counted, for the label of the axis.
    """
    figure = style.new_figure(8.6, 4.8)
    axes = figure.subplots()
    for position, network in enumerate(dict.fromkeys(model.network for model in models)):
        colour = style.CURVES[position % len(style.CURVES)]
        for compressed, marker in ((True, "o"), (False, "s")):
            chosen = [m for m in models if (m.network, m.compressed) == (network, compressed)]
            axes.plot(
                [model.parameters for model in chosen],
                [score.factor * model.accuracy for model in chosen],
                linestyle="", marker=marker, markersize=5 if compressed else 8, color=colour,
                markerfacecolor=colour if compressed else "none",
                label=network if compressed else None,
            )  # fmt: skip
    front = pareto_front(models)
    axes.plot(
        [model.parameters for model in front], [score.factor * model.accuracy for model in front],
        color=style.GREY, linewidth=1.0, zorder=0.9, label="best for its size",
    )  # fmt: skip
    for model in _apart(front):
        axes.annotate(
            f"k = {model.n_inputs}" if model.compressed else "all", xytext=(-4, 6),
            xy=(model.parameters, score.factor * model.accuracy), textcoords="offset points",
            ha="right", fontsize=8, color=style.GREY,
        )  # fmt: skip
    for model in models:
        if model.chosen:
            kind = "chosen" if model.is_kept else "nearest"
            label = f"{kind}:\n{model.network},\nk = {model.n_inputs}"
            height = score.factor * model.accuracy
            axes.plot([model.parameters], [height], label=label, **style.RING)
    if any(not model.compressed for model in models):
        square = {"marker": "s", "markersize": 8, "markerfacecolor": "none"}
        style.legend_entry(axes, "all features", linestyle="", **square)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    style.plain_log_ticks(axes.xaxis, [model.parameters for model in models])
    axes.set(title=title, xlabel=f"parameters, {counted}", ylabel=score.axis("test"))
    style.limit_scores(axes, score.factor)
    style.legend_beside(axes)
    return figure


def _apart(front: Sequence[SizedModel]) -> list[SizedModel]:
    """Select models so far apart that their labels do not touch."""
    chosen: list[SizedModel] = []
    for model in reversed(front):
        if not chosen or model.parameters < 0.72 * chosen[-1].parameters:
            chosen.append(model)
    return chosen


def model_size_columns(models: Sequence[SizedModel]) -> dict[str, list[Any]]:
    """Collect the numbers of the figure as columns."""
    front = pareto_front(models)
    columns = {key: [getattr(one, key) for one in models] for key in SizedModel.__slots__}
    return columns | {"on_front": [one in front for one in models]}
