"""Training in random subspaces, and the least dimension."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from hpcembed.networks.random_subspaces import (
    PROJECTIONS,
    dimension,
    make_projection,
    random_subspace_dimension,
    train_in_subspace,
)
from hpcembed.networks.random_subspaces.training import SubspaceTraining
from hpcembed.runtime.errors import ConfigError, InputError

RECIPE = {"epochs": 8, "batch_size": 32, "learning_rate": 0.03}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X = ((X - X.mean()) / X.std()).astype(np.float32)[order]
    return (X[:800], y[order[:800]]), (X[800:], y[order[800:]])


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def flat(model):
    return torch.cat([one.detach().reshape(-1) for one in model.parameters()])


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_the_parameters_stay_in_the_subspace(digits, kind):
    model = network()
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    found = train_in_subspace(
        model, *digits[0], 100, projection=kind, test=digits[1], seed=5, **RECIPE
    )
    P = make_projection(2410, 100, kind, seed=5)
    torch.testing.assert_close(
        flat(found.model) - flat(model), P(found.coordinates), atol=1e-5, rtol=0
    )
    assert (found.dimension, found.n_parameters) == (100, 2410)
    assert found.coordinates.shape == (100,)
    assert len(found.accuracies) == len(found.losses) == 8
    assert found.losses[-1] < 0.5 * found.losses[0]
    assert found.accuracies[-1] > 0.7
    with torch.no_grad():
        predicted = found.model(torch.from_numpy(digits[1][0])).argmax(dim=1).numpy()
    assert np.mean(predicted == digits[1][1]) == found.accuracies[-1]
    assert not found.model.training
    assert found.seconds > 0
    assert model.training
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_all_parameters_follow_adam(digits):
    X, y = (torch.from_numpy(one) for one in digits[0])
    model = network()
    found = train_in_subspace(model, X, y, None, epochs=2, batch_size=200, weight_decay=1e-3)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(2):
        for part in torch.randperm(800, generator=order).split(200):
            optimiser.zero_grad()
            squares = sum(one.square().sum() for one in model.parameters())
            (functional.cross_entropy(model(X[part]), y[part]) + 1e-3 * squares).backward()
            optimiser.step()
    torch.testing.assert_close(flat(found.model), flat(model), atol=2e-5, rtol=0)
    assert found.dimension is None
    assert found.accuracies == ()
    repeated = train_in_subspace(network(), X, y, None, epochs=2, batch_size=200, weight_decay=1e-3)
    assert torch.equal(flat(found.model), flat(repeated.model))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_of_the_caller_do_not_change_a_training(digits, mode):
    rows, labels = digits[0]
    expected = train_in_subspace(network(), rows, labels, 20, epochs=1).losses
    with mode():
        assert train_in_subspace(network(), rows, labels, 20, epochs=1).losses == expected


def test_batch_normalisation_and_dropout(digits):
    model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Dropout(0.2), nn.Linear(32, 10))
    found = train_in_subspace(model, *digits[0], 200, test=digits[1], **RECIPE)
    assert found.model[1].num_batches_tracked == 8 * 25
    assert model[1].num_batches_tracked == 0
    assert found.accuracies[-1] > 0.8


def test_the_least_dimension_of_a_known_curve(monkeypatch):
    # accuracy 1 - 8 / d, and 1 for all parameters
    seen = []

    def trained(model, rows, labels, d, *, seed, **others):
        seen.append((d, seed, model.weight[0, 0].item()))
        accuracy = 1.0 if d is None else 1 - 8 / d + (0.02 if seed else -0.02)
        return SubspaceTraining(model, torch.zeros(1), d, 30, (0.0,), (0.5, accuracy), 1.0)

    monkeypatch.setattr(dimension, "train_in_subspace", trained)
    settings = {"grid": range(10, 300, 10), "seeds": (0, 1)}
    arguments = lambda: nn.Linear(2, 2), None, None, (None, None)
    found = random_subspace_dimension(*arguments, **settings)
    assert (found.dimension, found.below, found.threshold, found.baseline) == (80, 70, 0.9, 1.0)
    assert (found.n_parameters, found.seeds, found.grid[-1]) == (6, (0, 1), 290)
    assert found.accuracy(80) == pytest.approx(0.9)
    assert found.accuracy(None) == 1
    assert np.isnan(found.accuracy(11))
    assert len(found.trials) == len(seen) == 2 * 7
    # one start for each seed, the same for all dimensions
    assert len({weight for _, seed, weight in seen if seed == 0}) == 1
    assert len({weight for _, _, weight in seen}) == 2
    lower = random_subspace_dimension(*arguments, share=0.8, baseline=0.9, **settings)
    assert (lower.dimension, lower.below) == (30, 20)
    assert lower.threshold == pytest.approx(0.72)
    assert None not in {one.dimension for one in lower.trials}
    easy = random_subspace_dimension(*arguments, share=0.1, **settings)
    assert (easy.dimension, easy.below) == (10, None)
    hard = random_subspace_dimension(*arguments, share=1.0, **settings)
    assert (hard.dimension, hard.below) == (None, 290)


def test_finished_trainings_are_not_repeated(digits):
    made = []
    arguments = lambda: nn.Linear(64, 10), *digits[0], digits[1]
    settings = {"grid": (2, 10, 60, 200), "seeds": (0, 1), **RECIPE}
    first = random_subspace_dimension(*arguments, on_trial=made.append, **settings)
    assert made == list(first.trials)
    again = random_subspace_dimension(
        *arguments, finished=made[1:], on_trial=made.append, **settings
    )
    assert (again.dimension, again.n_parameters) == (first.dimension, 650)
    assert again.trials[1:] == first.trials[1:]
    assert made[len(first.trials) :] == [again.trials[0]]
    assert again.trials[0].accuracy == first.trials[0].accuracy


def test_the_least_dimension_of_digits(digits):
    found = random_subspace_dimension(
        lambda: nn.Linear(64, 10), *digits[0], digits[1], grid=(2, 10, 60, 200), **RECIPE
    )
    assert found.dimension in (60, 200)
    assert found.accuracy(found.dimension) >= found.threshold == 0.9 * found.baseline
    assert found.accuracy(found.below) < found.threshold
    assert found.baseline > 0.9


def test_errors(digits):
    model, (X, y) = network(), digits[0]
    with pytest.raises(InputError, match=r"training rows of shape \(800, 64\) and labels of shape"):
        train_in_subspace(model, X, y[:10], 5)
    with pytest.raises(InputError, match="training labels must be integers from 0"):
        train_in_subspace(model, X, y - 1, 5)
    with pytest.raises(InputError, match="test row 2 has a value that is not finite"):
        bad = X[:5].copy()
        bad[2, 3] = np.nan
        train_in_subspace(model, X, y, 5, test=(bad, y[:5]))
    with pytest.raises(ConfigError, match="dimension = 3000 exceeds the 2410 parameters"):
        train_in_subspace(model, X, y, 3000)
    with pytest.raises(ConfigError, match="dimension must be a positive integer"):
        train_in_subspace(model, X, y, 0)
    with pytest.raises(ConfigError, match="learning_rate must be a positive number"):
        train_in_subspace(model, X, y, 5, learning_rate=0)
    with pytest.raises(ConfigError, match="weight_decay must be a number from 0"):
        train_in_subspace(model, X, y, 5, weight_decay=-1)
    with pytest.raises(ConfigError, match="epochs"):
        train_in_subspace(model, X, y, 5, epochs=0)
    with pytest.raises(ConfigError, match="the model has no parameters"):
        train_in_subspace(nn.ReLU(), X, y, 5)
    with pytest.raises(ConfigError, match="the loss is not finite in epoch"):
        train_in_subspace(model, X, y, 5, learning_rate=1e30, epochs=3)
    arguments = lambda: model, X, y, (X, y)
    with pytest.raises(ConfigError, match="grid must hold increasing positive integers"):
        random_subspace_dimension(*arguments, grid=(5, 5))
    with pytest.raises(ConfigError, match="seeds must hold integers from 0"):
        random_subspace_dimension(*arguments, grid=(5,), seeds=())
    with pytest.raises(ConfigError, match="share must be a number above 0"):
        random_subspace_dimension(*arguments, grid=(5,), share=1.1)
    with pytest.raises(ConfigError, match="baseline must be a number above 0"):
        random_subspace_dimension(*arguments, grid=(5,), baseline=0.0)
