"""Records of layers and of the frontier, for a compression of any kind of model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from hpcembed.networks.low_rank.choice import Choice, RankProblem
from hpcembed.networks.low_rank.layer_data import LayerData, LayerMoments
from hpcembed.networks.low_rank.moments import ROUNDING
from hpcembed.networks.low_rank.problems import LayerProblem, SharedProblem
from hpcembed.networks.low_rank.report import FrontierPoint, LayerReport
from hpcembed.networks.low_rank.request import Request
from hpcembed.networks.low_rank.shape import LayerShape, Ranks
from hpcembed.runtime.errors import InputError

__all__ = [
    "check_rows", "cut_layer", "few_rows", "frontier_points", "relative_error", "whole_layer",
]  # fmt: skip

Matrix = NDArray[np.float64]

#: Outputs of a layer up to which the predicted error in the Euclidean norm is formed.
_MAX_OUTPUTS = 8192


def whole_layer(
    name: str, kind: str, shape: LayerShape, reason: str, request: Request
) -> LayerReport:
    """Return the record of a layer that stays as it is."""
    cost = shape.cost()
    return LayerReport(
        name,
        kind,
        _sizes(shape),
        reason=reason or _whole_reason(shape, request),
        parameters=(cost.parameters, cost.parameters),
        macs=(cost.macs, cost.macs),
    )


def _whole_reason(shape: LayerShape, request: Request) -> str:
    """Return the reason for which a layer that could be cut is whole."""
    smallest = shape.costs(np.array([1, 0]), np.array([0, 1]))
    cost = shape.cost()
    saves = (smallest[0] < cost.parameters) | (smallest[1] < cost.macs)
    if not saves.any():
        return "a cut would cost more than it saves"
    return "cuts of other layers lose less" if request.ranks is None else "ranks has no rank for it"


def cut_layer(
    kind: str, layer: LayerData, problem: LayerProblem, group: SharedProblem | None, ranks: Ranks,
    *, error_measured: float, seconds: tuple[float, float] = (0.0, 0.0),
    reduction_runs_once: bool = False,
) -> LayerReport:  # fmt: skip
    """Return the record of a layer that is cut.

    Parameters
    ----------
    group : SharedProblem, optional
        Layers with the same reduction.
    reduction_runs_once : bool
        A shared reduction is computed once, not by each of its layers.
    """
    shape = layer.shape
    sides = [
        (group.input if group else problem.input, ranks.inputs),
        (problem.output, ranks.outputs),
    ]
    used = [(side, rank) for side, rank in sides if rank and side is not None]
    before = shape.cost()
    is_first = group is None or group.names[0] == layer.name
    counts = np.array([ranks.inputs]), np.array([ranks.outputs])
    parameters, macs = shape.costs(*counts, reduction=is_first)
    if reduction_runs_once and not is_first:
        macs = macs - shape.inputs * ranks.inputs * shape.input_positions
    factors = [one for side, _ in used for one in side.factors]
    return LayerReport(
        layer.name,
        kind,
        _sizes(shape),
        side=ranks.side,
        rank_in=ranks.inputs,
        rank_out=ranks.outputs,
        shared_with=tuple(n for n in group.names if n != layer.name) if group else (),
        captured=float(np.prod([1 - s.errors[r] / max(s.trace, 1e-300) for s, r in used])),
        error_predicted=_predicted_error(problem, layer, ranks, group),
        error_measured=error_measured,
        max_residual=max(side.max_residual for side, _ in used),
        orthogonality=max(one.orthogonality for one in factors),
        solver=", ".join(sorted({one.solver for one in factors})),
        parameters=(before.parameters, float(parameters[0])),
        macs=(before.macs, float(macs[0])),
        seconds=seconds,
    )


def _sizes(shape: LayerShape) -> tuple[int, int, int, int]:
    return shape.outputs, shape.inputs, shape.kernel, shape.groups


def _predicted_error(
    problem: LayerProblem, layer: LayerData, ranks: Ranks, group: SharedProblem | None
) -> float:
    """Return the relative error of the output that the factors imply, in the Euclidean norm."""
    if layer.shape.outputs > _MAX_OUTPUTS:
        return float("nan")
    entry = layer.moments
    entering = group.input if group else problem.input
    lost = total = 0.0
    for g, W in enumerate(layer.weights):
        covariance, mean = _output_moments(layer, g)
        total += float(np.trace(covariance))
        reduced = W
        if ranks.outputs:
            assert problem.output is not None
            M: Matrix = problem.output.factors[g].map(ranks.outputs)
            shift = mean - problem.output.points[g]
            R = np.eye(len(M)) - M
            about = covariance + np.outer(shift, shift)
            lost += float(np.einsum("ij,jk,ik->", R, about, R, optimize=True))
            reduced = np.tensordot(M, W, axes=(1, 0))
        if ranks.inputs:
            assert entering is not None
            P = np.eye(W.shape[1]) - entering.factors[g].map(ranks.inputs)
            D = P @ entry.inputs[g].covariance(about=entering.points[g]) @ P.T
            # Errors at the places of a kernel are counted as independent.
            taps = np.moveaxis(reduced, 1, -1).reshape(W.shape[0], -1, W.shape[1])
            lost += float(np.einsum("otc,cd,otd->", taps, D, taps, optimize=True))
    return lost / max(total, 1e-300)


def _output_moments(layer: LayerData, group: int) -> tuple[Matrix, Matrix]:
    """Return covariance and mean of the outputs of a group."""
    if layer.moments.outputs:
        moments = layer.moments.outputs[group]
        return moments.covariance(), moments.mean
    W = layer.weights[group].reshape(layer.shape.group_outputs, -1)
    moments = layer.moments.inputs[group]
    return W @ moments.covariance() @ W.T, W @ moments.mean + layer.biases[group]


def relative_error(sums: Matrix) -> float:
    """Return the mean square error of outputs relative to their variance.

    Outputs that are the same for all rows have none: their error is relative to the mean square.

    Parameters
    ----------
    sums : ndarray of shape (3 + m,)
        Number of rows, sum of squared errors, sum of squares, and the sum of each channel.
    """
    variance = sums[2] - float(np.sum(sums[3:] ** 2)) / max(sums[0], 1.0)
    if variance <= ROUNDING * sums[2]:
        variance = sums[2]
    return float(sums[1] / max(variance, 1e-300))


def frontier_points(
    ranks: RankProblem, built: Iterable[tuple[Choice, float | None]]
) -> list[FrontierPoint]:
    """Return the frontier of loss against cost, and the choices that were built with their loss."""
    predicted = [
        (choice, None) for measure in ("parameters", "macs") for choice in ranks.frontier(measure)
    ]
    points: dict[tuple[float, ...], FrontierPoint] = {}
    for c, loss in (*predicted, *built):
        key = (c.cost.parameters, c.cost.macs, c.loss)
        if key not in points or loss is not None:
            points[key] = FrontierPoint(c.cost.parameters, c.cost.macs, c.loss, loss, dict(c.ranks))
    return sorted(points.values(), key=lambda point: (-point.parameters, point.predicted_loss))


def few_rows(moments: Mapping[str, LayerMoments], ranks: Mapping[str, Ranks]) -> list[str]:
    """Return a warning for each cut layer with few rows for its channels."""
    warnings = []
    for name, one in ranks.items():
        entries = moments[name].all_moments()
        rows, width = moments[name].rows, max(entry.total.size for entry in entries)
        if one.side != "none" and rows < 4 * width:
            warnings.append(
                f"layer {name}: {rows:,} calibration rows for {width:,} channels; its factors may "
                "fit these rows better than others"
            )
    return warnings


def check_rows(
    moments: Mapping[str, LayerMoments], ranks: Mapping[str, Ranks], samples: int, source: str
) -> None:
    """Raise an InputError if a layer has fewer rows than its rank needs.

    Parameters
    ----------
    samples : int
        Calibration samples on all ranks.
    source : str
        Subject of the message: ``"the calibration has"``.
    """
    for name, one in ranks.items():
        rows, rank = moments[name].rows, max(one.inputs, one.outputs)
        if rank and rows <= rank:
            per_sample = max(rows / max(samples, 1), 1e-9)
            raise InputError(
                f"layer {name}: rank {rank} needs more than {rank} rows, and {source} {rows}; "
                f"{int(10 * rank / per_sample) + 1} samples would do"
            )
