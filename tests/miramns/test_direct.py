"""Small assembled matrices, solved by LAPACK."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from petsc4py import PETSc

import miramns.direct
from miramns import ConvergedReason, MIRAMns, OperatorError, Options, solve

pytestmark = pytest.mark.lapack


def expected(values: np.ndarray, which: str) -> np.ndarray:
    keys = {"LM": -np.abs(values), "SM": np.abs(values), "LA": -values.real, "SA": values.real}
    return values[np.argsort(keys[which], kind="stable")]


@pytest.mark.mpi
@pytest.mark.parametrize("stored", ["dense", "sparse"])
@pytest.mark.parametrize("which", ["LM", "LA", "SA", "SM", "BE"])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (2, 2), (3, 2), (40, 5), (40, 40), (120, 9)])
def test_hermitian(operators, sparse, check_result, symmetric, n, k, which, stored):
    values = np.linspace(-0.9, 1.0, n) if n > 1 else np.array([2.0])
    M = symmetric(values)
    A = (operators if stored == "dense" else sparse)(M)
    result = solve(A, k, which=which, hermitian=True)
    assert "LAPACK" in result.solver
    assert (result.n_matvec, result.n_restarts, result.history) == (0, 0, ())
    assert result.n_certificate_matvec == k
    assert result.multiplicity_checked
    assert result.condition_numbers is None
    if which == "BE":
        ends = np.sort(values)
        wanted = [ends[-1 - i // 2] if i % 2 == 0 else ends[i // 2] for i in range(k)]
    else:
        wanted = expected(values, which)[:k]
    np.testing.assert_allclose(result.eigenvalues, wanted, atol=1e-13)
    if which != "SM":
        check_result(result, A, M, k)


@pytest.mark.mpi
@pytest.mark.parametrize("k", [3, 6])
@pytest.mark.parametrize("n", [8, 60])
def test_nonsymmetric(operators, gather, n, k):
    M = np.random.default_rng(n).standard_normal((n, n))
    result = solve(operators(M), k, hermitian=False)
    assert "LAPACK" in result.solver
    assert result.reason is ConvergedReason.CONVERGED_TOL
    assert not result.multiplicity_checked
    values, left, right = scipy.linalg.eig(M, left=True)
    order = np.argsort(-np.abs(values), kind="stable")[: len(result.eigenvalues)]
    np.testing.assert_allclose(np.abs(result.eigenvalues), np.abs(values[order]), rtol=1e-12)
    conditions = 1 / np.abs(np.sum(left.conj() * right, axis=0))[order]
    np.testing.assert_allclose(result.condition_numbers, conditions, rtol=1e-8)
    X = gather(result.eigenvectors)
    np.testing.assert_allclose(M @ X, X * result.eigenvalues, atol=1e-13 * n)


@pytest.mark.mpi
def test_ranks_agree(operators, symmetric, gather, comm):
    M = symmetric(np.r_[np.arange(1.0, 50), 49, 49])
    result = solve(operators(M), 4, hermitian=True)
    alone = PETSc.Mat().createDense(M.shape, array=M, comm=PETSc.COMM_SELF)
    alone.assemble()
    one = solve(alone, 4, hermitian=True)
    alone.destroy()
    np.testing.assert_allclose(result.eigenvalues, one.eigenvalues, atol=1e-13)
    np.testing.assert_allclose(gather(result.eigenvectors), one.eigenvectors, atol=1e-10)
    assert result.tie_at_cut == one.tie_at_cut is False


def test_every_copy_is_found(operators, symmetric, gather):
    """Clusters for which vectors of subsets lose their orthogonality, among others."""
    Q = np.linalg.qr(np.random.default_rng(2).standard_normal((50, 7)))[0]
    projector = Q @ Q.T
    for M in (
        symmetric(np.r_[np.linspace(0, 1, 60), 2, 2, 2]),
        (projector + projector.T) / 2,
        np.eye(30),
        np.zeros((30, 30)),
    ):
        exact = np.sort(np.linalg.eigvalsh(M))[::-1]
        for k in (1, 3, 9):
            result = solve(operators(M), k, which="LA", hermitian=True)
            assert result.converged
            np.testing.assert_allclose(result.eigenvalues, exact[:k], atol=1e-13)
            X = gather(result.eigenvectors)
            np.testing.assert_allclose(X.T @ X, np.eye(k), atol=1e-13)
            assert result.tie_at_cut == bool(abs(exact[k - 1] - exact[k]) < 1e-12)


def test_balancing_finds_the_values_of_a_badly_scaled_matrix(sparse):
    squares = np.geomspace(1, 1e16, 30)
    M = scipy.linalg.block_diag(*[[[0.0, 1.0], [-w, -2.0]] for w in squares])
    result = solve(sparse(M), 4, hermitian=False)
    assert result.reason is ConvergedReason.CONVERGED_TOL
    np.testing.assert_allclose(np.abs(result.eigenvalues), np.sqrt(squares[[-1, -1, -2, -2]]))


def test_nilpotent_matrix_does_not_claim_more_than_it_has(operators):
    result = solve(operators(np.eye(12, k=1)), 1, hermitian=False)
    np.testing.assert_allclose(result.eigenvalues, 0)
    assert result.operator_norm == 1.0


@pytest.mark.mpi
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("hermitian", [True, False])
def test_entry_that_is_not_finite(operators, bad, hermitian):
    M = np.diag(np.arange(1.0, 31))
    M[7, 7] = bad
    with pytest.raises(OperatorError, match="not finite"):
        solve(operators(M), 2, hermitian=hermitian)


@pytest.mark.parametrize("scale", [1e-160, 1e160])
@pytest.mark.parametrize("hermitian", [True, False])
def test_scale(operators, hermitian, scale):
    result = solve(operators(np.diag(np.arange(1.0, 21)) * scale), 3, hermitian=hermitian)
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues / scale, [20, 19, 18])


def test_not_hermitian_though_declared(operators):
    M = np.diag(np.arange(1.0, 21)) + 0.1 * np.random.default_rng(0).standard_normal((20, 20))
    result = solve(operators(M), 3, hermitian=True)
    assert result.reason is ConvergedReason.DIVERGED_STAGNATED
    assert result.unconverged == (0, 1, 2)


def test_the_iteration_runs_where_it_was_asked_for(operators, symmetric, comm):
    M = symmetric(np.linspace(0, 1, 60))
    A, n_local = operators(M), operators(M).getLocalSize()[0]
    for settings in (
        {"ncv": 20},
        {"start": np.ones(n_local)},
        {"monitor": lambda record: None},
        {"variant": "block"},
        {"variant": "published"},
        {"options": Options(orthogonalization="full")},
        {"options": Options(nested_sizes=(10, 20))},
        {"options": Options(deflation=np.ones((n_local, 1)))},
    ):
        assert "MIRAMns" in solve(A, 2, hermitian=True, **settings).solver
    assert "MIRAMns" in solve(operators(diagonal=np.arange(60.0)), 2, hermitian=True).solver


def test_limits_of_size(operators, monkeypatch):
    """More rows where many pairs are wanted, and never more than the limit."""
    A = operators(np.diag(np.arange(60.0)))
    for names, hermitian in (
        (("LARGEST", "LARGEST_OF_MANY"), True),
        (("LARGEST_NONSYMMETRIC", "LARGEST_OF_MANY_NONSYMMETRIC"), False),
    ):
        monkeypatch.setattr(miramns.direct, names[0], 59)
        monkeypatch.setattr(miramns.direct, names[1], 60)
        assert "MIRAMns" in solve(A, 2, hermitian=hermitian).solver
        assert "LAPACK" in solve(A, 20, hermitian=hermitian).solver
        monkeypatch.setattr(miramns.direct, names[1], 59)
        assert "MIRAMns" in solve(A, 20, hermitian=hermitian).solver


def test_eps(operators, symmetric):
    E = MIRAMns().create(comm=PETSc.COMM_SELF)
    A = PETSc.Mat().createDense((40, 40), array=symmetric(np.arange(40.0)), comm=PETSc.COMM_SELF)
    A.assemble()
    E.setOperators(A)
    E.setProblemType(E.ProblemType.HEP)
    E.setDimensions(3)
    E.solve()
    assert E.getConverged() == 3
    assert E.getConvergedReason() == E.ConvergedReason.CONVERGED_TOL
    np.testing.assert_allclose([E.getEigenvalue(i) for i in range(3)], [39, 38, 37])
    E.destroy()
    A.destroy()
