"""``solve(A, k, B=B)`` against LAPACK, on 1, 2 and 3 ranks."""

import numpy as np
import pytest
import scipy.linalg
from petsc4py import PETSc

from miramns import ConvergedReason, MiramnsError, Options, solve
from miramns.products import shell_like

pytestmark = pytest.mark.mpi

N = 60
STIFFNESS = 2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1) + np.diag(np.linspace(0, 1, N))
MASS = (4 * np.eye(N) + np.eye(N, k=1) + np.eye(N, k=-1)) / 6


@pytest.mark.parametrize("which", ["LM", "SA"])
@pytest.mark.parametrize("as_shell", [False, True])
def test_symmetric(sparse, gather, which, as_shell):
    A, B = sparse(STIFFNESS), sparse(MASS)
    shell = shell_like(B, B.mult) if as_shell else B
    seen = []
    result = solve(A, 3, B=shell, which=which, hermitian=True, tol=1e-9, monitor=seen.append)
    if as_shell:
        shell.destroy()
    exact = scipy.linalg.eigh(STIFFNESS, MASS, eigvals_only=True)
    expected = exact[::-1][:3] if which == "LM" else exact[:3]
    np.testing.assert_allclose(result.eigenvalues, expected, rtol=1e-9)
    assert result.reason is ConvergedReason.CONVERGED_TOL
    X = gather(result.eigenvectors)
    np.testing.assert_allclose(X.T @ MASS @ X, np.eye(3), atol=1e-11)
    residuals = np.linalg.norm(STIFFNESS @ X - MASS @ X * result.eigenvalues, axis=0)
    np.testing.assert_allclose(result.residual_norms, residuals, atol=1e-12)
    assert (result.residual_norms <= result.residual_tolerances).all()
    assert 0.5 * np.linalg.norm(STIFFNESS, 2) <= result.operator_norm
    # a restart marks its record after the monitor has seen it
    assert [one.measure for one in seen] == [one.measure for one in result.history]


def test_nonsymmetric(sparse, gather):
    M = STIFFNESS + 0.3 * np.triu(np.ones((N, N)), 30)
    result = solve(sparse(M), 3, B=sparse(MASS), tol=1e-9, ncv=30)
    exact = scipy.linalg.eigvals(M, MASS)
    expected = np.sort(np.abs(exact))[::-1][: len(result.eigenvalues)]
    np.testing.assert_allclose(np.abs(result.eigenvalues), expected, rtol=1e-7)
    assert result.eigenvalues.dtype == np.complex128
    X = gather(result.eigenvectors)
    np.testing.assert_allclose(np.linalg.norm(X, axis=0), 1, rtol=1e-12)
    residuals = np.linalg.norm(M @ X - MASS @ X * result.eigenvalues, axis=0)
    np.testing.assert_allclose(result.residual_norms, residuals, atol=1e-12)


def test_hermitian_is_taken_from_both_matrices(sparse):
    A, B = sparse(STIFFNESS), sparse(MASS)
    A.setOption(PETSc.Mat.Option.HERMITIAN, True)
    assert solve(A, 2, B=B, ncv=30).eigenvalues.dtype == np.complex128
    B.setOption(PETSc.Mat.Option.HERMITIAN, True)
    assert solve(A, 2, B=B).eigenvalues.dtype == np.float64


@pytest.mark.parametrize("criterion", ["relative", "absolute", "norm"])
def test_criteria_refer_to_the_problem(sparse, gather, criterion):
    A, B = sparse(STIFFNESS), sparse(1e3 * MASS)
    result = solve(A, 2, B=B, hermitian=True, tol=1e-6, options=Options(criterion=criterion))
    X, value = gather(result.eigenvectors), result.eigenvalues
    lengths = np.linalg.norm(X, axis=0)
    expected = {
        "relative": value * np.linalg.norm(1e3 * MASS @ X, axis=0),
        "absolute": lengths,
        "norm": (np.linalg.norm(STIFFNESS, 2) + value * np.linalg.norm(1e3 * MASS, 2)) * lengths,
    }[criterion]
    np.testing.assert_allclose(result.residual_tolerances, 1e-6 * expected, rtol=0.5)
    assert result.converged


def test_arguments_that_do_not_fit(sparse, operators):
    A, B = sparse(STIFFNESS), sparse(MASS)
    with pytest.raises(MiramnsError, match="B must be distributed as A"):
        solve(A, 2, B=operators(np.eye(N - 1)), hermitian=True)
    with pytest.raises(MiramnsError, match="leave inner at None"):
        solve(A, 2, B=B, hermitian=True, options=Options(inner=B))
    with pytest.raises(MiramnsError, match="B is not positive"):
        solve(A, 2, B=sparse(-MASS), hermitian=True)
    with pytest.raises(MiramnsError, match="need 1 <= k <= n"):
        solve(A, 0, B=B, hermitian=True)
