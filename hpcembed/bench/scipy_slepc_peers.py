"""Iterative solvers of SciPy and SLEPc, at the tolerance of hpcembed's PCA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, eigsh
from slepc4py import SLEPc

from hpcembed.bench.methods import PcaAnswer, PcaTask, tolerance


def fit_eigsh(task: PcaTask) -> PcaAnswer:
    """Run ``eigsh`` on the covariance as a LinearOperator."""
    X, dtype = task.rows, task.rows.dtype
    n, d = X.shape
    mean = _mean(X)
    m = mean.astype(dtype)
    factor = dtype.type(1 / (n - 1))

    def product(v: NDArray[Any]) -> NDArray[Any]:
        y = X @ v.ravel() - m @ v.ravel()
        return np.asarray((X.T @ y - m * y.sum()) * factor)

    operator = LinearOperator((d, d), matvec=product, dtype=dtype)
    start = np.random.default_rng(task.seed).standard_normal(d).astype(dtype)
    values, V = eigsh(operator, k=task.k, which="LA", tol=tolerance(X), v0=start)
    order = np.argsort(values)[::-1]
    V = V[:, order]
    return PcaAnswer(V.T, values[order], _projection(V, mean, dtype))


def fit_svd(task: PcaTask, kind: str) -> PcaAnswer:
    """Run a singular value solver of SLEPc on the centred rows in double precision."""
    X, k = task.rows, task.k
    n, d = X.shape
    mean = _mean(X)
    centred = np.empty((n, d), order="F")
    np.subtract(X, mean, out=centred)
    A = PETSc.Mat().createDense((n, d), array=centred, comm=PETSc.COMM_SELF)
    A.assemble()
    svd = SLEPc.SVD().create(comm=PETSc.COMM_SELF)
    u, v = A.createVecLeft(), A.createVecRight()
    try:
        svd.setOperators(A)
        svd.setType(kind)
        svd.setDimensions(k)
        svd.setTolerances(tolerance(X), 1000)
        svd.setWhichSingularTriplets(SLEPc.SVD.Which.LARGEST)
        svd.solve()
        found = min(k, svd.getConverged())
        V, sigma = np.empty((d, found)), np.empty(found)
        for i in range(found):
            sigma[i] = svd.getSingularTriplet(i, u, v)
            V[:, i] = v.getArray(readonly=1)
        detail = f"{svd.getIterationNumber()} restarts"
    finally:
        for created in (svd, u, v, A):
            created.destroy()
    return PcaAnswer(V.T, sigma**2 / (n - 1), _projection(V, mean, X.dtype), detail=detail)


def _mean(rows: Any) -> NDArray[np.float64]:
    """Return the means of the columns, in double precision."""
    if issparse(rows):
        return np.asarray(rows.sum(axis=0, dtype=np.float64)).ravel() / rows.shape[0]
    return np.asarray(rows.mean(axis=0, dtype=np.float64))


def _projection(
    V: NDArray[Any], mean: NDArray[np.float64], dtype: Any
) -> Callable[[Any], NDArray[Any]]:
    directions = np.ascontiguousarray(V, dtype=dtype)
    offset = (mean @ V).astype(dtype)
    return lambda rows: np.asarray(rows @ directions - offset)
