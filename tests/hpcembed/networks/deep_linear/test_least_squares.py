"""Alternating least squares: half steps against least squares row by row."""

import numpy as np
import pytest
import scipy.sparse

from hpcembed.networks.deep_linear import (
    Completion,
    ConvergedReason,
    Factorisation,
    fit_least_squares,
    least_squares,
    spectral_start,
)
from hpcembed.networks.deep_linear.synthetic import completion_of, published_target
from hpcembed.runtime.errors import ConfigError


def ragged(rng, rows=40, columns=30):
    """A table whose rows have 0 to 29 entries."""
    seen = rng.random((rows, columns)) < np.linspace(0, 1, rows)[:, None]
    return scipy.sparse.csr_array(np.where(seen, rng.standard_normal(seen.shape), 0.0))


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("batch", [50, 2**20])
def test_a_half_step_solves_each_row(ridge, batch, monkeypatch):
    monkeypatch.setattr(least_squares, "_BATCH_NUMBERS", batch)
    rng = np.random.default_rng(0)
    table, other = ragged(rng), rng.standard_normal((30, 4))
    found = least_squares._solved(table, other, ridge)
    for i in range(table.shape[0]):
        part = slice(table.indptr[i], table.indptr[i + 1])
        R, y = other[table.indices[part]], table.data[part]
        if ridge:
            expected = np.linalg.solve(
                R.T @ R + (ridge * len(y) + (len(y) == 0)) * np.eye(4), R.T @ y
            )
        else:
            expected = np.linalg.lstsq(R, y, rcond=1e-8)[0] if len(y) else np.zeros(4)
        np.testing.assert_allclose(found[i], expected, atol=1e-8)


def test_equal_factor_rows_have_the_least_solution():
    table = scipy.sparse.csr_array(np.full((3, 5), 2.0))
    found = least_squares._solved(table, np.ones((5, 2)), 0.0)
    np.testing.assert_allclose(found, 1.0, rtol=1e-9)


@pytest.mark.parametrize("condition", [None, 100])
def test_recovery(condition):
    problem = completion_of(published_target(100, 5, 1, condition=condition), 0.3)
    fit = fit_least_squares(problem, 5, tol=1e-15)
    assert (fit.algorithm, fit.problem) == ("alternating least squares", "completion")
    assert fit.converged
    assert fit.iterations <= 50
    assert fit.recovery_error < 1e-6
    assert len(fit.loss_history) == fit.iterations + 1
    assert (np.diff(fit.loss_history) < 0).all()
    assert fit.parameters == 1000
    assert min(fit.seconds.values()) > 0
    assert fit.start.certified
    assert (fit.left.shape, fit.right.shape) == ((100, 5), (100, 5))
    assert fit.weights == ()
    assert sum(stage.added for stage in fit.stages) == fit.stages[-1].rank == fit.rank == 5
    assert sum(stage.iterations for stage in fit.stages) == fit.iterations


@pytest.mark.parametrize("condition", [None, 100])
def test_rank_by_the_spectra(condition):
    problem = completion_of(published_target(100, 5, 3, condition=condition), 0.4)
    fit = fit_least_squares(problem, tol=1e-15)
    assert fit.rank == 5
    assert fit.recovery_error < 1e-6


def test_stages_recover_where_one_start_does_not():
    single, staged = [], []
    for seed in range(5):
        problem = completion_of(published_target(100, 5, seed, condition=100), 0.3, seed)
        single.append(fit_least_squares(problem, 5, staged=False).converged)
        staged.append(fit_least_squares(problem, 5).converged)
    assert all(staged)
    assert not all(single)


def test_with_a_ridge_there_is_one_stage():
    problem = completion_of(published_target(60, 3, condition=50), 0.5)
    fit = fit_least_squares(problem, 3, ridge=0.01)
    assert [(stage.added, stage.rank) for stage in fit.stages] == [(3, 3)]


def test_the_penalised_loss_falls_with_a_ridge():
    rng = np.random.default_rng(1)
    problem = Completion(ragged(rng))
    ridge, start = 0.2, spectral_start(problem, 3)

    def penalised(fit):
        left = ridge * problem.row_counts @ np.square(fit.left).sum(axis=1)
        right = ridge * problem.column_counts @ np.square(fit.right).sum(axis=1)
        return 2 * problem.n_measurements * fit.loss + left + right

    values = [
        penalised(fit_least_squares(problem, 3, ridge=ridge, start=start, max_iterations=k))
        for k in (1, 2, 5, 20)
    ]
    assert (np.diff(values) < 1e-9).all()
    end = fit_least_squares(
        problem, 3, ridge=ridge, start=start, max_iterations=500, min_change=1e-14
    )
    assert end.reason is ConvergedReason.STEP
    assert not end.converged
    for i in range(40):  # stationary: the gradient by each row is zero
        part = slice(problem.rows.indptr[i], problem.rows.indptr[i + 1])
        R, y = end.right[problem.rows.indices[part]], problem.rows.data[part]
        gradient = R.T @ (R @ end.left[i] - y) + ridge * len(y) * end.left[i]
        np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_the_limit_of_iterations():
    problem = completion_of(published_target(60, 3), 0.3)
    fit = fit_least_squares(problem, 3, max_iterations=2)
    assert fit.iterations == 2
    assert fit.reason is ConvergedReason.ITERATIONS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ridge": -1.0}, "ridge must be"),
        ({"min_change": -1.0}, "min_change must be"),
        ({"rank": 1.5}, "rank must be a positive integer"),
        ({"rank": 99}, "rank = 99 exceeds 20"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        fit_least_squares(completion_of(published_target(20, 2), 0.6), **arguments)


def test_other_problems_are_refused():
    with pytest.raises(ConfigError, match="give a Completion"):
        fit_least_squares(Factorisation(np.eye(3)), 1)
