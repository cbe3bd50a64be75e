"""Layers replaced by two or three nodes.

Gemm and MatMul become products with the parts, and Gemm or Add has the bias. Conv becomes a
convolution at one place for the channels that enter, the convolution itself with its strides, pads
and dilations, and one at one place for the channels that leave. Layers with a shared reduction read
one tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hpcembed.networks.low_rank.parts import Parts
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.layers import OnnxLayer

__all__ = ["Replacement", "beside", "replace_layers"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Replacement:
    """New weights of a layer.

    Attributes
    ----------
    layer : OnnxLayer
    parts : Parts
    shared : tuple of str
        Names of the layers that have the same reduction; empty without one.
    """

    layer: OnnxLayer
    parts: Parts
    shared: tuple[str, ...] = ()


@dataclass
class _Writer:
    """New nodes and constants with names that are free."""

    network: Network
    taken: set[str]
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    reduced: dict[tuple[str, ...], str] = field(default_factory=dict)

    def name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name

    def constant(self, wanted: str, array: Matrix, data_type: int) -> str:
        name = self.name(wanted)
        dtype = helper.tensor_dtype_to_np_dtype(data_type)
        values = np.ascontiguousarray(array.astype(dtype))
        self.constants[name] = numpy_helper.from_array(values, name)
        return name

    def nodes(self, new: Replacement, y: str) -> list[onnx.NodeProto]:
        """Return the nodes that compute `y`, without a reduction that is there already."""
        if new.parts.reduction is None and new.parts.expansion is None:
            return self._in_place(new, y)
        write = self._convolution if new.layer.is_convolution else self._matrix
        return write(new, y)

    def _in_place(self, new: Replacement, y: str) -> list[onnx.NodeProto]:
        """Return the nodes of a whole layer with other numbers, under the old names."""
        layer, weight = new.layer, new.parts.kernel
        original = self.network.nodes[layer.node]
        if layer.kind == "MatMul":
            weight = weight.reshape(len(weight), -1).T
        stored = self.name(f"{layer.name}_weight")
        if layer.weight in self.network.constants and y == layer.y:
            stored = layer.weight  # the layer alone uses it
        dtype = helper.tensor_dtype_to_np_dtype(layer.data_type)
        values = np.ascontiguousarray(weight.astype(dtype))
        self.constants[stored] = numpy_helper.from_array(values, stored)
        bias = self.constant(f"{layer.name}_bias", new.parts.bias, layer.data_type)
        name = original.name if y == layer.y else self.name(f"{layer.name}_copy")
        if layer.kind == "Gemm":
            return [helper.make_node("Gemm", [layer.x, stored, bias], [y], name, transB=1)]
        if layer.kind == "MatMul":
            product = original.output[0] if layer.last != layer.node and y == layer.y else (
                self.name(f"{layer.name}_product")
            )  # fmt: skip
            added = self.name(f"{layer.name}_bias_added")
            return [
                helper.make_node("MatMul", [layer.x, stored], [product], name),
                helper.make_node("Add", [product, bias], [y], added),
            ]
        node = onnx.NodeProto()
        node.CopyFrom(original)
        node.name = name
        del node.input[:], node.output[:]
        node.input.extend([layer.x, stored, bias])
        node.output.append(y)
        return [node]

    def _matrix(self, new: Replacement, y: str) -> list[onnx.NodeProto]:
        layer, parts = new.layer, new.parts
        x, nodes = self._reduced(new, layer.x, self._product)
        chain = [("kernel", parts.kernel)]
        if parts.expansion is not None:
            chain.append(("expansion", parts.expansion))
        for step, (word, weight) in enumerate(chain):
            is_last = step == len(chain) - 1
            matrix = weight.reshape(len(weight), -1)
            if is_last and layer.kind == "Gemm":
                bias = self.constant(f"{layer.name}_bias", parts.bias, layer.data_type)
                stored = self.constant(f"{layer.name}_{word}", matrix, layer.data_type)
                nodes.append(
                    helper.make_node(
                        "Gemm",
                        [x, stored, bias],
                        [y],
                        self.name(f"{layer.name}_{word}_product"),
                        transB=1,
                    )
                )
                return nodes
            nodes.append(self._product(layer, word, matrix, x, self.name(f"{layer.name}_{word}_y")))
            x = nodes[-1].output[0]
        bias = self.constant(f"{layer.name}_bias", parts.bias, layer.data_type)
        nodes.append(helper.make_node("Add", [x, bias], [y], self.name(f"{layer.name}_bias_added")))
        return nodes

    def _product(
        self, layer: OnnxLayer, word: str, weight: Matrix, x: str, y: str
    ) -> onnx.NodeProto:
        stored = self.constant(
            f"{layer.name}_{word}", weight.reshape(len(weight), -1).T, layer.data_type
        )
        name = self.name(f"{layer.name}_{word}_product")
        return helper.make_node("MatMul", [x, stored], [y], name)

    def _convolution(self, new: Replacement, y: str) -> list[onnx.NodeProto]:
        layer, parts = new.layer, new.parts
        x, nodes = self._reduced(new, layer.x, self._pointwise)
        original = self.network.nodes[layer.node]
        is_last = parts.expansion is None
        inner = y if is_last else self.name(f"{layer.name}_kernel_y")
        node = onnx.NodeProto()
        node.CopyFrom(original)
        node.name = self.name(f"{layer.name}_kernel_conv")
        del node.input[:]
        node.input.extend([x, self.constant(f"{layer.name}_kernel", parts.kernel, layer.data_type)])
        bias = self.constant(f"{layer.name}_bias", parts.bias, layer.data_type)
        del node.output[:]
        node.output.append(inner)
        nodes.append(node)
        if parts.expansion is None:
            node.input.append(bias)
        else:
            nodes.append(self._pointwise(layer, "expansion", parts.expansion, inner, y))
            nodes[-1].input.append(bias)
        return nodes

    def _pointwise(
        self, layer: OnnxLayer, word: str, weight: Matrix, x: str, y: str
    ) -> onnx.NodeProto:
        places = self.network.constant(self.network.nodes[layer.node].input[1])
        assert places is not None
        ones = [1] * (places[0].ndim - 2)
        stored = self.constant(
            f"{layer.name}_{word}", weight.reshape(*weight.shape, *ones), layer.data_type
        )
        return helper.make_node(
            "Conv", [x, stored], [y], self.name(f"{layer.name}_{word}_conv"), kernel_shape=ones,
            group=layer.shape.groups,
        )  # fmt: skip

    def _reduced(self, new: Replacement, x: str, make: Any) -> tuple[str, list[onnx.NodeProto]]:
        """Return the tensor with the reduced channels, and its node unless it exists."""
        if new.parts.reduction is None:
            return x, []
        if new.shared and new.shared in self.reduced:
            return self.reduced[new.shared], []
        y = self.name(f"{new.layer.name}_reduced")
        if new.shared:
            self.reduced[new.shared] = y
        return y, [make(new.layer, "reduction", new.parts.reduction, x, y)]


def replace_layers(network: Network, replacements: Mapping[str, Replacement]) -> Network:
    """Return a network with other nodes for some layers, and without constants that no one uses.

    Parameters
    ----------
    network : Network
        The one in which the layers were found.
    replacements : dict of str to Replacement
        By the names of layers.
    """
    writer = _Writer(network, network.names())
    at = {new.layer.node: new for new in replacements.values()}
    gone = {new.layer.last for new in replacements.values()}
    nodes: list[onnx.NodeProto] = []
    for position, node in enumerate(network.nodes):
        if position in at:
            nodes += writer.nodes(at[position], at[position].layer.y)
        elif position not in gone:
            nodes.append(node)
    constants = {**network.constants, **writer.constants}
    return Network(network.source, tuple(nodes), constants, network.metadata).pruned()


def beside(
    network: Network, replacements: Mapping[str, Replacement]
) -> tuple[Network, dict[str, str]]:
    """Return the network with the new layers beside the old ones, on the same inputs.

    Returns
    -------
    network : Network
    outputs : dict of str to str
        Tensor that each new layer computes.
    """
    writer = _Writer(network, network.names())
    nodes, outputs = list(network.nodes), {}
    for name, new in replacements.items():
        outputs[name] = writer.name(f"{new.layer.y}_replaced")
        nodes += writer.nodes(new, outputs[name])
    return Network(network.source, tuple(nodes), {**network.constants, **writer.constants}), outputs
