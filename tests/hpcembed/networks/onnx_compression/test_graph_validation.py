"""Models of ONNX that cannot be whole, and rows and labels of strange archives."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hpcembed.networks.onnx_compression.model_files import read_model
from hpcembed.networks.onnx_compression.row_files import read_rows
from hpcembed.networks.onnx_compression.rows import read_labels
from hpcembed.runtime.errors import InputError


def model() -> onnx.ModelProto:
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "W"], ["a"], "first"),
            helper.make_node("Relu", ["a"], ["y"], "second"),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.ones((3, 2), "f4"), "W")],
    )
    return helper.make_model(graph)


def weight(**fields):
    def change(graph):
        tensor = graph.initializer[0]
        for name, value in fields.items():
            if name == "dims":
                tensor.ClearField("dims")
                tensor.dims.extend(value)
            else:
                setattr(tensor, name, value)

    return change


def constant(graph):
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[9], raw_data=b"1234")
    graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))


CHANGES = {
    "bytes": (weight(raw_data=b"123"), r"the tensor 'W' declares \[3, 2\] but has other data"),
    "none": (lambda graph: graph.initializer[0].ClearField("raw_data"), "but has other data"),
    "sizes": (weight(dims=[2**40, 2**40]), "has the sizes"),
    "negative": (weight(dims=[-3, -2]), "has the sizes"),
    "type": (weight(data_type=99), "'W' is of the unknown type 99"),
    "no type": (weight(data_type=0), "'W' is of the unknown type 0"),
    "constant": (constant, r"the tensor 'c' declares \[9\]"),
    "input": (lambda graph: graph.input[0].ClearField("type"), "the input 'x' is no tensor"),
    "order": (lambda graph: graph.node.append(graph.node.pop(0)), "'second' reads 'a', which a la"),
    "circle": (lambda graph: graph.node[1].input.append("y"), "'second' reads 'y', which a later"),
    "inputs": (lambda graph: graph.node[0].input.pop(), "MatMul, has 1 inputs and 1 outputs, and"),
    "no first input": (
        lambda graph: graph.node[0].input.__setitem__(0, ""),
        "'first', MatMul, has no input A",
    ),
    "nowhere": (
        lambda graph: graph.node[1].input.__setitem__(0, "q"),
        "'second' reads 'q', which no node",
    ),
    "no output": (lambda graph: graph.ClearField("output"), "it has no outputs"),
    "other output": (lambda graph: setattr(graph.output[0], "name", "z"), "makes its output 'z'"),
    "twice": (lambda graph: graph.node[1].output.append("a"), "'second' makes 'a', which exists"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_models_that_cannot_be_whole(tmp_path, name):
    change, words = CHANGES[name]
    damaged = model()
    change(damaged.graph)
    (tmp_path / "m.onnx").write_bytes(damaged.SerializeToString())
    with pytest.raises(InputError, match=f"m.onnx: .*{words}"):
        read_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("text", [b"MatMul", b"graph", b"second"])
def test_names_that_are_not_text(tmp_path, text):
    """Names that protobuf cannot decode."""
    content = model().SerializeToString()
    assert content.count(text) == 1
    (tmp_path / "m.onnx").write_bytes(content.replace(text, text[:2] + b"\xff" + text[3:]))
    with pytest.raises(InputError, match=r"m\.onnx: a text \(\w+\) in it is not UTF-8"):
        read_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i4", "i8", "u1", "?", "c8"])
def test_whole_models_pass_with_raw_and_with_listed_numbers(kind):
    whole = model()
    array = np.ones((2, 2), kind)
    whole.graph.initializer.append(numpy_helper.from_array(array, "raw"))
    if kind not in ("f2", "c8"):
        data_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        whole.graph.initializer.append(helper.make_tensor("list", data_type, [4], array.ravel()))
    assert read_model(whole) is whole


def test_texts_and_empty_tensors_pass():
    whole = model()
    whole.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [2], ["a", "b"]))
    whole.graph.initializer.append(numpy_helper.from_array(np.zeros((0, 2), "f4"), "none"))
    assert read_model(whole) is whole


def test_archives_without_arrays_and_with_too_many(tmp_path):
    np.savez(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"none.npz: an archive without arrays"):
        read_rows(tmp_path / "none.npz")
    np.savez(tmp_path / "two.npz", a=[1], b=[2])
    with pytest.raises(InputError, match=r"two.npz: the arrays a, b, where one of labels"):
        read_labels(tmp_path / "two.npz", "rows", 1)
