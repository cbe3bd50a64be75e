"""Centred sample covariance ``C = (X - 1 m')'(X - 1 m') / (n - 1)`` of distributed rows.

Assembled: each rank accumulates one triangle of its rows' contribution by symmetric rank-b updates
of centred blocks (BLAS-3), one reduction adds the triangles, and the other half is copied, so the
matrix is symmetric to the last bit.

Matrix-free: ``y = X'w - m sum(w)`` over n - 1 with ``w = X v - 1 (m'v)``, every block of rows read
once per product, so that no centred copy exists and sparse rows stay sparse. Where a mean is large
against the spread the subtraction would cancel; then dense blocks are centred in cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg.blas import dsyrk

from hpcembed.errors import InputError
from hpcembed.matrix import DataMatrix, gather_vector, scatter_sum
from hpcembed.operators.cost import CovariancePlan
from hpcembed.parallel import sum_over_ranks

__all__ = ["CovarianceOperator", "covariance"]

#: Mean over standard deviation beyond which blocks are centred before they are multiplied: products
#: lose about as many digits as this ratio has.
_LARGE_OFFSET = 1e3

#: Sparse rows made dense at a time when a sparse table's covariance is assembled.
_DENSE_ROWS = 256


@dataclass(frozen=True, slots=True)
class CovarianceOperator:
    """The covariance as a PETSc Mat, with the moments that it needed.

    Attributes
    ----------
    mat : PETSc.Mat
        Shape (d, d), rows distributed as PETSc divides d.
    kind : {"assembled", "matrix_free"}
    mean : ndarray of shape (d,)
        Of the scaled rows, on every rank.
    variances : ndarray of shape (d,)
        Diagonal of the covariance, on every rank.
    is_hermitian : bool
        True.
    """

    mat: PETSc.Mat
    kind: Literal["assembled", "matrix_free"]
    mean: NDArray[np.float64]
    variances: NDArray[np.float64]
    is_hermitian: bool = True

    @property
    def total_variance(self) -> float:
        """Trace of the covariance."""
        return float(self.variances.sum())

    def destroy(self) -> None:
        """Free the PETSc Mat. Collective."""
        self.mat.destroy()


def covariance(X: DataMatrix, plan: CovariancePlan) -> CovarianceOperator:
    """Form the centred sample covariance of the rows of `X`.

    Collective: two reductions for mean and variances, one more when assembled.

    Parameters
    ----------
    X : DataMatrix
        n >= 2 rows; keep it while a matrix-free operator is in use.
    plan : CovariancePlan
        From :func:`~hpcembed.operators.cost.plan_covariance`.

    Raises
    ------
    InputError
        When there are fewer than two rows.
    """
    if X.n_rows < 2:
        raise InputError(f"a covariance needs at least 2 training rows, got {X.n_rows}")
    mean, variances = _moments(X)
    is_assembled = plan.kind == "assembled"
    mat = _assemble(X, mean) if is_assembled else _matrix_free(X, mean, variances)
    return CovarianceOperator(mat, plan.kind, mean, variances)


def _moments(X: DataMatrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of every feature, by blocks, each centred on its own mean.

    Block results are combined as in Chan, Golub, LeVeque, "Algorithms for computing the sample
    variance", The American Statistician 37 (1983). Means are taken from a common origin among the
    rows, so that combining them loses nothing to a large offset.
    """
    origin = _origin(X)
    mean, spread, count = np.zeros(X.n_features), np.zeros(X.n_features), 0
    for _, block in X.blocks():
        b = block.shape[0]
        block_mean, block_spread = _block_moments(block if X.is_sparse else block - origin)
        difference = block_mean - mean
        spread += block_spread + difference**2 * (count * b / (count + b))
        mean += difference * (b / (count + b))
        count += b
    overall = sum_over_ranks(X.comm, mean * (count / X.n_rows))
    spread += count * (mean - overall) ** 2
    return origin + overall, sum_over_ranks(X.comm, spread) / (X.n_rows - 1)


def _origin(X: DataMatrix) -> NDArray[np.float64]:
    """The first row of all, on every rank; zero for sparse rows, which must stay sparse."""
    if X.is_sparse:
        return np.zeros(X.n_features)
    owner = X.comm.allreduce(X.comm.rank if X.n_local else X.comm.size, op=MPI.MIN)
    first = np.empty(X.n_features)
    if X.comm.rank == owner:
        first[:] = next(iter(X.blocks()))[1][0]
    X.comm.Bcast(first, root=owner)
    return first


def _block_moments(block: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if isinstance(block, np.ndarray):
        mean = block.mean(axis=0)
        return mean, np.square(block - mean).sum(axis=0)
    rows, d = block.shape
    mean = np.asarray(block.sum(axis=0)).ravel() / rows
    squares = np.bincount(
        block.indices, weights=(block.data - mean[block.indices]) ** 2, minlength=d
    )
    stored = np.bincount(block.indices, minlength=d)
    return mean, squares + (rows - stored) * mean**2


def _assemble(X: DataMatrix, mean: NDArray[np.float64]) -> PETSc.Mat:
    d = X.n_features
    lower = np.zeros((d, d), order="F")
    for block in _centred_blocks(X, mean):
        # The transpose of a row-major block is column-major: BLAS reads it in place.
        lower = dsyrk(1.0, block.T, beta=1.0, c=lower, lower=1, overwrite_c=1)
    if X.comm.size > 1:
        _reduce_triangle(X.comm, lower)
    lower /= X.n_rows - 1
    mat = PETSc.Mat().createDense(((None, d), (None, d)), comm=X.comm)
    mat.setUp()
    first, last = mat.getOwnershipRange()
    rows = mat.getDenseArray()
    rows[:] = lower[first:last]
    for i in range(first, last):
        rows[i - first, i + 1 :] = lower[i + 1 :, i]
    del rows
    mat.assemble()
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    return mat


def _centred_blocks(X: DataMatrix, mean: NDArray[np.float64]) -> Any:
    """Row-major centred blocks, dense."""
    for _, block in X.blocks():
        if isinstance(block, np.ndarray):
            yield np.subtract(block, mean, order="C")
            continue
        for first in range(0, block.shape[0], _DENSE_ROWS):
            yield block[first : first + _DENSE_ROWS].toarray() - mean


def _reduce_triangle(comm: MPI.Comm, lower: NDArray[np.float64]) -> None:
    """Sum the lower triangles of all ranks, in place: one reduction of d (d + 1) / 2 numbers."""
    d = lower.shape[0]
    packed = np.empty(d * (d + 1) // 2)
    offset = 0
    for j in range(d):
        packed[offset : offset + d - j] = lower[j:, j]
        offset += d - j
    sum_over_ranks(comm, packed)
    offset = 0
    for j in range(d):
        lower[j:, j] = packed[offset : offset + d - j]
        offset += d - j


def _matrix_free(
    X: DataMatrix, mean: NDArray[np.float64], variances: NDArray[np.float64]
) -> PETSc.Mat:
    d = X.n_features
    products = _CentredProducts(X, mean, variances)
    mat = PETSc.Mat().createPython(((None, d), (None, d)), products, comm=X.comm)
    mat.setUp()
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    return mat


class _CentredProducts:
    """Context of the shell matrix: covariance products from one pass over the rows."""

    def __init__(
        self, X: DataMatrix, mean: NDArray[np.float64], variances: NDArray[np.float64]
    ) -> None:
        # Not the DataMatrix: a cycle would leave PETSc objects to the garbage collector.
        self._blocks = X.blocks
        self._comm = X.comm
        self._weight = 1.0 / (X.n_rows - 1)
        self._mean = mean
        spread = np.sqrt(np.max(variances, initial=0.0))
        self._centre_blocks = not X.is_sparse and bool(
            np.max(np.abs(mean), initial=0.0) > _LARGE_OFFSET * spread
        )

    def mult(self, _mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Y = C x. Collective: one gather, one reduction."""
        v = gather_vector(self._comm, x)
        mean = self._mean
        total, weight_sum = np.zeros_like(mean), 0.0
        offset = 0.0 if self._centre_blocks else mean @ v
        for _, block in self._blocks():
            rows = block - mean if self._centre_blocks else block
            w = rows @ v - offset
            total += w @ rows
            weight_sum += w.sum()
        if not self._centre_blocks:
            total -= mean * weight_sum
        total *= self._weight
        scatter_sum(self._comm, total, y)
