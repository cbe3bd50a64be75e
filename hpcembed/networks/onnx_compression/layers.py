"""Layers of a graph: Gemm, MatMul with a constant, and Conv, and reasons to leave some alone."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hpcembed.networks.low_rank.layer_data import LayerData, LayerMoments
from hpcembed.networks.low_rank.shape import LayerShape
from hpcembed.networks.onnx_compression.graph import Network, attribute, subgraphs
from hpcembed.runtime.errors import ConfigError

__all__ = ["OnnxLayer", "find_layers", "read_layer"]

Array = NDArray[Any]

_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_QUANTISED = {
    "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulNBits",
    "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention",
}  # fmt: skip
_OTHERS = {
    "ConvTranspose": "transposed convolutions are not supported",
    "LSTM": "recurrent layers are not supported",
    "GRU": "recurrent layers are not supported",
    "RNN": "recurrent layers are not supported",
    "FusedConv": "an operator of ONNX Runtime, not of ONNX",
    "FusedGemm": "an operator of ONNX Runtime, not of ONNX",
    "FusedMatMul": "an operator of ONNX Runtime, not of ONNX",
}
_LINEAR = {"Gemm", "MatMul"}


@dataclass(frozen=True)
class OnnxLayer:
    """A layer of the graph.

    Attributes
    ----------
    name : str
        Of its node, or of its output if the node has none.
    kind : {"Gemm", "MatMul", "Conv"} or another operator
    node, last : int
        Positions of its first and its last node, which differ where Add has the bias.
    x, y : str
        Tensors that enter and leave.
    weight : str
    shape : LayerShape
        Without positions.
    data_type : int
        Element type of the weight.
    reason : str
        Why it is left alone; else empty.
    """

    name: str
    kind: str
    node: int
    last: int
    x: str
    y: str
    weight: str
    shape: LayerShape
    data_type: int
    reason: str = ""

    @property
    def is_convolution(self) -> bool:
        """Channels are the second dimension, not the last one."""
        return self.kind == "Conv"


def find_layers(network: Network, patterns: str | Sequence[str] = "linear,conv") -> list[OnnxLayer]:
    """Return all layers in topological order.

    Parameters
    ----------
    network : Network
    patterns : str or sequence of str
        ``"linear"`` (Gemm, MatMul), ``"conv"``, or patterns with ``*`` of names of nodes or
        weights.

    Raises
    ------
    ConfigError
        A pattern matches no layer.
    """
    wanted = patterns.split(",") if isinstance(patterns, str) else list(patterns)
    wanted = [pattern.strip() for pattern in wanted if pattern.strip()]
    if not wanted:
        raise ConfigError('layers: no pattern; "linear,conv" selects all layers')
    found = list(_all_layers(network))
    matched: set[str] = set()
    layers = []
    for layer in found:
        hits = {pattern for pattern in wanted if _matches(layer, pattern)}
        matched |= hits
        if not hits and not layer.reason:
            layer = replace(layer, reason="not selected")
        layers.append(layer)
    for pattern in wanted:
        if pattern not in matched and pattern not in ("linear", "conv"):
            names = ", ".join(layer.name for layer in found[:5])
            raise ConfigError(f"layers: no layer matches {pattern!r}; the first ones are {names}")
    return layers


def _matches(layer: OnnxLayer, pattern: str) -> bool:
    if pattern == "linear":
        return layer.kind in _LINEAR
    if pattern == "conv":
        return layer.kind == "Conv"
    return fnmatch.fnmatchcase(layer.name, pattern) or fnmatch.fnmatchcase(layer.weight, pattern)


def _all_layers(network: Network) -> Iterator[OnnxLayer]:
    taken: set[str] = set()
    for position, node in enumerate(network.nodes):
        layer = _layer(network, position, node)
        if layer is not None:
            if layer.name in taken:
                layer = replace(layer, name=f"{layer.name}:{layer.y}")
            taken.add(layer.name)
            yield layer
        for graph in subgraphs(node):
            yield from _in_subgraph(graph, position)


def _in_subgraph(graph: onnx.GraphProto, position: int) -> Iterator[OnnxLayer]:
    weights = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Gemm", "Conv") or (
            node.op_type == "MatMul" and node.input[1] in weights
        ):
            yield _alone(node, position, "it is in a subgraph of If, Loop or Scan")
        for inner in subgraphs(node):
            yield from _in_subgraph(inner, position)


def _alone(node: onnx.NodeProto, position: int, reason: str, weight: str = "") -> OnnxLayer:
    name = node.name or next(iter(node.output), "")
    x, y = next(iter(node.input), ""), next(iter(node.output), "")
    return OnnxLayer(
        name, node.op_type, position, position, x, y, weight, LayerShape(0, 0, bias=False),
        onnx.TensorProto.UNDEFINED, reason,
    )  # fmt: skip


def _layer(network: Network, position: int, node: onnx.NodeProto) -> OnnxLayer | None:
    kind = node.op_type
    if kind in _QUANTISED:
        return _alone(node, position, "its weight is quantised")
    if kind in _OTHERS:
        return _alone(node, position, _OTHERS[kind])
    if node.domain not in ("", "ai.onnx") or kind not in ("Gemm", "MatMul", "Conv"):
        return None
    weight = node.input[1]
    found = network.constant(weight)
    if found is None:
        return _without_constant(network, position, node)
    array, names = found
    reason = _reason(network, node, array, names)
    if kind == "Conv" and array.ndim > 2:
        layer = _convolution(network, position, node, array, names[0])
    elif kind != "Conv" and array.ndim == 2:
        layer = _matrix(network, position, node, array, names[0])
    else:
        reason = reason or f"its weight has {array.ndim} dimensions"
        return _alone(node, position, reason, names[0])
    return replace(layer, reason=reason)


def _without_constant(network: Network, position: int, node: onnx.NodeProto) -> OnnxLayer | None:
    producer = network.producers.get(node.input[1])
    if producer is not None and network.nodes[producer].op_type == "DequantizeLinear":
        return _alone(node, position, "its weight is quantised", node.input[1])
    if node.op_type != "MatMul":
        return _alone(node, position, "its weight is computed by other nodes", node.input[1])
    if network.constant(node.input[0]) is not None:
        return _alone(node, position, "its weight is the first operand", node.input[0])
    return None  # a product of two computed tensors has no weight


def _reason(network: Network, node: onnx.NodeProto, array: Array, names: list[str]) -> str:
    if any(network.uses[name] > 1 for name in names):
        return "its weight is used by several nodes"
    if network.data_type(node.input[1]) not in _TYPES:
        return f"its weight has the type {array.dtype}"
    if not np.isfinite(array).all():
        return "its weight is not finite"
    if node.op_type == "MatMul" and array.ndim != 2:
        return f"its weight has {array.ndim} dimensions"
    if node.op_type == "Gemm" and attribute(node, "transA", 0):
        return "its input is transposed"
    for bias in node.input[2:3]:
        if bias and network.constant(bias) is None:
            return "its bias is computed by other nodes"
    if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2]:
        (bias_array, _) = network.constant(node.input[2]) or (np.zeros(()), [])
        outputs = array.shape[0 if attribute(node, "transB", 0) else 1]
        if bias_array.size not in (1, outputs) or (
            bias_array.size > 1 and bias_array.shape[-1] != outputs
        ):
            return "its bias is not a vector"
    if node.op_type == "Conv":
        groups = int(attribute(node, "group", 1))
        if groups > 1 and array.shape[1] == 1:
            return "a depthwise convolution"
    return ""


def _convolution(
    network: Network, position: int, node: onnx.NodeProto, array: Array, weight: str
) -> OnnxLayer:
    groups = int(attribute(node, "group", 1))
    shape = LayerShape(
        array.shape[0], array.shape[1] * groups, int(np.prod(array.shape[2:])), groups,
        len(node.input) > 2 and bool(node.input[2]),
    )  # fmt: skip
    return OnnxLayer(
        node.name or node.output[0], "Conv", position, position, node.input[0], node.output[0],
        weight, shape, network.data_type(node.input[1]),
    )  # fmt: skip


def _matrix(
    network: Network, position: int, node: onnx.NodeProto, array: Array, weight: str
) -> OnnxLayer:
    transposed = node.op_type == "Gemm" and bool(attribute(node, "transB", 0))
    m, n = array.shape if transposed else array.shape[::-1]
    has_bias = node.op_type == "Gemm" and len(node.input) > 2 and bool(node.input[2])
    last, y = position, node.output[0]
    if node.op_type == "MatMul":
        added = _added_bias(network, y, m)
        if added is not None:
            last, has_bias = added, True
            y = network.nodes[added].output[0]
    return OnnxLayer(
        node.name or node.output[0], node.op_type, position, last, node.input[0], y, weight,
        LayerShape(m, n, bias=has_bias), network.data_type(node.input[1]),
    )  # fmt: skip


def _added_bias(network: Network, y: str, m: int) -> int | None:
    """Return the position of the node that adds a constant vector to a product, or None."""
    readers = network.consumers.get(y, [])
    if network.uses[y] != 1 or len(readers) != 1:
        return None
    node = network.nodes[readers[0]]
    if node.op_type != "Add" or node.domain not in ("", "ai.onnx"):
        return None
    found = network.constant(node.input[1] if node.input[0] == y else node.input[0])
    if found is None:
        return None
    bias = found[0]
    fits = bias.size in (1, m) and bias.ndim <= 2 and (bias.size == 1 or bias.shape[-1] == m)
    return readers[0] if fits else None


def read_layer(
    network: Network, layer: OnnxLayer, shape: LayerShape, moments: LayerMoments
) -> LayerData:
    """Return a layer as arrays in double precision, with the factors of Gemm in weight and bias."""
    node = network.nodes[layer.node]
    weight = _constant(network, node.input[1])
    bias = np.zeros(shape.outputs)
    padded = False
    if layer.kind == "Conv":
        if len(node.input) > 2 and node.input[2]:
            bias = _constant(network, node.input[2])
        same = attribute(node, "auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER")
        padded = same or any(attribute(node, "pads", []))
    else:
        if not (layer.kind == "Gemm" and attribute(node, "transB", 0)):
            weight = weight.T
        weight = weight * attribute(node, "alpha", 1.0)
        if layer.kind == "Gemm" and len(node.input) > 2 and node.input[2]:
            bias = _constant(network, node.input[2]) * attribute(node, "beta", 1.0)
        elif layer.last != layer.node:
            add = network.nodes[layer.last]
            bias = _constant(network, add.input[1 if add.input[0] == node.output[0] else 0])
    weight = np.ascontiguousarray(weight, dtype=np.float64)
    vector = np.broadcast_to(bias.reshape(-1), (shape.outputs,)).astype(np.float64)
    return LayerData(
        layer.name, shape, np.split(weight, shape.groups), np.split(vector, shape.groups), moments,
        padded,
    )  # fmt: skip


def _constant(network: Network, name: str) -> NDArray[np.float64]:
    found = network.constant(name)
    assert found is not None
    return found[0].astype(np.float64)
