"""True residuals of eigenpairs.

The estimates of the projected problem decide when the vectors are formed; the true residuals, from
products with these vectors, decide convergence (:mod:`miramns.tolerances`). The iterations
(:mod:`miramns.iteration.default`, steps 3 and 4) call :func:`check_estimates` and
:func:`eigenpairs` here, and end as soon as all pairs pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.errors import OperatorError
from miramns.factorization.orthogonalize import orthogonality, orthonormalize
from miramns.products import apply_columns, apply_to_pairs
from miramns.projected import (
    OrthonormalProjection,
    RitzPairs,
    on_root,
    refined_pairs,
    ritz_pairs,
)
from miramns.result import ConvergedReason, IterationRecord
from miramns.selection import Order, ties_at, wanted_order
from miramns.tolerances import accepted_tolerances, converged_reason

if TYPE_CHECKING:
    from miramns.factorization.arnoldi import ArnoldiFactorization
    from miramns.problem import Problem


_NOT_FINITE = (
    "a product made for a true residual has entries that are not finite: check the data for NaN or "
    "Inf"
)

#: Entries within this fraction of the largest count as equal when a sign is chosen, so that
#: rounding does not choose another one on another number of ranks.
_SIGN_TIE = 1e-8

#: Loss of orthogonality from which a Rayleigh-Ritz step follows the orthonormalisation.
_PROJECT_AGAIN = 1e-14


@dataclass(frozen=True, slots=True)
class Eigenpairs:
    """Eigenpairs with their true residuals.

    Attributes
    ----------
    values : ndarray of shape (k,)
    vectors : ndarray of shape (n_local, k)
    residual_norms, tolerances : ndarray of shape (k,)
        True residual norms, and the largest ones with which the pairs pass.
    requested : ndarray of shape (k,)
        The tolerances without allowance for rounding.
    orthogonality : float
        As in :class:`~miramns.EigenResult`.
    tie_at_cut : bool
        As in :class:`~miramns.EigenResult`.
    n_matvec : int
        Number of products made for the residuals.
    loss : float
        Largest entry of ``|X'X - I|`` before the vectors were orthonormalised.
    condition_numbers : ndarray of shape (k,) or None
        As in :class:`~miramns.EigenResult`.
    """

    values: NDArray[Any]
    vectors: NDArray[Any]
    residual_norms: NDArray[np.float64]
    tolerances: NDArray[np.float64]
    requested: NDArray[np.float64]
    orthogonality: float
    tie_at_cut: bool
    n_matvec: int
    loss: float = 0.0
    condition_numbers: NDArray[np.float64] | None = None

    @property
    def passed(self) -> bool:
        """Whether all residuals pass."""
        return self.reason > 0

    @property
    def worst_condition(self) -> float:
        """Largest condition number of an eigenvalue whose residual does not pass; at least 1."""
        if self.condition_numbers is None:
            return 1.0
        unconverged = self.condition_numbers[self.residual_norms > self.tolerances]
        return float(np.max(unconverged, initial=1.0))

    @property
    def reason(self) -> ConvergedReason:
        """The reason of an iteration that ends with these pairs."""
        return converged_reason(self.residual_norms, self.tolerances, self.requested)


@dataclass(frozen=True, slots=True)
class EstimateCheck:
    """Residual estimates of wanted Ritz pairs, compared with their tolerances.

    Attributes
    ----------
    values, estimates, tolerances : ndarray of shape (k,)
    passed : ndarray of shape (k,), of bool
    """

    values: NDArray[Any]
    estimates: NDArray[np.float64]
    tolerances: NDArray[np.float64]
    passed: NDArray[np.bool_]

    def largest_ratio(self, factor: float = 1.0) -> float:
        """Return the largest ratio of an estimate to `factor` times its tolerance."""
        limits = factor * self.tolerances
        positive = limits > 0
        return float(np.max(self.estimates[positive] / limits[positive], initial=0.0))

    def record(
        self,
        problem: Problem,
        factorization: ArnoldiFactorization,
        size: int,
        n_restarts: int,
        measure: float,
        *,
        chosen: bool = False,
    ) -> IterationRecord:
        """Return the record of this check for the convergence history."""
        units = self.tolerances / problem.tol
        relative = self.estimates / np.where(units > 0, units, 1.0)
        return IterationRecord(
            n_restarts, size, factorization.n_matvec, measure, int(self.passed.sum()), chosen,
            tuple(complex(value) for value in self.values),
            tuple(float(estimate) for estimate in relative),
        )  # fmt: skip


def check_estimates(
    problem: Problem,
    factorization: ArnoldiFactorization,
    ritz: RitzPairs,
    k: int,
    *,
    trust: float = 1.0,
    scale: float = 0.0,
    condition: float = 1.0,
) -> EstimateCheck:
    """Compare the estimates of the first k Ritz pairs with `trust` times their tolerances.

    Parameters
    ----------
    condition : float
        Condition number by which the allowance for rounding is divided.
    """
    p, values, estimates = problem, ritz.values[:k], ritz.estimates[:k]
    norm = factorization.operator_norm
    tolerances = p.tolerances(values, norm, scale)
    if condition > 1.0:
        requested = p.tolerances(values, norm, scale, rounding=False)
        tolerances = np.maximum(requested, tolerances / condition)
    return EstimateCheck(values, estimates, tolerances, estimates <= trust * tolerances)


def eigenpairs(
    problem: Problem,
    factorization: ArnoldiFactorization,
    ritz: RitzPairs,
    projection: OrthonormalProjection,
    scale: float = 0.0,
) -> Eigenpairs:
    """Form the wanted eigenpairs from Ritz pairs, and compute their true residuals.

    Collective: one product per pair and some reductions.

    Parameters
    ----------
    ritz : RitzPairs
        Of `projection`.
    scale : float
        As for :func:`~miramns.tolerances.residual_tolerances`.
    """
    p, f = problem, factorization
    count = min(ritz.whole_pairs(p.k), projection.size)
    values, Y = ritz.values[:count], ritz.vectors[:, :count]
    tie_at_cut = _ties_at(p, f, ritz, count, scale)
    basis = f.basis[:, : projection.size]
    conditions = None
    if not p.hermitian:
        refine = partial(refined_pairs, projection.hessenberg, values, Y)
        values, Y, conditions = on_root(f.comm, refine)
    vectors = np.asfortranarray(basis @ projection.coordinates(Y))
    loss = 0.0
    if p.hermitian and p.options.inner is None:
        loss = orthonormalize(f.comm, vectors)
        exact = p.options.exact
        products = apply_columns(f.operator if exact is None else exact, vectors)
        if loss > _PROJECT_AGAIN or exact is not None:
            values, vectors, products = rayleigh_ritz(f.comm, vectors, products, p.which)
        residuals = residual_norms(f.comm, values, vectors, products)
    else:
        residuals = true_residuals(f.operator, values, vectors)
    tolerances = p.tolerances(values, f.operator_norm, scale)
    requested = p.tolerances(values, f.operator_norm, scale, rounding=False)
    tolerances = accepted_tolerances(residuals, tolerances, requested, conditions)
    # values that differ by less than their residuals tie
    order = wanted_order(values, p.which, np.minimum(residuals, tolerances))
    if (order != np.arange(len(order))).any():
        values, vectors = values[order], np.asfortranarray(vectors[:, order])
        residuals, tolerances, requested = residuals[order], tolerances[order], requested[order]
        conditions = None if conditions is None else conditions[order]
    measured = orthogonality(
        f.comm, vectors if p.hermitian else basis, p.options.inner if p.hermitian else None
    )
    return Eigenpairs(
        values, vectors, residuals, tolerances, requested, measured, tie_at_cut, count, loss,
        conditions,
    )  # fmt: skip


def _ties_at(
    p: Problem, f: ArnoldiFactorization, ritz: RitzPairs, count: int, scale: float
) -> bool:
    """Return whether the cut after `count` pairs separates values that their errors tie."""
    error = float(ritz.estimates[max(count - 1, 0) : count + 1].sum())
    tolerances = p.tolerances(ritz.values[:count], f.operator_norm, scale)
    error = min(error, float(np.max(tolerances, initial=0.0)))
    return ties_at(ritz.values, p.which, count, error)


def true_residuals(A: PETSc.Mat, values: NDArray[Any], X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the residual norms ``||A x - theta x||`` from new products.

    Collective: one product per real vector (two per conjugate pair), some reductions.

    Parameters
    ----------
    values : ndarray of shape (k,)
        Ritz values; in a conjugate pair, the positive imaginary part comes first.
    X : ndarray of shape (n_local, k)
        Their vectors.
    """
    comm: MPI.Comm = A.getComm().tompi4py()
    return residual_norms(comm, values, X, apply_to_pairs(A, values, X))


def residual_norms(
    comm: MPI.Comm, values: NDArray[Any], X: NDArray[Any], AX: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the norms of the columns of ``AX - X diag(values)``.

    Collective: three small reductions.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        R = AX - X * values
    # a maximum over ranks may lose a NaN
    if not comm.allreduce(bool(np.isfinite(R).all()), op=MPI.LAND):
        raise OperatorError(_NOT_FINITE)
    largest = np.max(np.abs(R), axis=0, initial=0.0)
    comm.Allreduce(MPI.IN_PLACE, largest, op=MPI.MAX)
    # scaled, so that no square overflows or vanishes
    scale = np.where(largest > 0, largest, 1.0)
    squares = np.sum(np.abs(R / scale) ** 2, axis=0)
    comm.Allreduce(MPI.IN_PLACE, squares)
    return np.asarray(scale * np.sqrt(squares))


def rayleigh_ritz(
    comm: MPI.Comm, X: NDArray[np.float64], AX: NDArray[np.float64], which: Order
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the Ritz pairs of a Hermitian operator in the span of orthonormal columns.

    Collective: one reduction.

    Parameters
    ----------
    X, AX : ndarray of shape (n_local, m)
        The columns, and their products with the operator.

    Returns
    -------
    values : ndarray of shape (m,)
        Wanted ones first.
    vectors, products : ndarray of shape (n_local, m)
        Column-major.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        projected = np.ascontiguousarray(X.T @ AX)
    comm.Allreduce(MPI.IN_PLACE, projected)
    if not np.isfinite(projected).all():
        raise OperatorError(_NOT_FINITE)
    ritz = on_root(
        comm, lambda: ritz_pairs(OrthonormalProjection(projected, 0.0), which, hermitian=True)
    )
    Y = ritz.vectors
    return ritz.values, np.asfortranarray(X @ Y), np.asfortranarray(AX @ Y)


def fix_signs(comm: MPI.Comm, first_row: int, X: NDArray[Any]) -> None:
    """Multiply each column so that its largest entry is real and positive, in place.

    Collective: three small reductions. Among entries whose moduli agree to 8 digits, the smallest
    global index decides.
    """
    k = X.shape[1]
    moduli = np.abs(X)
    largest = np.max(moduli, axis=0, initial=0.0)
    comm.Allreduce(MPI.IN_PLACE, largest, op=MPI.MAX)
    nowhere = np.iinfo(np.int64).max
    index = np.full(k, nowhere, dtype=np.int64)
    if X.shape[0]:
        candidate = moduli >= (1 - _SIGN_TIE) * largest
        local = np.argmax(candidate, axis=0)
        index = np.where(candidate.any(axis=0), local + first_row, nowhere)
    chosen = np.empty_like(index)
    comm.Allreduce(index, chosen, op=MPI.MIN)
    phase = np.zeros(k, dtype=X.dtype)
    mine = (index == chosen) & (chosen < nowhere)
    for j in np.flatnonzero(mine):
        entry = X[chosen[j] - first_row, j]
        phase[j] = np.conj(entry) / abs(entry) if entry != 0 else 1
    comm.Allreduce(MPI.IN_PLACE, phase)
    X *= phase
