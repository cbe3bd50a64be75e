"""Layers that are found in a graph, their numbers, and reasons to leave layers alone."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hpcembed.networks.low_rank.layer_data import LayerMoments
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.layers import find_layers, read_layer
from hpcembed.runtime.errors import ConfigError
from onnx_graphs import constant, make_model, mlp, node

rng = np.random.default_rng(0)


def layers_of(nodes, constants, **options):
    options.setdefault("inputs", {"x": ["n", 6]})
    network = Network.of(make_model(nodes, constants, **options))
    return network, {layer.name: layer for layer in find_layers(network)}


def test_fields_of_matrices():
    network = Network.of(mlp())
    first, second, last = find_layers(network)
    assert (first.name, first.kind, first.x, first.y, first.weight) == (
        "first", "Gemm", "x", "first", "A",
    )  # fmt: skip
    assert (second.name, second.kind, second.x, second.y) == ("product", "MatMul", "h", "second")
    assert (second.node, second.last) == (2, 3)
    assert (second.shape.outputs, second.shape.inputs, second.shape.bias) == (24, 32, True)
    assert (last.shape.outputs, last.shape.inputs) == (5, 24)
    assert {layer.data_type for layer in (first, second, last)} == {TensorProto.DOUBLE}
    assert not any(layer.reason for layer in (first, second, last))


@pytest.mark.parametrize("transB", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, -2.0)])
@pytest.mark.parametrize("bias_shape", [(4,), (1, 4), (1,), ()])
def test_factors_of_gemm_belong_to_weight_and_bias(transB, alpha, beta, bias_shape):
    W, c = rng.standard_normal((6, 4)), rng.standard_normal(bias_shape)
    nodes = [node("Gemm", "x W c", "y", transB=transB, alpha=alpha, beta=beta)]
    constants = [constant("W", W.T if transB else W), constant("c", c)]
    network, layers = layers_of(nodes, constants)
    data = read_layer(network, layers["y"], layers["y"].shape, LayerMoments())
    assert np.allclose(data.weights[0], alpha * W.T, atol=1e-7)
    assert np.allclose(data.biases[0], beta * c * np.ones(4), atol=1e-7)


def test_weights_from_constants_identities_and_transposes():
    W = rng.standard_normal((4, 6))
    nodes = [
        helper.make_node("Constant", [], ["W0"], value=constant("", W)),
        node("Identity", "W0", "W1"),
        node("Transpose", "W1", "W2", perm=[1, 0]),
        node("MatMul", "x W2", "y"),
    ]
    network, layers = layers_of(nodes, [])
    assert layers["y"].reason == ""
    data = read_layer(network, layers["y"], layers["y"].shape, LayerMoments())
    assert np.array_equal(data.weights[0], W)
    assert not data.biases[0].any()


def convolution(**attributes):
    groups = attributes.get("group", 1)
    W = rng.standard_normal((8, 4 // groups, 3, 3))
    network, layers = layers_of(
        [node("Conv", "x W", "y", **attributes)], [constant("W", W, np.float32)],
        inputs={"x": ["n", 4, 9, 9]}, kind=TensorProto.FLOAT,
    )  # fmt: skip
    return network, layers["y"]


@pytest.mark.parametrize(
    ("attributes", "padded"),
    [({}, False), ({"pads": [0, 1, 0, 0]}, True), ({"auto_pad": "SAME_LOWER"}, True),
     ({"auto_pad": "VALID"}, False), ({"group": 2}, False)],
)  # fmt: skip
def test_convolutions(attributes, padded):
    network, layer = convolution(**attributes)
    assert layer.reason == ""
    assert layer.is_convolution
    data = read_layer(network, layer, layer.shape, LayerMoments())
    assert data.padded == padded
    assert (layer.shape.kernel, layer.shape.inputs) == (9, 4)
    assert len(data.weights) == attributes.get("group", 1)


def test_depthwise_is_left_alone():
    assert convolution(group=4)[1].reason == "a depthwise convolution"


@pytest.mark.parametrize(
    ("nodes", "constants", "reason"),
    [
        ([node("Gemm", "x W", "h"), node("Gemm", "h W", "y")], {"W": (6, 6)}, "several nodes"),
        ([node("MatMul", "W x", "y")], {"W": (4, 3)}, "first operand"),
        ([node("MatMul", "x W", "y")], {"W": (2, 6, 3)}, "3 dimensions"),
        ([node("Gemm", "x W", "y", transA=1)], {"W": (6, 6)}, "input is transposed"),
        ([node("Gemm", "x W c", "y")], {"W": (6, 3), "c": (2, 3)}, "not a vector"),
        ([node("Gemm", "x W c", "y")], {"W": (6, 3), "c": (2, 1)}, "not a vector"),
        ([node("Neg", "W", "V"), node("Gemm", "x V", "y")], {"W": (6, 3)}, "other nodes"),
        ([node("Neg", "c", "d"), node("Gemm", "x W d", "y")], {"W": (6, 3), "c": (3,)}, "bias is"),
    ],
)
def test_reasons(nodes, constants, reason):
    _, layers = layers_of(
        nodes, [constant(n, rng.standard_normal(s)) for n, s in constants.items()]
    )
    assert reason in layers["y"].reason


def test_a_convolution_with_a_matrix_is_left_alone():
    """A damaged model, which the checker of ONNX refuses."""
    W = rng.standard_normal((4, 3, 1))
    model = make_model([node("Conv", "x W", "y")], [constant("W", W)], inputs={"x": ["n", 3, 5]})
    (layer,) = find_layers(Network.of(model))
    assert not layer.reason
    model.graph.initializer[0].CopyFrom(constant("W", W[:, :, 0]))
    (layer,) = find_layers(Network.of(model))
    assert layer.reason == "its weight has 2 dimensions"


def test_quantised_weights_and_weights_in_subgraphs_are_left_alone():
    body = helper.make_graph(
        [node("MatMul", "x W", "inner"), node("MatMul", "x U", "unused")], "body", [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
        [constant("U", np.eye(6), np.float32)],
    )  # fmt: skip
    nodes = [
        node("DequantizeLinear", "Q s", "V"),
        node("MatMul", "x V", "quantised"),
        node("MatMul", "x W", "outer"),
        helper.make_node("If", ["flag"], ["branch"], "if", then_branch=body, else_branch=body),
        node("Sum", "quantised outer branch", "y"),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.ones((6, 6), np.int8), "Q"),
        constant("s", np.float32(0.1), np.float32),
        constant("W", np.eye(6), np.float32),
        onnx.numpy_helper.from_array(np.array(True), "flag"),
    ]
    _, layers = layers_of(nodes, constants, kind=TensorProto.FLOAT)
    assert layers["quantised"].reason == "its weight is quantised"
    assert "subgraph" in layers["unused"].reason
    # The subgraph uses it as well.
    assert layers["outer"].reason == "its weight is used by several nodes"


def test_a_product_of_computed_tensors_is_no_layer():
    nodes = [node("Transpose", "x", "t"), node("MatMul", "x t", "y")]
    assert layers_of(nodes, [])[1] == {}


def test_selection_by_patterns():
    network = Network.of(mlp())
    for patterns, selected in (
        ("linear", ["first", "product", "y"]),
        ("B", ["product"]),
        (["f*", "y"], ["first", "y"]),
    ):
        layers = find_layers(network, patterns)
        assert [layer.name for layer in layers if not layer.reason] == selected
        assert {layer.reason for layer in layers} <= {"", "not selected"}
    with pytest.raises(ConfigError, match="no layer matches 'fc\\*'; the first ones are first"):
        find_layers(network, "fc*")
    with pytest.raises(ConfigError, match="no pattern"):
        find_layers(network, " , ")
