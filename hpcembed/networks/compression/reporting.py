"""Report of a compression: errors and seconds of its layers, measured, and the frontier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcembed.networks.compression.batches import call
from hpcembed.networks.compression.layers import Layer, is_convolution
from hpcembed.networks.compression.metrics import Score
from hpcembed.networks.compression.request import Request
from hpcembed.networks.compression.timing import layer_seconds, model_seconds
from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.layer_data import LayerData
from hpcembed.networks.low_rank.problems import LayerProblem, SharedProblem
from hpcembed.networks.low_rank.report import CompressionReport, FrontierPoint, LayerReport
from hpcembed.networks.low_rank.shape import Cost, Ranks
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import sum_over_ranks

if TYPE_CHECKING:
    from hpcembed.networks.compression.model_compression import ModelCompression

__all__ = ["make_report"]

Matrix = NDArray[np.float64]

#: Outputs of a layer up to which the predicted error in the Euclidean norm is formed.
_MAX_OUTPUTS = 8192


def make_report(
    compression: ModelCompression,
    request: Request,
    choice: Choice,
    small: nn.Module,
    score: Score | None,
    test_scores: tuple[float, float] | None,
) -> CompressionReport:
    """Return the report. Collective."""
    cut = [name for name, ranks in choice.ranks.items() if ranks.side != "none"]
    measured = _measured_errors(compression, small, cut)
    batch = next(iter(compression.calibration), None)
    seconds: dict[str, list[float]] = {}
    whole = (0.0, 0.0)
    if batch is not None:
        batch = batch.to(next(small.parameters()).device)
        replaced = {name: [small.get_submodule(name)] for name in cut}
        seconds = layer_seconds(compression.model, batch, "calibration", replaced)
        whole = (
            model_seconds(compression.model, batch, "calibration"),
            model_seconds(small, batch, "calibration"),
        )
    before = compression.cost_of_all()
    macs = choice.cost.macs
    digest = compression.calibration.digest(compression.comm)
    settings = compression.settings.as_dict() | {
        "request": {name: value for name, value in vars(request).items() if value is not None}
    }
    return CompressionReport(
        layers=_layers(compression, choice, measured, seconds),
        frontier=_frontier(compression, choice, score),
        before=Cost(before.parameters, before.macs, whole[0]),
        after=Cost(float(sum(p.numel() for p in small.parameters())), macs, whole[1]),
        metric=compression.evaluator.name if compression.evaluator else "",
        full_score=compression.evaluator.full.value if compression.evaluator else None,
        small_score=score.value if score else None,
        loss=score.loss if score else None,
        test_scores=test_scores,
        settings=settings,
        samples=compression.statistics.samples,
        calibration_hash=digest,
        folded=tuple(compression.folded),
        seconds=dict(compression.seconds),
        warnings=_warnings(compression, choice),
    )


def _layers(
    compression: ModelCompression, choice: Choice, measured: dict[str, float],
    seconds: dict[str, list[float]],
) -> list[LayerReport]:  # fmt: skip
    known = {layer.name: layer for layer in compression.layers}
    reached = [known[name] for name in compression.statistics.layers]
    unreached = [layer for layer in compression.layers if layer not in reached]
    shared = {name: group for group in compression.shared for name in group.names}
    together = {name: names for names in choice.shared for name in names}
    reports = []
    for layer in [*reached, *unreached]:
        shape = compression.statistics.shapes.get(layer.name, layer.shape(0, 0))
        sizes = (shape.outputs, shape.inputs, shape.kernel, shape.groups)
        before = shape.cost()
        ranks = choice.ranks.get(layer.name, Ranks())
        reason = layer.reason
        if layer in unreached and not reason:
            reason = "not reached by the calibration batches"
        if reason or ranks.side == "none":
            reports.append(
                LayerReport(
                    layer.name,
                    layer.kind,
                    sizes,
                    reason=reason or "a cut would cost more than it saves",
                    parameters=(before.parameters, before.parameters),
                    macs=(before.macs, before.macs),
                )
            )
            continue
        names = together.get(layer.name, ())
        group = shared[layer.name] if names else None
        reports.append(
            _cut_layer(
                compression.problems[layer.name],
                compression.data[layer.name],
                ranks,
                group,
                sizes,
                layer.kind,
                measured.get(layer.name, float("nan")),
                seconds.get(layer.name, [0.0, 0.0]),
            )
        )
    return reports


def _cut_layer(
    problem: LayerProblem, layer: LayerData, ranks: Ranks, group: SharedProblem | None,
    sizes: tuple[int, int, int, int], kind: str, measured: float, seconds: list[float],
) -> LayerReport:  # fmt: skip
    sides = [
        (group.input if group else problem.input, ranks.inputs),
        (problem.output, ranks.outputs),
    ]
    used = [(side, rank) for side, rank in sides if rank and side is not None]
    captured = float(np.prod([1 - s.errors[r] / max(s.trace, 1e-300) for s, r in used]))
    before = layer.shape.cost()
    first = group is None or group.names[0] == layer.name
    counts = np.array([ranks.inputs]), np.array([ranks.outputs])
    parameters, macs = layer.shape.costs(*counts, reduction=first)
    factors = [factors for side, _ in used for factors in side.factors]
    return LayerReport(
        layer.name,
        kind,
        sizes,
        side=ranks.side,
        rank_in=ranks.inputs,
        rank_out=ranks.outputs,
        shared_with=tuple(n for n in group.names if n != layer.name) if group else (),
        captured=captured,
        error_predicted=_predicted_error(problem, layer, ranks, group),
        error_measured=measured,
        max_residual=max(side.max_residual for side, _ in used),
        orthogonality=max(one.orthogonality for one in factors),
        solver=", ".join(sorted({one.solver for one in factors})),
        parameters=(before.parameters, float(parameters[0])),
        macs=(before.macs, float(macs[0])),
        seconds=(seconds[0], seconds[1]),
    )


def _predicted_error(
    problem: LayerProblem, layer: LayerData, ranks: Ranks, group: SharedProblem | None
) -> float:
    """Return the relative error of the output that the factors imply, in the Euclidean norm."""
    shape, entry = layer.shape, layer.moments
    if shape.outputs > _MAX_OUTPUTS:
        return float("nan")
    lost = total = 0.0
    entering = group.input if group else problem.input
    for g, W in enumerate(layer.weights):
        flat = W.reshape(W.shape[0], -1)
        if entry.outputs:
            C = entry.outputs[g].covariance()
        else:
            C = flat @ entry.inputs[g].covariance() @ flat.T
        total += float(np.trace(C))
        M = np.eye(len(C))
        if ranks.outputs:
            assert problem.output is not None
            M = problem.output.factors[g].map(ranks.outputs)
            R = np.eye(len(C)) - M
            lost += float(np.einsum("ij,jk,ik->", R, C, R, optimize=True))
        if ranks.inputs:
            assert entering is not None
            P = np.eye(W.shape[1]) - entering.factors[g].map(ranks.inputs)
            about = entering.points[g]
            D = P @ entry.inputs[g].covariance(about=about) @ P.T
            # Errors at the places of a kernel are counted as independent.
            taps = np.moveaxis(W, 1, -1).reshape(W.shape[0], -1, W.shape[1])
            reduced = np.tensordot(M, taps, axes=(1, 0))
            lost += float(np.einsum("otc,cd,otd->", reduced, D, reduced, optimize=True))
    return lost / max(total, 1e-300)


@torch.no_grad()
def _measured_errors(
    compression: ModelCompression, small: nn.Module, cut: list[str]
) -> dict[str, float]:
    """Return the relative error of each cut layer on its own inputs. Collective."""
    sums: dict[str, Matrix] = {}
    handles = []

    def attach(name: str) -> None:
        original, new = compression.model.get_submodule(name), small.get_submodule(name)
        channels = compression.statistics.shapes[name].outputs
        sums[name] = np.zeros(3 + channels)

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            y, z = output.double(), new(inputs[0]).double()
            total = _by_channel(y, original)
            sums[name][0] += y.numel() / channels
            sums[name][1] += float((y - z).square().sum())
            sums[name][2] += float(y.square().sum())
            sums[name][3:] += total.cpu().numpy()

        handles.append(original.register_forward_hook(hook))

    for name in cut:
        attach(name)
    try:
        with agreement(compression.comm):
            device = next(compression.model.parameters()).device
            for batch in compression.calibration:
                call(compression.model, batch.to(device), "calibration")
    finally:
        for handle in handles:
            handle.remove()
    errors = {}
    for name in cut:
        total = sum_over_ranks(compression.comm, sums[name])
        variance = total[2] - float(np.sum(total[3:] ** 2)) / max(total[0], 1.0)
        errors[name] = float(total[1] / max(variance, 1e-300))
    return errors


def _by_channel(y: Tensor, module: nn.Module) -> Tensor:
    if is_convolution(module):
        return y.sum(dim=[d for d in range(y.ndim) if d != 1])
    return y.reshape(-1, y.shape[-1]).sum(dim=0)


def _frontier(
    compression: ModelCompression, chosen: Choice, score: Score | None
) -> list[FrontierPoint]:
    judged: list[tuple[Choice, float | None]] = list(compression.judged)
    if score is None:
        judged.append((chosen, None))
    points = [
        FrontierPoint(c.cost.parameters, c.cost.macs, c.loss, None, dict(c.ranks))
        for measure in ("parameters", "macs")
        for c in compression.ranks.frontier(measure)
    ]
    points += [
        FrontierPoint(c.cost.parameters, c.cost.macs, c.loss, loss, dict(c.ranks))
        for c, loss in judged
    ]
    return sorted(points, key=lambda point: (-point.parameters, point.predicted_loss))


def _warnings(compression: ModelCompression, choice: Choice) -> tuple[str, ...]:
    warnings = []
    for name, ranks in choice.ranks.items():
        moments = compression.statistics.layers[name].all_moments()
        rows, width = min(m.count for m in moments), max(m.total.size for m in moments)
        if ranks.side != "none" and rows < 4 * width:
            warnings.append(
                f"layer {name}: {rows} calibration rows for {width} channels; its factors may fit "
                "these rows better than others"
            )
    unused: Any = [layer for layer in compression.layers if not layer.reason
                   and layer.name not in compression.statistics.layers]  # fmt: skip
    unused_layers: list[Layer] = unused
    if unused_layers:
        names = ", ".join(layer.name for layer in unused_layers[:5])
        warnings.append(f"not reached by the calibration batches: {names}")
    return tuple(warnings)
