"""How large a matrix is, also where it is known by its products alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.convergence import MiramnsError
from miramns.start import seeded_normal

__all__ = ["matrix_norm", "norm_along", "usual_size"]

#: Products of a power method that stands in for a norm which the matrix cannot tell.
_POWER_STEPS = 8


def usual_size(B: PETSc.Mat) -> float:
    """Give z'Bz / z'z for a random z: the mean of the eigenvalues, roughly. Collective."""
    z, y = B.createVecs()
    z.setArray(seeded_normal(0, *B.getOwnershipRange()))
    B.mult(z, y)
    size = float(y.dot(z)) / float(z.dot(z))
    z.destroy()
    y.destroy()
    if not size > 0:
        raise MiramnsError("B is not positive: a Hermitian problem needs x'Bx > 0")
    return size


def norm_along(A: PETSc.Mat, columns: NDArray[np.float64]) -> float:
    """Give ||A c|| / ||c|| for the sum c of some columns: at most ||A||. Collective: a product.

    For columns of which A is known to be large, where the rest of it may be as small as rounding.
    """
    x, y = A.createVecs()
    x.setArray(columns.sum(axis=1))
    A.mult(x, y)
    length, norm = float(x.norm()), float(y.norm())
    x.destroy()
    y.destroy()
    return norm / length if length > 0 and np.isfinite(norm) else 0.0


def matrix_norm(M: PETSc.Mat) -> float:
    """A bound on ||M|| where the matrix tells its norms, else an estimate. Collective."""
    if M.getType() not in ("python", "shell"):
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
    return norm
