"""Activations of the layers of a network."""

import numpy as np
import pytest
import torch
from mpi4py import MPI

from hpcembed.data.matrix import DataMatrix
from hpcembed.networks.similarity.activations import layer_activations
from hpcembed.networks.training.classifier import Classifier, Regressor, build_mlp

ROWS = np.random.default_rng(0).standard_normal((20, 3)) + 4.0


def network(kind=Classifier, n_outputs=2, **more):
    torch.manual_seed(0)
    layers = build_mlp(3, (8, 4), n_outputs, (0.5, 0.5))
    return kind(layers, np.full(3, 4.0), np.full(3, 2.0), **more)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_equal_to_the_layers(dtype):
    model, chosen = network(), np.array([1, 5, 19])
    model.train()  # dropout has no effect
    found = layer_activations(model, ROWS.astype(dtype), chosen)
    assert list(found) == ["hidden 1", "hidden 2", "output"]
    values = (ROWS[chosen] - 4.0) * 2.0
    linear = [one for one in model.layers if isinstance(one, torch.nn.Linear)]
    for name, layer in zip(found, linear, strict=True):
        weight, bias = (one.detach().numpy() for one in (layer.weight, layer.bias))
        values = values @ weight.T + bias
        if name != "output":
            values = np.maximum(values, 0.0)
        np.testing.assert_allclose(found[name], values, atol=1e-5)
    np.testing.assert_allclose(
        found["output"], model.eval()(torch.from_numpy(ROWS[chosen])).detach(), atol=1e-5
    )


def test_rows_of_a_matrix_and_a_regression():
    model = network(Regressor, 1, target_shift=100.0, target_scale=5.0)
    chosen = np.array([0, 7])
    matrix = DataMatrix(ROWS, np.zeros(20), MPI.COMM_SELF)
    found = layer_activations(model, matrix, chosen)
    matrix.destroy()
    expected = layer_activations(model, ROWS, chosen)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)
    assert found["output"].shape == (2, 1)
    assert abs(found["output"]).max() < 50  # standardised, not in the unit of the target
