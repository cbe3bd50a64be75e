"""Distributed operators with known spectra, destroyed after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from petsc4py import PETSc

from miramns import ConvergedReason


class DiagonalShell:
    """Shell operator diag(values): the spectrum is known and no entry is stored."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def mult(self, mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        first, last = mat.getOwnershipRange()
        with y as out:
            out[:] = self.values[first:last] * x.getArray(readonly=1)


@pytest.fixture(autouse=True)
def iteration_alone(request, monkeypatch) -> None:
    """Small matrices are solved by the iteration, except in tests marked ``lapack``."""
    if "lapack" not in request.keywords:
        for name in ("LARGEST", "LARGEST_NONSYMMETRIC"):
            monkeypatch.setattr(f"miramns.direct.{name}", 0)


@pytest.fixture
def keep() -> Iterator[Callable[[PETSc.Object], PETSc.Object]]:
    """``keep(A)`` returns a PETSc object and destroys it after the test."""
    kept: list[PETSc.Object] = []

    def add(thing: PETSc.Object) -> PETSc.Object:
        kept.append(thing)
        return thing

    yield add
    for thing in kept:
        thing.destroy()


@pytest.fixture
def operators(comm, keep) -> Callable[..., PETSc.Mat]:
    """Factory ``operators(M)`` (dense array) or ``operators(diagonal=values)`` (shell)."""

    def make(M: np.ndarray | None = None, *, diagonal: np.ndarray | None = None) -> PETSc.Mat:
        n = len(M if M is not None else diagonal)
        sizes = ((None, n), (None, n))
        if M is None:
            context = DiagonalShell(np.asarray(diagonal))
            A = keep(PETSc.Mat()).createPython(sizes, context, comm=comm)
            A.setUp()
        else:
            A = keep(PETSc.Mat()).createDense(sizes, comm=comm)
            A.setUp()
            first, last = A.getOwnershipRange()
            local = A.getDenseArray()
            local[:] = M[first:last]
            del local
            A.assemble()
        return A

    return make


@pytest.fixture
def sparse(comm, keep) -> Callable[[np.ndarray], PETSc.Mat]:
    """``sparse(M)``: a distributed sparse matrix with the nonzero entries of a square array.

    The whole diagonal is stored: factorisations need it.
    """

    def make(M: np.ndarray) -> PETSc.Mat:
        A = keep(PETSc.Mat()).createAIJ(M.shape, nnz=M.shape[1], comm=comm)
        A.setUp()
        for i in range(*A.getOwnershipRange()):
            for j in np.flatnonzero(M[i]):
                A[i, int(j)] = M[i, j]
            A[i, i] = M[i, i]
        A.assemble()
        return A

    return make


@pytest.fixture
def gather(comm) -> Callable[[np.ndarray], np.ndarray]:
    """All ranks' rows on every rank."""
    return lambda rows: np.vstack(comm.allgather(np.ascontiguousarray(rows)))


@pytest.fixture
def symmetric() -> Callable[..., np.ndarray]:
    """``symmetric(values, seed=0)``: a full symmetric matrix with those eigenvalues."""

    def make(values: np.ndarray, seed: int = 0) -> np.ndarray:
        n = len(values)
        Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
        M = (Q * values) @ Q.T
        return (M + M.T) / 2

    return make


@pytest.fixture
def check_result(gather) -> Callable[..., None]:
    """``check_result(result, A, M, k)``: a converged result against the matrix M."""

    def check(result, A: PETSc.Mat, M: np.ndarray, k: int) -> None:
        X = gather(result.eigenvectors)
        assert result.eigenvectors.shape == (A.getLocalSize()[0], k)
        assert result.ownership_range == A.getOwnershipRange()
        norms = np.linalg.norm(M @ X - X * result.eigenvalues, axis=0)
        scale = max(np.linalg.norm(M, 2), 1e-300)
        np.testing.assert_allclose(result.residual_norms, norms, atol=2e-14 * scale)
        np.testing.assert_allclose(np.linalg.norm(X, axis=0), 1.0, atol=1e-13)
        assert (result.residual_norms <= result.residual_tolerances).all()
        assert result.unconverged == ()
        assert result.n_converged == k
        assert result.reason in (ConvergedReason.CONVERGED_TOL, ConvergedReason.CONVERGED_ROUNDING)
        assert result.converged
        assert result.n_certificate_matvec >= k
        assert result.seconds > 0
        assert result.relative_residuals.max() <= 1e-7
        assert f"{k} of {k} eigenpairs" in result.view()
        assert 0.99 * result.residual_norms.max() <= result.operator_norm <= (1 + 1e-12) * scale
        assert result.operator_norm >= 0.5 * np.abs(result.eigenvalues).max()

    return check
