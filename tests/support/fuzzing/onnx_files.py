"""Models of ONNX for compress-model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import HOSTILE_INTEGERS, HOSTILE_NAMES, pick
from hpcembed.networks.onnx_compression.compress import compress_onnx

_WIDTH = 6


def _model() -> onnx.ModelProto:
    g = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(g.standard_normal(shape).astype("f4"), name)
        for name, shape in (("W1", (_WIDTH, 8)), ("b1", (8,)), ("W2", (8, 3)))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "W1"], ["a"], "first"),
        helper.make_node("Add", ["a", "b1"], ["b"], "bias"),
        helper.make_node("Relu", ["b"], ["c"], "relu"),
        helper.make_node("MatMul", ["c", "W2"], ["y"], "second"),
    ]
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", _WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _valid(rng: Rng) -> tuple[Files, Any]:
    return {"m.onnx": _model().SerializeToString()}, None


def _hostile(rng: Rng) -> Files:
    model = _model()
    graph = model.graph
    for _ in range(int(rng.integers(1, 3))):
        _spoil(rng, model, graph)
    files = {"m.onnx": model.SerializeToString(), "outside/secret.txt": bytes(400)}
    return files


def _spoil(rng: Rng, model: Any, graph: Any) -> None:
    node, tensor = pick(rng, list(graph.node)), pick(rng, list(graph.initializer))
    number = pick(rng, HOSTILE_INTEGERS) % 2**63
    name = pick(rng, HOSTILE_NAMES)
    which = int(rng.integers(14))
    if which == 0:
        tensor.dims[0] = number
    elif which == 1:
        tensor.raw_data = pick(rng, (b"", tensor.raw_data[:-3], tensor.raw_data * 2))
    elif which == 2:
        tensor.data_type = int(pick(rng, (0, 2, 7, 8, 10, 16, 20, 99)))
    elif which == 3:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        place = pick(
            rng, ("outside/secret.txt", "../case/outside/secret.txt", "/etc/passwd", "", "gone")
        )
        tensor.external_data.add(key="location", value=place)
        if rng.random() < 0.5:
            tensor.external_data.add(key="length", value=str(number))
            tensor.external_data.add(key="offset", value=pick(rng, ("0", "-1", str(number), "x")))
    elif which == 4:
        node.op_type = pick(rng, (name, "Loop", "If", "Gemm", "Conv", "Identity", "Relu"))
    elif which == 5:
        node.input[0] = pick(rng, (node.output[0], name, "gone", ""))
    elif which == 6:
        node.output[0] = pick(rng, ("x", name, "y", "W1"))
    elif which == 7:
        node.name = name
    elif which == 8:
        graph.input[0].type.tensor_type.shape.dim[1].dim_value = number
    elif which == 9:
        model.opset_import[0].version = number % 2**31
    elif which == 10:
        graph.ClearField(pick(rng, ("node", "initializer", "input", "output")))
        if not graph.node or not graph.initializer:
            graph.node.add(op_type="Relu", input=["x"], output=["y"])
            graph.initializer.add(name="W9", data_type=1, dims=[1], float_data=[1.0])
    elif which == 11:
        value = pick(rng, (np.nan, np.inf, 1e38))
        made = numpy_helper.from_array(np.full((_WIDTH, 8), value, "f4"), "W1")
        tensor.CopyFrom(made)
    elif which == 12:
        shape = numpy_helper.from_array(np.array([2**30, 2**10]), "S")
        graph.initializer.append(shape)
        graph.node.add(op_type="ConstantOfShape", input=["S"], output=["big"])
    else:
        node.domain = pick(rng, (name, "com.microsoft"))


def _read(folder: Path) -> Any:
    rows = np.random.default_rng(1).standard_normal((40, _WIDTH)).astype("f4")
    compress_onnx(folder / "m.onnx", rows, ranks={"first": 2}, batch_size=16)


register(
    Format(
        "onnx",
        _valid,
        _read,
        _hostile,
        mutable=lambda name: name == "m.onnx",
        places=("calibration", "ranks: ", "model: ", "budget", "layer "),
    )
)
