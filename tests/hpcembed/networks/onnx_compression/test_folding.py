"""Batch normalisations in inference mode are part of the layer before them."""

import numpy as np
import pytest
from mpi4py import MPI
from onnx import TensorProto

from hpcembed.networks.onnx_compression import compress_onnx, folding
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.rows import make_rows
from onnx_graphs import constant, correlated_rows, make_model, node, run

IMAGES = correlated_rows(60, 3, 8, 8).astype(np.float32)


def model(*, gemm=False, extra=(), mode=None, bias=True):
    rng = np.random.default_rng(0)
    width = 16
    constants = [
        constant(
            "W", rng.standard_normal((width, 3, 3, 3) if not gemm else (width, 12)), np.float32
        ),
        constant("c", rng.standard_normal(width), np.float32),
        constant("gamma", rng.uniform(0.5, 2, width), np.float32),
        constant("beta", rng.standard_normal(width), np.float32),
        constant("mean", rng.standard_normal(width), np.float32),
        constant("var", rng.uniform(0.5, 2, width), np.float32),
    ]
    reads = "x W c" if bias else "x W"
    layer = node("Gemm", reads, "h", transB=1) if gemm else node("Conv", reads, "h", pads=[1] * 4)
    attributes = {} if mode is None else {"training_mode": mode}
    normalisation = node(
        "BatchNormalization", "h gamma beta mean var", "y", epsilon=1e-3, **attributes
    )
    shape = ["n", 12] if gemm else ["n", 3, 8, 8]
    return make_model(
        [layer, normalisation, *extra], constants if bias else [constants[0], *constants[2:]],
        inputs={"x": shape}, kind=TensorProto.FLOAT,
    )  # fmt: skip


def folded(one, rows):
    network = Network.of(one)
    return folding.fold_normalisations(
        network, make_rows(rows, network, "calibration"), MPI.COMM_SELF, 1
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gemm", [False, True])
def test_outputs_and_names_are_kept(gemm, bias):
    one = model(gemm=gemm, bias=bias)
    rows = correlated_rows(60, 12).astype(np.float32) if gemm else IMAGES
    network, names, warnings = folded(one, rows)
    assert (names, warnings) == (["y"], [])
    assert [n.name for n in network.nodes] == ["h"]
    assert set(network.constants) == {"W", "h_bias"}
    assert np.allclose(run(network.proto(), x=rows)[0], run(one, x=rows)[0], atol=1e-4)


def test_what_is_not_folded():
    several = model(extra=[node("Neg", "h", "z")])
    assert folded(several, IMAGES)[1] == []
    alone = model()
    alone.graph.node[1].input[1] = "beta"  # constants of the normalisation may be shared
    assert folded(alone, IMAGES)[1] == ["y"]


def test_a_fold_that_changes_the_outputs_is_refused(monkeypatch):
    original = folding._folded

    def wrong(network, layer, node):
        parts = original(network, layer, node)
        parts.bias[0] += 1.0
        return parts

    monkeypatch.setattr(folding, "_folded", wrong)
    network, names, (warning,) = folded(model(), IMAGES)
    assert names == []
    assert "1 normalisations are not folded: the outputs would differ" in warning
    assert len(network.nodes) == 2


def test_folded_layers_are_compressed():
    one = model()
    small, report = compress_onnx(one, IMAGES, ranks={"h": 4}, side="output")
    assert report.folded == ("y",)
    assert [n.op_type for n in small.graph.node] == ["Conv", "Conv"]
    assert report.before.parameters == 16 * 27 + 5 * 16
    assert report.after.parameters == 4 * 27 + 4 * 16 + 16
    before, after = run(one, x=IMAGES)[0], run(small, x=IMAGES)[0]
    error = ((before - after) ** 2).sum() / (
        (before - before.mean((0, 2, 3), keepdims=True)) ** 2
    ).sum()
    assert report.layers[0].error_measured == pytest.approx(error, rel=1e-3)
