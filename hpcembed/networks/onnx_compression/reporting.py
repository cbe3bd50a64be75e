"""Report of a compression of a graph: errors of its layers, measured, and the frontier."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence

import numpy as np
from mpi4py import MPI

from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.layer_reports import cut_layer, relative_error, whole_layer
from hpcembed.networks.low_rank.report import LayerReport
from hpcembed.networks.low_rank.request import Request
from hpcembed.networks.low_rank.shape import LayerShape, Ranks
from hpcembed.networks.onnx_compression.build import Solved
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.inference import Session
from hpcembed.networks.onnx_compression.layers import OnnxLayer
from hpcembed.networks.onnx_compression.replacement import Replacement, beside
from hpcembed.networks.onnx_compression.rows import Rows
from hpcembed.networks.onnx_compression.statistics import channel_rows, tensor_groups
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["batch_seconds", "layer_reports", "measured_errors", "rows_digest"]

_TIMED_RUNS = 5


def measured_errors(
    solved: Solved, new: Mapping[str, Replacement], small: Network, rows: Rows, comm: MPI.Comm,
    threads: int, *, own_inputs: bool,
) -> dict[str, float]:  # fmt: skip
    """Return the mean square error of each new layer, relative to the variance.

    Collective.

    Parameters
    ----------
    small : Network
        The network with the new layers.
    own_inputs : bool
        Each new layer receives the inputs that the layer has in the model. Otherwise it receives
        those of the compressed network, with the errors of the layers before it.
    """
    if own_inputs:
        network, outputs = beside(solved.network, new)
    else:
        network, outputs = small, {name: solved.layers[name].y for name in new}
    sums = {name: np.zeros(3 + solved.data[name].shape.outputs) for name in new}
    by_output = {outputs[name]: name for name in new}
    with agreement(comm):
        for group, size in tensor_groups(network, list(by_output), rows, threads):
            names = [by_output[tensor] for tensor in group]
            wanted = list(dict.fromkeys(solved.layers[name].y for name in names))
            before = Session(solved.network, wanted, threads=threads)
            after = Session(network, group, threads=threads)
            for batch in rows.batches(size=max(1, size // 2)):
                found, given = (one.run(batch.feeds, batch.name) for one in (after, before))
                for tensor, name in zip(group, names, strict=True):
                    layer = solved.layers[name]
                    y, z = (
                        channel_rows(batch.valid(value), layer.is_convolution, batch.mask).astype(
                            np.float64
                        )
                        for value in (given[layer.y], found[tensor])
                    )
                    sums[name][0] += len(y)
                    sums[name][1] += float(np.sum((y - z) ** 2))
                    sums[name][2] += float(np.sum(y**2))
                    sums[name][3:] += y.sum(axis=0)
    return {name: relative_error(sum_over_ranks(comm, each)) for name, each in sums.items()}


def layer_reports(
    solved: Solved,
    layers: Sequence[OnnxLayer],
    shapes: Mapping[str, LayerShape],
    choice: Choice,
    measured: Mapping[str, float],
    request: Request,
) -> list[LayerReport]:
    """Return one record for each layer, in topological order."""
    reports = []
    for layer in layers:
        ranks = choice.ranks.get(layer.name, Ranks())
        if ranks.side == "none":
            shape = shapes.get(layer.name, layer.shape)
            reports.append(whole_layer(layer.name, layer.kind, shape, layer.reason, request))
            continue
        reports.append(
            cut_layer(
                layer.kind, solved.data[layer.name], solved.problems[layer.name],
                solved.group_of(layer.name, choice), ranks, error_measured=measured[layer.name],
                reduction_runs_once=True,
            )
        )  # fmt: skip
    return reports


def batch_seconds(networks: Sequence[Network], rows: Rows, threads: int) -> list[float]:
    """Return the median seconds of one batch for each network, taken in turn; 0 without rows."""
    batch = next(rows.batches(), None)
    if batch is None:
        return [0.0] * len(networks)
    sessions = [Session(network, threads=threads) for network in networks]
    times = np.zeros((1 + _TIMED_RUNS, len(sessions)))
    for run in times:
        for position, session in enumerate(sessions):
            began = time.perf_counter()
            session.run(batch.feeds, batch.name)
            run[position] = time.perf_counter() - began
    return [float(seconds) for seconds in np.median(times[1:], axis=0)]


def rows_digest(rows: Rows) -> str:
    """Return the SHA-256 of this rank's rows, as the network receives them."""
    digest = hashlib.sha256()
    for batch in rows.batches():
        for name in sorted(batch.feeds):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(batch.feeds[name][: batch.size]).tobytes())
    return digest.hexdigest()
