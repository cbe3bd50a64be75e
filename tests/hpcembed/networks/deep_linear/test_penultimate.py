"""Penultimate layers that are deep linear networks: start, steps, merged layer, record, errors."""

import copy
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from hpcembed.networks.deep_linear.penultimate import (
    DeepLinearLayer,
    first_gradient_step,
    train_with_deep_linear_layer,
)
from hpcembed.runtime.errors import ConfigError, InputError

KINDS = ("none", "full", "compressed")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X = ((X - X.mean()) / X.std()).astype(np.float32)[order]
    return (X[:1400], y[order[:1400]]), (X[1400:], y[order[1400:]])


@pytest.fixture(scope="module")
def trained(digits):
    training, validation = digits
    return {
        kind: train_with_deep_linear_layer(
            (48, 40), *training, kind=kind, epochs=12, batch_size=64, validation=validation, seed=2
        )
        for kind in KINDS
    }


def start_of(hidden, inputs, classes, seed):
    """The network with ordinary weights that every kind starts from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = [inputs, *hidden, classes]
        layers = []
        for n, m in pairwise(sizes):
            layers += [nn.Linear(n, m), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_classifies_and_is_plain(trained, digits, kind):
    X, y = (torch.as_tensor(one) for one in digits[1])
    found = trained[kind]
    assert found.kind == kind
    assert [type(one) for one in found.network] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU,
                                                    nn.Linear]  # fmt: skip
    assert not found.network.training
    assert len(found.validation_accuracy) == 12
    right = float((found.network(X).argmax(1) == y).float().mean())
    assert right == pytest.approx(found.validation_accuracy[-1], abs=2 / len(y))
    assert found.validation_accuracy[-1] >= 0.95 > found.validation_accuracy[0] - 0.04
    assert set(found.seconds) == {"start", "epochs"}
    assert min(found.seconds.values()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_merged_network_has_the_outputs_of_the_trained_one(trained, digits, kind):
    X = torch.as_tensor(digits[1][0])
    found = trained[kind]
    with torch.no_grad():
        torch.testing.assert_close(found.network(X), found.trained(X), rtol=1e-5, atol=1e-5)
    # the networks share no memory
    before = found.network(X).detach()
    changed = copy.deepcopy(found.trained[0].weight.detach())
    with torch.no_grad():
        found.trained[0].weight.zero_()
        torch.testing.assert_close(found.network(X), before, rtol=0, atol=0)
        found.trained[0].weight.copy_(changed)


def test_parameters(trained):
    ends = 64 * 48 + 48 + 40 * 10 + 10 + 40  # all but the weight of the last hidden layer
    assert trained["none"].parameters == ends + 40 * 48
    assert trained["full"].parameters == ends + 40 * 48 + 2 * 40 * 40
    assert trained["compressed"].parameters == ends + 20 * (48 + 40 + 20)
    for found in trained.values():
        assert found.parameters == sum(one.numel() for one in found.trained.parameters())
        assert sum(one.numel() for one in found.network.parameters()) == ends + 40 * 48


def test_first_gradient_step_is_the_difference_quotient(digits):
    X, y = (torch.as_tensor(one[:1100]) for one in digits[0])  # more than one block
    X = X.double()
    network = start_of((9, 7), 64, 10, seed=1).double()
    step = first_gradient_step(network, network[2], X, y)
    assert step.shape == (7, 9)
    weight = network[2].weight
    for a, b in ((0, 0), (3, 5), (6, 8)):
        losses = []
        with torch.no_grad():
            for change in (1e-5, -2e-5):
                weight[a, b] += change
                losses.append(float(functional.cross_entropy(network(X), y)))
            weight[a, b] += 1e-5
        slope = (losses[0] - losses[1]) / 2e-5
        assert abs(slope) > 1e-6
        assert float(step[a, b]) == pytest.approx(-slope, rel=1e-4, abs=1e-9)


def test_start_has_the_singular_vectors_of_the_surrogate(trained, digits):
    X, y = (torch.as_tensor(one) for one in digits[0])
    network = start_of((48, 40), 64, 10, seed=2)
    surrogate = first_gradient_step(network, network[2], X, y).double().numpy()
    U, s, Vt = np.linalg.svd(surrogate)
    start = trained["compressed"].start
    assert start.certified
    np.testing.assert_allclose(start.values, s[:20], rtol=1e-3, atol=1e-6 * s[0])
    # values beyond the number of classes are close to each other: the first vectors are compared
    for j in range(5):
        assert abs(start.left[:, j] @ U[:, j]) > 1 - 1e-4
        assert abs(start.right[:, j] @ Vt[j]) > 1 - 1e-4
    assert trained["none"].start is None
    assert trained["full"].start is None


@pytest.mark.parametrize("depth", [2, 4])
def test_one_step_of_the_compressed_layer(digits, depth):
    X, y = (torch.as_tensor(one[:500]) for one in digits[0])
    scale, alpha, rate = 0.8, 3.0, 0.1
    found = train_with_deep_linear_layer(
        (16, 12), X, y, rank=6, depth=depth, alpha=alpha, scale=scale, learning_rate=rate,
        epochs=1, batch_size=500, seed=3,
    )  # fmt: skip
    reference = start_of((16, 12), 64, 10, seed=3)
    left, right = (torch.tensor(one).float() for one in (found.start.left, found.start.right))
    weights = [scale * right.T, *[scale * torch.eye(6)] * (depth - 2), scale * left]
    assert [tuple(one.shape) for one in weights] == [
        tuple(one.shape) for one in found.trained[2].weights
    ]
    weights = [one.clone().requires_grad_() for one in weights]
    features = reference[1](reference[0](X))
    W = weights[0]
    for weight in weights[1:]:
        W = weight @ W
    loss = functional.cross_entropy(reference[4](torch.relu(features @ W.T + reference[2].bias)), y)
    loss.backward()
    # one step: half the peak of the rate, and 1.9 gradients by Nesterov's momentum
    for j, weight in enumerate(weights):
        factor = 0.5 * rate * 1.9 * (alpha if j in (0, depth - 1) else 1.0)
        expected = weight.detach() - factor * weight.grad
        assert weight.grad.abs().max() > 1e-3
        torch.testing.assert_close(found.trained[2].weights[j].detach(), expected, rtol=1e-4,
                                   atol=2e-6)  # fmt: skip
    expected = reference[0].weight.detach() - 0.5 * rate * 1.9 * reference[0].weight.grad
    torch.testing.assert_close(found.trained[0].weight.detach(), expected, rtol=1e-4, atol=2e-6)


def test_full_layer_starts_orthogonal_with_the_same_other_layers(digits):
    X, y = (one[:200] for one in digits[0])
    found = train_with_deep_linear_layer(
        (16, 12), X, y, kind="full", depth=4, scale=0.5, learning_rate=1e-9, epochs=1, seed=3
    )
    weights = [one.detach() for one in found.trained[2].weights]
    assert [tuple(one.shape) for one in weights] == [(12, 16), *[(12, 12)] * 3]
    for weight in weights:
        torch.testing.assert_close(weight @ weight.T, 0.25 * torch.eye(12), atol=1e-5, rtol=0)
    reference = start_of((16, 12), 64, 10, seed=3)
    for j in (0, 4):
        torch.testing.assert_close(found.trained[j].weight.detach(), reference[j].weight.detach(),
                                   rtol=0, atol=1e-6)  # fmt: skip
    torch.testing.assert_close(found.trained[2].bias.detach(), reference[2].bias.detach(),
                               rtol=0, atol=1e-6)  # fmt: skip


def test_one_hidden_layer_and_a_rank_by_the_classes(digits):
    X, y = (one[:200] for one in digits[0])
    found = train_with_deep_linear_layer((12,), X, y, epochs=1)
    assert [tuple(one.shape) for one in found.trained[0].weights] == [(12, 64), (12, 12), (12, 12)]
    assert found.network[0].weight.shape == (12, 64)


def test_same_seed_same_weights_and_the_global_generator_is_kept(digits):
    X, y = (one[:300] for one in digits[0])
    torch.manual_seed(7)
    state = torch.get_rng_state()
    for kind in KINDS:
        one, two, other = (
            train_with_deep_linear_layer((16, 12), X, y, kind=kind, epochs=1, seed=seed)
            for seed in (0, 0, 1)
        )
        assert torch.equal(one.network[2].weight, two.network[2].weight)
        assert not torch.equal(one.network[2].weight, other.network[2].weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_merged_layer_of_a_product():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(*shape, generator=generator) for shape in ((2, 5), (2, 2), (4, 2))]
    layer = DeepLinearLayer(weights, torch.arange(4.0))
    merged = layer.merged()
    torch.testing.assert_close(merged.weight.detach(), weights[2] @ weights[1] @ weights[0])
    assert merged.bias.tolist() == [0.0, 1.0, 2.0, 3.0]
    rows = torch.randn(3, 5, generator=generator)
    torch.testing.assert_close(merged(rows), layer(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"kind": "thin"}, ConfigError, "kind = 'thin' is not one of none, full, compressed"),
        ({"hidden": ()}, ConfigError, "hidden = []: give the width"),
        ({"hidden": (8, 0)}, ConfigError, "hidden = [8, 0]: give the width"),
        ({"depth": 1}, ConfigError, "depth must be an integer of at least 2, got 1"),
        ({"rank": 13}, ConfigError, "rank = 13 exceeds 8, the smaller dimension"),
        ({"rank": 0}, ConfigError, "rank must be a positive integer or None, got 0"),
        ({"alpha": 0}, ConfigError, "alpha must be a positive number, got 0"),
        ({"scale": -1.0}, ConfigError, "scale must be a positive number, got -1.0"),
        ({"epochs": 0}, ConfigError, "epochs must be a positive integer, got 0"),
        ({"batch_size": 1.5}, ConfigError, "batch_size must be a positive integer, got 1.5"),
        ({"learning_rate": 1e6}, ConfigError, "the loss is not finite in epoch 3: reduce"),
        ({"X": np.full((4, 3), np.nan)}, InputError, "training row 0 has a number that is not"),
        ({"X": np.ones(4)}, InputError, "training inputs of shape (4,)"),
        ({"y": np.arange(3)}, InputError, "classes of shape (3,): give a table, and one class"),
        ({"y": np.arange(4) - 1}, InputError, "training classes are not integers from 0 on"),
        ({"y": np.arange(4.0)}, InputError, "training classes are not integers from 0 on"),
        (
            {"validation": (np.eye(3), np.array([0, 1, -1]))},
            InputError,
            "validation classes are not integers from 0 on",
        ),
    ],
)
def test_errors_are_one_line(settings, error, message):
    rng = np.random.default_rng(0)
    arguments = {"hidden": (9, 8), "X": rng.standard_normal((4, 3)), "y": np.arange(4) % 3}
    with pytest.raises(error) as caught:
        train_with_deep_linear_layer(**(arguments | {"epochs": 3} | settings))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_package_needs_no_torch():
    code = "import hpcembed.networks.deep_linear, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
