"""A model of ONNX as lists of nodes and constants, which are edited without copies of weights.

Protobuf copies whole messages and ends at 2 GiB. A :class:`Network` refers to the nodes and the
initialisers of a model and makes a message of them, or of a part of them, on demand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["Network", "attribute", "inputs_of", "subgraphs", "tensor_bytes"]


@dataclass(frozen=True)
class Network:
    """Nodes and constants of the main graph of a model.

    Attributes
    ----------
    source : onnx.ModelProto
        Model with everything else: inputs, outputs, operator sets, types of tensors.
    nodes : tuple of NodeProto
        In topological order.
    constants : dict of str to TensorProto
        Initialisers.
    metadata : dict of str to str
        Entries that are added to ``metadata_props``.
    """

    source: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    constants: Mapping[str, onnx.TensorProto]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Network:
        """Return the network of a model, which must not change afterwards."""
        graph = model.graph
        return cls(model, tuple(graph.node), {t.name: t for t in graph.initializer})

    @cached_property
    def inputs(self) -> list[onnx.ValueInfoProto]:
        """Inputs without default values."""
        defaults = {tensor.name for tensor in self.source.graph.initializer}
        return [one for one in self.source.graph.input if one.name not in defaults]

    @cached_property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return [one.name for one in self.source.graph.output]

    @cached_property
    def producers(self) -> dict[str, int]:
        """Position of the node that makes each tensor."""
        return {
            name: position
            for position, node in enumerate(self.nodes)
            for name in node.output
            if name
        }

    @cached_property
    def consumers(self) -> dict[str, list[int]]:
        """Positions of the nodes that read each tensor, with those in subgraphs."""
        readers: dict[str, list[int]] = {}
        for position, node in enumerate(self.nodes):
            for name in inputs_of(node):
                readers.setdefault(name, []).append(position)
        return readers

    @cached_property
    def uses(self) -> Counter[str]:
        """Number of uses of each tensor, with the outputs of the model."""
        counts = Counter({name: len(readers) for name, readers in self.consumers.items()})
        counts.update(self.outputs)
        return counts

    @cached_property
    def opset(self) -> int:
        """Version of the operators of ONNX."""
        versions = [o.version for o in self.source.opset_import if o.domain in ("", "ai.onnx")]
        return max(versions, default=1)

    def names(self) -> set[str]:
        """Return all names in use: tensors and nodes."""
        names = {node.name for node in self.nodes} | set(self.constants) | set(self.producers)
        names |= set(self.consumers) | {one.name for one in self.source.graph.input}
        return names | set(self.outputs)

    def constant(self, name: str) -> tuple[NDArray[Any], list[str]] | None:
        """Return a constant tensor and the names it comes from, or None if it is computed.

        Constants are initialisers, outputs of Constant, and those of Identity and Transpose with a
        constant input.
        """
        if name in self.constants:
            return numpy_helper.to_array(self.constants[name]), [name]
        position = self.producers.get(name)
        if position is None:
            return None
        node = self.nodes[position]
        if node.op_type == "Constant" and len(node.attribute) == 1:
            value = attribute(node, "value")
            return None if value is None else (numpy_helper.to_array(value), [name])
        if node.op_type in ("Identity", "Transpose") and node.domain in ("", "ai.onnx"):
            found = self.constant(node.input[0])
            if found is None:
                return None
            array, names = found
            if node.op_type == "Transpose":
                array = np.transpose(array, attribute(node, "perm"))
            return array, [*names, name]
        return None

    def data_type(self, name: str) -> int:
        """Return the element type of a constant."""
        if name in self.constants:
            return int(self.constants[name].data_type)
        node = self.nodes[self.producers[name]]
        if node.op_type == "Constant":
            return int(attribute(node, "value").data_type)
        return self.data_type(node.input[0])

    def parameters(self) -> int:
        """Return the number of floating-point numbers in initialisers and constants.

        Single numbers are settings of operators and do not count.
        """
        kinds = {getattr(onnx.TensorProto, k) for k in ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")}
        tensors = list(self.constants.values()) + [
            value
            for node in self.nodes
            if node.op_type == "Constant" and (value := attribute(node, "value")) is not None
        ]
        sizes = [int(np.prod(t.dims, dtype=np.int64)) for t in tensors if t.data_type in kinds]
        return sum(size for size in sizes if size > 1)

    def ancestors(self, outputs: Iterable[str], given: Iterable[str] = ()) -> list[int]:
        """Return the positions of the nodes that tensors need, from tensors that are given."""
        known, needed = set(given), set()
        waiting = [name for name in outputs if name not in known]
        while waiting:
            name = waiting.pop()
            position = self.producers.get(name)
            if name in known or position is None or position in needed:
                continue
            needed.add(position)
            waiting += inputs_of(self.nodes[position])
        return sorted(needed)

    def pruned(self) -> Network:
        """Return the network without nodes and constants that no output needs."""
        nodes = [self.nodes[p] for p in self.ancestors(self.outputs)]
        used = {name for node in nodes for name in inputs_of(node)} | set(self.outputs)
        constants = {name: t for name, t in self.constants.items() if name in used}
        return Network(self.source, tuple(nodes), constants, self.metadata)

    def proto(
        self,
        outputs: Sequence[str] | None = None,
        inputs: Mapping[str, int] | None = None,
    ) -> onnx.ModelProto:
        """Return a model of the whole network, or of the part that computes `outputs`.

        Parameters
        ----------
        outputs : sequence of str, optional
            Tensors that the model returns.
        inputs : dict of str to int, optional
            Tensors that are given, with their element types; default the network's inputs.
        """
        source = self.source.graph
        nodes: Sequence[onnx.NodeProto] = self.nodes
        if outputs is not None:
            nodes = [self.nodes[p] for p in self.ancestors(outputs, inputs or ())]
        used = {name for node in nodes for name in inputs_of(node)} | set(outputs or self.outputs)
        constants = [t for name, t in self.constants.items() if name in used]
        if outputs is None:
            leaving = list(source.output)
        else:
            known = {one.name: one for one in source.output}
            leaving = [known.get(n) or onnx.ValueInfoProto(name=n) for n in outputs]
        if inputs is None:
            entering = [one for one in self.inputs if outputs is None or one.name in used]
        else:
            entering = [helper.make_tensor_value_info(n, kind, None) for n, kind in inputs.items()]
        kept = {name for node in nodes for name in node.output}
        infos = [one for one in source.value_info if one.name in kept] if outputs is None else []
        return self._assembled(nodes, constants, entering, leaving, infos)

    def _assembled(
        self,
        nodes: Sequence[onnx.NodeProto],
        constants: Sequence[onnx.TensorProto],
        entering: Sequence[onnx.ValueInfoProto],
        leaving: Sequence[onnx.ValueInfoProto],
        infos: Sequence[onnx.ValueInfoProto],
    ) -> onnx.ModelProto:
        source = self.source
        model = onnx.ModelProto(ir_version=source.ir_version)
        for name in ("producer_name", "producer_version", "domain", "doc_string"):
            setattr(model, name, getattr(source, name))
        model.model_version = source.model_version
        model.opset_import.extend(source.opset_import)
        model.functions.extend(source.functions)
        added = dict(self.metadata)
        for prop in source.metadata_props:
            if prop.key not in added:
                model.metadata_props.add(key=prop.key, value=prop.value)
        for key, value in added.items():
            model.metadata_props.add(key=key, value=value)
        graph = model.graph
        graph.name, graph.doc_string = source.graph.name, source.graph.doc_string
        graph.node.extend(nodes)
        graph.input.extend(entering)
        graph.output.extend(leaving)
        graph.value_info.extend(infos)
        graph.sparse_initializer.extend(source.graph.sparse_initializer)
        for tensor in constants:
            graph.initializer.append(tensor)
            # Up to version 3 of the representation, initialisers are inputs as well.
            if source.ir_version < 4:
                graph.input.append(
                    helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                )
        return model


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return an attribute of a node; texts as str."""
    for one in node.attribute:
        if one.name == name:
            value = helper.get_attribute_value(one)
            return value.decode() if isinstance(value, bytes) else value
    return default


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs in the attributes of a node: branches and bodies of loops."""
    for one in node.attribute:
        if one.type == onnx.AttributeProto.GRAPH:
            yield one.g
        elif one.type == onnx.AttributeProto.GRAPHS:
            yield from one.graphs


def inputs_of(node: onnx.NodeProto) -> list[str]:
    """Return the tensors that a node reads, with those that its subgraphs take from outside."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        names += _free_names(graph)
    return names


def _free_names(graph: onnx.GraphProto) -> list[str]:
    known = {one.name for one in graph.input} | {one.name for one in graph.initializer}
    free = []
    for node in graph.node:
        free += [name for name in inputs_of(node) if name not in known]
        known |= set(node.output)
    return free + [one.name for one in graph.output if one.name not in known]


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Return the size of a tensor, without a look at its data."""
    itemsize = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    return int(np.prod(tensor.dims, dtype=np.int64)) * itemsize
