"""Search for wanted eigenvalues that are missing from an answer.

A Krylov space holds one vector of each eigenspace. Further copies of a multiple eigenvalue enter by
rounding alone: late or, if the iteration ends as soon as the wanted pairs converge, never. A start
vector may also lack a wanted direction. In both cases the answer converges and is wrong.

So the complement of the answer is searched from a random vector. A Ritz value there never exceeds
the largest eigenvalue of the complement: a Ritz value that belongs to the answer proves that a pair
is missing. The missing pair is computed, the answer is completed, and the search starts again. It
ends when the leading Ritz pair of the complement has converged far enough to be distinguished from
a wanted one. If it ends before, for lack of products, the answer is reported as unchecked.

The start vector of the search is random, so a copy has a component of usual size in it, and its
Ritz value rises as fast as any other. On its way the leading Ritz value passes those of lesser
eigenvalues, and its residual distinguishes it from them: with the weight w of the copy in its
vector, the residual is sqrt(w) times their distance. Distinguished therefore means a residual far
below the distance to the answer. A copy remains undetected if the random vector has a very small
component in it; the probability is about the ratio of the residual to the distance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from miramns.factorization.orthogonalize import orthogonality, orthonormalize
from miramns.iteration.default import (
    default_iteration,
    new_factorization,
    project,
    restart_thick,
)
from miramns.iteration.subspace_size import checkpoints, kept_size, largest_size
from miramns.norms import EPSILON, ROUNDING
from miramns.problem import Problem
from miramns.products import apply_columns
from miramns.projected import RitzPairs
from miramns.random_vectors import seeded_normal
from miramns.residuals import rayleigh_ritz, residual_norms
from miramns.result import EigenResult
from miramns.selection import displaces, ties_at
from miramns.tolerances import converged_reason

#: Products of "auto": this share of those of the iteration, or this number if that is more (on long
#: vectors, where products take time, the second number).
_AUTO_SHARE = 0.25
_AUTO_LEAST, _AUTO_LEAST_LONG = 80, 30

#: Residual of the leading Ritz pair of the complement, relative to the distance of its value from
#: the answer, with which it is distinguished from a wanted pair.
_DISTINGUISHED = 1e-5

#: Columns of a search before it may end.
_LEAST_COLUMNS = 6

#: Columns after which a search restarts.
_SEARCH_COLUMNS = 120

#: First stream of random numbers for the start vectors of searches.
_STREAM = 2**40

_Verdict = Literal["clear", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class _Search:
    """Outcome of one search: the verdict, whether a value ties with the last one, its products."""

    verdict: _Verdict
    ties: bool
    n_matvec: int


def complete(problem: Problem, result: EigenResult) -> EigenResult:
    """Search the complement of the answer, and return the completed answer. Collective."""
    effort = problem.options.multiplicity_check
    searchable = problem.hermitian and problem.variant != "published"
    # the complement under an approximate operator is not the one of the exact operator
    searchable = searchable and problem.options.inner is None and problem.options.exact is None
    if effort == "never" or not searchable or not result.converged:
        return result
    budget = None
    if effort == "auto":
        is_long = problem.options.orthogonalization == "partial"
        least = _AUTO_LEAST_LONG if is_long else _AUTO_LEAST
        budget = max(int(_AUTO_SHARE * result.n_matvec), least)
    n_searches = n_found = 0
    n_certificate_matvec = result.n_certificate_matvec
    n_locked = 0 if problem.locked is None else problem.locked.shape[1]
    found = result.eigenvectors
    while True:
        checked = found.shape[1] + n_locked >= problem.n
        if checked:
            break
        n_searches += 1
        search = _search(problem, result, found, budget, n_searches)
        n_certificate_matvec += search.n_matvec
        if search.verdict != "missing":
            checked = search.verdict == "clear"
            result = replace(result, tie_at_cut=result.tie_at_cut or (checked and search.ties))
            break
        if budget is not None:
            # one multiple eigenvalue makes others likely
            budget = max(budget, result.n_matvec)
        before, several = found.shape[1], 2 ** (n_searches - 1)
        result, found, n_matvec = _add_missing(problem, result, found, several, n_searches)
        n_certificate_matvec += n_matvec
        n_found += found.shape[1] - before
    return replace(
        result,
        multiplicity_checked=checked,
        n_found_missing=n_found,
        n_certificate_matvec=n_certificate_matvec,
    )


def _random_start(problem: Problem, number: int) -> NDArray[np.float64]:
    first, last = problem.operator.getOwnershipRange()
    return seeded_normal(problem.seed, first, last, stream=_STREAM + number)


def _complement(
    problem: Problem, result: EigenResult, found: NDArray[np.float64], k: int
) -> Problem:
    """Return the problem of k more pairs, in the complement of the vectors found."""
    locked = found if problem.locked is None else np.hstack([problem.locked, found])
    dimension = problem.n - locked.shape[1]
    k = min(k, dimension)
    complement = replace(
        problem, k=k, locked=locked, variant="default", width=1, norm=result.operator_norm,
        checkpoint=None,
    )  # fmt: skip
    if not problem.sizes:
        return replace(complement, capacity=min(problem.capacity, dimension))
    largest = largest_size(k, dimension, dimension + 1)
    sizes = checkpoints(k, min(largest, dimension))
    return replace(complement, sizes=sizes, capacity=sizes[-1])


def _search(
    problem: Problem,
    result: EigenResult,
    found: NDArray[np.float64],
    budget: int | None,
    number: int,
) -> _Search:
    """Search the complement of `found` with at most `budget` products. Collective."""
    complement = _complement(problem, result, found, 1)
    capacity = min(complement.capacity, _SEARCH_COLUMNS)
    n_restarts = 0
    start = _random_start(problem, number)
    with new_factorization(complement, capacity, start) as f:
        while True:
            ahead = max(f.size + max(4, f.size // 8), _LEAST_COLUMNS)
            if budget is not None:
                ahead = min(ahead, f.size + budget - f.n_matvec)
            f.extend(min(ahead, capacity))
            ritz = project(problem, f, f.projection(f.size))
            verdict = _verdict(problem, result, ritz)
            if verdict == "unknown" and f.size == f.dimension:
                verdict = "clear"
            if verdict != "unknown" or (budget is not None and f.n_matvec >= budget):
                return _Search(verdict, _ties(problem, result, ritz), f.n_matvec)
            if f.size >= capacity:
                projection = f.orthonormal_projection()
                ritz = project(problem, f, projection)
                n_restarts += 1
                keep = kept_size(1, projection.size)
                restart_thick(problem, f, ritz, projection, keep, n_restarts)


def _verdict(problem: Problem, result: EigenResult, ritz: RitzPairs) -> _Verdict:
    """Return whether the leading Ritz values of the complement prove that a pair is missing."""
    certain = float(np.max(result.residual_norms)) + 10 * ROUNDING * result.operator_norm
    verdict: _Verdict = "clear"
    n_leading = _n_leading(problem)
    leading = zip(ritz.values[:n_leading], ritz.estimates[:n_leading], strict=True)
    for theta, estimate in leading:
        if _belongs(problem, result, theta, certain):
            return "missing"
        tolerance = problem.tolerances(np.array([theta]), result.operator_norm)[0]
        reach = estimate / _DISTINGUISHED
        if estimate > tolerance and _belongs(problem, result, theta, certain, reach):
            verdict = "unknown"
    return verdict


def _ties(problem: Problem, result: EigenResult, ritz: RitzPairs) -> bool:
    """Return whether the complement holds a value that ties with the last one of the answer."""
    certain = float(np.max(result.residual_norms))
    values = result.eigenvalues
    return any(
        ties_at(np.append(values, theta), problem.which, len(values), certain)
        for theta in ritz.values[: _n_leading(problem)]
    )


def _n_leading(problem: Problem) -> int:
    """Return the number of ends of the spectrum that wanted values come from."""
    return 2 if problem.which == "BE" else 1


def _belongs(
    problem: Problem, result: EigenResult, theta: float, certain: float, reach: float = 0.0
) -> bool:
    """Return whether a value within `reach` of theta would displace one by more than `certain`."""
    candidates = {theta - reach, theta + reach}
    values = result.eigenvalues
    return any(displaces(values, value, problem.which, certain) for value in candidates)


def _add_missing(
    problem: Problem, result: EigenResult, found: NDArray[np.float64], several: int, number: int
) -> tuple[EigenResult, NDArray[np.float64], int]:
    """Compute missing pairs, and return the answer from all of them.

    Collective. Also returns the vectors of all pairs, and the number of products.
    """
    complement = _complement(problem, result, found, several)
    extra = default_iteration(complement, _random_start(problem, number))
    together = np.asfortranarray(np.hstack([found, extra.eigenvectors]))
    comm = problem.operator.getComm().tompi4py()
    orthonormalize(comm, together)
    products = apply_columns(problem.operator, together)
    values, together, products = rayleigh_ritz(comm, together, products, problem.which)
    k = problem.k
    residuals = residual_norms(comm, values, together, products)[:k]
    vectors = np.asfortranarray(together[:, :k])
    tolerances = problem.tolerances(values[:k], result.operator_norm)
    requested = problem.tolerances(values[:k], result.operator_norm, rounding=False)
    answer = replace(
        result,
        eigenvalues=values[:k],
        eigenvectors=vectors,
        residual_norms=residuals,
        residual_tolerances=tolerances,
        error_bounds=np.maximum(residuals, EPSILON * result.operator_norm),
        orthogonality=orthogonality(comm, vectors),
        reason=converged_reason(residuals, tolerances, requested),
        tie_at_cut=ties_at(values, problem.which, k),
    )
    n_matvec = extra.n_matvec + extra.n_certificate_matvec + together.shape[1]
    return answer, together, n_matvec
