"""Answers whose residuals are at the rounding of the operator: their tolerances and reasons."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from miramns import ConvergedReason, Options, certify, solve

NEVER = Options(multiplicity_check="never")


@pytest.mark.mpi
@pytest.mark.parametrize("blocks", [30, 200])
@pytest.mark.parametrize("stored", ["dense", "sparse"])
def test_badly_scaled_nonnormal_operator(operators, sparse, blocks, stored):
    """Eigenvalues to 1e8 of a matrix of norm 1e16, with condition numbers to 5e7."""
    squares = np.geomspace(1, 1e16, blocks)
    M = scipy.linalg.block_diag(*[[[0.0, 1.0], [-w, -2.0]] for w in squares])
    A = (operators if stored == "dense" else sparse)(M)
    result = solve(A, 4, hermitian=False, tol=1e-8)
    exact = np.sqrt(squares[[-1, -1, -2, -2]])
    if result.converged:
        np.testing.assert_allclose(np.abs(result.eigenvalues), exact, rtol=1e-6)
        return
    assert result.reason < 0
    assert result.unconverged
    assert "rescale or balance" in result.view() or result.reason is ConvergedReason.DIVERGED_ITS


@pytest.mark.mpi
@pytest.mark.parametrize("variant", ["default", "block", "published"])
def test_zero_eigenvalue_of_a_hermitian_operator(operators, symmetric, variant):
    values = np.r_[np.arange(1.0, 5), np.zeros(96)]
    A = operators(symmetric(values))
    result = solve(A, 6, hermitian=True, variant=variant, options=NEVER)
    assert result.converged
    assert result.condition_numbers is None
    # the published variant compares with ||A||_F, which is more than rounding
    published = variant == "published"
    expected = ConvergedReason.CONVERGED_TOL if published else ConvergedReason.CONVERGED_ROUNDING
    assert result.reason is expected
    assert published or "absolute accuracy only" in result.view()
    np.testing.assert_allclose(result.eigenvalues, [4, 3, 2, 1, 0, 0], atol=1e-12)


def test_pairs_above_rounding_converge_to_the_tolerance(operators, symmetric):
    values = np.r_[np.arange(1.0, 5), np.zeros(96)]
    A = operators(symmetric(values))
    result = solve(A, 4, hermitian=True)
    assert result.reason is ConvergedReason.CONVERGED_TOL
    assert (result.residual_norms <= 1e-8 * result.eigenvalues).all()


def test_reason_of_given_vectors(operators):
    M = np.diag([1.0, 1e-12, 0.0])
    x = np.eye(3)[:, :2]
    assert certify(operators(M), x).reason is ConvergedReason.CONVERGED_TOL
    x = np.array([[1.0, 0], [0, 1], [0, 1e-3]]) / [1, np.sqrt(1 + 1e-6)]
    assert certify(operators(M), x).reason is ConvergedReason.CONVERGED_ROUNDING


@pytest.mark.parametrize("missing", [False, True])
def test_reason_after_missing_copies_were_added(operators, missing):
    """The second copy of the largest value is found by the search, which forms the answer anew."""
    values = np.r_[1e8, 1e8 if missing else 5e7, np.zeros(60)]
    result = solve(operators(np.diag(values)), 3, hermitian=True)
    assert result.reason is ConvergedReason.CONVERGED_ROUNDING
    np.testing.assert_allclose(result.eigenvalues, values[:3], atol=1e-4)


def with_values(values: np.ndarray, size: float) -> np.ndarray:
    """Matrix with these eigenvalues, and vectors that are orthonormal up to `size`."""
    n = len(values)
    rng = np.random.default_rng(2)
    X = np.linalg.qr(rng.standard_normal((n, n)))[0] + size * rng.standard_normal((n, n)) / n
    return np.asarray(X @ np.diag(values) @ np.linalg.inv(X))


@pytest.mark.mpi
def test_well_conditioned_nonsymmetric_operator(operators):
    """A zero eigenvalue is determined to rounding, as that of a Hermitian operator."""
    values = np.r_[0.0, np.linspace(1e3, 2e3, 79)]
    M = with_values(values, 0.1)
    result = solve(operators(M), 1, which="SR", hermitian=False)
    assert result.reason is ConvergedReason.CONVERGED_ROUNDING
    np.testing.assert_allclose(result.eigenvalues, 0, atol=1e-10)
    left, right = scipy.linalg.eig(M, left=True)[1:]
    expected = 1 / np.min(np.abs(np.sum(left.conj() * right, axis=0)))
    assert 1 <= result.condition_numbers[0] <= 1.1 * expected


def test_rounding_is_not_believed_where_the_eigenvalue_is_sensitive(operators):
    """The same zero, coupled by 1e10 to another eigenvalue: rounding may move it by 1e-6."""
    values = np.r_[0.0, np.linspace(1.0, 2.0, 79)]
    M = np.diag(values)
    M[0, 1] = 1e10
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((80, 80)))[0]
    result = solve(operators(Q @ M @ Q.T), 1, which="SR", hermitian=False)
    assert not result.converged
    assert result.condition_numbers[0] > 1e6
    assert result.residual_tolerances[0] == pytest.approx(1e-8 * abs(result.eigenvalues[0]))
