"""Operators that differ from their declaration.

A converged result has true residuals below the tolerance, for the operator as it is when they are
computed. Not guaranteed: if an operator is declared Hermitian and is not, its pairs with small
residuals are eigenpairs, but other eigenvalues may be missing.
"""

from __future__ import annotations

import numpy as np
import pytest

from miramns import ConvergedReason, EigenResult

EPS = float(np.finfo(np.float64).eps)
N = 50


def assert_honest(result: EigenResult, M: np.ndarray, X: np.ndarray) -> None:
    """Converged pairs are eigenpairs of M, and all are counted right."""
    norm = np.linalg.norm(M, 2)
    residuals = np.linalg.norm(M @ X - X * result.eigenvalues, axis=0)
    passed = residuals <= 1.01e-8 * norm
    assert result.n_converged <= passed.sum()
    assert result.converged == (result.n_converged == len(result.eigenvalues))
    if result.converged:
        assert passed.all()
    assert np.isfinite(X).all()


@pytest.mark.parametrize("amount", [1e-2, 1e-5])
@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("variant", ["default", "published"])
def test_noise_in_every_product(shell, solved, amount, hermitian, variant):
    """Random relative errors far above the tolerance: the run ends, and is not converged."""
    rng = np.random.default_rng(0)
    values = np.arange(N, 0.0, -1)
    A = shell(N, lambda x: values * x * (1 + amount * rng.standard_normal(N)))
    result, X = solved(A, 3, hermitian=hermitian, variant=variant, ncv=20, max_it=60)
    assert not result.converged
    assert result.unconverged
    assert np.isfinite(X).all()


def test_noise_below_the_tolerance_does_no_harm(shell, solved):
    """As of a float32 pass over data that is certified in double: 1e-12 noise for tol 1e-8."""
    rng = np.random.default_rng(0)
    values = np.arange(N, 0.0, -1)
    A = shell(N, lambda x: values * x * (1 + 1e-12 * rng.standard_normal(N)))
    result, _ = solved(A, 3, hermitian=True, ncv=20)
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, [50, 49, 48], rtol=1e-9)


@pytest.mark.parametrize("after", [3, 10, 25])
def test_operator_replaced_by_another_between_calls(shell, solved, after):
    """A different matrix from some call on: what is called converged belongs to the last one."""
    first, second = np.diag(np.arange(N, 0.0, -1)), np.diag(np.arange(1.0, N + 1) ** 1.1)
    calls = 0

    def apply(x):
        nonlocal calls
        calls += 1
        return (first if calls <= after else second) @ x

    result, X = solved(shell(N, apply), 3, hermitian=True, ncv=20, max_it=200)
    assert_honest(result, second, X)


def test_sign_that_alternates(shell, solved):
    """A x, -A x, A x, ...: no eigenpair of either is reported as converged wrongly."""
    values = np.arange(N, 0.0, -1)
    calls = 0

    def apply(x):
        nonlocal calls
        calls += 1
        return (-1) ** calls * values * x

    result, X = solved(shell(N, apply), 1, hermitian=True, ncv=20, max_it=100)
    if result.converged:
        x, theta = X[:, 0], result.eigenvalues[0]
        residuals = [np.linalg.norm(sign * values * x - theta * x) for sign in (1, -1)]
        assert min(residuals) <= 1e-6


@pytest.mark.parametrize("skew", [1e-3, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("which", ["LM", "SA"])
@pytest.mark.parametrize("variant", ["default", "published"])
def test_declared_hermitian_but_is_not(solved, skew, which, variant):
    """A pair that passes has a small true residual; a run that does not reach it has a reason."""
    rng = np.random.default_rng(1)
    S = rng.standard_normal((N, N))
    M = np.diag(np.arange(N, 0.0, -1)) + skew * (S - S.T) / 2
    result, X = solved(M, 3, which=which, hermitian=True, variant=variant, ncv=20, max_it=100)
    assert_honest(result, M, X)
    if skew >= 0.1:
        assert not result.converged
        assert "Hermitian" in result.view() or result.reason is ConvergedReason.DIVERGED_ITS


@pytest.mark.parametrize("k", [1, 2, 5])
def test_rotation_declared_hermitian(solved, k):
    """No real eigenvalue at all: nothing can be right, so nothing may be called converged."""
    M = np.kron(np.eye(10), [[0.0, -1.0], [1.0, 0.0]]) * np.repeat(np.arange(1.0, 11), 2)
    result, X = solved(M, k, hermitian=True, max_it=30)
    assert not result.converged
    assert result.n_converged == 0
    assert np.isfinite(X).all()


def test_jordan_block_declared_hermitian(solved):
    M = np.eye(20) + np.eye(20, k=1)
    result, X = solved(M, 2, hermitian=True, max_it=30)
    assert_honest(result, M, X)


@pytest.mark.parametrize("hermitian", [True, False])
def test_product_that_writes_to_its_argument(shell, solved, hermitian):
    """The product gets a copy here; the basis must not depend on what a product does with it."""
    values = np.arange(N, 0.0, -1)

    def apply(x):
        y = values * x
        x[:] = 0.0
        return y

    result, _ = solved(shell(N, apply), 3, hermitian=hermitian)
    np.testing.assert_allclose(result.eigenvalues, [50, 49, 48], rtol=1e-7)


def test_projector_with_rounding(solved, check_hermitian):
    """P^2 = P to rounding only: eigenvalues one and zero, the space closes after two products."""
    Q, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((N, 7)))
    M = Q @ Q.T
    M = (M + M.T) / 2
    result, X = solved(M, 9, hermitian=True)
    check_hermitian(M, result, X, 9)


def test_operator_and_start_are_left_alone(operators, solved):
    M = np.diag(np.arange(20.0, 0.0, -1)) + 0.1
    A = operators(M)
    start = np.ones(20)
    solved(A, 3, hermitian=True, start=start)
    np.testing.assert_array_equal(A.getDenseArray(), M)
    np.testing.assert_array_equal(start, np.ones(20))
