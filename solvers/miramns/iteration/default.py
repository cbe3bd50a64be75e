"""The default iteration: checkpoints within the cycle between restarts, and thick restarts.

Nested subspaces m_1 < ... < m_l are checkpoints of one factorisation. At each checkpoint the
projected problem is solved, and the iteration ends as soon as the k wanted pairs converge. It
restarts thick, with more than the k wanted directions, and rarely:

1. expand: extend the factorisation to the next checkpoint;
2. project: solve the projected problem for Ritz pairs;
3. check: compare the residual estimates of the wanted pairs with their tolerances;
4. verify: form the vectors, and compute their true residuals;
5. restart: at the largest size, or where a restart is predicted to save time.

Converged pairs are not locked: they take part in restarts, and improve.

The variants with blocks, with partial reorthogonalisation and with one reduction per column differ
in their factorisation alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miramns.factorization.arnoldi import ArnoldiFactorization
from miramns.factorization.block import BlockFactorization
from miramns.factorization.dcgs2 import DCGS2Factorization
from miramns.factorization.lanczos import LanczosFactorization
from miramns.factorization.orthogonalize import NOT_ORTHONORMAL
from miramns.iteration.nominal_seconds import nominal_seconds
from miramns.iteration.saved_iteration import Progress, SavedIteration
from miramns.iteration.stagnation import Stagnation
from miramns.iteration.subspace_size import FixedSizes, MeasuredSizes
from miramns.norms import ROUNDING
from miramns.problem import Problem
from miramns.projected import OrthonormalProjection, RitzPairs, on_root, ritz_pairs, thick_restart
from miramns.residuals import Eigenpairs, check_estimates, eigenpairs
from miramns.result import (
    ConvergedReason,
    ConvergenceHistory,
    EigenResult,
    Monitor,
    eigen_result,
)
from miramns.selection import displaces

#: Columns after a random direction before the wanted pairs may pass: right after a breakdown every
#: estimate is zero, whether or not a larger eigenvalue lies outside.
COLUMNS_AFTER_BREAKDOWN = 20

#: Restarts after which the basis is orthonormalised again.
_REORTHONORMALIZE_EVERY = 50

#: Smallest factor of the tolerance that the estimates may be required to meet.
_LEAST_TRUST = 1e-4


def default_iteration(
    problem: Problem, start: NDArray[np.float64], monitor: Monitor | None = None
) -> EigenResult:
    """Find the wanted pairs. Collective.

    Parameters
    ----------
    start : ndarray of shape (n_local,) or (n_local, b)
        This rank's part of the start vector, or of several for blocks.
    monitor : callable, optional
        Called on every rank with each record.
    """
    with new_factorization(problem, problem.capacity, start) as factorization:
        return _iterate(problem, factorization, ConvergenceHistory(monitor))


def _iterate(
    problem: Problem, factorization: ArnoldiFactorization, history: ConvergenceHistory
) -> EigenResult:
    # columns of the basis:  [ locked | kept by the last restart | new | residual | free ]
    #                        deflated  f.n_kept             f.size              p.capacity
    p, f = problem, factorization
    # sizes are left open for partial reorthogonalisation alone
    sizes: FixedSizes | MeasuredSizes
    if isinstance(f, LanczosFactorization) and not p.sizes:
        repeats = p.checkpoint is not None or p.options.repeatable
        nominal = nominal_seconds(p.operator, p.longest) if repeats else None
        sizes = MeasuredSizes(p.k, p.capacity, p.longest, f, nominal)
    else:
        sizes = FixedSizes(p.k, p.sizes, p.first_cycle)
    # estimates have to meet `trust` times the tolerance; an approximate operator has its own error
    at = Progress(trust=1.0 if p.options.exact is None else 0.9)
    stagnation = Stagnation(f)
    saved = SavedIteration(p, f, history, sizes=sizes, stagnation=stagnation, progress=at)
    while True:
        saved.offer()

        # 1. expand
        f.extend(sizes.next_checkpoint(f.size))
        size, full = f.size, f.size >= p.capacity
        explored = f.is_explored(COLUMNS_AFTER_BREAKDOWN) or size == f.dimension
        if not full and not explored and f.closed_part is None:
            continue

        # 2. project
        began = time.perf_counter()
        ritz = project(p, f, f.projection(size))
        seconds = time.perf_counter() - began

        # 3. check
        count = ritz.whole_pairs(p.k)
        check = check_estimates(p, f, ritz, count, trust=at.trust, condition=at.condition)
        ready = bool(check.passed.all())
        measure = p.tol * check.largest_ratio()
        history.add(check.record(p, f, size, at.n_restarts, measure, chosen=ready))

        # 4. verify
        if ready and (explored or nothing_better_outside(p, f, check.values)):
            pairs = _verify(p, f, ritz)
            at.n_certificate_matvec += pairs.n_matvec
            if pairs.passed:
                reason = pairs.reason
                break
            at.condition = pairs.worst_condition
            if (pairs.residual_norms > check.tolerances[: len(pairs.values)]).any():
                at.trust *= 0.1
            hopeless = at.trust < _LEAST_TRUST or p.options.exact is not None
            if f.size < size and not hopeless:
                continue  # columns that had lost their orthogonality were dropped
            if hopeless or stagnation.contradicts(check.tolerances):
                reason = ConvergedReason.DIVERGED_STAGNATED
                break

        if size == f.dimension or (full and at.n_restarts == p.max_it):
            pairs = eigenpairs(p, f, *_orthonormal(p, f, ritz))
            at.n_certificate_matvec += pairs.n_matvec
            reason = reason_at_end(p, pairs, at.n_restarts)
            break

        # 5. restart
        to_go = float(np.log(max(check.largest_ratio(at.trust), 1.0)))
        keep = sizes.keep(size, to_go, seconds)
        if full and not keep:
            keep = max(p.k, (p.k + size) // 2)
        if keep and at.n_restarts < p.max_it:
            ritz, projection = _orthonormal(p, f, ritz)
            if stagnation.at_restart(measure, check.estimates, check.tolerances):
                pairs = eigenpairs(p, f, ritz, projection)
                at.n_certificate_matvec += pairs.n_matvec
                reason = reason_at_end(p, pairs, at.n_restarts)
                break
            history.choose(projection.size)
            at.n_restarts += 1
            restart_thick(p, f, ritz, projection, min(keep, projection.size - 1), at.n_restarts)
    return eigen_result(
        pairs, reason, f, history, solver=solver_name(p, history), n_restarts=at.n_restarts,
        n_certificate_matvec=at.n_certificate_matvec + stagnation.n_matvec,
        decisions=sizes.decisions() + stagnation.decisions,
    )  # fmt: skip


@contextmanager
def new_factorization(
    problem: Problem, capacity: int, start: NDArray[np.float64]
) -> Iterator[ArnoldiFactorization]:
    """Provide the factorisation for the problem, and destroy it in the end. Collective."""
    p, A = problem, problem.operator
    settings: dict[str, Any] = {"hermitian": p.hermitian, "locked": p.locked}
    factorization: ArnoldiFactorization
    if p.variant == "block":
        factorization = BlockFactorization(A, capacity, start, p.seed, width=p.width, **settings)
    elif p.options.orthogonalization == "partial":
        factorization = LanczosFactorization(A, capacity, start, p.seed, locked=p.locked)
    elif p.options.orthogonalization == "dcgs2":
        factorization = DCGS2Factorization(A, capacity, start, p.seed, **settings)
    else:
        inner = p.options.inner
        factorization = ArnoldiFactorization(A, capacity, start, p.seed, inner=inner, **settings)
    factorization.known_norm = p.norm
    try:
        yield factorization
    finally:
        factorization.destroy()


def project(
    problem: Problem, factorization: ArnoldiFactorization, projection: OrthonormalProjection
) -> RitzPairs:
    """Solve the projected problem on rank 0. Collective."""
    return on_root(
        factorization.comm,
        lambda: ritz_pairs(projection, problem.which, hermitian=problem.hermitian),
    )


def _orthonormal(
    p: Problem, f: ArnoldiFactorization, ritz: RitzPairs
) -> tuple[RitzPairs, OrthonormalProjection]:
    """Return the orthonormal projection and its Ritz pairs, which are `ritz` if nothing changes."""
    projection = f.orthonormal_projection()
    if projection.inverse is None and len(ritz.values) == projection.size:
        return ritz, projection
    return project(p, f, projection), projection


def nothing_better_outside(
    problem: Problem, factorization: ArnoldiFactorization, values: NDArray[Any]
) -> bool:
    """Return whether no eigenvalue outside the space can be wanted more than `values`.

    Collective. This holds if an invariant subspace was generated from a random direction, and none
    of its Ritz values is selected before `values`: it has every eigenvalue of the operator on the
    complement of all preceding columns.
    """
    p, f = problem, factorization
    if f.closed_part is None:
        return False
    part = slice(*f.closed_part)
    inside = project(p, f, OrthonormalProjection(f.hessenberg[part, part], 0.0)).values
    certain = 10 * ROUNDING * f.operator_norm
    return not any(displaces(values, value, p.which, certain) for value in inside)


def _verify(p: Problem, f: ArnoldiFactorization, ritz: RitzPairs) -> Eigenpairs:
    """Form the wanted pairs with their true residuals.

    A partially orthogonalised basis is usually sufficient, because the vectors are orthonormalised
    before their residuals are computed. If they do not pass, the orthonormal projection is used.
    """
    n_matvec = 0
    if p.options.orthogonalization == "partial":
        pairs = eigenpairs(p, f, ritz, f.projection(f.size))
        if pairs.loss <= NOT_ORTHONORMAL and pairs.passed:
            return pairs
        n_matvec = pairs.n_matvec
    pairs = eigenpairs(p, f, *_orthonormal(p, f, ritz))
    return replace(pairs, n_matvec=n_matvec + pairs.n_matvec)


def restart_thick(
    problem: Problem,
    factorization: ArnoldiFactorization,
    ritz: RitzPairs,
    projection: OrthonormalProjection,
    keep: int,
    n_restarts: int,
) -> None:
    """Restart with the leading `keep` Ritz or Schur vectors. Collective.

    Parameters
    ----------
    n_restarts : int
        Number of restarts including this one.
    """
    p, f = problem, factorization
    Q, hessenberg = on_root(
        f.comm, lambda: thick_restart(projection, ritz, keep, p.which, hermitian=p.hermitian)
    )
    f.restart(Q, hessenberg)
    if n_restarts % _REORTHONORMALIZE_EVERY == 0:
        f.reorthonormalize()


def reason_at_end(problem: Problem, pairs: Eigenpairs, n_restarts: int) -> ConvergedReason:
    """Return the reason of an iteration that spans the whole space or has used its restarts."""
    if pairs.passed:
        return pairs.reason
    if n_restarts == problem.max_it:
        return ConvergedReason.DIVERGED_ITS
    return ConvergedReason.DIVERGED_STAGNATED


def solver_name(problem: Problem, history: ConvergenceHistory) -> str:
    """Return the variant with its subspace sizes."""
    sizes = problem.sizes
    if not sizes:
        tested = sorted({record.size for record in history.records})
        text = f"sizes chosen while running, {tested[0]}..{tested[-1]}"
    elif len(sizes) == 1:
        text = f"size {sizes[0]}"
    else:
        text = f"{len(sizes)} nested sizes {sizes[0]}..{sizes[-1]}"
    return f"MIRAMns {problem.variant} ({text})"
