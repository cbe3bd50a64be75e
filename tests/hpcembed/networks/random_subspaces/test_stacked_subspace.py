"""A network of a batch in a random subspace: parameters, gradient, the epoch that is kept."""

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from hpcembed.networks.random_subspaces import make_projection
from hpcembed.networks.random_subspaces.stacked_subspace import SubspaceNetwork
from hpcembed.networks.training.batched_training import Member, train_batch
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.samples import Samples
from hpcembed.networks.training.stacked_networks import StackedNetworks
from hpcembed.runtime.errors import ConfigError

D = 6 * 5 + 5 + 5 * 3 + 3


def networks(dimension):
    with torch.random.fork_rng():
        scale = torch.linspace(0.5, 2.0, 6).unsqueeze(0)
        made = SubspaceNetwork((6,), (5,), 3, (4,), scale, dimension=dimension)
        return made, StackedNetworks((6,), (5,), 3, (4,), scale)


def test_parameters_and_gradient():
    own, whole = networks(10)
    assert own.flat.shape == (10,)
    assert torch.equal(own.logits(torch.ones(1, 2, 6)), whole.logits(torch.ones(1, 2, 6)))
    P = make_projection(D, 10, "srht", 4).matrix() * math.sqrt(D / 10)
    start = whole.flat.detach().clone()
    X, y = torch.randn(1, 20, 6), torch.randint(0, 3, (1, 20, 1))
    with torch.no_grad():
        for _ in range(2):  # the second time at changed coordinates
            whole.flat.data.copy_(start + P @ own.flat)
            loss = own.gradient(X, y, 0.1)
            torch.testing.assert_close(loss, whole.gradient(X, y, 0.1))
            torch.testing.assert_close(own.flat.grad, P.T @ whole.flat.grad)
            own.flat.data -= 0.3 * own.flat.grad
        whole.flat.data.copy_(start + P @ own.flat)
        # the step after the last gradient is part of an evaluation
        torch.testing.assert_close(own.logits(X), whole.logits(X))
        expected = functional.cross_entropy(own.logits(X)[0], y[0, :, 0])
        assert torch.isfinite(expected)
        kept = own.copy_of_parameters()
        own.gradient(X, y, 0.1)
        own.flat.data += 1.0
        before = own.logits(X)
        own.restore(kept)
        torch.testing.assert_close(own.logits(X), whole.logits(X))
        assert (before - own.logits(X)).abs().max() > 1e-3


def test_coordinates_of_a_checkpoint():
    own, whole = networks(10)
    X = torch.ones(1, 2, 6)
    with torch.no_grad():
        own.flat.data.copy_(torch.linspace(-1, 1, 10))  # before any step
        P = make_projection(D, 10, "srht", 4).matrix() * math.sqrt(D / 10)
        whole.flat.data.add_(P @ own.flat)
        torch.testing.assert_close(own.logits(X), whole.logits(X))


def test_all_dimensions_train_as_all_parameters():
    X, y = load_digits(return_X_y=True)
    rows = Samples((X / 16).astype(np.float32), y.astype(np.int64))
    recipe = Recipe(epochs=6, batch_size=64, validation_fraction=0.2)

    def score(**own):
        (found,) = train_batch(
            rows, rows, 10, (16,), recipe, [Member(3, 64)], input_name="full", threads=1, **own
        ).results
        return found.validation_score, found.parameters

    found = [
        score(make_networks=functools.partial(SubspaceNetwork, dimension=d))
        for d in (3, 60, 64 * 16 + 16 + 170)
    ]
    whole = score()
    assert found[2][0] == pytest.approx(whole[0], abs=0.03)
    assert found[0][0] < 0.5 < found[1][0] < whole[0]
    assert {parameters for _, parameters in found} == {whole[1]}


def test_errors():
    with pytest.raises(ConfigError, match=f"dimension = {D + 1} exceeds the {D} parameters"):
        networks(D + 1)
    with pytest.raises(ValueError, match="one network on all inputs"):
        SubspaceNetwork((6, 6), (5,), 3, (4, 5), torch.ones(2, 6), dimension=3)
