"""ONNX file of a model: one graph, made node by node.

The operators are those of opset 13, which runtimes support since 2020. The input is ``features``
(batch, d). The outputs are ``logits`` and ``probabilities`` (batch, classes) in float32, and
``class_index`` (batch,) in int64. Names of classes and features are in the metadata of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcembed.jobs.export.model import Model
from hpcembed.runtime.errors import InputError

__all__ = ["onnx_bytes"]

OPSET = 13
IR_VERSION = 7
#: An ONNX file is one protocol buffer message of at most 2 GiB.
LARGEST = 2**31 - 2**20


def onnx_bytes(model: Model, metadata: Mapping[str, str]) -> bytes:
    """Return the content of the ONNX file of a model.

    Raises
    ------
    InputError
        The weights do not fit one ONNX file.
    """
    arrays = [stage.weight for stage in model.stages]
    n_bytes = sum(array.nbytes for array in arrays) + model.shift.nbytes
    if n_bytes > LARGEST:
        raise InputError(
            f"weights of {n_bytes / 2**30:.1f} GiB do not fit one ONNX file, which holds 2 GiB: "
            "train on fewer components"
        )
    import onnx
    from onnx import TensorProto, helper

    by_class: list[str | int | None] = ["batch", len(model.class_names)]
    graph = helper.make_graph(
        _nodes(model),
        "hpcembed",
        [
            helper.make_tensor_value_info(
                "features",
                helper.np_dtype_to_tensor_dtype(model.input_type),
                ["batch", model.n_features],
            )
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, by_class),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, by_class),
            helper.make_tensor_value_info("class_index", TensorProto.INT64, ["batch"]),
        ],
        initializer=_initializers(model),
    )
    proto = helper.make_model(
        graph,
        producer_name="hpcembed",
        producer_version=metadata.get("hpcembed", ""),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def _nodes(model: Model) -> list[Any]:
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Sub", ["features", "shift"], ["centred"])]
    value = "centred"
    for i, stage in enumerate(model.stages):
        is_last = i == len(model.stages) - 1
        names = [f"stage{i}.{part}" for part in ("product", "rounded", "relu")]
        # The output of the last operator of the last stage is an output of the graph.
        rounds = stage.weight.dtype != np.float32
        last = 2 if stage.relu else 1 if rounds else 0
        names[last] = "logits" if is_last else names[last]
        inputs = [value, f"stage{i}.weight"]
        inputs += [f"stage{i}.bias"] if stage.bias is not None else []
        nodes.append(
            helper.make_node("MatMul" if stage.bias is None else "Gemm", inputs, [names[0]])
        )
        value = names[0]
        if rounds:
            nodes.append(helper.make_node("Cast", [value], [names[1]], to=TensorProto.FLOAT))
            value = names[1]
        if stage.relu:
            nodes.append(helper.make_node("Relu", [value], [names[2]]))
            value = names[2]
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    nodes.append(helper.make_node("ArgMax", ["logits"], ["class_index"], axis=1, keepdims=0))
    return nodes


def _initializers(model: Model) -> list[Any]:
    from onnx import numpy_helper

    tensors = [numpy_helper.from_array(model.shift, "shift")]
    for i, stage in enumerate(model.stages):
        tensors.append(numpy_helper.from_array(stage.weight, f"stage{i}.weight"))
        if stage.bias is not None:
            tensors.append(numpy_helper.from_array(stage.bias, f"stage{i}.bias"))
    return tensors
