"""Scaled gradient descent and the spectral start."""

import numpy as np
import pytest
import scipy.sparse

from hpcembed.networks.deep_linear import (
    Completion,
    ConvergedReason,
    Factorisation,
    fit_scaled_gradient,
    spectral_start,
)
from hpcembed.networks.deep_linear.synthetic import completion_of, published_target, sensing_of
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError

MODULE = "hpcembed.networks.deep_linear.surrogate_spectrum"


def test_the_published_step_is_that_of_the_formula():
    problem = completion_of(published_target(30, 2), 0.5)
    start = spectral_start(problem, 2)
    fit = fit_scaled_gradient(
        problem, 2, direction="gradient", step=0.5, staged=False, max_iterations=3, start=start
    )
    L, R = start.factors()
    for _ in range(3):
        E = (problem.measure(L, R) - problem.targets) / problem.share
        L, R = (
            L - 0.5 * E @ R @ np.linalg.inv(R.T @ R),
            R - 0.5 * E.T @ L @ np.linalg.inv(L.T @ L),
        )
    np.testing.assert_allclose(fit.left, L, rtol=1e-8)
    np.testing.assert_allclose(fit.right, R, rtol=1e-8)
    assert fit.algorithm == "scaled gradient"


@pytest.mark.parametrize("condition", [None, 100, 1000])
def test_recovery_does_not_depend_on_the_condition_number(condition):
    problem = completion_of(published_target(100, 5, 2, condition=condition), 0.3)
    fit = fit_scaled_gradient(problem, 5, tol=1e-15)
    assert fit.converged
    assert fit.iterations <= 80
    assert fit.recovery_error < 1e-6


def test_one_spectral_start_has_no_direction_of_small_singular_values():
    problem = completion_of(published_target(100, 5, 5, condition=100), 0.3, 5)
    fit = fit_scaled_gradient(problem, 5, direction="gradient", step=0.5, staged=False)
    assert fit.reason is ConvergedReason.ITERATIONS
    assert fit.recovery_error > 1e-2
    assert fit_scaled_gradient(problem, 5).iterations <= 50


def test_record():
    problem = completion_of(published_target(100, 5, 2, condition=10), 0.3)
    fit = fit_scaled_gradient(problem, 5)
    assert (fit.algorithm, fit.problem) == ("scaled conjugate gradient", "completion")
    assert (fit.left.shape, fit.right.shape, fit.rank) == ((100, 5), (100, 5), 5)
    assert len(fit.loss_history) == fit.iterations + 1
    assert fit.loss <= 1e-12
    residual = problem.measure(fit.left, fit.right) - problem.targets
    assert fit.loss == pytest.approx(problem.loss(residual), rel=1e-3)
    assert fit.converged
    assert fit.reason is ConvergedReason.LOSS
    assert min(fit.seconds.values()) > 0
    assert fit.parameters == 1000
    assert fit.weights == ()
    assert fit.start.certified
    assert sum(stage.iterations for stage in fit.stages) == fit.iterations
    assert [stage.rank for stage in fit.stages] == np.cumsum(
        [stage.added for stage in fit.stages]
    ).tolist()
    assert fit.stages[-1].rank == 5
    assert len(fit.stages) > 1


def test_the_step_minimises_the_loss_along_the_direction():
    problem = completion_of(published_target(60, 3), 0.4)
    fit = fit_scaled_gradient(problem, 3, staged=False)
    assert (np.diff(fit.loss_history) < 0).all()
    short = fit_scaled_gradient(problem, 3, staged=False, max_iterations=1)
    L, R = short.start.factors()
    for t in (0.98, 1.02):
        left, right = L + t * (short.left - L), R + t * (short.right - R)
        assert problem.loss(problem.measure(left, right) - problem.targets) > short.loss


@pytest.mark.parametrize("condition", [None, 100])
def test_rank_by_the_spectra(condition):
    problem = completion_of(published_target(100, 5, 4, condition=condition), 0.4)
    fit = fit_scaled_gradient(problem, tol=1e-15)
    assert fit.rank == 5
    assert fit.recovery_error < 1e-6


def test_sensing_and_factorisation():
    fit = fit_scaled_gradient(sensing_of(published_target(40, 2), 500), 2, tol=1e-16)
    assert fit.problem == "sensing"
    assert fit.converged
    assert fit.recovery_error < 1e-4
    truth = published_target(40, 3)
    fit = fit_scaled_gradient(Factorisation(truth.left @ truth.right.T), tol=1e-25)
    assert fit.rank == 3
    assert fit.iterations == 0  # the spectral start is the answer
    assert fit.recovery_error < 1e-13


def test_noise_ends_the_iteration():
    truth = published_target(60, 2)
    X = truth.left @ truth.right.T + 0.01 * np.random.default_rng(0).standard_normal((60, 60))
    seen = np.random.default_rng(1).random(X.shape) < 0.5
    problem = Completion(scipy.sparse.coo_array((X[seen], np.nonzero(seen)), X.shape), truth=truth)
    fit = fit_scaled_gradient(problem, 2)
    assert fit.reason is ConvergedReason.STEP
    assert not fit.converged
    assert fit.loss == pytest.approx(0.5e-4, rel=0.2)
    assert fit.recovery_error < 0.05


def test_rank_by_the_spectra_is_bounded_with_noise():
    table = scipy.sparse.random_array((60, 40), density=0.3, rng=np.random.default_rng(0))
    fit = fit_scaled_gradient(Completion(table), max_iterations=300)
    assert 1 <= fit.rank <= 20


def test_a_start_with_too_few_vectors_is_refused():
    problem = completion_of(published_target(30, 3), 0.5)
    with pytest.raises(ConfigError, match="has 2 singular vectors, 3 are needed"):
        fit_scaled_gradient(problem, 3, staged=False, start=spectral_start(problem, 2))


def test_a_step_that_is_too_long_diverges():
    problem = completion_of(published_target(60, 2), 0.4)
    with np.errstate(all="ignore"):
        fit = fit_scaled_gradient(problem, 2, direction="gradient", step=20.0)
    assert fit.reason is ConvergedReason.DIVERGED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank must be a positive integer"),
        ({"rank": 21}, "exceeds 20"),
        ({"step": 0.5}, "needs direction 'gradient'"),
        ({"direction": "gradient", "step": -1.0}, "step must be a positive number"),
        ({"direction": "newton"}, "direction = 'newton' is not one of"),
        ({"tol": -1}, "tol must be a number"),
    ],
)
def test_bad_arguments(arguments, message):
    problem = completion_of(published_target(20, 2), 0.6)
    with pytest.raises(ConfigError, match=message):
        fit_scaled_gradient(problem, **arguments)


# ------------------------------------------------------------------------------ spectral start


def test_both_solvers_find_the_same_triplets(monkeypatch):
    problem = completion_of(published_target(80, 3), 0.4)
    S = problem.surrogate(problem.targets)
    by_lapack = spectral_start(problem, 3)
    monkeypatch.setattr(f"{MODULE}._SMALL", 0)
    by_miramns = spectral_start(problem, 3, tol=1e-10)
    assert (by_lapack.method, by_miramns.method) == ("lapack", "miramns")
    expected = np.linalg.svd(S, compute_uv=False)[:3]
    for start in (by_lapack, by_miramns):
        np.testing.assert_allclose(start.values, expected, rtol=1e-9)
        assert start.certified
        assert (start.residual_norms <= start.tol).all()
        np.testing.assert_allclose(start.left.T @ start.left, np.eye(3), atol=1e-7)
        np.testing.assert_allclose(start.right.T @ start.right, np.eye(3), atol=1e-7)
        np.testing.assert_allclose(S @ start.right, start.left * start.values, atol=1e-6)
        L, R = start.factors()
        np.testing.assert_allclose(L.T @ L, R.T @ R, atol=1e-6)
    np.testing.assert_allclose(by_lapack.right, by_miramns.right, atol=1e-6)
    np.testing.assert_allclose(by_lapack.left, by_miramns.left, atol=1e-6)
    assert (by_lapack.tol, by_miramns.tol) == (1e-10, 1e-10)


def test_the_noise_edge_bounds_the_noise_of_missing_entries():
    for seed in range(5):
        problem = completion_of(published_target(100, 3, seed), 0.4, seed)
        X = problem.truth.left @ problem.truth.right.T
        noise = np.linalg.norm(problem.surrogate(problem.targets) - X, 2)
        edge = spectral_start(problem, 1).noise_edge
        assert 0.7 * edge < noise < 1.3 * edge


def test_a_start_that_misses_its_tolerance_is_refused(monkeypatch):
    def inaccurate(surrogate, k):
        U, s, Vt = np.linalg.svd(surrogate)
        V = Vt[:k].T + 1e-3
        return (
            U[:, :k],
            s[:k],
            V,
            np.linalg.norm(surrogate.T @ surrogate @ V - V * s[:k] ** 2, axis=0),
        )

    monkeypatch.setattr(f"{MODULE}._by_lapack", inaccurate)
    with pytest.raises(ConvergenceError, match=r"2 of 2 singular vectors .* missed the tolerance"):
        spectral_start(completion_of(published_target(30, 2), 0.5), 2)


def test_measurements_of_zero_are_refused():
    table = scipy.sparse.csr_array((np.zeros(2), np.array([1, 0]), np.array([0, 1, 2])))
    with pytest.raises(InputError, match="all measurements are zero"):
        spectral_start(Completion(table), 1)
