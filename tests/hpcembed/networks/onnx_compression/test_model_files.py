"""Models beyond the limit of protobuf, fixed batches, functions, and models exported from torch."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from hpcembed.networks.low_rank.request import Request
from hpcembed.networks.onnx_compression import (
    OnnxCompression,
    compress_onnx,
    model_files,
    read_model,
    write_model,
)
from hpcembed.networks.onnx_compression.settings import OnnxSettings
from hpcembed.runtime.errors import OutputError
from onnx_graphs import correlated_rows, mlp, run

ROWS = correlated_rows(300, 20)
HALF = {"budget": {"parameters": 0.6}}


def test_external_data(tmp_path, monkeypatch):
    """With a low limit every session and file goes the way of models beyond 2 GiB."""
    expected, _ = compress_onnx(mlp(), ROWS, **HALF)
    monkeypatch.setattr(model_files, "MESSAGE_LIMIT", 3000)
    path = tmp_path / "large.onnx"
    write_model(mlp(), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["large.onnx", "large.onnx.data"]
    onnx.checker.check_model(str(path))
    assert path.stat().st_size < 3000
    small, report = compress_onnx(path, ROWS, **HALF)
    assert report.parameters_kept <= 0.6
    out = tmp_path / "small.onnx"
    write_model(small, out)
    onnx.checker.check_model(str(out))
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(None, {"x": ROWS})[0], run(expected, x=ROWS)[0], atol=1e-9)
    for a, b in zip(read_model(out).graph.initializer, small.graph.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_model(mlp(), tmp_path / "file" / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("batch", [1, 7])
def test_fixed_batches(batch):
    free, fixed = mlp(), mlp()
    dim = fixed.graph.input[0].type.tensor_type.shape.dim[0]
    dim.Clear()
    dim.dim_value = batch
    options = {"ranks": {"product": 5}, "metric": "divergence", "validation": ROWS[:40]}
    _, one = compress_onnx(free, ROWS[:100], **options)
    small, other = compress_onnx(fixed, ROWS[:100], **options)
    assert other.layers[1].error_measured == pytest.approx(one.layers[1].error_measured, rel=1e-8)
    assert other.loss == pytest.approx(one.loss, rel=1e-8)
    assert other.samples == 100
    assert run(small, x=ROWS[:batch])[0].shape == (batch, 5)


def test_functions_are_inlined():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "own" : 1]>'
        "agraph (double[n, 20] x) => (double[n, 20] y) { y = own.layer (x, W) }"
        '<domain: "own", opset_import: ["" : 17]>'
        "layer (a, b) => (d) { c = MatMul (a, b) d = Relu (c) }"
    )
    weight = np.random.default_rng(0).standard_normal((20, 20))
    model.graph.initializer.append(numpy_helper.from_array(weight, "W"))
    small, report = compress_onnx(model, ROWS, **HALF)
    assert report.layers[0].kind == "MatMul"
    assert report.parameters_kept <= 0.6
    assert not small.functions


def test_the_eigenproblems_serve_every_budget():
    compression = OnnxCompression(
        mlp(), ROWS, settings=OnnxSettings(metric="divergence"), validation=ROWS
    )
    losses = []
    for share in (0.9, 0.6, 0.3):
        _, report = compression.compress(Request(budget={"parameters": share}))
        assert report.parameters_kept <= share
        losses.append(report.loss)
    assert losses == sorted(losses)
    _, report = compression.compress(Request(max_loss=losses[1]))
    assert report.loss <= losses[1]
    assert report.parameters_kept < 0.75
    _, report = compression.compress(Request(budget={"macs": 0.5}))
    assert report.macs_kept <= 0.5
    frontier = [point for point in report.frontier if point.measured_loss is None]
    assert len(frontier) > 10
    assert sum(point.measured_loss is not None for point in report.frontier) >= 4
    assert report.settings["request"] == {"budget": {"macs": 0.5}, "measure": "parameters"}
    assert len(report.calibration_hash) == 64
    assert report.before.seconds > 0
    assert set(report.seconds) >= {"fold", "moments", "eigenproblems", "sensitivity", "layers"}


def test_nothing_imports_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import hpcembed.networks.onnx_compression\n"
        "import hpcembed.jobs.network_compression.command\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.filterwarnings("ignore")
def test_a_network_of_torch(tmp_path):
    import torch
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5),
    ).eval()  # fmt: skip
    network[1].running_mean.normal_()
    network[1].running_var.uniform_(0.5, 2)
    path = tmp_path / "network.onnx"
    torch.onnx.export(
        network, (torch.zeros(2, 3, 8, 8),), path, dynamo=False, input_names=["x"],
        output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE,
    )  # fmt: skip
    images = correlated_rows(150, 3, 8, 8).astype(np.float32)
    small, report = compress_onnx(
        path, images, budget={"parameters": 0.6}, validation=images, metric="divergence"
    )
    assert len(report.folded) == 1
    assert [layer.kind for layer in report.layers] == ["Conv", "Conv", "Gemm", "Gemm"]
    assert report.parameters_kept <= 0.6
    assert report.loss < 0.01
    onnx.checker.check_model(small, full_check=True)
    assert run(small, x=images[:7])[0].shape == (7, 5)
