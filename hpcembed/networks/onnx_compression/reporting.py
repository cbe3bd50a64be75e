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

__all__ = ["batch_seconds", "layer_reports", "measured_errors", "rows_digest"]

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
    return {name: relative_error(sum_over_ranks(comm, each)) for name, each in sums.items()}


def layer_reports(
    solved: Solved, layers: Sequence[OnnxLayer], choice: Choice, measured: Mapping[str, float]
) -> list[LayerReport]:
    """Return one record for each layer, in topological order."""
    reports = []
    for layer in layers:
        ranks = choice.ranks.get(layer.name, Ranks())
        if ranks.side == "none":
            shape = solved.data[layer.name].shape if layer.name in solved.data else layer.shape
            reports.append(whole_layer(layer.name, layer.kind, shape, layer.reason))
            continue
        reports.append(
            cut_layer(
                layer.kind, solved.data[layer.name], solved.problems[layer.name],
                solved.group_of(layer.name, choice), ranks, error_measured=measured[layer.name],
                reduction_runs_once=True,
            )
        )  # fmt: skip
    return reports


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
