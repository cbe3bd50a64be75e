"""Verdict on an answer from its own measurements, independent of the method's report.

An answer is right if it has k pairs, all numbers are finite, the true residuals are within the
tolerance, the vectors are orthonormal (Hermitian) or of unit length (nonsymmetric), and no wanted
eigenvalue is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from miramns.bench.answer import Answer
from miramns.bench.reference import SLACK
from miramns.factorization.orthogonalize import orthogonality
from miramns.residuals import true_residuals
from miramns.tolerances import residual_tolerances

#: Largest inner product of two vectors of a right answer, enough for residuals of 1e-8.
_ORTHOGONALITY = 1e-6


@dataclass(frozen=True)
class Measures:
    """Measures of an answer.

    Attributes
    ----------
    found : int
        Number of pairs.
    worst_residual : float
        Largest ``||A x - theta x|| / |theta|`` with x of unit length.
    excess : float
        Largest ratio of a residual to its tolerance, slack included; at most 1 passes.
    orthogonality : float
        Largest entry of ``|X'X - I|``; of its diagonal for nonsymmetric operators.
    """

    found: int
    worst_residual: float
    excess: float
    orthogonality: float

    @property
    def passes(self) -> bool:
        """Whether all residuals and the orthogonality pass."""
        return self.excess <= 1.0 and self.orthogonality <= _ORTHOGONALITY


def measure(A: PETSc.Mat, answer: Answer, hermitian: bool, tol: float) -> Measures:
    """Compute residuals and orthogonality of an answer.

    Collective on ``A.comm``.

    Parameters
    ----------
    tol : float
        Tolerance of the benchmark; the method may have had a smaller one.
    """
    comm: MPI.Comm = A.getComm().tompi4py()
    values, X = answer.values, answer.vectors
    found = len(values)
    finite = bool(np.isfinite(values).all() and np.isfinite(X).all())
    if found == 0 or not comm.allreduce(finite, op=MPI.LAND):
        return Measures(found, np.inf, np.inf, np.inf)
    residuals = true_residuals(A, values, X)
    moduli = np.abs(values)
    largest = float(moduli.max())
    bounds = residual_tolerances(values, tol, largest, rounding=hermitian)
    bounds = np.maximum(bounds, np.finfo(np.float64).tiny)
    if hermitian:
        deviation = orthogonality(comm, X)
    else:
        squares = np.sum(np.abs(X) ** 2, axis=0)
        comm.Allreduce(MPI.IN_PLACE, squares)
        deviation = float(np.max(np.abs(squares - 1.0)))
    relative = residuals / np.maximum(moduli, np.finfo(np.float64).tiny)
    excess = float(np.max(residuals / bounds)) / SLACK
    return Measures(found, float(relative.max()), excess, deviation)


def verdict(answer: Answer, measures: Measures, n_missing: int | None, k: int) -> tuple[str, str]:
    """Decide whether an answer is right.

    Parameters
    ----------
    n_missing : int or None
        Number of wanted eigenvalues that are missing; None without a reference.

    Returns
    -------
    status : {"ok", "wrong", "incomplete"}
    why : str
        Reason; empty for a right answer.
    """
    if not np.isfinite(measures.excess) and measures.found:
        return "wrong", "not finite"
    if measures.found < k:
        return "incomplete", f"{measures.found} of {k} pairs"
    if measures.excess > 1.0:
        status = "wrong" if answer.claimed else "incomplete"
        return status, f"residual {measures.worst_residual:.1e}"
    if measures.orthogonality > _ORTHOGONALITY:
        return "wrong", f"orthogonality {measures.orthogonality:.1e}"
    if n_missing is None:
        return "wrong", "no reference to compare with"
    if n_missing:
        return "wrong", f"missing {n_missing} of {k}"
    return "ok", ""
