"""Operations on results of eigensolvers: comparison with a reference, signs, parts, sums.

True residuals prove that every pair found is an eigenpair; they cannot prove that none was skipped.
A reference on the same operator can: where its i-th eigenvalue is larger than ours by more than the
uncertainty of both, one of ours is missing. Angles alone prove nothing there, because the vectors
of multiple eigenvalues, zero among them, are not unique.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from miramns import EigenResult

__all__ = [
    "ReferenceComparison",
    "column_signs",
    "compare",
    "joined",
    "part",
    "scaled",
    "subspace_sin_angle",
]

#: Relative difference of eigenvalues that is allowed for any tolerance of the solvers.
_AGREEMENT = 1e-6

#: Entries within this fraction of the largest count as equal when a sign is chosen.
_SIGN_TIE = 1e-8

#: Fields of a result with an entry for each pair, except the vectors.
_PER_PAIR = ("eigenvalues", "residual_norms", "residual_tolerances", "error_bounds")


@dataclass(frozen=True, slots=True)
class ReferenceComparison:
    """Two results for the dominant eigenpairs of one operator.

    Attributes
    ----------
    n_pairs : int
        Pairs that both have; the reference may have found fewer.
    max_relative_error : float
        Relative to each reference eigenvalue; NaN where no pair was compared.
    sin_angle : float
        Sine of the largest angle between both subspaces; NaN if one is empty.
    exceeded : tuple of int
        Positions, from 0, where the reference has a larger eigenvalue with a true residual within
        its tolerance.
    """

    n_pairs: int
    max_relative_error: float
    sin_angle: float
    exceeded: tuple[int, ...]


def compare(
    comm: MPI.Comm, ours: EigenResult, reference: EigenResult, tol: float, which: str = "LA"
) -> ReferenceComparison:
    """Compare eigenvalues and subspaces of two results.

    Collective.

    Parameters
    ----------
    comm : MPI.Comm
        A valid communicator: that of the results may have been freed with their operator.
    tol : float
        Tolerance of both, relative to each eigenvalue.
    which : {"LA", "LM"}
        Selection of both: largest eigenvalues, or largest moduli.
    """
    n = min(len(ours.eigenvalues), len(reference.eigenvalues))
    if n == 0:
        return ReferenceComparison(0, float("nan"), float("nan"), ())
    mine, theirs = ours.eigenvalues[:n], reference.eigenvalues[:n]
    if which == "LM":
        mine, theirs = np.abs(mine), np.abs(theirs)
    largest = float(np.max(np.abs(theirs)))
    floor = float(np.finfo(float).eps) * max(largest, 1e-290)
    scale = np.maximum(np.abs(theirs), floor)
    # Tolerances hold the rounding of the operator, below which zero eigenvalues differ freely.
    uncertainty = (
        max(100 * tol, _AGREEMENT) * scale
        + ours.residual_tolerances[:n]
        + reference.residual_tolerances[:n]
    )
    passes = reference.residual_norms[:n] <= reference.residual_tolerances[:n]
    exceeded = np.flatnonzero(passes & (theirs - mine > uncertainty))
    return ReferenceComparison(
        n,
        float(np.max(np.abs(mine - theirs) / scale)),
        subspace_sin_angle(comm, ours.eigenvectors, reference.eigenvectors),
        tuple(int(i) for i in exceeded),
    )


def subspace_sin_angle(comm: MPI.Comm, X: NDArray[np.float64], Y: NDArray[np.float64]) -> float:
    """Return the sine of the largest angle from the span of `Y` to the span of `X`.

    Collective. Both have orthonormal columns, with rows distributed alike. The part of `Y` outside
    the span of `X` gives small angles accurately (Bjorck and Golub, 1973).
    """
    cross = comm.allreduce(X.T @ Y)
    rest = Y - X @ cross
    rest -= X @ comm.allreduce(X.T @ rest)
    squares = comm.allreduce(rest.T @ rest)
    return float(np.sqrt(max(0.0, float(np.linalg.eigvalsh(squares)[-1]))))


def column_signs(comm: MPI.Comm, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return signs that make the largest entry of each column positive, the first of equal ones.

    Collective. Rows of the columns are distributed in rank order.
    """
    largest = np.array(comm.allgather(np.max(np.abs(columns), axis=0, initial=0.0))).max(axis=0)
    near = np.abs(columns) >= (1 - _SIGN_TIE) * largest
    mine = np.zeros(columns.shape[1])
    if len(columns):
        first = np.argmax(near, axis=0), np.arange(columns.shape[1])
        mine = np.where(near[first], np.sign(columns[first]), 0.0)
    signs = np.array(comm.allgather(mine))
    found = signs[np.argmax(signs != 0, axis=0), np.arange(columns.shape[1])]
    return np.where(found < 0, -1.0, 1.0)


def part(result: EigenResult, kept: slice) -> EigenResult:
    """Return some pairs of a result."""
    fields = {name: getattr(result, name)[kept] for name in _PER_PAIR}
    return replace(result, eigenvectors=result.eigenvectors[:, kept], **fields)


def scaled(result: EigenResult, largest: float) -> EigenResult:
    """Return the result for the operator divided by `largest`."""
    names = (*_PER_PAIR, "operator_norm")
    return replace(result, **{name: getattr(result, name) / largest for name in names})


def joined(first: EigenResult, second: EigenResult, *, same_operator: bool) -> EigenResult:
    """Return the pairs of both results, in this order, as one result.

    Parameters
    ----------
    same_operator : bool
        Whether both are of one operator; of two operators, only the vectors of the second are kept.
    """
    fields: dict[str, Any] = {
        name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in _PER_PAIR
    }
    for name in ("n_matvec", "n_certificate_matvec", "n_reductions", "n_restarts", "seconds"):
        fields[name] = getattr(first, name) + getattr(second, name)
    if same_operator:
        vectors = np.hstack([first.eigenvectors, second.eigenvectors])
        fields["eigenvectors"] = np.asfortranarray(vectors)
    reasons = first.reason, second.reason
    return replace(
        second,
        orthogonality=max(first.orthogonality, second.orthogonality),
        reason=max(reasons) if min(reasons) > 0 else next(one for one in reasons if one < 0),
        solver=f"{first.solver}; {second.solver}",
        **fields,
    )
