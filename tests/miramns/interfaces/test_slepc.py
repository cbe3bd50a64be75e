"""SLEPc's solvers with the same result."""

import numpy as np
import pytest
import scipy.linalg
from petsc4py import PETSc

from miramns import ConvergedReason, slepc

pytestmark = pytest.mark.mpi

POWER = np.arange(1.0, 201.0) ** -0.5
LAPLACIAN = 2 - 2 * np.cos(np.pi * np.arange(1, 201) / 201)


@pytest.mark.parametrize("hermitian", [True, False])
def test_slepc_behind_the_same_result(operators, symmetric, check_result, hermitian):
    M = symmetric(POWER) if hermitian else np.triu(symmetric(POWER)) + 3 * np.diag(POWER)
    A = operators(M)
    result = slepc(A, 4, hermitian=hermitian)
    check_result(result, A, M, 4)
    exact = np.linalg.eigvals(M)
    expected = exact[np.argsort(-np.abs(exact))][:4]
    np.testing.assert_allclose(result.eigenvalues, expected, atol=1e-6)
    assert result.solver == "SLEPc krylovschur"
    assert result.n_matvec >= 19
    assert result.n_reductions == 0
    assert result.history == ()
    if hermitian:
        assert result.orthogonality <= 1e-12


def test_a_dense_generalised_problem_on_any_number_of_ranks(comm):
    n, rng = 40, np.random.default_rng(2)
    A, B = rng.standard_normal((n, n)), rng.standard_normal((n, 2 * n))
    A, B = A + A.T, B @ B.T / n
    mats = []
    for matrix in (A, B):
        mats.append(PETSc.Mat().createDense(((None, n), (None, n)), comm=comm))
        mats[-1].setUp()
        first, last = mats[-1].getOwnershipRange()
        mats[-1].getDenseArray()[:] = matrix[first:last]
        mats[-1].assemble()
    result = slepc(mats[0], 3, B=mats[1], which="LA", hermitian=True, tol=1e-10)
    expected = scipy.linalg.eigh(A, B, eigvals_only=True)[::-1][:3]
    np.testing.assert_allclose(result.eigenvalues, expected, rtol=1e-9)
    assert result.converged
    for mat in mats:
        mat.destroy()


def test_slepc_that_runs_out_of_iterations_says_so(operators, symmetric):
    A = operators(symmetric(LAPLACIAN))
    result = slepc(A, 6, hermitian=True, ncv=8, max_it=2, tol=1e-12)
    assert result.reason is ConvergedReason.DIVERGED_ITS
    assert not result.converged


def test_slepc_names_a_tie_at_the_cut(operators):
    A = operators(np.diag([4.0, -4.0, 1.0, 0.5, 0.0]))
    # the whole space is spanned, so SLEPc has both
    assert slepc(A, 1, hermitian=True, ncv=5).tie_at_cut
    assert not slepc(A, 2, hermitian=True, ncv=5).tie_at_cut


def test_a_nonsymmetric_operator_declared_hermitian_does_not_converge(operators):
    M = np.random.default_rng(0).standard_normal((40, 40))
    result = slepc(operators(M), 4, hermitian=True)
    assert not result.converged
    assert result.reason is ConvergedReason.DIVERGED_STAGNATED
