"""One run of the method: the loop over checkpoints and restarts, and the answer it forms.

The loop asks three things: the factorisation for columns, the projected problem for Ritz pairs, the
plan for when to look and what to keep. It ends with a reason, and with vectors whose residuals were
computed by products of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from miramns import nested
from miramns.arnoldi import ArnoldiFactorization, Settled, apply_columns
from miramns.block import BlockFactorization
from miramns.certificate import (
    NOT_ORTHONORMAL,
    orthogonality,
    orthonormalize,
    rayleigh_ritz,
    residual_norms,
    true_residuals,
)
from miramns.convergence import ROUNDING, Reason, residual_bounds
from miramns.delayed import DelayedFactorization
from miramns.lanczos import LanczosFactorization
from miramns.newcomer import displaces
from miramns.planning import Costs, FixedPlan, MeasuredPlan, Plan
from miramns.problem import Problem
from miramns.projected import (
    RitzPairs,
    on_root,
    refined_pairs,
    ritz_pairs,
    ties_at,
    wanted_order,
)
from miramns.restart import implicit_qr, thick_restart
from miramns.result import Check

__all__ = ["Run", "find"]

#: Columns that must follow a new random direction before the wanted pairs are believed: right after
#: a breakdown every estimate is zero, whether or not a larger eigenvalue lies outside.
_COLUMNS_AFTER_BREAKDOWN = 20

#: How far estimates may have to fall below the tolerance before the true residuals pass.
_LEAST_TRUST = 1e-4

#: Restarts after which the basis is orthonormalised anew.
_REFRESH = 50

#: Loss of orthogonality from which the values are taken from the orthonormalised vectors anew.
_PROJECT_AGAIN = 1e-14


def find(
    problem: Problem,
    start: NDArray[np.float64],
    on_check: Callable[[Check], None] | None = None,
) -> Run:
    """Run to the end. Collective. The answer outlives the factorisation, which is freed."""
    arnoldi = factorization(problem, problem.capacity, start)
    try:
        run = Run(problem, arnoldi, on_check)
        advance = run.published_cycle if problem.variant == "published" else run.default_step
        while run.reason is None:
            advance()
        run.close()
        return run
    finally:
        arnoldi.destroy()


def factorization(
    problem: Problem, capacity: int, start: NDArray[np.float64]
) -> ArnoldiFactorization:
    """The factorisation that suits the problem. Collective."""
    A, locked, seed = problem.operator, problem.locked, problem.seed
    hermitian = problem.hermitian
    arnoldi: ArnoldiFactorization
    if problem.variant == "block":
        arnoldi = BlockFactorization(
            A, capacity, start, seed, width=problem.width, hermitian=hermitian, locked=locked
        )
    elif problem.partial:
        arnoldi = LanczosFactorization(A, capacity, start, seed, locked=locked)
    elif problem.delayed:
        arnoldi = DelayedFactorization(A, capacity, start, seed, hermitian=hermitian, locked=locked)
    else:
        arnoldi = ArnoldiFactorization(
            A, capacity, start, seed, hermitian=hermitian, locked=locked, inner=problem.inner
        )
    arnoldi.known_norm = problem.norm
    return arnoldi


class Run:
    """State of one run, and the answer once ``reason`` is set.

    Attributes
    ----------
    values, vectors, residuals
        The pairs found, this rank's rows of their vectors, and true residual norms.
    tie_at_cut
        Whether the last of them ties with one that was left out.
    """

    def __init__(
        self,
        problem: Problem,
        arnoldi: ArnoldiFactorization,
        on_check: Callable[[Check], None] | None,
    ) -> None:
        self.problem = problem
        self.arnoldi = arnoldi
        self.comm: MPI.Comm = arnoldi.comm
        self.on_check = on_check
        self.reason: Reason | None = None
        self.n_restarts = 0
        self.n_certificate = 0
        self.history: list[Check] = []
        # with an approximation the residuals are its error beside the estimates
        self.trust = 1.0 if problem.exact is None else 0.9
        self.scale = problem.scale
        self.costs = Costs()
        self._seen: RitzPairs
        self.plan: Plan
        if problem.sizes:
            self.plan = FixedPlan(problem.k, problem.sizes)
        else:
            self.plan = MeasuredPlan(problem.k, problem.capacity, problem.longest, self.costs)

    def default_step(self) -> None:
        """Grow to the next checkpoint; end there, go on, or restart."""
        p, arnoldi = self.problem, self.arnoldi
        arnoldi.expand(self._next_look())
        size = arnoldi.size
        full = size >= p.capacity
        believed = self._settled(size)
        if not full and not believed and arnoldi.closed is None:
            return
        ritz = self._look(size)
        count = ritz.whole_pairs(p.k)
        bounds = self.trust * self.bounds(ritz.values[:count])
        passed = ritz.estimates[:count] <= bounds
        ready = bool(passed.all())
        believed = believed or self._closed_without_more(ritz.values[:count])
        measure = p.tol * _largest_ratio(ritz.estimates[:count], self.bounds(ritz.values[:count]))
        self._record(size, measure, passed, ready, ritz)
        if ready and believed and self._certified():
            return
        if arnoldi.size < size:
            return  # columns were given up: grow again
        if size == arnoldi.dimension or (full and self.n_restarts == p.max_it):
            self._give_up()
            return
        keep = self._kept(size, _to_go(ritz.estimates[:count], bounds))
        if full and not keep:
            keep = max(p.k, (p.k + size) // 2)
        if keep and self.n_restarts < p.max_it:
            self._thick_restart(min(keep, size - 1))

    def _closed_without_more(self, values: NDArray[Any]) -> bool:
        """Whether nothing outside the space can be wanted more than these values.

        So where a part that began with a random direction closed, and its values displace none: it
        has all eigenvalues that the operator has outside the columns before it.
        """
        arnoldi = self.arnoldi
        if arnoldi.closed is None:
            return False
        part = slice(*arnoldi.closed)
        inside = self._ritz(Settled(arnoldi.hessenberg[part, part], 0.0)).values
        certain = 10 * ROUNDING * self.norm
        return not any(displaces(values, value, self.problem.which, certain) for value in inside)

    def published_cycle(self) -> None:
        """Grow to the largest size, examine all, end or restart from the best."""
        p, arnoldi = self.problem, self.arnoldi
        arnoldi.expand(p.sizes[-1])
        if self.scale == 0.0:
            self.scale = float(np.linalg.norm(arnoldi.hessenberg))
        best, best_measure, best_ritz = 0, np.inf, None
        largest = self._ritz(arnoldi.leading(p.sizes[-1]))
        for size in reversed(self._sizes_that_tell()):
            ritz = largest if size == p.sizes[-1] else self._ritz(arnoldi.leading(size))
            measure = nested.published_measure(ritz.estimates[: p.k], self.scale)
            passed = ritz.estimates[: p.k] <= self.bounds(ritz.values[: p.k])
            self._record(size, measure, passed, False, ritz)
            if measure <= best_measure:
                best, best_measure, best_ritz = size, measure, ritz
        assert best_ritz is not None  # there is at least one size, and a measure is finite
        if best_measure < p.tol and self._misses(best_ritz, largest):
            best, best_ritz = p.sizes[-1], largest
            best_measure = nested.published_measure(largest.estimates[: p.k], self.scale)
        self._mark_chosen(best)
        settled = arnoldi.leading(best)
        believed = self._settled(best) or self._closed_without_more(best_ritz.values[: p.k])
        if best_measure < p.tol and believed and self._accepted(best_ritz, settled):
            return
        if best == arnoldi.dimension or self.n_restarts == p.max_it:
            self._hand_over(best_ritz, settled)
            return
        if arnoldi.n_breakdowns == 0:
            self._implicit_restart(best_ritz, best)
            return
        # shifted QR steps end at a coupling of zero, and would change nothing from there on
        arnoldi.cut_to(best)
        self._compress(settled, best_ritz, min(best_ritz.whole_pairs(p.k), best - 1))

    def _sizes_that_tell(self) -> tuple[int, ...]:
        """The nested sizes, after a breakdown without those that are blind to what follows it."""
        sizes, arnoldi = self.problem.sizes, self.arnoldi
        if arnoldi.n_breakdowns == 0:
            return sizes
        least = max(arnoldi.block_start + _COLUMNS_AFTER_BREAKDOWN, arnoldi.kept + 1)
        return tuple(size for size in sizes if size >= least) or sizes[-1:]

    def _settled(self, size: int) -> bool:
        """Whether what was seen at `size` is more than an invariant subspace without the wanted."""
        arnoldi = self.arnoldi
        return arnoldi.settled_in(_COLUMNS_AFTER_BREAKDOWN) or size == arnoldi.dimension

    def _misses(self, ritz: RitzPairs, largest: RitzPairs) -> bool:
        """Whether a smaller subspace lacks a wanted eigenvalue that the largest one proves.

        Ritz values of Hermitian operators lie within the spectrum, and those of larger subspaces
        further out: one that is wanted more, by more than it may be off, is another eigenvalue.
        """
        p = self.problem
        if not p.hermitian or p.which not in ("LM", "LA", "LR", "SA", "SR"):
            return False
        ours, theirs = ritz.values[: p.k], largest.values[: p.k]
        if p.which == "LM":
            ours, theirs = np.abs(ours), np.abs(theirs)
        further = ours - theirs if p.which[0] == "S" else theirs - ours
        return bool((further > ritz.estimates[: p.k] + ROUNDING * self.norm).any())

    def _next_look(self) -> int:
        ask = self.plan.next_look
        if isinstance(self.plan, FixedPlan):
            return ask(self.arnoldi.size)
        return on_root(self.comm, lambda: ask(self.arnoldi.size))

    def _kept(self, size: int, to_go: float) -> int:
        if isinstance(self.plan, FixedPlan):
            return self.plan.kept_at(size, to_go)
        self._measure_costs()
        return on_root(self.comm, lambda: self.plan.kept_at(size, to_go))

    def _measure_costs(self) -> None:
        """Bring the measured costs up to date."""
        arnoldi, costs = self.arnoldi, self.costs
        assert isinstance(arnoldi, LanczosFactorization)  # only they are planned by measurement
        made = max(arnoldi.n_matvec, 1)
        costs.column = (arnoldi.seconds["product"] + arnoldi.seconds["local"]) / made
        _, costs.passing_restarted = arnoldi.passing()
        costs.multiply = arnoldi.seconds_per_multiply()

    def _look(self, size: int) -> RitzPairs:
        began = time.perf_counter()
        self._seen = self._ritz(self.arnoldi.leading(size))
        self.costs.look = time.perf_counter() - began
        return self._seen

    def _settled_look(self) -> tuple[Settled, RitzPairs]:
        """The settled projection, and its Ritz pairs: those of the last look if nothing changed."""
        settled = self.arnoldi.settle()
        if settled.inverse is None and len(self._seen.values) == settled.size:
            return settled, self._seen
        return settled, self._ritz(settled)

    def _ritz(self, settled: Settled) -> RitzPairs:
        p, H, beta = self.problem, settled.hessenberg, settled.beta
        return on_root(self.comm, lambda: ritz_pairs(H, beta, p.which, hermitian=p.hermitian))

    def bounds(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Largest residual with which each pair passes."""
        p = self.problem
        # column norms of the projection may lie below the values already found
        norm = max(self.norm, float(np.max(np.abs(values), initial=0.0)))
        scale = {"relative": self.scale, "absolute": 1.0, "norm": norm}[p.criterion]
        return residual_bounds(values, p.tol, norm, scale=scale)

    @property
    def norm(self) -> float:
        """Estimate of ||A||, which rounding is measured by: not of what deflation leaves of A."""
        return max(self.arnoldi.norm, self.problem.norm)

    def _record(
        self, size: int, measure: float, passed: NDArray[np.bool_], chosen: bool, ritz: RitzPairs
    ) -> None:
        count = len(passed)
        scales = self.bounds(ritz.values[:count]) / self.problem.tol
        estimates = ritz.estimates[:count] / np.where(scales > 0, scales, 1.0)
        check = Check(
            self.n_restarts,
            size,
            self.arnoldi.n_matvec,
            measure,
            int(passed.sum()),
            chosen,
            tuple(complex(value) for value in ritz.values[:count]),
            tuple(float(estimate) for estimate in estimates),
        )
        self.history.append(check)
        if self.on_check:
            self.on_check(check)

    def _mark_chosen(self, size: int) -> None:
        """Mark the look at `size` in this cycle as the one that decided."""
        for position in range(len(self.history) - 1, -1, -1):
            check = self.history[position]
            if check.size == size:
                self.history[position] = check.as_chosen()
                return

    def _thick_restart(self, keep: int) -> None:
        settled, ritz = self._settled_look()
        self._mark_chosen(settled.size)
        self._compress(settled, ritz, min(keep, settled.size - 1))

    def _compress(self, settled: Settled, ritz: RitzPairs, keep: int) -> None:
        """Restart with the leading Ritz or Schur vectors."""
        p, H, beta = self.problem, settled.hessenberg, settled.beta
        Q, hessenberg = on_root(
            self.comm,
            lambda: thick_restart(H, beta, ritz, keep, p.which, hermitian=p.hermitian),
        )
        self.arnoldi.compress(Q, hessenberg)
        self.n_restarts += 1
        if self.n_restarts % _REFRESH == 0:
            self.arnoldi.refresh()

    def _implicit_restart(self, ritz: RitzPairs, m: int) -> None:
        arnoldi = self.arnoldi
        k = min(ritz.whole_pairs(self.problem.k), m - 1)
        H, Q = on_root(self.comm, lambda: implicit_qr(arnoldi.hessenberg[:m, :m], ritz.values[k:]))
        beta = arnoldi.hessenberg[m, m - 1]
        residual = (arnoldi.basis[:, :m] @ Q[:, k]) * H[k, k - 1]
        residual += arnoldi.basis[:, m] * (beta * Q[m - 1, k - 1])
        arnoldi.rotate(Q[:, :k], H[:k, :k], residual)
        self.n_restarts += 1

    def _certified(self) -> bool:
        """Form the answer; whether the run ends with it.

        A partially orthogonalised basis mostly serves as it is: what counts are the true residuals
        of the orthonormalised vectors. Only where they do not pass is it settled first.
        """
        raw = self.arnoldi.leading(self.arnoldi.size)
        if self.problem.partial and self.problem.inner is None:
            loss = self._form_answer(self._ritz(raw), raw)
            if loss <= NOT_ORTHONORMAL and (self.residuals <= self.bounds(self.values)).all():
                self.reason = Reason.CONVERGED_TOL
                return True
        settled, ritz = self._settled_look()
        return self._accepted(ritz, settled)

    def _accepted(self, ritz: RitzPairs, settled: Settled) -> bool:
        self._form_answer(ritz, settled)
        if (self.residuals <= self.bounds(self.values)).all():
            self.reason = Reason.CONVERGED_TOL
            return True
        self.trust *= 0.1
        if self.trust < _LEAST_TRUST or self.problem.exact is not None:
            self.reason = Reason.DIVERGED_STAGNATED
            return True
        return False

    def _give_up(self) -> None:
        settled, ritz = self._settled_look()
        self._hand_over(ritz, settled)

    def _hand_over(self, ritz: RitzPairs, settled: Settled) -> None:
        """Hand over what there is: the whole space is spanned, or the restarts are used up."""
        self._form_answer(ritz, settled)
        passed = (self.residuals <= self.bounds(self.values)).all()
        if passed:
            self.reason = Reason.CONVERGED_TOL
        elif self.n_restarts == self.problem.max_it:
            self.reason = Reason.DIVERGED_ITS
        else:
            self.reason = Reason.DIVERGED_STAGNATED

    def _form_answer(self, ritz: RitzPairs, settled: Settled) -> float:
        """Form the vectors and measure them; return how far they were from orthonormal."""
        p, arnoldi = self.problem, self.arnoldi
        count = min(ritz.whole_pairs(p.k), settled.size)
        self.values = ritz.values[:count]
        self.tie_at_cut = self._ties_at(ritz, count)
        basis = arnoldi.basis[:, : settled.size]
        Y = ritz.vectors[:, :count]
        if not p.hermitian:
            self.values, Y = on_root(
                self.comm, partial(refined_pairs, settled.hessenberg, self.values, Y)
            )
        self.vectors = np.asfortranarray(basis @ settled.coordinates(Y))
        self.n_certificate += count
        loss = 0.0
        if p.hermitian and p.inner is None:
            loss = orthonormalize(self.comm, self.vectors)
            judge = arnoldi.operator if p.exact is None else p.exact
            products = apply_columns(judge, self.vectors)
            if loss > _PROJECT_AGAIN or p.exact is not None:
                # the vectors themselves span more exactly what they should
                self.values, self.vectors, products = rayleigh_ritz(
                    self.comm, self.vectors, products, p.which
                )
            self.residuals = residual_norms(self.comm, self.values, self.vectors, products)
        else:
            self.residuals = true_residuals(arnoldi.operator, self.values, self.vectors)
        self._order_answer()
        measured = self.vectors if p.hermitian else basis
        self.orthogonality = orthogonality(self.comm, measured, p.inner if p.hermitian else None)
        return loss

    def _ties_at(self, ritz: RitzPairs, count: int) -> bool:
        """Whether the cut after `count` pairs separates values that nothing tells apart."""
        error = float(ritz.estimates[max(count - 1, 0) : count + 1].sum())
        allowed = float(np.max(self.bounds(ritz.values[:count]), initial=0.0))
        return ties_at(ritz.values, self.problem.which, count, min(error, allowed))

    def _order_answer(self) -> None:
        """Put the pairs into the order of their values, those within the residuals being ties."""
        error = np.minimum(self.residuals, self.bounds(self.values))
        order = wanted_order(self.values, self.problem.which, error)
        if (order != np.arange(len(order))).any():
            self.values, self.residuals = self.values[order], self.residuals[order]
            self.vectors = np.asfortranarray(self.vectors[:, order])

    def close(self) -> None:
        """Take over the figures of the factorisation, and let go of it."""
        arnoldi = self.arnoldi
        self.n_matvec, self.n_reductions = arnoldi.n_matvec, arnoldi.n_reductions
        self.decisions: list[str] = []
        if isinstance(self.plan, MeasuredPlan):
            self.decisions = self.comm.bcast(self.plan.reasons)
        self.orthogonality_level, self.n_mended = 0.0, 0
        if isinstance(arnoldi, LanczosFactorization):
            self.orthogonality_level, self.n_mended = arnoldi.level, arnoldi.n_mended

    def sizes_text(self) -> str:
        """Which sizes were used, in words."""
        sizes = self.problem.sizes
        if not sizes:
            looked = sorted({check.size for check in self.history})
            return f"sizes chosen while running, {looked[0]}..{looked[-1]}"
        if len(sizes) == 1:
            return f"size {sizes[0]}"
        return f"{len(sizes)} nested sizes {sizes[0]}..{sizes[-1]}"


def _largest_ratio(estimates: NDArray[np.float64], bounds: NDArray[np.float64]) -> float:
    """The largest residual relative to its bound, of those that have one."""
    bounded = bounds > 0
    return float(np.max(estimates[bounded] / bounds[bounded], initial=0.0))


def _to_go(estimates: NDArray[np.float64], bounds: NDArray[np.float64]) -> float:
    """By what factor residuals have to fall, as a natural logarithm."""
    return float(np.log(max(_largest_ratio(estimates, bounds), 1.0)))
