"""How far a second solver's answer lies from the first one's.

True residuals prove that every pair found is an eigenpair; they cannot prove that none was passed
over. A reference on the same operator can: where its i-th eigenvalue is larger than ours by more
than both answers are uncertain, one of ours is missing. Angles alone tell nothing there, because
vectors of multiple eigenvalues, zero among them, are anybody's choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from miramns import EigenResult

__all__ = ["Comparison", "compare", "subspace_sin_angle"]

#: Share of an eigenvalue that solvers may disagree by, whatever their tolerance.
_AGREEMENT = 1e-6


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers for the dominant eigenpairs of one operator.

    Attributes
    ----------
    n_pairs : int
        Pairs that both have; the reference may have found fewer.
    max_relative_error : float
        Relative to each reference eigenvalue, NaN where no pair was compared.
    sin_angle : float
        Sine of the largest angle between both subspaces, NaN where one is empty.
    exceeded : tuple of int
        Positions, from 0, where the reference has a certified eigenvalue of larger modulus.
    """

    n_pairs: int
    max_relative_error: float
    sin_angle: float
    exceeded: tuple[int, ...]


def compare(comm: MPI.Comm, ours: EigenResult, reference: EigenResult, tol: float) -> Comparison:
    """Compare eigenvalues and subspaces. Collective.

    Parameters
    ----------
    comm : MPI.Comm
        A live one: the results' own may have ended with their operator.
    tol : float
        Tolerance of both, relative to each eigenvalue.
    """
    n = min(len(ours.eigenvalues), len(reference.eigenvalues))
    if n == 0:
        return Comparison(0, float("nan"), float("nan"), ())
    # operators that are not positive are asked for the largest moduli
    mine, theirs = np.abs(ours.eigenvalues[:n]), np.abs(reference.eigenvalues[:n])
    largest = float(np.max(theirs))
    floor = float(np.finfo(float).eps) * max(largest, 1e-290)
    scale = np.maximum(theirs, floor)
    # Bounds hold the rounding of the operator, below which zero eigenvalues differ freely.
    doubt = (
        max(100 * tol, _AGREEMENT) * scale
        + ours.residual_tolerances[:n]
        + reference.residual_tolerances[:n]
    )
    certified = reference.residual_norms[:n] <= reference.residual_tolerances[:n]
    exceeded = np.flatnonzero(certified & (theirs - mine > doubt))
    return Comparison(
        n,
        float(np.max(np.abs(mine - theirs) / scale)),
        subspace_sin_angle(comm, ours.eigenvectors, reference.eigenvectors),
        tuple(int(i) for i in exceeded),
    )


def subspace_sin_angle(comm: MPI.Comm, X: NDArray[np.float64], Y: NDArray[np.float64]) -> float:
    """Sine of the largest angle from the span of `Y` to the span of `X`.

    Collective. Both have orthonormal columns, rows distributed alike; computed from what is left
    of `Y` outside the span of `X`, which is accurate for small angles (Bjorck and Golub, 1973).
    """
    cross = comm.allreduce(X.T @ Y)
    rest = Y - X @ cross
    rest -= X @ comm.allreduce(X.T @ rest)
    squares = comm.allreduce(rest.T @ rest)
    return float(np.sqrt(max(0.0, float(np.linalg.eigvalsh(squares)[-1]))))
