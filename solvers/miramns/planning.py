"""When to look at the projected problem, when to restart, and how much to keep.

The method's own question is which subspace size is best. It has no answer that holds for every
operator, k and machine: a larger subspace needs fewer products, and pays for it with memory and
with orthogonalisation that grows with its square.

* ``FixedPlan`` looks at given sizes and restarts at the last of them, keeping the wanted directions
  and half of the others. It depends on nothing but numbers, so runs repeat exactly. Used where
  products are short and where the caller gives sizes.
* ``MeasuredPlan`` decides while running, from what was measured in this run: seconds per column,
  seconds of a restart, and the Ritz values. With q directions kept, each further column reduces the
  residuals of the wanted pairs by the factor exp(-kappa), cosh(kappa) = 1 + 2 gamma, where gamma is
  the distance of the wanted values from the interval of those not kept, relative to its width. That
  gives the columns to go; every pair of a largest size and a q then has a predicted time to the
  answer, and the least one is taken. It is decided anew at each look, on one rank for all.

References: Wu and Simon, SIAM J. Matrix Anal. Appl. 22 (2000); Yamazaki, Bai, Simon, Wang, Wu,
"Adaptive projection subspace dimension for the thick-restart Lanczos method", ACM TOMS 37 (2010),
whose objective is the reduction per unit of time of one cycle instead of the time to the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from miramns.projected import RitzPairs
from miramns.restart import kept_size

__all__ = ["Costs", "FixedPlan", "MeasuredPlan", "Plan"]

#: Largest sizes considered, as multiples of the present one.
_GROWTHS = (1.0, 1.15, 1.35, 1.6, 2.0)

#: Fractions of the present columns that a restart may keep. Ritz values further inside tell little.
_KEPT_FRACTIONS = np.linspace(0.1, 0.7, 13)

#: A look is worth its time when the columns made since the last one took this many times as long.
_LOOK_SHARE = 12.0

#: What ``FixedPlan`` makes without a look: this share of the columns predicted to be left, but not
#: more than this share of those there are, as convergence may set in suddenly.
_SHARE_AHEAD = 0.5
_MOST_AHEAD = 0.12

#: Convergence is not expected to become faster than this many times the rate of the last cycle.
_ACCELERATION = 4.0

#: Share of the predicted columns to go that is made before the next look.
_APPROACH = 0.6


class Plan(Protocol):
    """What the run asks."""

    def next_look(self, size: int) -> int:
        """Size at which the projected problem is to be solved next."""
        ...

    def kept_at(self, size: int, ritz: RitzPairs, to_go: float) -> int:
        """Directions to keep in a restart now; 0 to go on growing.

        Parameters
        ----------
        to_go : float
            Natural logarithm of the largest ratio of a wanted residual to its bound.
        """
        ...


class FixedPlan:
    """Given sizes, a restart at the last.

    Sizes are passed over where the last two looks say that the answer is far, and after two
    restarts, which say how far more reliably, where the last two restarts do.

    Parameters
    ----------
    k : int
    sizes : tuple of int
        Increasing.
    """

    def __init__(self, k: int, sizes: tuple[int, ...]) -> None:
        self.k = k
        self.sizes = sizes
        self._last: tuple[int, float] | None = None
        self._ahead = 0.0
        self._at_restarts: list[float] = []

    def next_look(self, size: int) -> int:
        """The next of the sizes that is worth a look. Not collective."""
        most = max(_MOST_AHEAD * size, self._certainly_ahead(size))
        wanted = size + max(1.0, min(self._ahead, most))
        return next((m for m in self.sizes if m >= wanted), self.sizes[-1])

    def kept_at(self, size: int, ritz: RitzPairs, to_go: float) -> int:
        """Half of what is not wanted, at the last size. Not collective."""
        del ritz
        self._ahead = _SHARE_AHEAD * self._columns_to_go(size, to_go)
        if size < self.sizes[-1]:
            self._last = size, to_go
            return 0
        keep = kept_size(self.k, size)
        self._last = keep, to_go
        self._at_restarts = [*self._at_restarts[-1:], to_go]
        return keep

    def _certainly_ahead(self, size: int) -> float:
        """Columns that are needed even if convergence becomes several times faster."""
        if len(self._at_restarts) < 2:
            return 0.0
        before, now = self._at_restarts
        if now >= before:
            return np.inf
        keep = kept_size(self.k, self.sizes[-1])
        cycles = now / (before - now) / _ACCELERATION
        return cycles * (self.sizes[-1] - keep) - (size - keep)

    def _columns_to_go(self, size: int, to_go: float) -> float:
        if self._last is None:
            return 0.0
        before, left = self._last
        rate = (left - to_go) / max(size - before, 1)
        return to_go / rate if rate > 0 else np.inf


@dataclass(slots=True)
class Costs:
    """Seconds as measured in this run so far.

    Attributes
    ----------
    column : float
        Of a product with its local orthogonalisation.
    passing, passing_restarted : float
        Of the reorthogonalisation, per column and column of the basis: in a factorisation that was
        never restarted, and after a restart, when what has to be removed stands together.
    multiply : float
        Of one multiply-add in a matrix product with the basis.
    look : float
        Of the last solution of the projected problem.
    """

    column: float = 0.0
    passing: float = 0.0
    passing_restarted: float = 0.0
    multiply: float = 0.0
    look: float = 0.0


class MeasuredPlan:
    """Sizes chosen while running.

    Parameters
    ----------
    k : int
    capacity : int
        Largest size that memory and n allow.
    n_local : int
        Rows of the longest part of the basis.
    costs : Costs
        Kept up to date by the run.
    """

    def __init__(self, k: int, capacity: int, n_local: int, costs: Costs) -> None:
        self.k = k
        self.capacity = capacity
        self.n_local = n_local
        self.costs = costs
        self.target = min(max(2 * k + 20, 40), capacity)
        self.columns_to_go = np.inf
        self.restarted = False
        # how much of what was predicted for a cycle came true
        self.faith = 1.0
        self._expected: tuple[float, float] | None = None
        self.reasons: list[str] = []

    def next_look(self, size: int) -> int:
        """Where the predicted answer comes into sight. Not collective: for one rank to decide."""
        enough = self.costs.look * _LOOK_SHARE / max(self.costs.column, 1e-9)
        step = max(min(_APPROACH * self.columns_to_go, 0.15 * size), enough, 2)
        ahead = size + int(step)
        if size < self.target:
            ahead = min(ahead, self.target)
        return min(max(ahead, self.k + 2), self.capacity)

    def kept_at(self, size: int, ritz: RitzPairs, to_go: float) -> int:
        """What leads to the answer soonest. Not collective: for one rank to decide."""
        kept = self._candidates(size)
        if size >= self.target:
            self._learn(to_go)
        rates = self.faith * np.array([_rate(ritz.values, self.k, q) for q in kept])
        self.columns_to_go = to_go / max(float(rates.max()), 1e-12)
        if size < self.target:
            return 0
        best, largest, q = np.inf, size, 0
        for growth in _GROWTHS:
            m = min(int(growth * size), self.capacity)
            seconds = self._seconds(size, m, kept, rates, to_go)
            index = int(np.argmin(seconds))
            if seconds[index] < best:
                best, largest, q = float(seconds[index]), m, int(kept[index])
        self.target = largest
        if largest > size:
            return 0
        self.restarted = True
        rate = float(rates[int(np.flatnonzero(kept == q)[0])])
        self._expected = to_go, _gain((size - q) * rate)
        self.reasons.append(
            f"at {size} columns of {1e3 * self.costs.column:.3g} ms each, {best:.2g} s to go: "
            f"kept {q}"
        )
        return q

    def _learn(self, to_go: float) -> None:
        """Compare the last cycle with what was predicted of it."""
        if self._expected is None:
            return
        before, gain = self._expected
        self._expected = None
        share = (before - to_go) / max(gain, 1e-12)
        self.faith *= float(np.sqrt(np.clip(share, 0.1, 2.0)))
        self.faith = min(max(self.faith, 0.02), 1.5)

    def _candidates(self, size: int) -> NDArray[np.intp]:
        """Numbers of directions that may be kept."""
        least, most = min(self.k + 1, size - 1), size - 2
        kept = np.clip((_KEPT_FRACTIONS * size).astype(int), least, max(most, least))
        return np.unique(kept)

    def _seconds(
        self,
        size: int,
        m: int,
        kept: NDArray[np.intp],
        rates: NDArray[np.float64],
        to_go: float,
    ) -> NDArray[np.float64]:
        """Predicted time to the answer with restarts at m, keeping `kept`."""
        costs = self.costs
        # on the way to m, everything is kept
        rate = max(float(rates.max()), 1e-12)
        growing = min(to_go / rate, m - size)
        passing = costs.passing_restarted if self.restarted else costs.passing
        before = growing * (costs.column + passing * (size + growing / 2))
        left = max(to_go - growing * rate, 0.0)
        unit = costs.multiply * self.n_local
        final = unit * (size + growing) * self.k
        if left == 0.0:
            return np.full(len(kept), before + final)
        width = m - kept
        gain = _gain(width * rates)
        cycles = left / np.maximum(gain, 1e-12)
        one = width * (costs.column + costs.passing_restarted * m)
        restart = unit * m * (m / 2 + kept)
        return np.asarray(before + cycles * one + np.ceil(cycles) * restart + final)


def _gain(exponent: Any) -> Any:
    """Logarithm of the reduction by a cycle of Chebyshev growth `exponent`."""
    return np.log(np.cosh(np.minimum(exponent, 700.0)))


def _rate(values: NDArray[Any], k: int, q: int) -> float:
    """Reduction per column, as a logarithm, of the slowest wanted pair when q values are kept."""
    rest = values[q:]
    low, high = float(rest.min()), float(rest.max())
    wanted = values[:k]
    distance = float(np.min(np.maximum(wanted - high, low - wanted)))
    width = high - low
    if distance <= 0.0 or width <= 0.0:
        return 0.0
    return float(np.arccosh(1.0 + 2.0 * distance / width))
