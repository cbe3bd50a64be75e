"""Validation of the graph of a model of ONNX that comes from a file.

Models that the checker of ONNX refuses are often usable, so it is not applied. What the compression
relies on is checked here: nodes in topological order, tensors whose data have the declared size,
and inputs of known types.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import onnx
from onnx import helper

from hpcembed.runtime.errors import InputError

__all__ = ["check_graph", "check_texts"]

#: Bytes of a tensor, at most.
_MOST_BYTES = 2**48


def check_graph(graph: onnx.GraphProto, name: str, opset: int) -> None:
    """Raise InputError for a graph that cannot be a whole model.

    Parameters
    ----------
    name : str
        File of the model, for messages.
    opset : int
        Version of the operators of ONNX.

    Raises
    ------
    InputError
        The message names the node or the tensor.
    """
    for tensor in _tensors(graph):
        problem = _problem(tensor)
        if problem:
            raise InputError(
                f"{name}: the tensor {tensor.name!r} {problem}: export the model again"
            )
    for one in graph.input:
        if not _is_known(one.type.tensor_type.elem_type):
            raise InputError(
                f"{name}: the input {one.name!r} is no tensor of a known type: export the model "
                "again"
            )
    for node in graph.node:
        schema = _schema(node, opset)
        if schema is None:
            continue
        least = int(schema.min_input), int(schema.min_output)
        if len(node.input) < least[0] or len(node.output) < least[1]:
            raise InputError(
                f"{name}: the node {node.name or node.op_type!r}, {node.op_type}, has "
                f"{len(node.input)} inputs and {len(node.output)} outputs, and needs {least[0]} "
                f"and {least[1]}: export the model again"
            )
        given = zip(schema.inputs, node.input, strict=False)
        absent = [one.name for one, name_given in given if not name_given and _is_needed(one)]
        if absent:
            raise InputError(
                f"{name}: the node {node.name or node.op_type!r}, {node.op_type}, has no input "
                f"{absent[0]}: export the model again"
            )
    _check_order(graph, name)
    made = {output for node in graph.node for output in node.output}
    made |= {one.name for one in (*graph.input, *graph.initializer)}
    missing = [one.name for one in graph.output if one.name not in made]
    if missing or not graph.output:
        what = f"no node makes its output {missing[0]!r}" if missing else "it has no outputs"
        raise InputError(f"{name}: {what}: export the model again")


def check_texts(message: Any, name: str) -> None:
    """Refuse texts that are not UTF-8: protobuf reads them as bytes, and cannot write them.

    Raises
    ------
    InputError
    """
    if isinstance(message, onnx.TensorProto):  # its other fields are large
        texts: list[tuple[str, Any]] = [
            ("name", message.name), ("doc_string", message.doc_string)
        ]  # fmt: skip
    else:
        texts = []
        for field, value in message.ListFields():
            values = [value] if isinstance(value, str | bytes) else value
            if field.type == field.TYPE_STRING:
                texts += [(field.name, one) for one in values]
            elif field.type == field.TYPE_MESSAGE:
                for one in [values] if hasattr(values, "ListFields") else values:
                    check_texts(one, name)
    wrong = [field for field, text in texts if not isinstance(text, str)]
    if wrong:
        raise InputError(f"{name}: a text ({wrong[0]}) in it is not UTF-8: export the model again")


def _schema(node: onnx.NodeProto, opset: int) -> onnx.defs.OpSchema | None:
    """Return the definition of the operator of a node, if it is one of ONNX."""
    if node.domain not in ("", "ai.onnx"):
        return None
    try:
        return onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


def _is_needed(parameter: Any) -> bool:
    """Whether an input of a definition cannot be left out."""
    return bool(parameter.option == onnx.defs.OpSchema.FormalParameterOption.Single)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield initialisers, and the values of nodes Constant."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t


def _problem(tensor: onnx.TensorProto) -> str:
    """Return what is wrong with a tensor; empty if nothing is."""
    if not _is_known(tensor.data_type):
        return f"is of the unknown type {tensor.data_type}"
    if any(size < 0 for size in tensor.dims):
        return f"has the sizes {list(tensor.dims)}"
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    n = math.prod(tensor.dims)
    if n * dtype.itemsize > _MOST_BYTES:
        return f"has the sizes {list(tensor.dims)}"
    if tensor.data_type == onnx.TensorProto.STRING:
        found, expected = len(tensor.string_data), n
    elif "4" in onnx.TensorProto.DataType.Name(tensor.data_type).removesuffix("64"):
        return ""  # packed numbers of 4 bits
    elif tensor.HasField("raw_data"):
        found, expected = len(tensor.raw_data), n * dtype.itemsize
    else:
        field = getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))
        found, expected = len(field), n * (2 if dtype.kind == "c" else 1)
    return "" if found == expected else f"declares {list(tensor.dims)} but has other data"


def _is_known(kind: int) -> bool:
    try:
        helper.tensor_dtype_to_np_dtype(kind)
    except (KeyError, ValueError, TypeError):
        return False
    return kind != onnx.TensorProto.UNDEFINED


def _check_order(graph: onnx.GraphProto, name: str) -> None:
    """Refuse a node that reads a tensor of a later node or of none, and a tensor made twice."""
    made = {output for node in graph.node for output in node.output if output}
    known = {one.name for one in (*graph.input, *graph.initializer)}
    known |= {one.values.name for one in graph.sparse_initializer}
    for node in graph.node:
        title = node.name or node.op_type
        absent = [one for one in node.input if one and one not in made and one not in known]
        if absent:
            raise InputError(
                f"{name}: the node {title!r} reads {absent[0]!r}, which no node makes: export the "
                "model again"
            )
        late = [one for one in node.input if one in made and one not in known]
        if late:
            raise InputError(
                f"{name}: the node {title!r} reads {late[0]!r}, which a later node makes: sort the "
                "nodes in topological order"
            )
        twice = [one for one in node.output if one and one in known]
        if twice:
            raise InputError(
                f"{name}: the node {title!r} makes {twice[0]!r}, which exists already: export the "
                "model again"
            )
        known.update(node.output)
