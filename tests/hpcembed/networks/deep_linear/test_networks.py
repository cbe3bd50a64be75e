"""Deep linear networks: gradients, the published start, recovery and its record."""

import dataclasses
import math

import numpy as np
import pytest

from hpcembed.networks.deep_linear import (
    ConvergedReason,
    Factorisation,
    fit_compressed_network,
    fit_full_network,
    spectral_start,
)
from hpcembed.networks.deep_linear.synthetic import completion_of, published_target, sensing_of
from hpcembed.runtime.errors import ConfigError, InputError

TRUTH = published_target(24, 2, seed=1)


def problems():
    return [
        Factorisation(TRUTH.left @ TRUTH.right.T), completion_of(TRUTH, 0.5), sensing_of(TRUTH, 150)
    ]  # fmt: skip


def product(weights):
    X = weights[0]
    for weight in weights[1:]:
        X = weight @ X
    return X


def numeric_gradient(problem, weights, j, a, b, eps=1e-4):
    """Central difference of the loss by entry (a, b) of weight j."""
    losses = []
    for sign in (1, -1):
        changed = [w.copy() for w in weights]
        changed[j][a, b] += sign * eps
        losses.append(problem.loss_and_gradient(product(changed))[0])
    return (losses[0] - losses[1]) / (2 * eps)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("problem", problems(), ids=lambda p: p.name)
def test_one_step_of_the_compressed_network_is_the_gradient(problem, depth):
    rate, alpha, scale, k = 1e-3, 3.0, 0.7, 5
    start = spectral_start(problem, k)
    fit = fit_compressed_network(
        problem, 2, inner=k, depth=depth, learning_rate=rate, alpha=alpha, scale=scale,
        max_iterations=1, start=start, tol=0.0,
    )  # fmt: skip
    before = [scale * start.right.T, *[scale * np.eye(k)] * (depth - 2), scale * start.left]
    assert [w.shape for w in fit.weights] == [(k, 24), *[(k, k)] * (depth - 2), (24, k)]
    for j in range(depth):
        factor = rate * (alpha if j in (0, depth - 1) else 1.0)
        for a, b in ((0, 0), (1, 3), (4, 2)):
            moved = (before[j][a, b] - fit.weights[j][a, b]) / factor
            expected = numeric_gradient(problem, before, j, a, b)
            assert moved == pytest.approx(expected, rel=1e-4, abs=1e-7)
    np.testing.assert_allclose(fit.left @ fit.right.T, product(fit.weights), atol=1e-12)


@pytest.mark.parametrize("problem", problems(), ids=lambda p: p.name)
def test_one_step_of_the_full_network_is_the_gradient(problem):
    arguments = {"depth": 4, "width": 26, "scale": 0.7, "tol": 0.0, "seed": 3}
    one = fit_full_network(problem, learning_rate=1e-3, max_iterations=1, **arguments)
    two = fit_full_network(problem, learning_rate=2e-3, max_iterations=1, **arguments)
    # weights are W0 - rate * gradient: two rates give both
    before = [2 * a - b for a, b in zip(one.weights, two.weights, strict=True)]
    assert [w.shape for w in before] == [(26, 24), (26, 26), (26, 26), (24, 26)]
    np.testing.assert_allclose(before[1] @ before[1].T, 0.49 * np.eye(26), atol=1e-9)
    np.testing.assert_allclose(before[0].T @ before[0], 0.49 * np.eye(24), atol=1e-9)
    for j in range(4):
        for a, b in ((0, 0), (2, 5)):
            moved = (before[j][a, b] - one.weights[j][a, b]) / 1e-3
            expected = numeric_gradient(problem, before, j, a, b)
            assert moved == pytest.approx(expected, rel=1e-4, abs=1e-7)
    np.testing.assert_allclose(one.left @ one.right.T, product(one.weights), atol=1e-12)


def test_record_of_the_compressed_network():
    problem = completion_of(published_target(60, 2), 0.4)
    fit = fit_compressed_network(problem, 2)
    assert (fit.algorithm, fit.problem) == ("compressed network", "completion")
    assert (fit.left.shape, fit.right.shape, fit.rank) == ((60, 4), (60, 4), 4)
    assert len(fit.loss_history) == fit.iterations + 1
    assert fit.loss == fit.loss_history[-1] <= 1e-12 < fit.loss_history[-2]
    assert fit.iterations_to(1e-6) < fit.iterations
    assert fit.iterations_to(1e-20) is None
    X = problem.truth.left @ problem.truth.right.T
    error = np.linalg.norm(fit.left @ fit.right.T - X) / np.linalg.norm(X)
    assert fit.recovery_error == pytest.approx(error, rel=1e-6)
    assert error < 1e-4
    assert set(fit.seconds) == {"start", "iterations"}
    assert min(fit.seconds.values()) > 0
    assert fit.parameters == 2 * 60 * 4 + 4 * 4
    assert fit.reason is ConvergedReason.LOSS
    assert fit.converged
    assert fit.start.certified
    assert len(fit.start.values) == 4
    assert fit.stages == ()
    assert len(fit.weights) == 3


def test_record_of_the_full_network():
    problem = Factorisation(TRUTH.left @ TRUTH.right.T)
    fit = fit_full_network(problem, learning_rate=5.0, scale=0.1, max_iterations=150)
    assert fit.algorithm == "full network"
    assert fit.problem == "factorisation"
    assert fit.reason is ConvergedReason.ITERATIONS
    assert not fit.converged
    assert fit.iterations == 150
    assert fit.parameters == 3 * 24 * 24
    assert fit.start is None
    assert fit.loss < fit.loss_history[0]
    assert fit.recovery_error == pytest.approx(0.58, abs=0.1)  # one of two components
    assert "raise max_iterations" in fit.reason.value


def test_inner_order_that_is_not_a_multiple_of_the_rank_recovers():
    problem = completion_of(published_target(60, 2), 0.4)
    for inner in (2, 3, 11):
        fit = fit_compressed_network(problem, 2, inner=inner)
        assert fit.converged
        assert fit.rank == inner
        # surplus inner directions keep the scale of the start where nothing is seen
        assert fit.recovery_error < 1e-3


def test_rank_by_the_spectrum():
    fit = fit_compressed_network(completion_of(published_target(100, 3), 0.4))
    assert fit.rank == 6
    assert fit.recovery_error < 1e-4


def test_too_large_a_learning_rate_is_reported():
    problem = Factorisation(TRUTH.left @ TRUTH.right.T)
    with np.errstate(all="ignore"):
        fit = fit_compressed_network(problem, 2, learning_rate=1e5)
    assert fit.reason is ConvergedReason.DIVERGED
    assert not fit.converged
    assert not math.isfinite(fit.loss) or fit.loss > 1e5


def test_a_matrix_whose_scale_does_not_fit_the_rates_is_reported_with_the_remedy():
    target = TRUTH.left @ TRUTH.right.T
    small = fit_full_network(Factorisation(target / 1e3), max_iterations=200)
    assert small.reason is ConvergedReason.NO_PROGRESS
    assert not small.converged
    assert "raise learning_rate, scale or max_iterations" in small.reason.value
    small = fit_compressed_network(Factorisation(target / 1e3), 2, max_iterations=200)
    assert small.reason is ConvergedReason.NO_PROGRESS
    with np.errstate(all="ignore"):
        large = fit_full_network(Factorisation(1e3 * target))
    assert large.reason is ConvergedReason.DIVERGED
    assert "reduce learning_rate or step" in large.reason.value


def test_the_rates_of_the_notes_are_the_limits():
    """The notes of fit_full_network give the stable rates and the iterations to the first value."""
    target = TRUTH.left @ TRUTH.right.T
    sigma = np.linalg.norm(target, 2)
    for depth in (2, 3):
        limit = 2 * target.size / (depth * sigma ** (2 - 2 / depth))
        arguments = {"depth": depth, "tol": 1e-6, "scale": 0.1, "max_iterations": 3000}
        with np.errstate(all="ignore"):
            below = fit_full_network(Factorisation(target), learning_rate=0.8 * limit, **arguments)
            above = fit_full_network(Factorisation(target), learning_rate=1.3 * limit, **arguments)
        assert below.converged
        assert not above.converged
    first = target.size / (1.0 * sigma * 1e-2)
    fit = fit_full_network(Factorisation(target), learning_rate=1.0, max_iterations=int(2 * first))
    assert 0.5 * first < fit.iterations_to(0.9 * fit.loss_history[0]) < 1.5 * first


def test_a_matrix_of_full_rank_has_at_most_its_dimension_as_inner_order():
    target = np.random.default_rng(0).standard_normal((24, 20))
    fit = fit_compressed_network(Factorisation(target), max_iterations=5)
    assert fit.rank == 20


def test_a_recovery_prints_one_line():
    fit = fit_compressed_network(completion_of(published_target(60, 2), 0.4), 2)
    assert str(fit).startswith("completion by compressed network: rank 4, ")
    assert f"{fit.iterations:,} iterations, loss {fit.loss:.2e}" in str(fit)
    assert f"recovery error {fit.recovery_error:.2e}" in str(fit)
    assert "the loss reached its tolerance" in str(fit)
    assert "\n" not in str(fit)
    assert repr(fit) == f"<Recovery: compressed network, rank 4, loss {fit.loss:.2e}>"
    unknown = dataclasses.replace(fit, recovery_error=math.nan)
    assert "recovery error" not in str(unknown)
    start = repr(fit.start)
    assert start == str(fit.start)
    assert start.startswith("<SpectralStart: 4 triplets by lapack, values ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 1}, "depth must be at least 2"),
        ({"learning_rate": 0.0}, "learning_rate must be a positive number"),
        ({"alpha": -1.0}, "alpha must be a positive number"),
        ({"tol": -1.0}, "tol must be"),
        ({"max_iterations": 0}, "max_iterations must be a positive integer"),
        ({"inner": 25}, "rank = 25 exceeds 24"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        fit_compressed_network(Factorisation(TRUTH.left @ TRUTH.right.T), 2, **arguments)


def test_a_start_with_too_few_vectors_is_refused():
    problem = Factorisation(TRUTH.left @ TRUTH.right.T)
    with pytest.raises(ConfigError, match="has 2 singular vectors, 4 are needed"):
        fit_compressed_network(problem, 2, start=spectral_start(problem, 2))


def test_entries_of_a_recovery():
    fit = fit_compressed_network(completion_of(published_target(60, 2), 0.4), 2)
    rows, columns = np.array([0, 59, 7]), np.array([5, 5, 0])
    expected = (fit.left @ fit.right.T)[rows, columns]
    np.testing.assert_allclose(fit.entries(rows, columns), expected, rtol=1e-10)
    with pytest.raises(InputError, match="row 60 does not exist: give numbers from 0 to 59"):
        fit.entries(np.array([60]), np.array([0]))
    with pytest.raises(InputError, match="column -1 does not exist"):
        fit.entries(np.array([0]), np.array([-1]))
