"""Bad input: one clear line each, the same on every rank, and the model untouched."""

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from hpcembed.networks.onnx_compression import compress_onnx, inference
from hpcembed.runtime.errors import ConfigError, InputError, MissingPackageError
from onnx_graphs import constant, correlated_rows, make_model, mlp, node

ROWS = correlated_rows(200, 20)
HALF = {"budget": {"parameters": 0.5}}


def with_value(row, value):
    rows = ROWS.copy()
    rows[row, 3] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:, :19], "calibration: rows have 19, and the input x of the model takes 20"),
        (ROWS.reshape(200, 4, 5)[:, :, :4], "rows have 4 x 4, and the input x .* takes 20"),
        (with_value(171, np.nan), "calibration: row 171 has a value that is not finite"),
        (with_value(3, np.inf), "calibration: row 3 has a value that is not finite"),
        (ROWS[:0], "calibration: there is no row"),
        (np.array(["a", "b"]), "calibration: <U1 is not a type of numbers"),
        (np.float64(3), "a single number; rows are needed"),
        ({"x": ROWS, "z": ROWS}, "the inputs of the model are x; given: x, z"),
    ],
)
def test_rows(rows, message):
    model = mlp()
    before = model.SerializeToString()
    with pytest.raises(InputError, match=message) as caught:
        compress_onnx(model, rows, **HALF)
    assert "\n" not in str(caught.value)
    assert model.SerializeToString() == before


def test_too_few_rows_for_a_rank():
    with pytest.raises(
        InputError, match=r"layer first: rank 12 needs more than 12 rows, and .* has 9; 121 samples"
    ):
        compress_onnx(mlp(), ROWS[:9], ranks={"first": 12}, sensitivity=False, side="output")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of max_loss, budget and ranks"),
        (HALF | {"max_loss": 1.0}, "not max_loss and budget"),
        ({"max_loss": 1.0}, "max_loss: validation rows are needed"),
        ({"max_loss": -1.0, "validation": ROWS}, "max_loss: -1.0 is not a number from 0 on"),
        ({"budget": {"seconds": 0.5}}, "budget: one of parameters, macs is needed"),
        ({"budget": {"parameters": 2.0}}, "budget: 2.0 is not a share"),
        ({"budget": {"parameters": 0.01}}, "budget: 0.01 of the parameters cannot be met"),
        ({"ranks": {"first": 0}}, "ranks: first has rank 0; a positive integer, or Ranks"),
        ({"ranks": {"zeroth": 1}}, "ranks: the model has no layer zeroth"),
        ({"ranks": {"first": 1}, "layers": "conv"}, "first cannot be compressed: not selected"),
        ({"ranks": {"first": 31}, "side": "output"}, "first cannot have rank 31"),
        (HALF | {"metric": "loss"}, "metric: 'loss' is not one of accuracy, divergence, cosine"),
        (HALF | {"side": "left"}, "side: 'left' is not one of"),
        (HALF | {"measure": "seconds"}, "measure: 'seconds' is not one of"),
        (HALF | {"layers": "conv"}, "no layer can be compressed: first: not selected"),
        (HALF | {"layers": 3}, "layers: 3 is not a name or a list of names"),
        (HALF | {"layers": ["first", 3]}, "is not a name or a list of names"),
        (HALF | {"metric": 3}, "metric: 3 is not one of accuracy, divergence, cosine"),
        (HALF | {"centre": "no"}, "centre: 'no' is not True or False"),
        (HALF | {"sequential": None}, "sequential: None is not True or False"),
        (HALF | {"sensitivity": None}, "sensitivity: None is not True or False"),
        (HALF | {"comm": "world"}, "comm: a communicator of mpi4py is needed, not 'world'"),
        (HALF | {"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        (HALF | {"batch_size": 2.5}, "batch_size must be a positive integer, got 2.5"),
    ],
)  # fmt: skip
def test_arguments(options, message):
    with pytest.raises(ConfigError, match=message):
        compress_onnx(mlp(), ROWS, **options)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (ROWS, "validation: accuracy needs labels"),
        ((ROWS, np.zeros(7, int)), "validation: 7 labels for 200 rows"),
        ((ROWS, np.full(200, 0.5)), "labels must be class numbers"),
        ((with_value(8, np.nan), np.zeros(200, int)), "validation: row 8 has a value"),
    ],
)
def test_validation_rows(validation, message):
    with pytest.raises(InputError, match=message):
        compress_onnx(mlp(), ROWS, validation=validation, **HALF)


def test_files_that_are_no_models(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(InputError, match=r"model.onnx: no such file"):
        compress_onnx(path, ROWS, **HALF)
    for content in (b"", b"hello", b"\x08\x08" * 9):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"model.onnx: not a model of ONNX"):
            compress_onnx(path, ROWS, **HALF)
    old = mlp()
    old.opset_import[0].version = 6
    with pytest.raises(InputError, match="operator set 6; 7 or later is needed"):
        compress_onnx(old, ROWS, **HALF)


def test_files_of_rows(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, ROWS)
    _, report = compress_onnx(mlp(), path, **HALF)
    assert report.samples == 200
    np.save(path, with_value(150, np.nan))
    with pytest.raises(InputError, match=r"calibration .*rows.npy: row 150 has"):
        compress_onnx(mlp(), path, **HALF)
    with pytest.raises(InputError, match=r"rows.txt: unknown format"):
        compress_onnx(mlp(), tmp_path / "rows.txt", **HALF)
    with pytest.raises(InputError, match=r"absent\.npy"):
        compress_onnx(mlp(), tmp_path / "absent.npy", **HALF)


def test_activations_that_are_not_finite_name_layer_and_rows():
    nodes = [node("Log", "x", "h"), node("MatMul", "h W", "y")]
    weight = constant("W", np.random.default_rng(0).standard_normal((20, 20)))
    model = make_model(nodes, [weight], inputs={"x": ["n", 20]})
    rows = np.abs(ROWS) + 0.1
    rows[130] = -1.0
    with pytest.raises(
        InputError, match="layer y: its outputs for calibration, rows 128 to 191 are not finite"
    ):
        compress_onnx(model, rows, ranks={"y": 2}, side="output")


def test_a_model_that_the_runtime_refuses():
    weight = constant("W", np.ones((2, 3, 3, 3)))
    model = make_model([node("Conv", "x W", "y")], [weight], inputs={"x": ["n", 3, 5, 5]})
    with pytest.raises(InputError, match=r"ONNX Runtime cannot run it: .*Conv"):
        compress_onnx(model, np.ones((10, 3, 5, 5)), **HALF)


def test_without_onnxruntime(monkeypatch):
    inference.require_onnxruntime.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match="onnxruntime is not installed: pip install"):
        compress_onnx(mlp(), ROWS, **HALF)
    inference.require_onnxruntime.cache_clear()


def test_bytes_are_converted_without_scaling_and_reshaped():
    rng = np.random.default_rng(0)
    weight = constant("W", rng.standard_normal((8, 1, 3, 3)), np.float32)
    nodes = [node("Conv", "x W", "y")]
    model = make_model(nodes, [weight], inputs={"x": ["n", 1, 6, 6]}, kind=TensorProto.FLOAT)
    pixels = rng.integers(0, 255, (100, 36), dtype=np.uint8)
    _, report = compress_onnx(model, pixels, ranks={"y": 3}, side="output", sequential=False)
    (text, *_) = report.warnings
    assert "bytes are converted to float32 without scaling" in text
    assert report.layers[0].error_measured == pytest.approx(
        report.layers[0].error_predicted, rel=1e-4
    )


def test_integer_inputs_take_integers_only():
    table = constant("E", np.random.default_rng(0).standard_normal((30, 20)))
    weight = constant("W", np.random.default_rng(1).standard_normal((20, 20)))
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> agraph (int64[n, 4] x) => (double[n, 4, 20] y)'
        "{ h = Gather (E, x) y = MatMul (h, W) }"
    )
    model.graph.initializer.extend([table, weight])
    tokens = np.random.default_rng(2).integers(0, 30, (90, 4))
    _, report = compress_onnx(model, tokens.astype(float), ranks={"y": 4}, metric="cosine")
    assert report.layers[0].rank_out == 4
    with pytest.raises(InputError, match="the input x takes integers, not float64"):
        compress_onnx(model, tokens + 0.5, ranks={"y": 4})


@pytest.mark.mpi
def test_an_error_on_one_rank_is_raised_on_all(comm):
    rows = ROWS if comm.rank else with_value(5, np.nan)
    with pytest.raises(InputError, match="row 5 has a value that is not finite"):
        compress_onnx(mlp(), rows, comm=comm, **HALF)
    assert comm.allreduce(1) == comm.size


def test_scores_that_are_no_numbers():
    with pytest.raises(ConfigError, match="metric: it returns 'good', which is not a number"):
        compress_onnx(mlp(), ROWS, metric=lambda model: "good", max_loss=1.0)
    with pytest.raises(ConfigError, match="metric: it raises KeyError: 'x'"):
        compress_onnx(mlp(), ROWS, metric=lambda model: {}["x"], max_loss=1.0)
