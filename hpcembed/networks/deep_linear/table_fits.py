"""Fits of tables: offsets and alternating least squares, on distributed rows of users."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.deep_linear.completion import Completion
from hpcembed.networks.deep_linear.least_squares import fit_least_squares
from hpcembed.networks.deep_linear.offsets import Offsets, fit_offsets
from hpcembed.networks.deep_linear.record import Recovery
from hpcembed.networks.deep_linear.surrogate_spectrum import SpectralStart, spectral_start
from hpcembed.networks.deep_linear.triplets import Triplets
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range

__all__ = ["Candidate", "FinalFit", "TableFits"]

#: Iterations of candidates, and the share of the loss by which they must change it to go on.
_TRIAL_ITERATIONS, _TRIAL_CHANGE = 15, 1e-3
#: The same share of the final fit, with a ridge and without one.
_MIN_CHANGE, _EXACT_CHANGE = 1e-4, 1e-9


@dataclass(frozen=True)
class Candidate:
    """A rank and a ridge with their error on the validation entries.

    Attributes
    ----------
    rank : int
    ridge : float
    rmse : float
    iterations : int
    """

    rank: int
    ridge: float
    rmse: float
    iterations: int


@dataclass(frozen=True, eq=False)
class FinalFit:
    """The fit to all entries but the test entries, and its errors.

    Attributes
    ----------
    recovery : Recovery
    offsets : Offsets
    limits : tuple of float
        Smallest and largest training value.
    training_rmse, test_rmse, offsets_rmse : float
    """

    recovery: Recovery
    offsets: Offsets
    limits: tuple[float, float]
    training_rmse: float
    test_rmse: float
    offsets_rmse: float


@dataclass(frozen=True)
class Part:
    """This rank's entries of one part: local rows."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float64]


class TableFits:
    """The entries of a table, test entries last in a random order, and fits to parts of them."""

    def __init__(
        self, entries: Triplets, n_test: int, offsets: bool, seed: int, comm: MPI.Intracomm
    ) -> None:
        self.entries, self.offsets, self.seed, self.comm = entries, offsets, seed, comm
        self.known = len(entries.values) - n_test
        self.shape = len(entries.users), len(entries.items)
        self.range = ownership_range(self.shape[0], comm)
        if min(self.shape) < 2:
            raise InputError(
                f"the table has {self.shape[0]} user(s) and {self.shape[1]} item(s): "
                "give at least two of each"
            )
        if self.known < 2:
            raise InputError(f"{self.known} training entries remain: give more, or a smaller share")

    def n_validation(self, share: float) -> int:
        """Return the number of validation entries for a share of those that are known."""
        return max(1, round(share * self.known))

    def part(self, first: int, last: int) -> Part:
        """Return this rank's share of the entries first..last-1."""
        begin, end = self.range
        rows = self.entries.rows[first:last]
        mine = (rows >= begin) & (rows < end)
        return Part(
            rows[mine] - begin,
            self.entries.columns[first:last][mine],
            self.entries.values[first:last][mine],
        )

    def problem(self, part: Part) -> tuple[Completion, Offsets]:
        """Return the completion of a part without its offsets. Collective."""
        local = (self.range[1] - self.range[0], self.shape[1])
        found = fit_offsets(self.comm, local, part.rows, part.columns, part.values)
        if not self.offsets:
            found = Offsets(0.0, np.zeros(local[0]), np.zeros(local[1]))
        rest = part.values - found.at(part.rows, part.columns)
        table = scipy.sparse.coo_array((rest, (part.rows, part.columns)), shape=local)
        return Completion(table, self.comm, storage="sparse"), found

    def choose(
        self, ranks: Sequence[int], ridges: Sequence[float], share: float
    ) -> tuple[Candidate, ...]:
        """Return the candidates by rank and ridge, with their validation errors. Collective."""
        cut = self.known - self.n_validation(share)
        if cut < 2:
            raise InputError(f"{cut} training entries remain: give more, or a smaller share")
        training, validation = self.part(0, cut), self.part(cut, self.known)
        problem, offsets = self.problem(training)
        ranks = sorted({min(one, min(self.shape)) for one in ranks})
        start = spectral_start(problem, ranks[-1], seed=self.seed)
        limits = self.limits(training)
        found: dict[tuple[int, float], Candidate] = {}

        def attempt(rank: int, ridge: float) -> None:
            fit = fit_least_squares(
                problem, rank, ridge=ridge, min_change=_TRIAL_CHANGE,
                max_iterations=_TRIAL_ITERATIONS, start=_first(start, rank),
            )  # fmt: skip
            rmse = self.rmse(validation, fit, offsets, limits)
            found[rank, ridge] = Candidate(rank, ridge, rmse, fit.iterations)

        middle = ranks[len(ranks) // 2]
        for ridge in ridges:
            attempt(middle, float(ridge))
        best = min(found.values(), key=lambda one: one.rmse).ridge
        for rank in ranks:
            if (rank, best) not in found:
                attempt(rank, best)
        return tuple(found[key] for key in sorted(found))

    def fit(self, rank: int, ridge: float, max_iterations: int) -> FinalFit:
        """Fit all entries but the test entries, and measure the test error. Collective."""
        training, test = self.part(0, self.known), self.part(self.known, len(self.entries.values))
        problem, offsets = self.problem(training)
        start = spectral_start(problem, rank, seed=self.seed)
        recovery = fit_least_squares(
            problem,
            rank,
            ridge=ridge,
            staged=False,
            min_change=_MIN_CHANGE if ridge else _EXACT_CHANGE,
            max_iterations=max_iterations,
            start=start,
        )
        limits = self.limits(training)
        return FinalFit(
            recovery,
            offsets,
            limits,
            self.rmse(training, recovery, offsets, limits),
            self.rmse(test, recovery, offsets, limits),
            self.rmse(test, None, offsets, limits),
        )

    def limits(self, part: Part) -> tuple[float, float]:
        """Return the smallest and largest value of a part. Collective."""
        least = float(part.values.min(initial=math.inf))
        most = float(part.values.max(initial=-math.inf))
        return self.comm.allreduce(least, op=MPI.MIN), self.comm.allreduce(most, op=MPI.MAX)

    def rmse(
        self, part: Part, fit: Recovery | None, offsets: Offsets, limits: tuple[float, float]
    ) -> float:
        """Return the root mean square error on the entries of a part. Collective."""
        predicted = offsets.at(part.rows, part.columns)
        if fit is not None:
            predicted += fit.entries(part.rows, part.columns)
        errors = np.clip(predicted, *limits) - part.values
        squares = np.array([float(errors @ errors), float(len(errors))])
        total = self.comm.allreduce(squares)
        return math.sqrt(total[0] / total[1]) if total[1] else math.nan


def _first(start: SpectralStart, rank: int) -> SpectralStart:
    """Return the first components of a start."""
    return replace(
        start, left=start.left[:, :rank], values=start.values[:rank],
        right=np.ascontiguousarray(start.right[:, :rank]),
        residual_norms=start.residual_norms[:rank],
    )  # fmt: skip
