"""Small models of ONNX, made by hand, and rows for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

__all__ = ["constant", "correlated_rows", "make_model", "mlp", "node", "run"]


def constant(name: str, array: Any, dtype: Any = np.float64) -> onnx.TensorProto:
    """An initialiser."""
    return numpy_helper.from_array(np.ascontiguousarray(array, dtype=dtype), name)


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """A node with the name of its output."""
    return helper.make_node(kind, inputs.split(), [output], output, **attributes)


def make_model(
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    *,
    inputs: dict[str, list[Any]],
    outputs: tuple[str, ...] = ("y",),
    kind: int = TensorProto.DOUBLE,
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """A checked model with inferred shapes."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        constants,
    )
    if ir_version < 4:
        for tensor in constants:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )
    # The checker needs the number of dimensions of the outputs.
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model)
    return model


def correlated_rows(n: int, *shape: int, rank: int = 8, seed: int = 0) -> np.ndarray:
    """Rows with decaying variances about a mean that is not zero."""
    rng = np.random.default_rng(seed)
    d = int(np.prod(shape))
    mixing = np.random.default_rng(1).standard_normal((rank, d))
    rows = rng.standard_normal((n, rank)) * np.geomspace(1, 0.05, rank) @ mixing
    return (rows + 0.05 * rng.standard_normal((n, d)) + 0.5).reshape(n, *shape)


def mlp(dtype: Any = np.float64, ir_version: int = 8, opset: int = 17) -> onnx.ModelProto:
    """Gemm, MatMul with Add, Gemm: 20 -> 32 -> 24 -> 5."""
    rng = np.random.default_rng(7)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    constants = [
        constant("A", rng.standard_normal((32, 20)) / 4, dtype),
        constant("a", rng.standard_normal(32), dtype),
        constant("B", rng.standard_normal((32, 24)) / 4, dtype),
        constant("b", rng.standard_normal(24), dtype),
        constant("C", rng.standard_normal((24, 5)) / 4, dtype),
        constant("c", rng.standard_normal(5), dtype),
    ]
    nodes = [
        node("Gemm", "x A a", "first", transB=1),
        node("Relu", "first", "h"),
        node("MatMul", "h B", "product"),
        node("Add", "b product", "second"),
        node("Relu", "second", "g"),
        node("Gemm", "g C c", "y"),
    ]
    return make_model(
        nodes, constants, inputs={"x": ["n", 20]}, kind=kind, ir_version=ir_version, opset=opset
    )


def run(model: onnx.ModelProto, **feeds: Any) -> list[np.ndarray]:
    """Outputs of a model."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))
