"""Results of a solve in the form that EPS returns them: errors, real columns, bases."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from slepc4py import SLEPc

from miramns.errors import MiramnsError
from miramns.norms import matrix_norm
from miramns.products import is_shell, vector_like
from miramns.result import ConvergedReason, EigenResult

#: EPS.ConvergedReason for each reason of a result.
REASONS = {
    ConvergedReason.CONVERGED_TOL: SLEPc.EPS.ConvergedReason.CONVERGED_TOL,
    ConvergedReason.CONVERGED_ROUNDING: SLEPc.EPS.ConvergedReason.CONVERGED_TOL,
    ConvergedReason.DIVERGED_ITS: SLEPc.EPS.ConvergedReason.DIVERGED_ITS,
    ConvergedReason.DIVERGED_STAGNATED: SLEPc.EPS.ConvergedReason.DIVERGED_BREAKDOWN,
}


def place_of(result: EigenResult | None, i: int) -> int:
    """Return the place of the i-th converged pair among all pairs of the result."""
    n_converged = 0 if result is None else result.n_converged
    if result is None or not 0 <= i < n_converged:
        raise MiramnsError(f"pair {i} is not among the {n_converged} that converged, from 0 on")
    return int(np.flatnonzero(_passed(result))[i])


def _passed(result: EigenResult) -> NDArray[np.bool_]:
    return np.asarray(result.residual_norms <= result.residual_tolerances)


def error_estimate(result: EigenResult, place: int, test: int, tol: float) -> float:
    """Return the residual norm in the units of the convergence test."""
    residual = float(result.residual_norms[place])
    if test == SLEPc.EPS.Conv.ABS:
        return residual
    if test == SLEPc.EPS.Conv.NORM:
        # the tolerance is tol times the norms, unless rounding is larger
        return residual / float(result.residual_tolerances[place]) * tol
    modulus = float(abs(result.eigenvalues[place]))
    return residual / modulus if modulus else residual


def relative_error(
    result: EigenResult, place: int, comm: MPI.Comm, norms: tuple[float, float] | None
) -> float:
    """Return the residual norm over ``||lambda x||``, or the backward error. Collective.

    Parameters
    ----------
    norms : tuple of float or None
        Norms of A and B for the backward error, relative to ``(||A|| + |lambda| ||B||) ||x||``.
    """
    residual = float(result.residual_norms[place])
    column = result.eigenvectors[:, place]
    length = np.sqrt(comm.allreduce(float(np.vdot(column, column).real), op=MPI.SUM))
    modulus = float(abs(result.eigenvalues[place]))
    if norms is not None:
        return float(residual / ((norms[0] + modulus * norms[1]) * length))
    return float(residual / (modulus * length)) if modulus else residual


def infinity_norm(M: PETSc.Mat | None) -> float:
    """Return ||M|| in the infinity norm, an estimate for a shell, 1 for None. Collective."""
    if M is None:
        return 1.0
    return matrix_norm(M) if is_shell(M) else float(M.norm(PETSc.NormType.INFINITY))


def real_columns(result: EigenResult) -> NDArray[np.float64]:
    """Return this rank's rows of the converged vectors, conjugate pairs as two real columns."""
    passed = _passed(result)
    values, X = result.eigenvalues[passed], result.eigenvectors[:, passed]
    if not np.iscomplexobj(X):
        return np.array(X)
    return np.where(values.imag < 0, -X.imag, X.real)


def orthonormal_columns(comm: MPI.Comm, X: NDArray[Any]) -> NDArray[Any]:
    """Return an orthonormal basis by Gram-Schmidt, in the order of the columns. Collective."""
    Q = np.array(X)
    for j in range(Q.shape[1]):
        for _sweep in range(2):
            Q[:, j] -= Q[:, :j] @ comm.allreduce(Q[:, :j].T @ Q[:, j])
            Q[:, j] /= np.sqrt(comm.allreduce(float(Q[:, j] @ Q[:, j])))
    return Q


def filled_bv(old: SLEPc.BV, A: PETSc.Mat, columns: NDArray[np.float64]) -> SLEPc.BV:
    """Create a BV of the type of another one that holds the columns. Collective.

    Not every type of BV can be resized.
    """
    vectors = [vector_like(A, column) for column in columns.T]
    bv = SLEPc.BV().create(comm=old.getComm())
    bv.setSizesFromVec(vectors[0], len(vectors))
    bv.setType(old.getType() or SLEPc.BV.Type.SVEC)
    for j, vector in enumerate(vectors):
        bv.insertVec(j, vector)
        vector.destroy()
    return bv
