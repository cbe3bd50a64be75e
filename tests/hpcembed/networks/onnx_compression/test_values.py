"""Right numbers: measured errors equal the trace formula, and graphs compute what they should."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from hpcembed.networks.low_rank.request import Request
from hpcembed.networks.onnx_compression import OnnxCompression, compress_onnx
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.inference import Session
from hpcembed.networks.onnx_compression.layers import find_layers
from hpcembed.networks.onnx_compression.settings import OnnxSettings
from onnx_graphs import constant, correlated_rows, make_model, mlp, node, run

rng = np.random.default_rng(0)
ROWS = correlated_rows(700, 20)


def weights(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def of_nodes(model, *kinds):
    return [one for one in model.graph.node if one.op_type in kinds]


def covariance(rows):
    return np.cov(rows.T, bias=True)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("name", ["first", "product", "y"])
def test_the_error_of_a_layer_is_the_sum_of_the_other_eigenvalues(name, centre):
    outputs = {"first": "first", "product": "second", "y": "y"}
    model = mlp()
    rank = 3
    _, report = compress_onnx(
        model, ROWS, ranks={name: rank}, sequential=False, centre=centre, side="output"
    )
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    if name != "y":
        probe.graph.output.extend([onnx.ValueInfoProto(name=outputs[name])])
    Y = run(probe, x=ROWS)[-1]
    values = np.linalg.eigvalsh(covariance(Y))[::-1]
    layer = next(one for one in report.layers if one.name == name)
    assert layer.error_measured == pytest.approx(layer.error_predicted, rel=1e-10)
    assert (layer.side, layer.rank_out, layer.rank_in) == ("output", rank, 0)
    if centre:
        error = values[rank:].sum() / values.sum()
        assert layer.error_measured == pytest.approx(error, rel=1e-10)
        assert layer.captured == pytest.approx(1 - error, abs=1e-10)
    else:
        assert layer.error_measured > values[rank:].sum() / values.sum() * (1 + 1e-10)
    assert layer.max_residual < 1e-12
    assert layer.orthogonality < 1e-11


def test_the_replaced_layer_is_the_projection_of_its_outputs():
    model = mlp()
    small, report = compress_onnx(model, ROWS, ranks={"first": 4}, sequential=False, side="output")
    A, a = weights(model)["A"], weights(model)["a"]
    Y = ROWS @ A.T + a
    _, U = np.linalg.eigh(covariance(Y))
    U, mean = U[:, -4:], Y.mean(axis=0)
    probe = onnx.ModelProto()
    probe.CopyFrom(small)
    probe.graph.output.extend([onnx.ValueInfoProto(name="first")])
    assert np.allclose(run(probe, x=ROWS)[1], mean + (Y - mean) @ U @ U.T, atol=1e-10)
    names = [one.name for one in small.graph.node]
    assert names[:2] == ["first_kernel_product", "first_expansion_product"]
    assert weights(small)["first_kernel"].shape == (20, 4)
    assert weights(small)["first_expansion"].shape == (32, 4)
    # The first weight is gone, and all others are as before.
    assert "A" not in weights(small)
    assert set(weights(small)) == {
        "first_kernel", "first_expansion", "first_bias", "B", "b", "C", "c",
    }  # fmt: skip
    assert report.after.parameters == sum(w.size for w in weights(small).values())
    assert report.before.parameters == sum(w.size for w in weights(model).values())
    assert report.before.macs == 20 * 32 + 32 * 24 + 24 * 5
    assert report.after.macs == 4 * (20 + 32) + 32 * 24 + 24 * 5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_types_and_headers_are_kept(dtype):
    model = mlp(dtype, ir_version=7, opset=13)
    model.producer_name = "someone"
    small, report = compress_onnx(model, ROWS, budget={"parameters": 0.6})
    onnx.checker.check_model(small, full_check=True)
    assert (small.ir_version, small.opset_import[0].version) == (7, 13)
    assert small.producer_name == "someone"
    assert {t.data_type for t in small.graph.initializer} == {
        onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    }
    assert small.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    assert report.parameters_kept <= 0.6
    before, after = (run(one, x=ROWS.astype(dtype))[0].astype(float) for one in (model, small))
    assert np.linalg.norm(before - after) < 0.2 * np.linalg.norm(before - before.mean(axis=0))
    entries = {one.key: one.value for one in small.metadata_props}
    ranks = json.loads(entries["hpcembed.ranks"])
    assert ranks == {
        name: {"input": one.inputs, "output": one.outputs} for name, one in report.ranks.items()
    }
    assert ranks


def test_representation_3_lists_its_constants_as_inputs():
    small, _ = compress_onnx(mlp(ir_version=3, opset=8), ROWS, budget={"parameters": 0.6})
    onnx.checker.check_model(small)
    listed = {one.name for one in small.graph.input}
    assert listed == {"x"} | {t.name for t in small.graph.initializer}
    assert run(small, x=ROWS)[0].shape == (700, 5)


def convolution(groups=1, bias=True, **attributes):
    W = rng.standard_normal((12, 8 // groups, 3, 3)) / 5
    constants = [constant("W", W, np.float32)]
    if bias:
        constants.append(constant("c", rng.standard_normal(12), np.float32))
    kernel = node("Conv", "x W c" if bias else "x W", "y", group=groups, **attributes)
    return make_model([kernel], constants, inputs={"x": ["n", 8, 11, 9]}, kind=TensorProto.FLOAT)


IMAGES = correlated_rows(120, 8, 11, 9).astype(np.float32)


@pytest.mark.parametrize("side", ["output", "input"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 0, 2, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
        {"auto_pad": "VALID", "kernel_shape": [3, 3]},
        {"dilations": [2, 1], "pads": [2, 2, 2, 2]},
    ],
)
def test_convolutions_of_nearly_full_rank_are_kept(attributes, groups, side):
    model = convolution(groups, bias=groups == 1, **attributes)
    full = 12 // groups if side == "output" else 8 // groups
    compression = OnnxCompression(model, IMAGES, settings=OnnxSettings(side=side, sequential=False))
    before = run(model, x=IMAGES)[0]
    curve = compression.ranks.units[0].alternatives[0][0]
    errors = []
    for rank in sorted({1, int(max(curve.r_out.max(), curve.r_in.max()))}):
        small, report = compression.compress(Request(ranks={"y": rank}))
        after = run(small, x=IMAGES)[0]
        assert after.shape == before.shape
        variance = ((before - before.mean(axis=(0, 2, 3), keepdims=True)) ** 2).sum()
        measured = ((before - after).astype(float) ** 2).sum() / variance
        (layer,) = report.layers
        assert layer.error_measured == pytest.approx(measured, rel=1e-3)
        if side == "output":
            assert layer.error_measured == pytest.approx(layer.error_predicted, rel=1e-4)
        errors.append(measured)
        assert all(len(one.input) <= 3 for one in of_nodes(small, "Conv"))
        assert len(of_nodes(small, "Conv")) == 2
        assert rank <= full
    assert errors[-1] < errors[0] < 1.0


def test_one_dimensional_convolution():
    W = rng.standard_normal((10, 6, 5))
    model = make_model(
        [node("Conv", "x W", "y", pads=[2, 2])], [constant("W", W, np.float32)],
        inputs={"x": ["n", 6, 30]}, kind=TensorProto.FLOAT,
    )  # fmt: skip
    rows = correlated_rows(200, 6, 30).astype(np.float32)
    small, report = compress_onnx(model, rows, ranks={"y": 5}, side="output", sequential=False)
    assert [list(numpy_helper.to_array(t).shape) for t in small.graph.initializer] == [
        [5, 6, 5], [10], [10, 5, 1],
    ] or {t.name: tuple(t.dims) for t in small.graph.initializer} == {
        "y_kernel": (5, 6, 5), "y_expansion": (10, 5, 1), "y_bias": (10,),
    }  # fmt: skip
    assert report.layers[0].error_measured == pytest.approx(
        report.layers[0].error_predicted, rel=1e-4
    )


def attention():
    """Three products with one input, over the last dimension of sequences."""
    constants, nodes = [], []
    for name in "qkv":
        constants.append(constant(name.upper(), rng.standard_normal((24, 24)) / 5))
        constants.append(constant(f"{name}_bias", rng.standard_normal(24)))
        nodes.append(node("MatMul", f"x {name.upper()}", f"{name}0"))
        nodes.append(node("Add", f"{name}0 {name}_bias", name))
    nodes += [
        node("Transpose", "k", "kt", perm=[0, 2, 1]), node("MatMul", "q kt", "scores"),
        node("Softmax", "scores", "p", axis=-1), node("MatMul", "p v", "y"),
    ]  # fmt: skip
    return make_model(nodes, constants, inputs={"x": ["n", "t", 24]})


def test_a_shared_reduction_is_one_node():
    model = attention()
    rows = correlated_rows(200, 6, 24)
    settings = OnnxSettings(metric="cosine", side="input", sequential=False)
    compression = OnnxCompression(model, rows, settings=settings, validation=rows)
    assert compression.statistics.groups == [("q0", "k0", "v0")]
    small, report = compression.compress(Request(budget={"parameters": 0.5}))
    assert {layer.shared_with for layer in report.layers} == {
        ("k0", "v0"), ("q0", "v0"), ("q0", "k0"),
    }  # fmt: skip
    from_x = [one for one in small.graph.node if "x" in one.input]
    (reduction,) = from_x
    readers = [one for one in small.graph.node if reduction.output[0] in one.input]
    assert len(readers) == 3
    rank = report.layers[0].rank_in
    assert report.after.parameters == 24 * rank + 3 * (24 * rank + 24)
    assert report.after.parameters == sum(w.size for w in weights(small).values())
    assert report.after.macs == 6 * 24 * rank + 3 * 6 * 24 * rank
    for layer in report.layers:
        assert layer.error_measured == pytest.approx(layer.error_predicted, rel=1e-8)
    # Another length of the sequences.
    assert run(small, x=correlated_rows(3, 9, 24))[0].shape == (3, 9, 24)


def test_padding_of_sequences_does_not_count():
    model = attention()
    mask = onnx.helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "t"])
    model.graph.input.append(mask)
    rows = correlated_rows(100, 6, 24)
    keep = np.ones((100, 6), np.int64)
    keep[:, 4:] = 0
    garbage = np.where(keep[..., None] == 1, rows, 1e3)
    options = {"ranks": {"q0": 5}, "sequential": False, "side": "output", "metric": "cosine"}
    _, masked = compress_onnx(model, {"x": garbage, "attention_mask": keep}, **options)
    _, short = compress_onnx(attention_like(model), rows[:, :4], **options)
    assert masked.layers[0].error_measured == pytest.approx(
        short.layers[0].error_measured, rel=1e-9
    )


def attention_like(model):
    """The same weights without the mask."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.input[1]
    return copy


def test_divergence_of_probabilities_and_of_logits_agree():
    logits = mlp()
    probabilities = onnx.ModelProto()
    probabilities.CopyFrom(logits)
    last = probabilities.graph.node[-1]
    last.name = last.output[0] = "logits"
    probabilities.graph.node.append(node("Softmax", "logits", "y"))
    losses = []
    for model in (logits, probabilities):
        _, report = compress_onnx(
            model, ROWS, ranks={"first": 2}, validation=ROWS[:200], metric="divergence"
        )
        losses.append(report.loss)
    assert losses[0] > 1e-4
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_accuracy_divergence_and_test_rows_by_hand():
    model, rows = mlp(), correlated_rows(300, 20, seed=3)
    labels = run(model, x=rows)[0].argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % 5
    small, report = compress_onnx(
        model, ROWS, ranks={"first": 2, "product": 3}, validation=(rows, labels),
        test=(rows[:100], labels[:100]),
    )  # fmt: skip
    before, after = run(model, x=rows)[0], run(small, x=rows)[0]
    assert report.full_score == pytest.approx(90.0)
    assert report.small_score == pytest.approx(100 * (after.argmax(1) == labels).mean())
    assert report.loss == pytest.approx(report.full_score - report.small_score)
    assert report.test_scores == pytest.approx(
        tuple(100 * (one[:100].argmax(1) == labels[:100]).mean() for one in (before, after))
    )


def test_a_callable_metric_gets_models():
    def score(model):
        return -float(np.abs(run(model, x=ROWS[:50])[0] - run(mlp(), x=ROWS[:50])[0]).max())

    small, report = compress_onnx(mlp(), ROWS, max_loss=0.2, validation=ROWS[:50], metric=score)
    assert report.metric == "score"
    assert 0 < report.loss <= 0.2
    assert report.loss == pytest.approx(-score(small))


def test_layers_that_are_left_alone_count_with_their_positions():
    """Multiply-adds by hand: a convolution, a depthwise one and a matrix, of 8 x 8 pixels."""
    generator = np.random.default_rng(1)
    weights = [
        constant("c", generator.standard_normal((6, 3, 3, 3)), np.float32),
        constant("d", generator.standard_normal((6, 1, 3, 3)), np.float32),
        constant("w", generator.standard_normal((20, 6 * 36)), np.float32),
    ]
    nodes = [
        node("Conv", "x c", "h", pads=[1, 1, 1, 1]), node("Conv", "h d", "g", group=6),
        node("Flatten", "g", "f"), node("Gemm", "f w", "y", transB=1),
    ]  # fmt: skip
    model = make_model(nodes, weights, inputs={"x": ["n", 3, 8, 8]}, kind=TensorProto.FLOAT)
    images = correlated_rows(300, 3, 8, 8).astype(np.float32)
    expected = {"h": 64 * 6 * 27, "g": 36 * 6 * 9, "y": 20 * 216}
    for layers in ("linear,conv", "linear"):
        _, report = compress_onnx(model, images, layers=layers, ranks={"y": 5})
        assert {layer.name: layer.macs[0] for layer in report.layers} == expected
        assert report.before.macs == sum(expected.values())
        assert report.after.macs == expected["h"] + expected["g"] + 5 * (20 + 216)


@pytest.mark.parametrize("fits", [True, False])
def test_measured_errors_of_layers_behind_others(fits):
    """With fits: the output in the compressed network. Without: the layer on its own inputs."""
    model = mlp()
    ranks = {"first": 6, "product": 6}
    small, report = compress_onnx(model, ROWS, ranks=ranks, sequential=fits, side="output")
    tensors = {layer.name: layer.y for layer in find_layers(Network.of(model), "linear,conv")}
    before, after = (
        Session(Network.of(one), [tensors[name] for name in ranks]).run({"x": ROWS}, "")
        for one in (model, small)
    )
    y, z = before[tensors["product"]], after[tensors["product"]]
    in_network = np.sum((y - z) ** 2) / np.sum((y - y.mean(axis=0)) ** 2)
    measured = {layer.name: layer.error_measured for layer in report.layers}
    if fits:
        assert measured["product"] == pytest.approx(in_network, rel=1e-6)
    else:
        assert measured["product"] == pytest.approx(report.layers[1].error_predicted, rel=1e-9)
        assert measured["product"] < 0.99 * in_network
