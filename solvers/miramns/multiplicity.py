"""Searching for wanted eigenvalues that an answer lacks.

A Krylov space holds one vector of each eigenspace. Further copies of a multiple eigenvalue enter by
rounding only, late or, where a run ends as soon as the wanted pairs pass, never; and a start vector
may be short of a wanted direction. Either way the answer looks converged and is wrong.

So the complement of what was found is searched from a random vector. A Ritz value there never
exceeds the largest eigenvalue of the complement: one that would belong to the answer proves that a
pair is missing. It is then computed, the answer is completed, and the search begins again. It ends
when the leading Ritz pair of the complement has converged far enough to be told from a wanted one.
Before that happens the answer stays, and is said not to be checked.

The complement is random-started, so a copy has a component of usual size in it, and its Ritz value
rises as fast as any other of that place in the spectrum. On its way up the leading Ritz value
passes those of lesser eigenvalues, and is told from them by its residual: with the weight w of the
copy in its vector, that is sqrt(w) times their distance. "Told" therefore means a residual far
below the distance to the answer; what is left is the chance that a random vector has so small a
component in the copy, which is about that ratio.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from miramns import nested
from miramns.arnoldi import Settled, apply_columns
from miramns.certificate import (
    orthogonality,
    orthonormalize,
    rayleigh_ritz,
    residual_norms,
)
from miramns.convergence import ROUNDING, Reason
from miramns.newcomer import displaces
from miramns.problem import Problem
from miramns.projected import RitzPairs, on_root, ritz_pairs, ties_at
from miramns.restart import kept_size, thick_restart
from miramns.run import Run, factorization, find
from miramns.start import seeded_normal

__all__ = ["Completeness", "complete"]

#: Products that "auto" spends at most: this share of those of the run, or so many if more (on long
#: vectors, where they cost).
_AUTO_SHARE = 0.25
_AUTO_LEAST, _AUTO_LEAST_LONG = 80, 30

#: Residual of the leading Ritz pair of the complement, relative to the distance of its value from
#: one that belongs to the answer, with which it is taken for what it seems.
_TOLD = 1e-5

#: Columns that a search makes before it may end with nothing found.
_LEAST_COLUMNS = 6

#: Columns after which a search restarts.
_SEARCH_COLUMNS = 120

#: First of the streams of random numbers that the searches start from.
_STREAM = 2**40


@dataclass(frozen=True, slots=True)
class Completeness:
    """What the search said.

    Attributes
    ----------
    checked : bool
        Whether the complement was found to hold nothing that belongs to the answer.
    n_found : int
        Pairs that were fetched because one was missing.
    n_matvec : int
        Products of the search.
    """

    checked: bool
    n_found: int
    n_matvec: int


def complete(
    problem: Problem, run: Run, effort: Literal["auto", "always", "never"]
) -> Completeness:
    """Search, and complete the answer of `run` in place. Collective."""
    searchable = problem.hermitian and problem.variant != "published" and problem.inner is None
    # what an approximation's complement holds says nothing to the last digit
    searchable = searchable and problem.exact is None
    if effort == "never" or not searchable or run.reason != Reason.CONVERGED_TOL:
        return Completeness(False, 0, 0)
    budget = None
    if effort == "auto":
        least = _AUTO_LEAST_LONG if problem.partial else _AUTO_LEAST
        budget = max(int(_AUTO_SHARE * run.n_matvec), least)
    n_found = n_matvec = n_searches = 0
    n_locked = 0 if problem.locked is None else problem.locked.shape[1]
    found = run.vectors
    while True:
        if found.shape[1] + n_locked >= problem.n:
            return Completeness(True, n_found, n_matvec)
        n_searches += 1
        verdict, made = _search(problem, run, found, budget, n_searches)
        n_matvec += made
        if verdict != "missing":
            return Completeness(verdict == "clear", n_found, n_matvec)
        if budget is not None:
            # where there is one multiple eigenvalue, others are likely
            budget = max(budget, run.n_matvec)
        before, several = found.shape[1], 2 ** (n_searches - 1)
        found, made = _take_in(problem, run, found, several, n_searches)
        n_matvec += made
        n_found += found.shape[1] - before


def _random_start(problem: Problem, number: int) -> NDArray[np.float64]:
    first, last = problem.operator.getOwnershipRange()
    return seeded_normal(problem.seed, first, last, stream=_STREAM + number)


def _beyond(problem: Problem, run: Run, found: NDArray[np.float64], k: int) -> Problem:
    """The problem of k more pairs in the complement of what was found."""
    locked = found if problem.locked is None else np.hstack([problem.locked, found])
    dimension = problem.n - locked.shape[1]
    k = min(k, dimension)
    beyond = replace(problem, k=k, locked=locked, variant="default", width=1, norm=run.norm)
    if not problem.sizes:
        return replace(beyond, capacity=min(problem.capacity, dimension))
    largest = nested.largest_size(k, dimension, dimension + 1)
    sizes = nested.checkpoints(k, min(largest, dimension))
    return replace(beyond, sizes=sizes, capacity=sizes[-1])


def _search(
    problem: Problem, run: Run, found: NDArray[np.float64], budget: int | None, number: int
) -> tuple[Literal["clear", "missing", "unknown"], int]:
    beyond = _beyond(problem, run, found, 1)
    capacity = min(beyond.capacity, _SEARCH_COLUMNS)
    start = _random_start(problem, number)
    arnoldi = factorization(beyond, capacity, start)
    try:
        while True:
            ahead = max(arnoldi.size + max(4, arnoldi.size // 8), _LEAST_COLUMNS)
            if budget is not None:
                ahead = min(ahead, arnoldi.size + budget - arnoldi.n_matvec)
            arnoldi.expand(min(ahead, capacity))
            ritz = _look(run, problem, arnoldi.leading(arnoldi.size))
            verdict = _judge(problem, run, ritz)
            if verdict == "clear":
                run.tie_at_cut = run.tie_at_cut or _equals_the_last(problem, run, ritz)
            if verdict != "unknown":
                return verdict, arnoldi.n_matvec
            if arnoldi.size == arnoldi.dimension:
                return "clear", arnoldi.n_matvec
            if budget is not None and arnoldi.n_matvec >= budget:
                return "unknown", arnoldi.n_matvec
            if arnoldi.size >= capacity:
                settled = arnoldi.settle()
                keep = kept_size(1, settled.size)
                ritz = _look(run, problem, settled)
                arnoldi.compress(*_thick(run, problem, settled, ritz, keep))
    finally:
        arnoldi.destroy()


def _look(run: Run, problem: Problem, settled: Settled) -> RitzPairs:
    H, beta = settled.hessenberg, settled.beta
    return on_root(run.comm, lambda: ritz_pairs(H, beta, problem.which, hermitian=True))


def _thick(
    run: Run, problem: Problem, settled: Settled, ritz: RitzPairs, keep: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    H, beta = settled.hessenberg, settled.beta
    return on_root(
        run.comm, lambda: thick_restart(H, beta, ritz, keep, problem.which, hermitian=True)
    )


def _judge(problem: Problem, run: Run, ritz: RitzPairs) -> Literal["clear", "missing", "unknown"]:
    """What the leading Ritz values of the complement say about the answer."""
    certain = float(np.max(run.residuals)) + 10 * ROUNDING * run.norm
    verdict: Literal["clear", "unknown"] = "clear"
    for theta, estimate in list(zip(ritz.values, ritz.estimates, strict=True))[: _leads(problem)]:
        if _belongs(problem, run.values, theta, certain):
            return "missing"
        converged = estimate <= float(run.bounds(np.array([theta]))[0])
        if not converged and _belongs(problem, run.values, theta, certain, estimate / _TOLD):
            verdict = "unknown"
    return verdict


def _equals_the_last(problem: Problem, run: Run, ritz: RitzPairs) -> bool:
    """Whether the complement holds a value that ties with the last one of the answer."""
    certain = float(np.max(run.residuals))
    leading = ritz.values[: _leads(problem)]
    k = len(run.values)
    return any(
        ties_at(np.append(run.values, theta), problem.which, k, certain) for theta in leading
    )


def _leads(problem: Problem) -> int:
    """Ends of the spectrum that wanted values come from."""
    return 2 if problem.which == "BE" else 1


def _belongs(
    problem: Problem,
    values: NDArray[np.float64],
    theta: float,
    certain: float,
    reach: float = 0.0,
) -> bool:
    """Whether a value within `reach` of theta would displace one by more than `certain`."""
    candidates = {theta - reach, theta + reach}
    return any(displaces(values, value, problem.which, certain) for value in candidates)


def _take_in(
    problem: Problem, run: Run, found: NDArray[np.float64], several: int, number: int
) -> tuple[NDArray[np.float64], int]:
    """Compute missing pairs, and let the best k of all be the answer. Collective."""
    extra = find(_beyond(problem, run, found, several), _random_start(problem, number))
    together = np.asfortranarray(np.hstack([found, extra.vectors]))
    orthonormalize(run.comm, together)
    products = apply_columns(problem.operator, together)
    values, together, products = rayleigh_ritz(run.comm, together, products, problem.which)
    k = problem.k
    residuals = residual_norms(run.comm, values, together, products)
    run.values, run.residuals = values[:k], residuals[:k]
    run.tie_at_cut = ties_at(values, problem.which, k)
    run.vectors = np.asfortranarray(together[:, :k])
    run.orthogonality = orthogonality(run.comm, run.vectors)
    if (run.residuals > run.bounds(run.values)).any():
        run.reason = Reason.DIVERGED_STAGNATED
    return together, extra.n_matvec + extra.n_certificate + together.shape[1]
