"""The maps of least error: against brute force, the trace formula, and each other."""

import numpy as np
import pytest
import scipy.linalg

from hpcembed.networks.low_rank import factors as module
from hpcembed.networks.low_rank.factors import damped, implicit_factors, output_factors
from hpcembed.networks.low_rank.moments import Moments
from hpcembed.runtime.errors import InputError

M, N, ROWS = 9, 6, 400


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def spread(rng, rows, width):
    return rng.standard_normal((rows, width)) @ np.diag(2.0 ** -np.arange(width)) + 5.0


def positive(rng, n):
    root = rng.standard_normal((n, n))
    return root @ root.T + 0.1 * np.eye(n)


def error(covariance, weight, mapping):
    rest = np.eye(len(covariance)) - mapping
    return np.trace(weight @ rest @ covariance @ rest.T)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_error_is_the_trace_less_the_eigenvalues_and_no_map_is_better(rng, weighted):
    covariance = np.cov(spread(rng, ROWS, M).T, bias=True)
    weight = positive(rng, M) if weighted else np.eye(M)
    found = output_factors(covariance, weight if weighted else None)
    for rank in range(M + 1):
        assert error(covariance, weight, found.map(rank)) == pytest.approx(
            found.errors[rank], rel=1e-10, abs=1e-13 * found.trace
        )
    assert found.trace == pytest.approx(np.trace(weight @ covariance), rel=1e-12)
    best = found.errors[3]
    for _ in range(50):
        left, right = rng.standard_normal((M, 3)), rng.standard_normal((3, M))
        # For a given row space, the best left factor is a regression.
        left = covariance @ right.T @ np.linalg.inv(right @ covariance @ right.T)
        assert error(covariance, weight, left @ right) >= best * (1 - 1e-12)
        near = found.left[:, :3] @ (found.right[:3] + 1e-3 * rng.standard_normal((3, M)))
        assert error(covariance, weight, near) > best * (1 - 1e-12)
    assert found.captured(3) == pytest.approx(1 - best / found.trace)
    assert found.residual_norms.max() < 1e-13
    assert found.orthogonality < 1e-12
    assert found.complete
    assert found.solver == "lapack"
    assert found.max_rank == M


@pytest.mark.parametrize("weighted", [False, True])
def test_outputs_longer_than_inputs_need_no_output_covariance(rng, weighted):
    layer = rng.standard_normal((M, N))
    covariance = np.cov(spread(rng, ROWS, N).T, bias=True)
    weight = positive(rng, M) if weighted else None
    short = implicit_factors(layer, covariance, weight)
    full = output_factors(layer @ covariance @ layer.T, weight)
    np.testing.assert_allclose(short.values, full.values[:N], rtol=1e-9)
    for rank in (1, 3, 5):
        np.testing.assert_allclose(short.map(rank), full.map(rank), atol=1e-7)
    assert short.residual_norms.max() < 1e-12
    assert short.trace == pytest.approx(full.trace)


def test_large_problems_with_few_pairs_go_to_miramns(rng, monkeypatch):
    monkeypatch.setattr(module, "_LAPACK_ORDER", 50)
    covariance = np.cov(spread(rng, 3000, 12).T) + 1e-3 * np.eye(12)
    big = scipy.linalg.block_diag(covariance, 1e-6 * np.eye(188))
    found = output_factors(big, rank=6)
    exact = output_factors(big, rank=200)
    assert (found.solver, exact.solver) == ("miramns", "lapack")
    assert not found.complete
    assert found.max_rank == 6
    np.testing.assert_allclose(found.errors, exact.errors[:7], rtol=1e-7)
    assert found.residual_norms.max() < 1e-9


def test_moments_are_those_of_numpy_and_symmetric_bit_by_bit(rng):
    rows = spread(rng, ROWS, M).astype(np.float32)
    moments = Moments(M)
    moments.add_rows(rows[:100])
    moments.add_rows(rows[100:])
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(moments.covariance(), np.cov(exact.T, bias=True), atol=1e-12)
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(
        moments.covariance(about=np.zeros(M)), exact.T @ exact / ROWS, rtol=1e-12
    )
    np.testing.assert_array_equal(moments.second, moments.second.T)
    assert moments.count == ROWS


@pytest.mark.mpi
def test_moments_of_ranks_are_added(comm):
    rows = np.random.default_rng(0).standard_normal((60, 4))
    moments, whole = Moments(4), Moments(4)
    moments.add_rows(rows[comm.rank :: comm.size])
    moments.reduce(comm)
    whole.add_rows(rows)
    assert moments.count == 60
    np.testing.assert_allclose(moments.second, whole.second, rtol=1e-12)
    np.testing.assert_allclose(moments.total, whole.total, rtol=1e-12, atol=1e-12)


def test_values_that_are_not_finite_are_named():
    with pytest.raises(InputError, match="not finite"):
        output_factors(np.diag([1.0, np.nan]))


def test_damping_makes_a_singular_weight_definite():
    weight = damped(np.diag([1.0, 0.0]), 0.01)
    np.testing.assert_allclose(np.diag(weight), [1.005, 0.005])
    np.testing.assert_allclose(damped(np.zeros((2, 2)), 0.01), np.eye(2))
