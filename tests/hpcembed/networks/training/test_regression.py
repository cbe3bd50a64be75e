"""Regression in the three ways of training: score, unit of the target, digits, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mpi4py import MPI
from sklearn.metrics import mean_absolute_error, r2_score

from hpcembed.networks.training.batched_training import Member, train_batch
from hpcembed.networks.training.classifier import Regressor
from hpcembed.networks.training.data_parallel.training import train_data_parallel
from hpcembed.networks.training.evaluation import predict_targets, shown_rows
from hpcembed.networks.training.gathered_training import train_classifier
from hpcembed.networks.training.objectives import Objective, objective_of
from hpcembed.networks.training.recipe import RECIPES, Recipe
from hpcembed.networks.training.samples import Samples
from hpcembed.networks.training.serialise import load_classifier, save_classifier
from hpcembed.networks.training.validation_split import local_holdout, stratified_holdout
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import allgather_rows, ownership_range, sum_over_ranks

FAST = Recipe(epochs=12, batch_size=32, weight_decay=0.0)
CPU = {"input_name": "full", "threads": 1, "device": "cpu"}


def curve(n, seed, offset=0.0, factor=1.0):
    """A smooth function of four inputs and some noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 4))
    y = X[:, 0] + 0.5 * X[:, 1] ** 2 - X[:, 2] * X[:, 3] / 3 + 0.05 * rng.standard_normal(n)
    return Samples(X, offset + factor * y)


def train(data=None, test=None, recipe=FAST, **more):
    data, test = data or curve(800, 0), test or curve(700, 1)
    return train_classifier(data, test, 0, (32,), recipe, **CPU, **more)


def test_report_is_that_of_the_predictions():
    data, test = curve(800, 0, 50.0, 10.0), curve(700, 1, 50.0, 10.0)
    trained = train(data, test)
    report, predicted = trained.report, predict_targets(trained.model, test.inputs)
    assert report.task == "regression"
    assert report.parameters == 4 * 32 + 32 + 32 + 1
    assert report.test_score == pytest.approx(r2_score(test.labels, predicted), abs=1e-6)
    error = predicted - test.labels
    assert report.test_rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    assert report.test_mae == pytest.approx(mean_absolute_error(test.labels, predicted), rel=1e-5)
    assert report.test_score > 0.9
    assert report.validation_score == max(one.validation_score for one in report.history)
    assert report.predictions.shape == (500, 2)
    rows = shown_rows(700)
    np.testing.assert_array_equal(report.predictions[:, 0], test.labels[rows])
    np.testing.assert_allclose(report.predictions[:, 1], predicted[rows], atol=1e-4)


def test_validation_score_is_that_of_the_rows_held_out():
    data = curve(800, 0)
    trained = train(data)
    _, held = stratified_holdout(data.labels, FAST.validation_fraction, 0)
    assert held.size == 80
    predicted = predict_targets(trained.model, data.inputs[held])
    expected = r2_score(data.labels[held], predicted)
    assert trained.report.validation_score == pytest.approx(expected, abs=1e-6)


def test_large_offset_costs_no_digits():
    near = train(curve(800, 0), curve(700, 1))
    far = train(curve(800, 0, 1e9), curve(700, 1, 1e9))
    assert far.report.test_score == pytest.approx(near.report.test_score, abs=0.01)
    inputs = torch.tensor(curve(5, 2).inputs)
    expected = predict_targets(far.model, curve(5, 2).inputs)
    assert isinstance(far.model, Regressor)
    found = far.model(inputs).detach()
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


def test_published_recipe():
    recipe = RECIPES["published"]
    members = [Member(0, 4)]
    found = train_batch(curve(800, 0), curve(700, 1), 0, (32,), recipe, members, **CPU)
    assert found.results[0].test_score > 0.7


def test_stacked_networks_are_those_trained_alone():
    data, test = curve(800, 0, 7.0, 3.0), curve(700, 1, 7.0, 3.0)
    members = [Member(0, 4), Member(0, 2), Member(1, 4)]
    recipe = Recipe(epochs=12, batch_size=32, weight_decay=0.0, input_scaling="standard")
    batch = train_batch(data, test, 0, (32,), recipe, members, **CPU)
    for position, (member, result) in enumerate(zip(members, batch.results, strict=True)):
        columns = [Samples(one.inputs[:, : member.n_inputs], one.labels) for one in (data, test)]
        alone = train(*columns, recipe, seed=member.seed).report
        assert result.test_score == pytest.approx(alone.test_score, abs=2e-3)
        assert result.validation_score == pytest.approx(alone.validation_score, abs=2e-3)
        assert (result.test_rmse, result.test_mae) == pytest.approx(
            (alone.test_rmse, alone.test_mae), rel=0.02
        )
        assert (result.task, result.confusion.size) == ("regression", 0)
        predicted = predict_targets(batch.classifier(position).model, columns[1].inputs)
        assert result.test_score == pytest.approx(r2_score(test.labels, predicted), abs=1e-5)
        shown = result.predictions
        np.testing.assert_allclose(shown[:, 1], predicted[shown_rows(700)], atol=1e-4)
    assert batch.results[1].test_score < batch.results[0].test_score


def test_gradient_of_stacked_networks():
    from hpcembed.networks.training.stacked_networks import StackedNetworks

    stack = StackedNetworks([3, 3], (5,), 1, [0, 1], torch.ones(2, 3))
    rng = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(2, 7, 3, generator=rng), torch.randn(2, 7, 1, generator=rng)
    loss = stack.gradient(inputs, targets, 0.3)
    for b in range(2):
        network = stack.network(b)
        expected = torch.nn.functional.mse_loss(network(inputs[b]), targets[b])
        expected.backward()
        assert loss[b] == pytest.approx(float(expected.detach()), rel=1e-5)
        gradient = network[0].weight.grad.t()
        torch.testing.assert_close(stack._gradients[0][b], gradient, rtol=1e-4, atol=1e-6)


def test_saved_network_predicts_the_same(tmp_path):
    trained = train(curve(800, 0, 1e6), curve(50, 1, 1e6))
    save_classifier(tmp_path / "a.safetensors", trained)
    saved = load_classifier(tmp_path / "a.safetensors")
    inputs = curve(20, 3).inputs
    np.testing.assert_array_equal(
        predict_targets(saved.model, inputs), predict_targets(trained.model, inputs)
    )


def test_score_below_zero_and_undefined_scores():
    objective = Objective(0, 10.0, 2.0)
    truth = objective.truth(np.array([8.0, 12.0]), torch.device("cpu"))
    sums = objective.sums(torch.tensor([[2.0], [-2.0]]), truth).numpy()
    found = objective.evaluation(sums)
    assert (found.score, found.loss, found.rmse, found.mae) == pytest.approx((-8.0, 9.0, 6.0, 6.0))
    equal = objective.sums(torch.zeros(3, 1), torch.full((3,), 0.1)).numpy()
    assert np.isnan(objective.evaluation(equal).score)
    assert objective.evaluation(equal).mae == pytest.approx(0.2)
    assert np.isnan(objective.evaluation(np.zeros(5)).loss)


def test_equal_validation_targets_leave_the_choice_to_the_loss():
    data = curve(400, 0)
    _, held = stratified_holdout(data.labels, 0.1, 0)
    data.labels[held] = 0.25
    single = train(data).report
    (stacked,) = train_batch(data, data, 0, (32,), FAST, [Member(0, 4)], **CPU).results
    assert np.isnan(single.validation_score)
    assert single.best_epoch == stacked.best_epoch > 0


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full(50, 3.0), "all targets are equal"),
        (np.full(50, 0.1), "all targets are equal"),
        (np.r_[np.zeros(49), np.nan], "target nan of row 49"),
        (np.arange(50), "type int64: give float64"),
        (np.linspace(-1e200, 1e200, 50), "overflow"),
    ],
)
def test_refused_targets(labels, words):
    with pytest.raises(InputError, match=words):
        train(Samples(np.ones((50, 2)), labels))
    with pytest.raises(InputError, match="not classes"):
        train_classifier(Samples(np.ones((50, 2)), np.ones(50)), curve(9, 0), 3, (4,), FAST, **CPU)


def part(samples, comm):
    start, stop = ownership_range(len(samples.labels), comm)
    return Samples(samples.inputs[start:stop], samples.labels[start:stop])


@pytest.mark.mpi
def test_data_parallel_training(comm):
    data, test = curve(800, 0, 50.0, 10.0), curve(700, 1, 50.0, 10.0)
    found = train_data_parallel(part(data, comm), part(test, comm), 0, (32,), FAST, comm, **CPU)
    alone = train_data_parallel(data, test, 0, (32,), FAST, MPI.COMM_SELF, **CPU)
    for name in ("validation_score", "test_score", "test_rmse", "test_mae"):
        assert getattr(found.report, name) == pytest.approx(getattr(alone.report, name), rel=2e-3)
    predicted = predict_targets(found.model, test.inputs)
    assert found.report.test_score == pytest.approx(r2_score(test.labels, predicted), abs=1e-6)
    shown = found.report.predictions
    np.testing.assert_array_equal(shown[:, 0], test.labels[shown_rows(700)])
    np.testing.assert_allclose(shown[:, 1], predicted[shown_rows(700)], atol=1e-3)
    gathered = train(data, test).report
    assert found.report.test_score == pytest.approx(gathered.test_score, abs=0.03)


@pytest.mark.mpi
def test_statistics_and_held_out_rows_of_all_ranks(comm):
    labels = curve(101, 0, 1e8, 3.0).labels
    start, stop = ownership_range(101, comm)
    own = labels[start:stop]
    found = objective_of(own, 0, lambda sums: sum_over_ranks(comm, sums))
    assert found.shift == pytest.approx(labels.mean(), rel=1e-15)
    assert found.scale == pytest.approx(labels.std(), rel=1e-7)
    _, held = local_holdout(comm, own, 0, 0.2, 3)
    expected = stratified_holdout(labels, 0.2, 3)[1]
    np.testing.assert_array_equal(allgather_rows(comm, held + start), expected)
