"""Report of a compression of a graph: errors of its layers, measured, and the frontier."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.low_rank.choice import Choice, RankProblem
from hpcembed.networks.low_rank.layer_data import LayerData
from hpcembed.networks.low_rank.problems import LayerProblem, SharedProblem
from hpcembed.networks.low_rank.report import FrontierPoint, LayerReport
from hpcembed.networks.low_rank.shape import Ranks
from hpcembed.networks.onnx_compression.build import Solved
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.inference import Session
from hpcembed.networks.onnx_compression.layers import OnnxLayer
from hpcembed.networks.onnx_compression.replacement import Replacement, beside
from hpcembed.networks.onnx_compression.rows import Rows
from hpcembed.networks.onnx_compression.statistics import channel_rows, tensor_groups
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["batch_seconds", "frontier_points", "layer_reports", "measured_errors", "rows_digest"]

#: Outputs of a layer up to which the predicted error is formed.
_MAX_OUTPUTS = 8192
_TIMED_RUNS = 5


def measured_errors(
    solved: Solved, new: Mapping[str, Replacement], rows: Rows, comm: MPI.Comm, threads: int
) -> dict[str, float]:
    """Return the mean square error of each new layer on its own inputs, relative to the variance.

    Collective.
    """
    network, outputs = beside(solved.network, new)
    sums = {name: np.zeros(3 + solved.data[name].shape.outputs) for name in new}
    by_output = {outputs[name]: name for name in new}
    with agreement(comm):
        for group, size in tensor_groups(network, list(by_output), rows, threads):
            names = [by_output[tensor] for tensor in group]
            pairs = [*group, *(solved.layers[name].y for name in names)]
            session = Session(network, list(dict.fromkeys(pairs)), threads=threads)
            for batch in rows.batches(size=max(1, size // 2)):
                values = session.run(batch.feeds, batch.name)
                for tensor, name in zip(group, names, strict=True):
                    layer = solved.layers[name]
                    y, z = (
                        channel_rows(
                            batch.valid(values[which]), layer.is_convolution, batch.mask
                        ).astype(np.float64)
                        for which in (layer.y, tensor)
                    )
                    sums[name][0] += len(y)
                    sums[name][1] += float(np.sum((y - z) ** 2))
                    sums[name][2] += float(np.sum(y**2))
                    sums[name][3:] += y.sum(axis=0)
    errors = {}
    for name in new:
        total = sum_over_ranks(comm, sums[name])
        variance = total[2] - float(np.sum(total[3:] ** 2)) / max(total[0], 1.0)
        errors[name] = float(total[1] / max(variance, 1e-300))
    return errors


def layer_reports(
    solved: Solved, layers: Sequence[OnnxLayer], choice: Choice, measured: Mapping[str, float]
) -> list[LayerReport]:
    """Return one record for each layer, in topological order."""
    reports = []
    for layer in layers:
        ranks = choice.ranks.get(layer.name, Ranks())
        shape = solved.data[layer.name].shape if layer.name in solved.data else layer.shape
        before = shape.cost()
        if ranks.side != "none":
            reports.append(_cut_layer(solved, layer, ranks, choice, measured))
            continue
        reports.append(
            LayerReport(
                layer.name,
                layer.kind,
                (shape.outputs, shape.inputs, shape.kernel, shape.groups),
                reason=layer.reason or "a cut would cost more than it saves",
                parameters=(before.parameters, before.parameters),
                macs=(before.macs, before.macs),
            )
        )
    return reports


def _cut_layer(
    solved: Solved, layer: OnnxLayer, ranks: Ranks, choice: Choice, measured: Mapping[str, float]
) -> LayerReport:
    problem, data = solved.problems[layer.name], solved.data[layer.name]
    group = solved.group_of(layer.name, choice)
    sides = [
        (group.input if group else problem.input, ranks.inputs),
        (problem.output, ranks.outputs),
    ]
    used = [(side, rank) for side, rank in sides if rank and side is not None]
    shape = data.shape
    before = shape.cost()
    counts = np.array([ranks.inputs]), np.array([ranks.outputs])
    is_first = group is None or group.names[0] == layer.name
    parameters, macs = shape.costs(*counts, reduction=is_first)
    if not is_first:  # the node that reduces the inputs runs once
        macs = macs - shape.inputs * ranks.inputs * shape.input_positions
    factors = [one for side, _ in used for one in side.factors]
    return LayerReport(
        layer.name,
        layer.kind,
        (shape.outputs, shape.inputs, shape.kernel, shape.groups),
        side=ranks.side,
        rank_in=ranks.inputs,
        rank_out=ranks.outputs,
        shared_with=tuple(n for n in group.names if n != layer.name) if group else (),
        captured=float(np.prod([1 - s.errors[r] / max(s.trace, 1e-300) for s, r in used])),
        error_predicted=_predicted_error(problem, data, ranks, group),
        error_measured=measured.get(layer.name, float("nan")),
        max_residual=max(side.max_residual for side, _ in used),
        orthogonality=max(one.orthogonality for one in factors),
        solver=", ".join(sorted({one.solver for one in factors})),
        parameters=(before.parameters, float(parameters[0])),
        macs=(before.macs, float(macs[0])),
    )


def _predicted_error(
    problem: LayerProblem, layer: LayerData, ranks: Ranks, group: SharedProblem | None
) -> float:
    """Return the relative error of the output that the factors imply."""
    if layer.shape.outputs > _MAX_OUTPUTS:
        return float("nan")
    entry = layer.moments
    entering = group.input if group else problem.input
    lost = total = 0.0
    for g, W in enumerate(layer.weights):
        flat = W.reshape(W.shape[0], -1)
        if entry.outputs:
            C = entry.outputs[g].covariance()
        else:
            C = flat @ entry.inputs[g].covariance() @ flat.T
        total += float(np.trace(C))
        reduced: Any = W
        if ranks.outputs:
            assert problem.output is not None
            M: NDArray[np.float64] = problem.output.factors[g].map(ranks.outputs)
            lost += _trace(np.eye(len(C)) - M, _about(layer, problem, g))
            reduced = np.tensordot(M, W, axes=(1, 0))
        if ranks.inputs:
            assert entering is not None
            P = np.eye(W.shape[1], dtype=np.float64) - entering.factors[g].map(ranks.inputs)
            D = P @ entry.inputs[g].covariance(about=entering.points[g]) @ P.T
            # Errors at the places of a kernel are counted as independent.
            taps = np.moveaxis(reduced, 1, -1).reshape(W.shape[0], -1, W.shape[1])
            lost += float(np.einsum("otc,cd,otd->", taps, D, taps, optimize=True))
    return lost / max(total, 1e-300)


def _about(layer: LayerData, problem: LayerProblem, group: int) -> NDArray[np.float64]:
    """Return the second moments of the outputs about the point of their factors."""
    assert problem.output is not None
    point = problem.output.points[group]
    if layer.moments.outputs:
        return layer.moments.outputs[group].covariance(about=point)
    W = layer.weights[group].reshape(len(point), -1)
    moments = layer.moments.inputs[group]
    shift: NDArray[np.float64] = W @ moments.mean + layer.biases[group] - point
    covariance: NDArray[np.float64] = W @ moments.covariance() @ W.T
    return covariance + shift[:, None] * shift


def _trace(R: NDArray[np.float64], C: NDArray[np.float64]) -> float:
    return float(np.einsum("ij,jk,ik->", R, C, R, optimize=True))


def frontier_points(
    ranks: RankProblem, judged: Sequence[tuple[Choice, float]]
) -> list[FrontierPoint]:
    """Return the frontier of loss against cost, and the choices that were built."""
    points = [
        FrontierPoint(c.cost.parameters, c.cost.macs, c.loss, None, dict(c.ranks))
        for measure in ("parameters", "macs")
        for c in ranks.frontier(measure)
    ]
    points += [
        FrontierPoint(c.cost.parameters, c.cost.macs, c.loss, loss, dict(c.ranks))
        for c, loss in judged
    ]
    return sorted(points, key=lambda point: (-point.parameters, point.predicted_loss))


def batch_seconds(network: Network, rows: Rows, threads: int) -> float:
    """Return the median seconds of one batch; 0 without rows."""
    batch = next(rows.batches(), None)
    if batch is None:
        return 0.0
    session = Session(network, threads=threads)
    session.run(batch.feeds, batch.name)
    times = []
    for _ in range(_TIMED_RUNS):
        began = time.perf_counter()
        session.run(batch.feeds, batch.name)
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def rows_digest(rows: Rows) -> str:
    """Return the SHA-256 of this rank's rows, as the network receives them."""
    digest = hashlib.sha256()
    for batch in rows.batches():
        for name in sorted(batch.feeds):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(batch.feeds[name][: batch.size]).tobytes())
    return digest.hexdigest()
