"""scipy's and SLEPc's iterative solvers, at the tolerance that hpcembed's PCA is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, eigsh
from slepc4py import SLEPc

from hpcembed.bench.methods import Fitted, Task, tolerance
from hpcembed.bench.ours import fit_pca
from hpcembed.embedding import SolverSettings

__all__ = ["FITS"]


def _mean(rows: Any) -> NDArray[np.float64]:
    """Of the columns, added up in double."""
    if issparse(rows):
        return np.asarray(rows.sum(axis=0, dtype=np.float64)).ravel() / rows.shape[0]
    return np.asarray(rows.mean(axis=0, dtype=np.float64))


def _projection(
    V: NDArray[Any], mean: NDArray[np.float64], dtype: Any
) -> Callable[[Any], NDArray[Any]]:
    directions = np.ascontiguousarray(V, dtype=dtype)
    offset = (mean @ V).astype(dtype)
    return lambda rows: np.asarray(rows @ directions - offset)


def _eigsh(task: Task) -> Fitted:
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
    return Fitted(_projection(V, mean, dtype), V.T, values[order])


def _svd(kind: str) -> Callable[[Task], Fitted]:
    return lambda task: _slepc_svd(task, kind)


def _slepc_svd(task: Task, kind: str) -> Fitted:
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
        for thing in (svd, u, v, A):
            thing.destroy()
    return Fitted(_projection(V, mean, X.dtype), V.T, sigma**2 / (n - 1), detail=detail)


def _eps(task: Task) -> Fitted:
    return fit_pca(task, "matrix_free", SolverSettings(name="krylovschur"))


FITS: dict[str, Callable[[Task], Fitted]] = {
    "scipy-eigsh": _eigsh,
    "slepc-svd-cross": _svd("cross"),
    "slepc-svd-trlanczos": _svd("trlanczos"),
    "slepc-eps": _eps,
}
