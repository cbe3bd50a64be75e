"""Eigenpairs of ``A x = lambda B x`` from an operator whose values are functions of lambda.

Shift-and-invert ``(A - sigma B)^-1 B`` maps the values next to sigma to the largest ones, which a
Krylov method finds first; ``B^-1 A`` makes a standard problem of a generalised one; Cayley's
``(A - sigma B)^-1 (A + nu B)`` does both. :func:`miramns.solve` finds the pairs of the operator.
Then

1. the vectors are *purified*: one more application removes their component in the null space of B,
   and makes the residual of the given problem as small, relative to ``|lambda - sigma|``, as that
   of the operator relative to its own value;
2. the values are computed from A and B: Rayleigh-Ritz on the vectors for Hermitian problems, else
   the value with the least residual for each vector;
3. the true residuals ``||A x - lambda B x||`` are computed. If they do not pass, the pairs of the
   operator are computed again with a tolerance that is smaller by the same factor, and with
   iterative refinement of its solutions.

For a symmetric A and positive B the operator is self-adjoint in the inner product x'By, which the
method then uses. B is scaled there, so that vectors of unit B-norm have entries of usual size.

Reference: Nour-Omid, Parlett, Ericsson, Jensen, "How to implement the spectral transformation",
Math. Comp. 48 (1987).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from slepc4py import SLEPc

from miramns.checkpointing import CheckpointStore
from miramns.errors import MiramnsError
from miramns.norms import ROUNDING, matrix_norm, mean_eigenvalue
from miramns.problem import Options
from miramns.products import apply_to_pairs, guarded, shell_like
from miramns.projected import on_root
from miramns.residuals import fix_signs, residual_norms
from miramns.result import ConvergedReason, EigenResult, IterationRecord
from miramns.selection import Order, wanted_order
from miramns.solve import solve
from miramns.tolerances import Criterion, accepted_tolerances, converged_reason
from miramns.transform.spectral import (
    Transformation,
    create_st,
    inverse_of,
    operator_of,
    refined_operator,
    release,
    set_up,
)

#: Number of times that the pairs of the operator are computed, each time with a smaller tolerance.
_ATTEMPTS = 3

#: Largest tolerance for the pairs of the operator at first, and smallest later.
_LOOSEST, _TIGHTEST = 1e-3, 1e-15


@dataclass(frozen=True, slots=True)
class Pencil:
    """The problem ``A x = lambda B x``, and the operator that finds its pairs.

    Attributes
    ----------
    B : PETSc.Mat or None
        None for the identity; symmetric and positive (semi-definite) if `hermitian`.
    operator : PETSc.Mat
        Square, assembled or shell, distributed as A.
    inverse : PETSc.Mat or None
        (A - sigma B)^-1, for iterative refinement if its solutions are inexact.
    """

    A: PETSc.Mat
    B: PETSc.Mat | None
    hermitian: bool
    operator: PETSc.Mat
    transformation: Transformation
    inverse: PETSc.Mat | None = None

    def refined(self) -> Pencil:
        """Return the same problem; its operator uses iterative refinement. Collective."""
        assert self.inverse is not None
        operator = refined_operator(self.A, self.B, self.inverse, self.transformation)
        return replace(self, operator=operator)


def solve_generalized(
    A: PETSc.Mat, B: PETSc.Mat, k: int, *, hermitian: bool | None = None, **settings: Any
) -> EigenResult:
    """Find k pairs of ``A x = lambda B x`` from the operator ``B^-1 A``.

    Collective on ``A.comm``. Arguments as for :func:`miramns.solve`.

    Raises
    ------
    MiramnsError
        If the arguments do not fit together.
    """
    if A.getSizes() != B.getSizes():
        raise MiramnsError(f"B must be distributed as A: {B.getSizes()}, {A.getSizes()}")
    if hermitian is None:
        hermitian = all(all(matrix.isHermitianKnown()) for matrix in (A, B))
    with guarded(A) as safe_A, guarded(B) as safe_B:
        st = create_st(safe_A, safe_B, "shift")
        try:
            with pencil_of_st(st, set_up(st), safe_A, safe_B, hermitian) as pencil:
                return solve_pencil(pencil, k, **settings)
        finally:
            st.destroy()


@contextmanager
def pencil_of_st(
    st: SLEPc.ST,
    transformation: Transformation,
    A: PETSc.Mat,
    B: PETSc.Mat | None,
    hermitian: bool,
) -> Iterator[Pencil]:
    """Provide the problem whose operator applies an ST that is set up. Collective.

    A factorisation that :func:`~miramns.transform.spectral.set_up` chose is released in the end.
    """
    shells = [operator_of(st, A)]
    if transformation.kind != "shift":
        shells.append(inverse_of(st, A))
    try:
        yield Pencil(A, B, hermitian, shells[0], transformation, *shells[1:])
    finally:
        for shell in shells:
            shell.destroy()
        release(st)


def solve_pencil(
    pencil: Pencil,
    k: int,
    *,
    which: Order = "LM",
    tol: float = 1e-8,
    options: Options | None = None,
    checkpoint: CheckpointStore | None = None,
    **settings: Any,
) -> EigenResult:
    """Find k pairs of ``A x = lambda B x``.

    Collective on ``pencil.A.comm``.

    Parameters
    ----------
    which : str or callable
        As for :func:`miramns.solve`, of the values of the *operator*.
    tol, options, checkpoint, **settings
        As for :func:`miramns.solve`; ``options.criterion`` refers to the given problem.

    Returns
    -------
    EigenResult
        Of the given problem: residuals are ``||A x - lambda B x||``, vectors of Hermitian problems
        are orthonormal in the inner product of B, others have unit columns. ``n_matvec`` counts
        applications of the operator. Error bounds are the residuals; for B other than the identity
        they bound the backward error only.
    """
    began = time.perf_counter()
    A, B = pencil.A, pencil.B
    comm = A.getComm().tompi4py()
    options = options or Options()
    if options.inner is not None:
        raise MiramnsError("B gives the inner product of a Hermitian problem: leave inner at None")
    inner = None
    if pencil.hermitian and B is not None:
        inner = _scaled(B, 1.0 / mean_eigenvalue(B))
    standard = replace(options, inner=inner, criterion="relative")
    norms = matrix_norm(A), 1.0 if B is None else matrix_norm(B)
    tight, n_matvec, n_certificate_matvec = min(tol, _LOOSEST), 0, 0
    history: tuple[IterationRecord, ...] = ()
    refined: Pencil | None = None
    try:
        for attempt in range(_ATTEMPTS):
            found = solve(
                pencil.operator, k, which=which, hermitian=pencil.hermitian, tol=tight,
                options=standard,
                checkpoint=None if checkpoint is None else checkpoint.within(f"attempt-{attempt}"),
                **settings,
            )  # fmt: skip
            answer = _refined(pencil, found, which)
            tolerances, requested = _tolerances(answer, tol, options.criterion, norms)
            n_matvec += found.n_matvec
            n_certificate_matvec += found.n_certificate_matvec + answer.n_products
            history += found.history
            shortfall = np.min(tolerances / np.maximum(answer.residuals, np.finfo(float).tiny))
            can_refine = refined is None and pencil.inverse is not None
            exhausted = attempt == _ATTEMPTS - 1 or (tight <= _TIGHTEST and not can_refine)
            if shortfall >= 1 or exhausted or found.reason == ConvergedReason.DIVERGED_ITS:
                break
            tight = float(max(0.3 * shortfall * tight, min(tight, _TIGHTEST)))
            if can_refine:
                refined = pencil = pencil.refined()
    finally:
        if inner is not None:
            inner.destroy()
        if refined is not None:
            refined.operator.destroy()
    fix_signs(comm, found.ownership_range[0], answer.X)
    reason = converged_reason(answer.residuals, tolerances, requested)
    if reason < 0 and found.reason < 0:
        reason = found.reason
    return replace(
        found,
        eigenvalues=answer.values,
        eigenvectors=answer.X,
        residual_norms=answer.residuals,
        residual_tolerances=tolerances,
        error_bounds=answer.residuals.copy(),
        orthogonality=found.orthogonality if answer.orthogonality is None else answer.orthogonality,
        reason=reason,
        operator_norm=norms[0],
        condition_numbers=answer.condition_numbers,
        n_matvec=n_matvec,
        n_certificate_matvec=n_certificate_matvec,
        history=history,
        seconds=float(comm.allreduce(time.perf_counter() - began, op=MPI.MAX)),
        solver=f"{found.solver}, {pencil.transformation}",
    )


def _scaled(B: PETSc.Mat, factor: float) -> PETSc.Mat:
    def apply(x: PETSc.Vec, y: PETSc.Vec) -> None:
        B.mult(x, y)
        y.scale(factor)

    return shell_like(B, apply)


@dataclass(slots=True)
class _Answer:
    """Pairs of the problem, with the products that give their residuals."""

    values: NDArray[Any]
    X: NDArray[Any]
    BX: NDArray[Any]
    residuals: NDArray[np.float64]
    lengths: NDArray[np.float64]
    metric_lengths: NDArray[np.float64]
    n_products: int
    orthogonality: float | None
    condition_numbers: NDArray[np.float64] | None


def _refined(pencil: Pencil, found: EigenResult, which: Order) -> _Answer:
    """Return pairs of the problem from pairs of the operator. Collective."""
    A, B, transformation = pencil.A, pencil.B, pencil.transformation
    comm = A.getComm().tompi4py()
    values, X = _positive_first(transformation.back(found.eigenvalues), found.eigenvectors)
    n_products = 2 * X.shape[1]
    if transformation.kind != "shift":
        # the operator is real: the products of a swapped conjugate pair are swapped as well
        X = transformation.purified(values, X, apply_to_pairs(pencil.operator, values, X))
        n_products += X.shape[1]
        X = np.asfortranarray(X / _lengths(comm, X))
    AX = apply_to_pairs(A, values, X)
    BX = X if B is None else apply_to_pairs(B, values, X)
    orthogonality = None
    if pencil.hermitian:
        values, Y, orthogonality = _rayleigh_ritz(comm, X, AX, BX)
        X, AX, BX = X @ Y, AX @ Y, BX @ Y
    else:
        values = _least_residual_values(comm, values, AX, BX)
    order = wanted_order(transformation.forward(values), which)
    values, order = _positive_first(values[order], order)
    X, AX, BX = (np.asfortranarray(block[:, order]) for block in (X, AX, BX))
    residuals = residual_norms(comm, np.ones(len(values)), BX * values, AX)
    conditions = found.condition_numbers
    return _Answer(
        values, X, BX, residuals, _lengths(comm, X), _lengths(comm, BX), n_products, orthogonality,
        # the members of a conjugate pair, which may be swapped, have the same
        None if conditions is None else conditions[order],
    )  # fmt: skip


def _positive_first(
    values: NDArray[Any], columns: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Put the positive imaginary part of each conjugate pair first, in values and columns."""
    if not np.iscomplexobj(values):
        return values, columns
    order = np.arange(len(values))
    j = 0
    while j < len(values):
        if values[j].imag < 0:
            order[[j, j + 1]] = order[[j + 1, j]]
        j += 1 if values[j].imag == 0 else 2
    return values[order], columns[..., order]


def _rayleigh_ritz(
    comm: MPI.Comm, X: NDArray[np.float64], AX: NDArray[np.float64], BX: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return values and coefficients of the vectors in X, and their loss of B-orthogonality."""
    k = X.shape[1]
    projected = np.hstack([X.T @ AX, X.T @ BX])
    comm.Allreduce(MPI.IN_PLACE, projected)
    projected = (projected + np.hstack([projected[:, :k].T, projected[:, k:].T])) / 2
    gram = projected[:, k:]
    try:
        values, Y = on_root(comm, lambda: scipy.linalg.eigh(projected[:, :k], gram))
    except np.linalg.LinAlgError as error:
        raise MiramnsError(
            "B is not positive on the vectors found: use a non-Hermitian problem (GNHEP)"
        ) from error
    return values, Y, float(np.max(np.abs(Y.T @ gram @ Y - np.eye(k))))


def _least_residual_values(
    comm: MPI.Comm, values: NDArray[Any], AX: NDArray[Any], BX: NDArray[Any]
) -> NDArray[Any]:
    """Return the value of least residual for each vector; conjugate for conjugate vectors."""
    sums = np.vstack([np.sum(BX.conj() * AX, axis=0), np.sum(np.abs(BX) ** 2, axis=0)])
    comm.Allreduce(MPI.IN_PLACE, sums)
    least = np.where(sums[1] != 0, sums[0] / np.where(sums[1] != 0, sums[1], 1), values)
    for j in np.flatnonzero(values.imag > 0):
        # a pair whose imaginary part vanishes by rounding keeps its values
        least[j : j + 2] = [least[j], np.conj(least[j])] if least[j].imag > 0 else values[j : j + 2]
    least[values.imag == 0] = least[values.imag == 0].real
    return np.asarray(least)


def _tolerances(
    answer: _Answer, tol: float, criterion: Criterion, norms: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest residual norm with which each pair passes, with and without rounding."""
    moduli = np.abs(answer.values)
    sizes = (norms[0] + moduli * norms[1]) * answer.lengths
    relative_to = {
        "relative": moduli * answer.metric_lengths,
        "absolute": answer.lengths,
        "norm": sizes,
    }[criterion]
    requested = np.asarray(tol * relative_to)
    tolerances = np.maximum(requested, ROUNDING * sizes)
    conditions = answer.condition_numbers
    return accepted_tolerances(answer.residuals, tolerances, requested, conditions), requested


def _lengths(comm: MPI.Comm, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the norms of the columns. Collective."""
    return residual_norms(comm, np.zeros(X.shape[1]), X, X)
