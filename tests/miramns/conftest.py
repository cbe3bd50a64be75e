"""Distributed operators with known spectra, destroyed after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from petsc4py import PETSc


class DiagonalShell:
    """Shell operator diag(values): the spectrum is known and no entry is stored."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def mult(self, mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        first, last = mat.getOwnershipRange()
        with y as out:
            out[:] = self.values[first:last] * x.getArray(readonly=1)


@pytest.fixture
def operators(comm) -> Iterator[Callable[..., PETSc.Mat]]:
    """Factory ``operators(M)`` (dense array) or ``operators(diagonal=values)`` (shell)."""
    made: list[PETSc.Mat] = []

    def make(M: np.ndarray | None = None, *, diagonal: np.ndarray | None = None) -> PETSc.Mat:
        n = len(M if M is not None else diagonal)
        sizes = ((None, n), (None, n))
        if M is None:
            A = PETSc.Mat().createPython(sizes, DiagonalShell(np.asarray(diagonal)), comm=comm)
            A.setUp()
        else:
            A = PETSc.Mat().createDense(sizes, comm=comm)
            A.setUp()
            first, last = A.getOwnershipRange()
            local = A.getDenseArray()
            local[:] = M[first:last]
            del local
            A.assemble()
        made.append(A)
        return A

    yield make
    for A in made:
        A.destroy()


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
