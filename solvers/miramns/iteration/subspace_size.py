"""Subspace sizes: when to test convergence, when to restart, and how many columns to keep.

All subspaces of MIRAMns share one start vector and differ in size only, so they are nested in one
Arnoldi factorisation: testing a smaller one costs a small dense problem but no product. Which size
is best depends on the operator, k and the machine: a larger subspace needs fewer products, and more
memory and orthogonalisation, which grows with its square.

* ``FixedSizes`` tests at given sizes (checkpoints) and restarts at the last of them (in the first
  cycles at smaller ones), keeping the wanted directions and half of the others. It depends on
  numbers alone, so runs repeat exactly. It is used for short vectors, and for sizes given by the
  caller.
* ``MeasuredSizes`` decides during the iteration, from measured seconds of a column, of its
  reorthogonalisation and of a restart. Restarts at size m increase the number of products by

      1 + (2.35 k / m)^3.5 (1 + 2.5 (1/3 - s)) + 0.1 (1/3 - s),

  where s is the share of the unwanted directions that is kept. The fit is made to thick restarts on
  bulk edges, the hard case (random graph, k = 10: 1.8, 1.15, 1.04, 1.015 at m / k = 2.5, 4, 6, 8
  and s = 1/3, which is as good as 1/2; 1.27, 1.07, 1.04 at 4, 6, 8 and s = 0.15;
  ``benchmarks/restarts.py``). Size and share of least predicted time are chosen anew at each
  checkpoint, on one rank for all. If states are saved, nominal seconds
  replace the measured ones. Near the answer the iteration continues without a restart. After many
  restarts larger sizes are preferred, because hard spectra lose more by each restart.

References: Shahzadeh Fazeli, Emad, Liu, Numerical Algorithms (2015); Emad, Shahzadeh Fazeli,
Dongarra (2010). Wu and Simon, SIAM J. Matrix Anal. Appl. 22 (2000); Yamazaki, Bai, Simon, Wang, Wu,
"Adaptive projection subspace dimension for the thick-restart Lanczos method", ACM TOMS 37 (2010).

Deviation: Yamazaki et al. choose sizes by the reduction that the Ritz values predict for one cycle.
In experiments here this predicted several times too much, because Ritz values within the bulk are
no eigenvalues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from miramns.errors import MiramnsError
from miramns.projected import on_root

if TYPE_CHECKING:
    from miramns.factorization.lanczos import LanczosFactorization
    from miramns.iteration.nominal_seconds import NominalSeconds


#: Checkpoints grow by this fraction, so that few products follow the answer, and the small dense
#: problems stay cheap beside the products.
_GROWTH = 0.06

#: Largest subspace of the default variant without measurements: this many columns, or this multiple
#: of k. Beyond it the number of products hardly decreases, and the time of the small problem grows
#: with the third power; the QR algorithm for nonsymmetric problems takes ten times as long.
_LARGEST, _LARGEST_PER_PAIR = 120, 6
_LARGEST_NONSYMMETRIC, _LARGEST_PER_PAIR_NONSYMMETRIC = 60, 5

#: Largest nested size of the published method.
_PUBLISHED_LARGEST = 200

#: Fit of the products that restarts need, as in the module's docstring.
_SPREAD, _POWER, _STEEPNESS, _SLOPE = 2.35, 3.5, 2.5, 0.1

#: The fit holds for some restarts. Harder spectra lose more by each restart, which shows in the
#: number of restarts: after this many the spread counts double.
_RESTARTS = 25

#: Shares of the unwanted directions that ``MeasuredSizes`` may keep.
_SHARES = np.array([0.1, 0.15, 0.2, 0.25, 1 / 3])

#: Growth of the largest size from one cycle to the next. Small first cycles take the same number of
#: products, with less orthogonalisation and smaller projected problems; hard spectra reach the
#: largest size after some restarts.
_CYCLE_GROWTH = 1.25

#: Ratio of the sizes that ``MeasuredSizes`` considers.
_STEP = 1.1

#: With less than this share of the size to go, a restart does not pay.
_NEAR = 0.4

#: A checkpoint pays when the columns since the last one took this many times as long as it.
_CHECKPOINT_SHARE = 12.0

#: Columns without a checkpoint: this share of the columns predicted to be left, but at most this
#: share of the columns so far, because convergence may begin suddenly.
_SHARE_AHEAD = 0.5
_MOST_AHEAD = 0.12

#: Convergence becomes at most this many times faster than in the last cycle.
_ACCELERATION = 4.0

#: Near the answer, at most this share of the columns so far passes without a checkpoint, so that
#: few products follow the answer.
_MOST_WAIT = 0.05


def nested_sizes(
    k: int,
    n: int,
    *,
    ncv: int | None,
    given: Sequence[int] | None,
    published: bool,
    basis_columns: int,
    hermitian: bool,
) -> tuple[int, ...]:
    """Return the increasing subspace sizes of an iteration with fixed sizes.

    Parameters
    ----------
    ncv, given
        Largest size, and the sizes, requested by the caller.
    basis_columns : int
        Columns of the basis that memory allows.

    Raises
    ------
    MiramnsError
        If the largest size is too small for k.
    """
    if given is not None:
        sizes = tuple(sorted({min(int(size), n) for size in given}))
        if not sizes:
            raise MiramnsError("nested_sizes is empty: give at least one size, or None")
    elif published:
        sizes = published_sizes(k, n, ncv or 0)
    else:
        largest = ncv or largest_size(k, n, min(basis_columns, n + 1), hermitian=hermitian)
        sizes = checkpoints(k, min(largest, n))
    least = min(k + 2, n)
    if sizes[-1] < least:
        raise MiramnsError(
            f"need a largest subspace of at least min(k + 2, n) = {least}, got {sizes[-1]}"
        )
    return tuple(size for size in sizes if size >= min(k + 1, n))


def largest_size(k: int, n: int, basis_columns: int, *, hermitian: bool = True) -> int:
    """Return the largest subspace size of the default variant.

    Parameters
    ----------
    k, n : int
        Number of wanted pairs, and dimension of the operator.
    basis_columns : int
        Columns of the basis that memory allows.
    hermitian : bool

    Examples
    --------
    >>> from miramns import largest_size
    >>> largest_size(10, 10_000, 1000), largest_size(10, 10_000, 41), largest_size(10, 60, 61)
    (120, 40, 60)
    """
    if hermitian:
        wanted = max(_LARGEST, _LARGEST_PER_PAIR * k)
    else:
        wanted = max(_LARGEST_NONSYMMETRIC, _LARGEST_PER_PAIR_NONSYMMETRIC * k)
    return max(min(wanted, basis_columns - 1, n), min(k + 2, n))


def first_cycle(k: int) -> int:
    """Return the largest subspace of the first cycle of the default variant."""
    return k + k // 2 + 15


def checkpoints(k: int, largest: int) -> tuple[int, ...]:
    """Return the nested sizes of the default variant."""
    sizes = []
    size = min(k + 2, largest)
    while size < largest:
        sizes.append(size)
        size += max(2, round(_GROWTH * size))
    return (*sizes, largest)


def published_sizes(k: int, n: int, largest: int = 0) -> tuple[int, ...]:
    """Return the nested sizes of the published code: every integer from 2k to m_l, or m_l to 2k.

    Deviation: sizes that leave no shift (at most k) or exceed n are left out.
    """
    largest = largest or _PUBLISHED_LARGEST
    low, high = sorted((2 * k, largest))
    low, high = max(low, k + 1), min(high, n)
    return tuple(range(min(low, high), high + 1))


def kept_size(k: int, m: int) -> int:
    """Return the number of directions that a thick restart keeps: k and half of the others."""
    return min(k + (m - k) // 2, m - 1)


class FixedSizes:
    """Given sizes, with a restart at the last, or at smaller ones in the first cycles.

    A checkpoint is left out if the last two checkpoints, or after two restarts the last two
    restarts, predict that the answer is far.

    Parameters
    ----------
    k : int
    sizes : tuple of int
        Increasing.
    first : int
        Largest size of the first cycle; each restart raises it by a quarter. 0 for the last size.
    """

    def __init__(self, k: int, sizes: tuple[int, ...], first: int = 0) -> None:
        self.k = k
        self.sizes = sizes
        self._limit = float(first or sizes[-1])
        self._last = self._largest_below(self._limit)
        self._rate = ConvergenceRate()
        self._ahead = 0.0
        self._at_restarts: list[float] = []

    def next_checkpoint(self, size: int) -> int:
        """Return the next of the sizes that is worth a test."""
        most = max(_MOST_AHEAD * size, self._certainly_ahead(size))
        wanted = size + max(1.0, min(_SHARE_AHEAD * self._ahead, most))
        # after a breakdown, or at the limit of restarts, a cycle goes beyond its largest size
        last = self._last if size < self._last else self.sizes[-1]
        return next((m for m in self.sizes if wanted <= m <= last), last)

    def keep(self, size: int, to_go: float, seconds: float) -> int:
        """Return the number of directions to keep in a restart now; 0 for no restart.

        k and half of the other directions, at the largest size of this cycle.

        Parameters
        ----------
        to_go : float
            Natural logarithm of the largest ratio of a wanted residual to its tolerance.
        seconds : float
            Time of the solution of the projected problem.
        """
        self._ahead = self._rate.columns_to_go(size, to_go)
        if size < self._last:
            return 0
        kept = kept_size(self.k, size)
        self._limit *= _CYCLE_GROWTH
        self._last = self._largest_below(self._limit)
        self._rate.restart(kept)
        self._at_restarts = [*self._at_restarts[-1:], to_go]
        return kept

    def decisions(self) -> tuple[str, ...]:
        """Return nothing: the sizes are fixed."""
        return ()

    def _certainly_ahead(self, size: int) -> float:
        """Return the columns needed even if convergence becomes several times faster."""
        if len(self._at_restarts) < 2:
            return 0.0
        before, now = self._at_restarts
        if now >= before:
            return np.inf
        kept = kept_size(self.k, self._last)
        cycles = now / (before - now) / _ACCELERATION
        return cycles * (self._last - kept) - (size - kept)

    def _largest_below(self, limit: float) -> int:
        return max((m for m in self.sizes if m <= limit), default=self.sizes[0])


class MeasuredSizes:
    """Sizes chosen during the iteration, on rank 0 for all ranks.

    Parameters
    ----------
    k : int
    capacity : int
        Largest size that memory and n allow.
    n_local : int
        Largest number of rows on a rank.
    factorization : LanczosFactorization
        Its measured times decide.
    nominal : NominalSeconds, optional
        Decide instead, so that the choice repeats.
    """

    def __init__(
        self,
        k: int,
        capacity: int,
        n_local: int,
        factorization: LanczosFactorization,
        nominal: NominalSeconds | None = None,
    ) -> None:
        self.k = k
        self.capacity = capacity
        self.n_local = n_local
        # measured seconds: a column with its product and local orthogonalisation; its
        # reorthogonalisation after a restart, per column of the basis; a multiply-add in a matrix
        # product with the basis; the last solution of the projected problem
        self._column = self._reorthogonalization = self._multiply = self._projected = 0.0
        self._factorization = factorization
        self._nominal = nominal
        self._comm: MPI.Comm = factorization.comm
        self._decisions: list[str] = []
        self._rate = ConvergenceRate()
        self._ahead = 0.0

    def next_checkpoint(self, size: int) -> int:
        """Return the size at which the answer is predicted to be near. Collective."""
        return on_root(self._comm, lambda: self._next_checkpoint(size))

    def keep(self, size: int, to_go: float, seconds: float) -> int:
        """Return the number of directions to keep for the least predicted time. Collective."""
        f = self._factorization
        self._column = (f.seconds["product"] + f.seconds["local"]) / max(f.n_matvec, 1)
        _, self._reorthogonalization = f.reorthogonalization_seconds()
        self._multiply = f.seconds_per_multiply()
        self._projected = seconds
        if (nominal := self._nominal) is not None:
            self._column, self._multiply = nominal.column, nominal.multiply
            self._reorthogonalization = nominal.reorthogonalization
            self._projected = nominal.projected(size)
        return on_root(self._comm, lambda: self._keep(size, to_go))

    def decisions(self) -> tuple[str, ...]:
        """Return one line per restart. Collective."""
        return tuple(self._comm.bcast(self._decisions))

    def _next_checkpoint(self, size: int) -> int:
        enough = _CHECKPOINT_SHARE * self._projected / max(self._column, 1e-9)
        enough = min(enough, _MOST_WAIT * size)
        step = max(min(_SHARE_AHEAD * self._ahead, _MOST_AHEAD * size), enough, 2)
        return min(max(size + int(step), self.k + 2), self.capacity)

    def _keep(self, size: int, to_go: float) -> int:
        self._ahead = self._rate.columns_to_go(size, to_go)
        near = self._ahead < _NEAR * size
        best, share = self._best_size()
        if size < self.capacity and (near or size < best):
            return 0
        kept = int(self._kept(np.array([[size]]), share)[0, 0])
        self._rate.restart(kept)
        restart = float(self._restart_seconds(np.array(size), np.array(kept)))
        self._decisions.append(
            f"restart at {size}, kept {kept}: a column takes {1e3 * self._column:.2g} ms, "
            f"its reorthogonalisation {1e3 * self._reorthogonalization * size:.2g} ms, "
            f"a restart {1e3 * restart:.2g} ms"
        )
        return kept

    def _best_size(self) -> tuple[int, float]:
        """Return the size and the share kept of least predicted time."""
        least = min(max(3 * self.k, self.k + 10), self.capacity)
        steps = np.log(max(self.capacity / least, 1.0)) / np.log(_STEP)
        sizes = np.unique((least * _STEP ** np.arange(steps + 1)).astype(int))[:, None]
        kept = self._kept(sizes, _SHARES)
        column = self._column + self._reorthogonalization * sizes
        column = column + self._restart_seconds(sizes, kept) / (sizes - kept)
        short = 1 / 3 - _SHARES
        spread = _SPREAD * (1 + len(self._decisions) / _RESTARTS)
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
        return np.asarray(self._multiply * self.n_local * products)


class ConvergenceRate:
    """Decrease of the residuals from one checkpoint to the next."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self._rate = 0.0

    def columns_to_go(self, size: int, to_go: float) -> float:
        """Return a prediction from the last two checkpoints; infinite without a decrease."""
        if self._last is not None and size > self._last[0]:
            self._rate = (self._last[1] - to_go) / (size - self._last[0])
        self._last = size, to_go
        return to_go / self._rate if self._rate > 0 else np.inf

    def restart(self, kept: int) -> None:
        """Count columns from `kept` on."""
        assert self._last is not None  # a restart follows a checkpoint
        self._last = kept, self._last[1]
