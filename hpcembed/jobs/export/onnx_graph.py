"""ONNX file of a model: one graph, made node by node.

The operators belong to opset 13, which runtimes support since 2020. The input is ``features``
(batch, d), or one input of shape (batch, 1) for each raw column of a model with an encoding
(:mod:`hpcembed.jobs.export.onnx_columns`). The outputs are ``logits`` and ``probabilities``
(batch, classes) in float32, and ``class_index`` (batch,) in int64. A regression has one output,
``prediction`` (batch,), in the unit of the target, in float32 or float64. Names of classes and
features are in the metadata of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcembed.data.columns.encoding import ColumnEncoding
from hpcembed.jobs.export.model import Model
from hpcembed.jobs.export.onnx_columns import ML_OPSET, EncodingGraph, encoding_graph
from hpcembed.runtime.errors import InputError

__all__ = ["onnx_bytes"]

OPSET = 13
IR_VERSION = 7
#: An ONNX file is one protocol buffer message of at most 2 GiB.
LARGEST = 2**31 - 2**20


def onnx_bytes(
    model: Model, metadata: Mapping[str, str], encoding: ColumnEncoding | None = None
) -> bytes:
    """Return the content of the ONNX file of a model.

    Parameters
    ----------
    metadata : mapping of str to str
        Entries of the file.
    encoding : ColumnEncoding, optional
        Encoding of raw columns, which are then the inputs of the graph.

    Raises
    ------
    InputError
        The weights do not fit one ONNX file.
    """
    n_bytes = sum(array.nbytes for array in model.tensors.values())
    if n_bytes > LARGEST:
        raise InputError(
            f"weights of {n_bytes / 2**30:.1f} GiB do not fit one ONNX file, which holds 2 GiB: "
            "train on fewer components"
        )
    import onnx
    from onnx import helper, numpy_helper

    tensors: dict[str, Any] = dict(model.tensors)
    if model.target is not None:
        tensors["target.axis"] = np.array([1], dtype=np.int64)
    if encoding is None:
        kind = helper.np_dtype_to_tensor_dtype(model.input_type)
        shape: list[str | int | None] = ["batch", model.n_features]
        encoded = EncodingGraph([helper.make_tensor_value_info("features", kind, shape)])
    else:
        encoded = encoding_graph(encoding, model.input_type)
    graph = helper.make_graph(
        [*encoded.nodes, *_nodes(model)],
        "hpcembed",
        encoded.inputs,
        _outputs(model),
        initializer=[
            *encoded.initializers,
            *(numpy_helper.from_array(a, name) for name, a in tensors.items()),
        ],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    if encoding is not None:
        opsets.append(helper.make_opsetid("ai.onnx.ml", ML_OPSET))
    proto = helper.make_model(
        graph,
        producer_name="hpcembed",
        producer_version=metadata.get("hpcembed", ""),
        opset_imports=opsets,
        ir_version=IR_VERSION,
    )
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def _outputs(model: Model) -> list[Any]:
    from onnx import TensorProto, helper

    if model.target is not None:
        kind = helper.np_dtype_to_tensor_dtype(model.target.shift.dtype)
        return [helper.make_tensor_value_info("prediction", kind, ["batch"])]
    by_class: list[str | int | None] = ["batch", len(model.class_names)]
    return [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, by_class),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, by_class),
        helper.make_tensor_value_info("class_index", TensorProto.INT64, ["batch"]),
    ]


def _nodes(model: Model) -> list[Any]:
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Sub", ["features", "shift"], ["centred"])]

    def append(operator: str, name: str, *more: str, **attributes: Any) -> None:
        inputs = [*nodes[-1].output, *more]
        nodes.append(helper.make_node(operator, inputs, [name], **attributes))

    for i, stage in enumerate(model.stages):
        if stage.bias is None:
            append("MatMul", f"stage{i}.product", f"stage{i}.weight")
        else:
            append("Gemm", f"stage{i}.product", f"stage{i}.weight", f"stage{i}.bias")
        if stage.weight.dtype != np.float32:
            append("Cast", f"stage{i}.rounded", to=TensorProto.FLOAT)
        if stage.relu:
            append("Relu", f"stage{i}.relu")
    if model.target is not None:
        append("Squeeze", "output", "target.axis")
        if model.target.shift.dtype != np.float32:
            append("Cast", "output.double", to=TensorProto.DOUBLE)
        append("Mul", "output.scaled", "target.scale")
        append("Add", "prediction", "target.shift")
        return nodes
    nodes[-1].output[0] = "logits"
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    nodes.append(helper.make_node("ArgMax", ["logits"], ["class_index"], axis=1, keepdims=0))
    return nodes
