"""Norms of matrices, also of matrix-free ones, and the rounding relative to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.agreement import raise_failure
from miramns.errors import MiramnsError
from miramns.products import apply_columns, is_shell
from miramns.random_vectors import seeded_normal

EPSILON = float(np.finfo(np.float64).eps)

#: Multiple of ||A|| below which a residual is rounding: a few hundred units in the last place.
ROUNDING = 100 * EPSILON

#: Products of the power method that estimates the norm of a matrix-free operator.
_POWER_STEPS = 8


def mean_eigenvalue(B: PETSc.Mat) -> float:
    """Return z'Bz / z'z for a random z, which is roughly the mean eigenvalue.

    Collective.

    Raises
    ------
    MiramnsError
        If it is not positive.
    """
    z, y = B.createVecs()
    z.setArray(seeded_normal(0, *B.getOwnershipRange()))
    B.mult(z, y)
    mean = float(y.dot(z)) / float(z.dot(z))
    z.destroy()
    y.destroy()
    raise_failure(B.getComm().tompi4py())
    if not mean > 0:
        raise MiramnsError("B is not positive: a Hermitian problem needs x'Bx > 0")
    return mean


def norm_along(A: PETSc.Mat, columns: NDArray[np.float64]) -> float:
    """Return ||A c|| / ||c|| for the sum c of the columns: a lower bound of ||A||.

    Collective: one product. Meant for columns that are known to have large products.
    """
    x = columns.sum(axis=1)
    y = apply_columns(A, x[:, None])[:, 0]
    squares = A.getComm().tompi4py().allreduce(np.array([x @ x, y @ y]))
    length, norm = np.sqrt(squares).tolist()
    return norm / length if length > 0 and np.isfinite(norm) else 0.0


def matrix_norm(M: PETSc.Mat) -> float:
    """Return a bound of ||M|| for an assembled matrix, an estimate for a matrix-free one.

    Collective.
    """
    if not is_shell(M):
        kinds = PETSc.NormType.INFINITY, PETSc.NormType.FROBENIUS
        return float(min(M.norm(kind) for kind in kinds))
    x, y = M.createVecs()
    x.setArray(seeded_normal(0, *M.getOwnershipRange()))
    norm = 0.0
    for _step in range(_POWER_STEPS):
        length = x.norm()
        if length == 0:
            break
        x.scale(1.0 / length)
        M.mult(x, y)
        norm = max(norm, float(y.norm()))
        x, y = y, x
    x.destroy()
    y.destroy()
    raise_failure(M.getComm().tompi4py())
    return norm
