"""When to look at the projected problem, when to restart, and how much to keep.

The method's own question is which subspace size is best. It has no answer that holds for every
operator, k and machine: a larger subspace needs fewer products, and pays for it with memory and
with orthogonalisation that grows with its square.

* ``FixedPlan`` looks at given sizes and restarts at the last of them, keeping the wanted directions
  and half of the others. It depends on nothing but numbers, so runs repeat exactly. Used where
  products are short and where the caller gives sizes.
* ``MeasuredPlan`` decides while running, from what was measured in this run: seconds of a column,
  of reorthogonalisation, of a restart. Restarts at size m need more products than none by a factor
  that falls quickly with m / k,

      1 + (2.35 k / m)^3.5 (1 + 2.5 (1/3 - s)) + 0.1 (1/3 - s),

  where s is the share that is kept of what is not wanted. It is fitted to thick restarts on bulk
  edges, the hard case (random graph, k = 10: 1.8, 1.15, 1.04, 1.015 at m / k = 2.5, 4, 6, 8 and
  s = 1/3, which is as good as 1/2; 1.27, 1.07, 1.04 at 4, 6, 8 and s = 0.15;
  ``benchmarks/restarts.py``). The size and share of
  least predicted time are taken, anew at each look, on one rank for all; where the answer is near,
  the run goes on without a restart. With the number of restarts made, larger sizes are preferred:
  spectra that need many lose more by each.

References: Wu and Simon, SIAM J. Matrix Anal. Appl. 22 (2000); Yamazaki, Bai, Simon, Wang, Wu,
"Adaptive projection subspace dimension for the thick-restart Lanczos method", ACM TOMS 37 (2010),
which chooses sizes by the reduction that Ritz values promise for one cycle. Tried here first: it
trusts Ritz values within the bulk, which are no eigenvalues, and promises several times too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from miramns.restart import kept_size

__all__ = ["Costs", "FixedPlan", "MeasuredPlan", "Plan", "Progress"]

#: Fit of the products that restarts need, as in the module's text.
_SPREAD, _POWER, _STEEPNESS, _SLOPE = 2.35, 3.5, 2.5, 0.1

#: The fit holds for runs of some restarts. Harder spectra lose more by each, which shows in their
#: number: after so many restarts the spread counts double.
_RESTARTS = 25

#: Shares of what is not wanted that ``MeasuredPlan`` may keep.
_SHARES = np.array([0.1, 0.15, 0.2, 0.25, 1 / 3])

#: Sizes that ``MeasuredPlan`` considers grow by this factor.
_STEP = 1.1

#: With less than this share of the size to go, a restart does not pay.
_NEAR = 0.4

#: A look is worth its time when the columns made since the last one took this many times as long.
_LOOK_SHARE = 12.0

#: What is made without a look: this share of the columns predicted to be left, but not
#: more than this share of those there are, as convergence may set in suddenly.
_SHARE_AHEAD = 0.5
_MOST_AHEAD = 0.12

#: Convergence is not expected to become faster than this many times the rate of the last cycle.
_ACCELERATION = 4.0


#: But no more columns than this share of those there are pass without one where the answer is near:
#: products are what is counted when they are not what takes the time.
_MOST_WAIT = 0.05


class Plan(Protocol):
    """What the run asks."""

    def next_look(self, size: int) -> int:
        """Size at which the projected problem is to be solved next."""
        ...

    def kept_at(self, size: int, to_go: float) -> int:
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
        self._progress = Progress()
        self._ahead = 0.0
        self._at_restarts: list[float] = []

    def next_look(self, size: int) -> int:
        """The next of the sizes that is worth a look. Not collective."""
        most = max(_MOST_AHEAD * size, self._certainly_ahead(size))
        wanted = size + max(1.0, min(_SHARE_AHEAD * self._ahead, most))
        return next((m for m in self.sizes if m >= wanted), self.sizes[-1])

    def kept_at(self, size: int, to_go: float) -> int:
        """Half of what is not wanted, at the last size. Not collective."""
        self._ahead = self._progress.columns_to_go(size, to_go)
        if size < self.sizes[-1]:
            return 0
        keep = kept_size(self.k, size)
        self._progress.restarted_with(keep)
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


@dataclass(slots=True)
class Costs:
    """Seconds as measured in this run so far.

    Attributes
    ----------
    column : float
        Of a product with its local orthogonalisation.
    passing_restarted : float
        Of the reorthogonalisation after a restart, per column and column of the basis.
    multiply : float
        Of one multiply-add in a matrix product with the basis.
    look : float
        Of the last solution of the projected problem.
    """

    column: float = 0.0
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
        self.reasons: list[str] = []
        self._progress = Progress()
        self._ahead = 0.0

    def next_look(self, size: int) -> int:
        """Where the predicted answer comes into sight. Not collective: for one rank to decide."""
        enough = _LOOK_SHARE * self.costs.look / max(self.costs.column, 1e-9)
        enough = min(enough, _MOST_WAIT * size)
        step = max(min(_SHARE_AHEAD * self._ahead, _MOST_AHEAD * size), enough, 2)
        return min(max(size + int(step), self.k + 2), self.capacity)

    def kept_at(self, size: int, to_go: float) -> int:
        """What leads to the answer soonest. Not collective: for one rank to decide."""
        self._ahead = self._progress.columns_to_go(size, to_go)
        near = self._ahead < _NEAR * size
        best, share = self.best_size()
        if size < self.capacity and (near or size < best):
            return 0
        keep = int(self._kept(np.array([[size]]), share)[0, 0])
        self._progress.restarted_with(keep)
        restart = float(self._restart_seconds(np.array(size), np.array(keep)))
        self.reasons.append(
            f"restart at {size}, kept {keep}: a column takes {1e3 * self.costs.column:.2g} ms, "
            f"reorthogonalising it {1e3 * self.costs.passing_restarted * size:.2g} ms, "
            f"a restart {1e3 * restart:.2g} ms"
        )
        return keep

    def best_size(self) -> tuple[int, float]:
        """Size and share kept of least predicted time for restarts. Not collective."""
        least = min(max(3 * self.k, self.k + 10), self.capacity)
        steps = np.log(max(self.capacity / least, 1.0)) / np.log(_STEP)
        sizes = np.unique((least * _STEP ** np.arange(steps + 1)).astype(int))[:, None]
        kept = self._kept(sizes, _SHARES)
        column = self.costs.column + self.costs.passing_restarted * sizes
        column = column + self._restart_seconds(sizes, kept) / (sizes - kept)
        short = 1 / 3 - _SHARES
        spread = _SPREAD * (1 + len(self.reasons) / _RESTARTS)
        excess = (spread * self.k / sizes) ** _POWER * (1 + _STEEPNESS * short) + _SLOPE * short
        best = np.unravel_index(int(np.argmin(column * (1 + excess))), excess.shape)
        return int(sizes[best[0], 0]), float(_SHARES[best[1]])

    def _kept(
        self, sizes: NDArray[np.intp], share: float | NDArray[np.float64]
    ) -> NDArray[np.intp]:
        kept = self.k + (share * (sizes - self.k)).astype(int)
        return np.minimum(np.maximum(kept, self.k + 1), sizes - 1)

    def _restart_seconds(
        self, sizes: NDArray[np.intp], kept: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        products = (sizes**2 - kept**2) / 2 + sizes * kept
        return np.asarray(self.costs.multiply * self.n_local * products)


class Progress:
    """How fast the residuals fall, from one look to the next."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self._rate = 0.0

    def columns_to_go(self, size: int, to_go: float) -> float:
        """Prediction by the slope since the last look; infinite where there is none."""
        if self._last is not None and size > self._last[0]:
            self._rate = (self._last[1] - to_go) / (size - self._last[0])
        self._last = size, to_go
        return to_go / self._rate if self._rate > 0 else np.inf

    def restarted_with(self, kept: int) -> None:
        """Columns are counted from `kept` on."""
        assert self._last is not None  # a restart follows a look
        self._last = kept, self._last[1]
