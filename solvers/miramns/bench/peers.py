"""Eigensolvers of SciPy and PRIMME on one rank: same operator, start vector and certificate."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, eigsh

from miramns import seeded_normal
from miramns.bench.answer import Answer, RefusedError, Task
from miramns.bench.time_limit import TimeLimit
from miramns.factorization.orthogonalize import orthogonality
from miramns.residuals import true_residuals
from miramns.selection import Which, selection_keys

Pairs = tuple[NDArray[Any], NDArray[Any]]


def has_primme() -> bool:
    """Return whether PRIMME's Python package can be imported."""
    try:
        importlib.import_module("primme")
    except ImportError:
        return False
    return True


def run_scipy(A: PETSc.Mat, task: Task, limit: TimeLimit) -> Answer:
    """Compute eigenpairs by SciPy's ``eigsh`` or ``eigs`` (ARPACK)."""
    n = A.getSize()[0]
    if task.k >= n - 1:
        raise RefusedError("k is too large")
    which: str = task.which
    if task.hermitian:
        which = {"LR": "LA", "SR": "SA"}.get(which, which)

    def solve(operator: LinearOperator, start: NDArray[np.float64]) -> tuple[Pairs, bool, int]:
        method = eigsh if task.hermitian else eigs
        # its default is 10 n; the time limit ends longer runs
        options = {"k": task.k, "which": which, "v0": start, "tol": task.tol}
        try:
            return method(operator, maxiter=100 * n, **options), True, 0
        except ArpackNoConvergence as error:
            return (error.eigenvalues, error.eigenvectors), False, 0

    name = "scipy eigsh" if task.hermitian else "scipy eigs"
    return _answer(A, task, limit, solve, name)


def run_primme(A: PETSc.Mat, task: Task, limit: TimeLimit, *, preset: str) -> Answer:
    """Compute eigenpairs by PRIMME.

    Parameters
    ----------
    preset : str
        Name of a preset method of PRIMME; empty for its default.
    """
    primme = importlib.import_module("primme")
    which = {"LR": "LA", "SR": "SA"}.get(task.which, task.which)

    def solve(operator: LinearOperator, start: NDArray[np.float64]) -> tuple[Pairs, bool, int]:
        options: dict[str, Any] = {"k": task.k, "which": which, "tol": task.tol}
        options |= {"v0": start.reshape(-1, 1)} | ({"method": preset} if preset else {})
        values, vectors, stats = primme.eigsh(operator, return_stats=True, **options)
        return (values, vectors), len(values) >= task.k, int(stats["numOuterIterations"])

    return _answer(A, task, limit, solve, f"PRIMME {preset}".strip())


def _answer(
    A: PETSc.Mat,
    task: Task,
    limit: TimeLimit,
    solve: Callable[[LinearOperator, NDArray[np.float64]], tuple[Pairs, bool, int]],
    solver: str,
) -> Answer:
    began = time.perf_counter()
    n = A.getSize()[0]
    products = _Products(A, limit)
    operator = LinearOperator((n, n), matvec=products.multiply, dtype=np.float64)
    try:
        (values, vectors), claimed, restarts = solve(operator, seeded_normal(task.seed, 0, n))
    finally:
        products.destroy()
    values, vectors = _in_order(values, vectors, task.which)
    # the other methods certify their answers too, so the certificate counts
    if values.size:
        true_residuals(A, values, vectors)
        if task.hermitian:
            orthogonality(A.getComm().tompi4py(), vectors)
    seconds = time.perf_counter() - began
    return Answer(
        values=values, vectors=vectors, claimed=claimed, n_matvec=products.count,
        n_reductions=None, n_restarts=restarts or None, seconds=seconds, solver=solver,
    )  # fmt: skip


def _in_order(values: NDArray[Any], vectors: NDArray[Any], which: Which) -> Pairs:
    """Sort eigenpairs, the wanted ones first and of a conjugate pair the positive imaginary part.

    A conjugate pair with one missing member is completed.
    """
    if values.size == 0:
        return values, np.asfortranarray(vectors)
    if np.iscomplexobj(values) and not np.isclose(values.imag.sum(), 0, atol=1e-8):
        unpaired = [
            i for i, z in enumerate(values) if z.imag and not np.isclose(values, z.conj()).any()
        ]
        values = np.concatenate([values, values[unpaired].conj()])
        vectors = np.column_stack([vectors, vectors[:, unpaired].conj()])
    key = selection_keys(values, which)
    scale = max(float(np.max(np.abs(values))), 1e-300)
    # rounded, so that the members of a conjugate pair stay adjacent
    by = [np.round(part / scale, 12) for part in (np.abs(values.imag), -values.real, key)]
    order = np.lexsort((-values.imag, *by))
    return values[order], np.asfortranarray(vectors[:, order])


class _Products:
    """Counted products with arrays instead of PETSc vectors."""

    def __init__(self, A: PETSc.Mat, limit: TimeLimit) -> None:
        self.A = A
        self.limit = limit
        self.count = 0
        self.x, self.y = A.createVecs()

    def multiply(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        self.count += 1
        self.limit.enforce()
        self.x.setArray(np.ravel(x))
        self.A.mult(self.x, self.y)
        return np.array(self.y.getArray(readonly=1))

    def destroy(self) -> None:
        self.x.destroy()
        self.y.destroy()
