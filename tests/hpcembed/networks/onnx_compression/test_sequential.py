"""Layers fitted to the compressed network before them, and the segments that this needs."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from onnx import TensorProto

from hpcembed.networks.low_rank.request import Request
from hpcembed.networks.onnx_compression import OnnxCompression, compress_onnx, sequential
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.inference import Session
from hpcembed.networks.onnx_compression.layers import find_layers
from hpcembed.networks.onnx_compression.replacement import replace_layers
from hpcembed.networks.onnx_compression.rows import make_rows
from hpcembed.networks.onnx_compression.segments import SegmentedPass
from hpcembed.networks.onnx_compression.settings import OnnxSettings
from hpcembed.networks.onnx_compression.statistics import collect
from onnx_graphs import constant, correlated_rows, make_model, mlp, node

ROWS = correlated_rows(500, 20)
IMAGES = correlated_rows(100, 3, 8, 8).astype(np.float32)


def residual_network():
    """Two blocks: the sum of a convolution and what enters it, then a matrix."""
    rng = np.random.default_rng(3)
    constants = [
        constant("W0", rng.standard_normal((16, 3, 3, 3)) / 4, np.float32),
        constant("W1", rng.standard_normal((16, 16, 3, 3)) / 12, np.float32),
        constant("W2", rng.standard_normal((16, 8, 3, 3)) / 8, np.float32),
        constant("L", rng.standard_normal((16, 10)), np.float32),
    ]
    nodes = [
        node("Conv", "x W0", "a", pads=[1] * 4), node("Relu", "a", "b"),
        node("Conv", "b W1", "c", pads=[1] * 4), node("Add", "c b", "d"), node("Relu", "d", "e"),
        node("Conv", "e W2", "f", pads=[1] * 4, group=2), node("Add", "f d", "g"),
        node("GlobalAveragePool", "g", "h"), node("Flatten", "h", "i"), node("MatMul", "i L", "y"),
    ]  # fmt: skip
    return make_model(nodes, constants, inputs={"x": ["n", 3, 8, 8]}, kind=TensorProto.FLOAT)


def test_segments_compute_what_the_whole_network_does():
    network = Network.of(residual_network())
    rows = make_rows(IMAGES, network, "rows", batch_size=32)
    batches = list(rows.batches())
    tensors = ["a", "c", "f", "y"]
    whole = Session(network, tensors)
    segmented = SegmentedPass(network, tensors, batches, 1)
    for name in tensors:
        for value, batch in zip(segmented.advance(), batches, strict=True):
            assert np.allclose(value, whole.run(batch.feeds, "")[name], atol=1e-5)
    # Between the layers only tensors are kept that a later layer needs.
    assert [set(one.given) for one in segmented._segments] == [{"x"}, {"a"}, {"c", "b"}, {"f", "d"}]
    assert all(set(state) == {"y"} for state in segmented._states)


def test_what_follows_a_layer_gets_the_corrected_output():
    network = Network.of(residual_network())
    rows = make_rows(IMAGES, network, "rows")
    batches = list(rows.batches())
    segmented = SegmentedPass(network, ["a", "c", "y"], batches, 1)
    zeros = [np.zeros_like(value) for value in segmented.advance()]
    segmented.replace(zeros)
    assert not any(value.any() for value in segmented.advance())  # no bias: zero stays zero
    assert not any(value.any() for value in segmented.advance())


@pytest.mark.parametrize("side", ["output", "auto"])
def test_the_fit_is_what_the_new_graph_computes(monkeypatch, side):
    """The corrected outputs of the segments are those of the graph with the new weights."""
    compression = OnnxCompression(
        residual_network(), IMAGES, settings=OnnxSettings(side=side, metric="divergence")
    )
    seen = {}
    original = SegmentedPass.replace

    def noted(self, values):
        seen[self._tensors[self._next - 1]] = values
        original(self, values)

    monkeypatch.setattr(SegmentedPass, "replace", noted)
    choice = compression.ranks.within("parameters", 0.5 * compression.cost.parameters)
    new = compression.replacements(choice)
    small = replace_layers(compression.solved.network, new)
    assert sum(ranks.side != "none" for ranks in choice.ranks.values()) >= 2
    session = Session(small, list(seen))
    for position, batch in enumerate(compression.calibration.batches()):
        values = session.run(batch.feeds, "")
        for name, expected in seen.items():
            scale = np.abs(expected[position]).max()
            assert np.abs(values[name] - expected[position]).max() < 1e-4 * scale


def test_the_first_fit_is_the_optimal_projection_and_layers_before_it_stay():
    compression = OnnxCompression(mlp(), ROWS, settings=OnnxSettings(side="output"))
    request = Request(ranks={"product": 4})
    fitted, _ = compression.compress(request)
    compression.settings = replace(compression.settings, sequential=False)
    plain, _ = compression.compress(request)
    names = {t.name for t in fitted.graph.initializer}
    assert {"A", "a"} <= names
    rows = make_rows(ROWS, Network.of(plain), "rows")
    (batch, *_) = rows.batches()
    one, two = (
        Session(Network.of(model), ["second"]).run(batch.feeds, "")["second"]
        for model in (fitted, plain)
    )
    assert np.allclose(one, two, atol=1e-8)


def test_fitting_reduces_the_loss():
    model, held_out = residual_network(), correlated_rows(100, 3, 8, 8, seed=5).astype(np.float32)
    losses = {}
    for fits in (True, False):
        settings = OnnxSettings(metric="divergence", sequential=fits)
        compression = OnnxCompression(model, IMAGES, settings=settings, validation=held_out)
        _, report = compression.compress(Request(budget={"parameters": 0.4}))
        losses[fits] = report.loss
    assert losses[True] < 0.9 * losses[False]


def test_some_batches_where_memory_is_short(monkeypatch):
    network = Network.of(mlp())
    rows = make_rows(ROWS, network, "rows", batch_size=50)
    monkeypatch.setattr(sequential, "_STATE_BYTES", 3 * 50 * 6 * 100)
    batches = sequential._some(rows, 100)
    assert [batch.name for batch in batches] == [
        "rows, rows 0 to 49", "rows, rows 200 to 249", "rows, rows 450 to 499",
    ]  # fmt: skip
    assert len(sequential._some(rows, 1)) == 10


def test_moments_do_not_depend_on_groups_of_layers(monkeypatch):
    network = Network.of(residual_network())
    layers = find_layers(network)
    rows = make_rows(IMAGES, network, "rows")
    options = {"input_side": True, "threads": 1}
    one = collect(network, layers, rows, MPI.COMM_SELF, **options)
    from hpcembed.networks.onnx_compression import statistics

    monkeypatch.setattr(statistics, "BATCH_BYTES", 40_000)
    groups = list(statistics.tensor_groups(network, ["x", "a", "b", "c"], rows, 1))
    assert len(groups) > 1
    other = collect(network, layers, rows, MPI.COMM_SELF, **options)
    for name in one.layers:
        for a, b in zip(
            one.layers[name].all_moments(), other.layers[name].all_moments(), strict=True
        ):
            assert a.count == b.count
            assert np.allclose(a.second, b.second, rtol=1e-6)
    assert one.shapes == other.shapes
    assert one.shapes["c"].positions == 64


@pytest.mark.parametrize("rows", [np.ones((80, 20)), np.zeros((80, 20))])
def test_rows_without_variance_are_compressed(rows):
    model = mlp()
    small, report = compress_onnx(model, rows, budget={"parameters": 0.6}, sensitivity=False)
    assert report.parameters_kept <= 0.6
    given = Session(Network.of(model), ["y"]).run({"x": rows}, "")["y"]
    found = Session(Network.of(small), ["y"]).run({"x": rows}, "")["y"]
    np.testing.assert_allclose(found, given, atol=1e-6)


def test_uncentred_fits_count_deviations_from_the_bias():
    """A row of zeros gives the bias: the constants of uncentred fits are none of the data's."""
    model = mlp()
    first = find_layers(Network.of(model), "linear,conv")[0].name
    small, _ = compress_onnx(model, ROWS, ranks={first: 3}, centre=False)
    zeros = np.zeros((2, 20))
    graph = Network.of(small)
    tensor = [layer.y for layer in find_layers(graph, "linear,conv")][1]
    found = Session(graph, [tensor]).run({"x": zeros}, "")[tensor]
    original = Network.of(model)
    tensor = find_layers(original, "linear,conv")[0].y
    expected = Session(original, [tensor]).run({"x": zeros}, "")[tensor]
    np.testing.assert_allclose(found, expected, atol=1e-8)
