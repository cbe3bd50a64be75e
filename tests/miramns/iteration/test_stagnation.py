"""Runs that cannot converge end early; slow ones do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from petsc4py import PETSc

from miramns import ConvergedReason, Options, solve
from miramns.factorization.arnoldi import ArnoldiFactorization
from miramns.iteration.default import new_factorization
from miramns.iteration.stagnation import Stagnation, relation_error
from miramns.problem import check_problem
from miramns.random_vectors import seeded_normal

N = 500
METHODS = {
    "full": {},
    "partial": {"options": Options(orthogonalization="partial")},
    "dcgs2": {"options": Options(orthogonalization="dcgs2")},
    "block": {"variant": "block"},
    "published": {"variant": "published", "ncv": 40},
}


class LocalProduct:
    """Shell operator from a function of the call, this rank's rows, and its part of a vector."""

    def __init__(self, apply: Callable[[int, slice, np.ndarray], np.ndarray]) -> None:
        self.apply = apply
        self.calls = 0

    def mult(self, mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        self.calls += 1
        with y as out:
            out[:] = self.apply(self.calls, slice(*mat.getOwnershipRange()), x.getArray(readonly=1))


@pytest.fixture
def shell(comm, keep):
    def make(apply: Callable[[int, slice, np.ndarray], np.ndarray]) -> PETSc.Mat:
        A = keep(PETSc.Mat()).createPython(((None, N), (None, N)), LocalProduct(apply), comm=comm)
        A.setUp()
        return A

    return make


VALUES = np.linspace(0.0, 1.0, N)
ERROR = np.random.default_rng(0).standard_normal(N) / np.sqrt(N)


def wrong_products(call: int, rows: slice, x: np.ndarray) -> np.ndarray:
    # the block variant makes the first calls to measure products
    return VALUES[rows] * x + (ERROR[rows] if call in (2, 30) else 0.0)


def noise(call: int, rows: slice, x: np.ndarray) -> np.ndarray:
    factors = np.random.default_rng(call).standard_normal(N)[rows]
    return VALUES[rows] * x * (1 + 1e-3 * factors)


@pytest.mark.mpi
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("apply", [wrong_products, noise])
def test_inconsistent_products_end_the_run(shell, apply, method):
    result = solve(shell(apply), 5, which="LA", hermitian=True, **METHODS[method])
    assert result.reason is ConvergedReason.DIVERGED_STAGNATED
    assert result.unconverged
    assert result.n_matvec < 4000
    assert "not the same at every call" in result.view()
    assert "a repeated product differs" in result.view()


@pytest.mark.parametrize("method", METHODS)
def test_operator_declared_hermitian_that_is_not(operators, method):
    S = np.random.default_rng(1).standard_normal((N, N))
    M = np.diag(np.arange(float(N))) + 0.01 * S
    result = solve(operators(M), 5, which="LA", hermitian=True, **METHODS[method])
    assert result.reason is ConvergedReason.DIVERGED_STAGNATED
    assert result.n_matvec < 4000
    assert "Hermitian as declared" in result.view()


@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("variant", ["default", "published"])
def test_a_slow_run_is_not_ended(operators, hermitian, variant):
    """Bulk edge with small subspaces: many restarts, several of them without a decrease."""
    n = 250
    M = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    A = operators(M)
    # the published start of equal entries is symmetric
    start = np.random.default_rng(0).standard_normal(n)[slice(*A.getOwnershipRange())]
    result = solve(
        A, 3, which="SR", hermitian=hermitian, variant=variant, ncv=12, max_it=20_000,
        tol=1e-6, start=start, options=Options(multiplicity_check="never"),
    )  # fmt: skip
    assert result.converged, result.view()
    assert result.n_restarts > (100 if variant == "default" else 30)
    np.testing.assert_allclose(result.eigenvalues, np.linalg.eigvalsh(M)[:3], rtol=1e-3)


def test_restarts_without_decrease_do_not_end_a_consistent_run(operators):
    A = operators(np.diag(VALUES))
    f = ArnoldiFactorization(A, 10, seeded_normal(0, *A.getOwnershipRange()), hermitian=True)
    f.extend(10)
    stagnation = Stagnation(f)
    high = np.ones(2)
    assert not any(stagnation.at_restart(1.0, high, 1e-8 * high) for _ in range(300))
    # tests after 5, 10, 20, ... restarts
    assert stagnation.n_matvec == 6
    assert stagnation.decisions == ()
    # residuals at rounding that do not decrease have reached their limit
    low = 1e-13 * high
    assert stagnation.at_restart(1.0, low, 1e-16 * high)
    assert "level of rounding" in stagnation.decisions[0]
    stagnation = Stagnation(f)
    decreasing = 0.98 ** np.arange(300)
    assert not any(stagnation.at_restart(one, low, 1e-16 * high) for one in decreasing)
    assert stagnation.n_matvec == 0
    f.destroy()


@pytest.mark.mpi
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("locked", [False, True])
def test_relation_error(operators, symmetric, comm, method, locked):
    A = operators(symmetric(np.r_[np.linspace(0, 1, 57), 2, 3, 4]))
    first, last = A.getOwnershipRange()
    options = METHODS[method].get("options", Options())
    deflation = np.random.default_rng(0).standard_normal((60, 2))[first:last] if locked else None
    problem = check_problem(
        A, 3, which="LA", hermitian=True, tol=1e-8, max_it=10, ncv=20,
        variant=METHODS[method].get("variant", "default"), seed=0,
        options=Options(orthogonalization=options.orthogonalization, deflation=deflation),
    )  # fmt: skip
    with new_factorization(problem, problem.capacity, seeded_normal(0, first, last)) as f:
        f.extend(12)
        assert relation_error(f) < 1e-13
        f.basis[:, 4] += 1e-3 * f.basis[:, 8]
        assert 1e-6 < relation_error(f) < 1e-2
