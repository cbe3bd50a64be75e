"""BatchNormalization in inference mode, folded into the Conv or Gemm before it.

The scale and the shift of each channel go into the weight and the bias. The outputs on some rows
are compared before and after; if they differ by more than rounding, nothing is folded.
"""

from __future__ import annotations

import numpy as np
import onnx
from mpi4py import MPI

from hpcembed.networks.low_rank.layer_data import LayerMoments
from hpcembed.networks.low_rank.parts import Parts
from hpcembed.networks.onnx_compression.graph import Network, attribute
from hpcembed.networks.onnx_compression.inference import Session
from hpcembed.networks.onnx_compression.layers import OnnxLayer, find_layers, read_layer
from hpcembed.networks.onnx_compression.replacement import Replacement, replace_layers
from hpcembed.networks.onnx_compression.rows import Rows
from hpcembed.runtime.agreement import agreement

__all__ = ["fold_normalisations"]

#: Largest difference of the outputs relative to their largest entry, for float16 and for others.
_HALF_TOLERANCE = 5e-2
_TOLERANCE = 1e-3
_ROWS = 8


def fold_normalisations(
    network: Network, rows: Rows, comm: MPI.Comm, threads: int
) -> tuple[Network, list[str], list[str]]:
    """Return the network, names of folded normalisations, and warnings.

    Collective.
    """
    replacements, removed = {}, {}
    for layer in find_layers(network):
        if layer.reason or layer.kind not in ("Conv", "Gemm"):
            continue
        position = _normalisation_after(network, layer)
        if position is not None:
            normalisation = network.nodes[position]
            parts = _folded(network, layer, normalisation)
            replacements[layer.name] = Replacement(layer, parts)
            removed[position] = layer
    if not replacements:
        return network, [], []
    folded = _without(replace_layers(network, replacements), network, removed)
    names = [network.nodes[p].name or network.nodes[p].output[0] for p in removed]
    has_half = any(one.data_type == onnx.TensorProto.FLOAT16 for one in removed.values())
    tolerance = _HALF_TOLERANCE if has_half else _TOLERANCE
    difference = 0.0
    with agreement(comm):
        before, after = Session(network, threads=threads), Session(folded, threads=threads)
        for batch in rows.batches(_ROWS):
            one, two = before.run(batch.feeds, batch.name), after.run(batch.feeds, batch.name)
            for name, value in one.items():
                if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size:
                    scale = max(float(np.abs(value).max()), 1e-30)
                    gap = np.abs(value.astype(np.float64) - two[name])
                    difference = max(difference, float(gap.max()) / scale)
    difference = comm.allreduce(difference, op=MPI.MAX)
    if not difference <= tolerance:
        text = (
            f"{len(names)} normalisations are not folded: the outputs would differ by "
            f"{difference:.1e}"
        )
        return network, [], [text]
    return folded, names, []


def _normalisation_after(network: Network, layer: OnnxLayer) -> int | None:
    readers = network.consumers.get(layer.y, [])
    if network.uses[layer.y] != 1 or len(readers) != 1:
        return None
    node = network.nodes[readers[0]]
    trains = attribute(node, "training_mode", 0) or any(node.output[1:])
    if node.op_type != "BatchNormalization" or trains or node.input[0] != layer.y:
        return None
    constant = all(network.constant(name) is not None for name in node.input[1:5])
    return readers[0] if constant else None


def _folded(network: Network, layer: OnnxLayer, node: onnx.NodeProto) -> Parts:
    arrays = []
    for name in node.input[1:5]:
        found = network.constant(name)
        assert found is not None
        arrays.append(found[0].astype(np.float64))
    gamma, beta, mean, variance = arrays
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    data = read_layer(network, layer, layer.shape, LayerMoments())
    weight = np.concatenate(data.weights)
    kernel = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return Parts(None, kernel, None, (np.concatenate(data.biases) - mean) * scale + beta)


def _without(network: Network, before: Network, removed: dict[int, OnnxLayer]) -> Network:
    """Remove normalisations; their layers take over the names of their outputs."""
    new_names = {layer.y: before.nodes[p].output[0] for p, layer in removed.items()}
    gone = {before.nodes[p].output[0] for p in removed}
    nodes = []
    for node in network.nodes:
        if node.op_type == "BatchNormalization" and node.output[0] in gone:
            continue
        if node.output and node.output[0] in new_names:
            node = _copy(node)
            node.output[0] = new_names[node.output[0]]
        nodes.append(node)
    return Network(network.source, tuple(nodes), network.constants, network.metadata).pruned()


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied
