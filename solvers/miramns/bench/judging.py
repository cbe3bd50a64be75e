"""Whether an answer is right: measured here, whatever the method says of itself.

An answer is right when it has k pairs, all numbers are finite, true residuals are within the
tolerance, the vectors are orthonormal (Hermitian) or of unit length, and no wanted eigenvalue is
missed. Anything else is marked, with the reason, and has no time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from miramns.bench.answer import Answer
from miramns.bench.reference import SLACK, Reference
from miramns.certificate import orthogonality, true_residuals
from miramns.convergence import residual_bounds

__all__ = ["Measured", "measure", "verdict"]

#: Largest inner product of two vectors of a right answer. Residuals of 1e-8 do not ask for more.
_ORTHOGONALITY = 1e-6


@dataclass(frozen=True)
class Measured:
    """What is true of an answer.

    Attributes
    ----------
    found : int
        Pairs handed over.
    worst_residual : float
        Largest ``||A x - theta x|| / |theta|``, x of unit length.
    excess : float
        Largest residual over what it may be; at most 1 passes.
    orthogonality : float
        Largest entry of ``|X'X - I|``; for nonsymmetric operators of its diagonal.
    """

    found: int
    worst_residual: float
    excess: float
    orthogonality: float

    @property
    def certified(self) -> bool:
        """Whether each pair by itself is right."""
        return self.excess <= 1.0 and self.orthogonality <= _ORTHOGONALITY


def measure(A: PETSc.Mat, answer: Answer, hermitian: bool, tol: float) -> Measured:
    """Compute residuals and orthogonality of an answer. Collective on ``A.comm``.

    Parameters
    ----------
    tol : float
        What was asked for, whatever the method was given.
    """
    comm: MPI.Comm = A.getComm().tompi4py()
    values, X = answer.values, answer.vectors
    found = len(values)
    finite = bool(np.isfinite(values).all() and np.isfinite(X).all())
    if found == 0 or not comm.allreduce(finite, op=MPI.LAND):
        return Measured(found, np.inf, np.inf, np.inf)
    residuals = true_residuals(A, values, X)
    moduli = np.abs(values)
    largest = float(moduli.max())
    bounds = np.maximum(residual_bounds(values, tol, largest), np.finfo(np.float64).tiny)
    if hermitian:
        deviation = orthogonality(comm, X)
    else:
        squares = np.sum(np.abs(X) ** 2, axis=0)
        comm.Allreduce(MPI.IN_PLACE, squares)
        deviation = float(np.max(np.abs(squares - 1.0)))
    relative = residuals / np.maximum(moduli, np.finfo(np.float64).tiny)
    excess = float(np.max(residuals / bounds)) / SLACK
    return Measured(found, float(relative.max()), excess, deviation)


def verdict(
    answer: Answer, measured: Measured, reference: Reference | None, k: int
) -> tuple[str, str, int | None]:
    """Judge an answer. Not collective.

    Returns
    -------
    status : {"ok", "wrong", "incomplete"}
    why : str
        Nothing where all is well.
    missed : int or None
        Wanted eigenvalues that are not there; None without a reference.
    """
    missed = reference.missed(answer.values) if reference else None
    if not np.isfinite(measured.excess) and measured.found:
        return "wrong", "not finite", missed
    if measured.found < k:
        return "incomplete", f"{measured.found} of {k} pairs", missed
    if measured.excess > 1.0:
        status = "wrong" if answer.claimed else "incomplete"
        return status, f"residual {measured.worst_residual:.1e}", missed
    if measured.orthogonality > _ORTHOGONALITY:
        return "wrong", f"orthogonality {measured.orthogonality:.1e}", missed
    if missed:
        return "wrong", f"missed {missed} of {k}", missed
    if missed is None:
        return "wrong", "no reference to compare with", missed
    return "ok", "", missed
