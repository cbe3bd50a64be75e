"""Completion by alternating least squares: each half step solves for one factor exactly.

Row i of the left factor solves ``(R_i' R_i + lambda n_i I) x = R_i' y_i``, with the rows R_i of the
right factor at its n_i seen entries; the right factor likewise. The ridge is weighted by the
number of entries (Zhou et al., "Large-scale parallel collaborative filtering for the Netflix
prize", AAIM 2008). Without a ridge, the fixed factor is made orthonormal before each half step,
so that normal equations lose no digits to its condition number.

Each rank holds the seen entries of its rows and, in a second copy, those of its columns. Half steps
need no communication; their results are gathered.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI

from hpcembed.networks.deep_linear.completion import Completion, entries_of_product
from hpcembed.networks.deep_linear.problems import Matrix
from hpcembed.networks.deep_linear.record import ConvergedReason, Recovery, Stage, ends
from hpcembed.networks.deep_linear.stages import STAGE_ITERATIONS, components_added, is_flat
from hpcembed.networks.deep_linear.surrogate_spectrum import SpectralStart, spectral_start
from hpcembed.runtime.arguments import check_count, is_number
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.ranks import allgather_rows, ownership_range

__all__ = ["fit_least_squares"]

#: Numbers in one batch of gathered factor rows.
_BATCH_NUMBERS = 2**20


def fit_least_squares(
    problem: Completion,
    rank: int | None = None,
    *,
    ridge: float = 0.0,
    staged: bool = True,
    tol: float = 1e-12,
    min_change: float = 1e-9,
    max_iterations: int = 200,
    start: SpectralStart | None = None,
    start_tol: float | None = None,
    seed: int = 0,
) -> Recovery:
    """Complete a table by alternating least squares.

    Collective on the problem's communicator.

    Parameters
    ----------
    problem : Completion
    rank : int, optional
        Default: by the spectra of the surrogates, for entries without noise.
    ridge : float
        Weight lambda of the squares of the factors, relative to the number of entries.
    staged : bool, default=True
        Whether components are added in stages, as by :func:`fit_scaled_gradient`. With a ridge,
        there is one stage.
    tol : float
        The iteration ends when the loss, without the ridge's part, is at most `tol`.
    min_change : float
        The iteration ends when the loss changes by less than this share of itself.
    max_iterations : int
    start : SpectralStart, optional
        Singular triplets of the surrogate, if they are known.
    start_tol : float, optional
        Tolerance of the spectral start, see :func:`spectral_start`.
    seed : int
        Of the solver of the spectral start.

    Returns
    -------
    Recovery
        One iteration is a half step for each factor; `start` is the first spectral start.

    Raises
    ------
    ConfigError
        An argument is out of range, or the problem is not a completion.
    ConvergenceError
        A singular vector of the surrogate misses its tolerance.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse
    >>> from hpcembed.networks.deep_linear import Completion, fit_least_squares
    >>> target = np.outer(np.arange(1.0, 21.0), np.arange(2.0, 22.0))
    >>> seen = scipy.sparse.coo_array(target * (np.random.default_rng(0).random((20, 20)) < 0.5))
    >>> found = fit_least_squares(Completion(seen), 1)
    >>> found.converged, bool(np.abs(found.left @ found.right.T - target).max() < 1e-3)
    (True, True)
    """
    _check(problem, rank, ridge, tol, min_change, max_iterations)
    began = time.perf_counter()
    first = start or spectral_start(problem, rank, tol=start_tol, seed=seed)
    if ridge or not staged:
        first.check_count(rank or 1)
    seconds_of_starts = time.perf_counter() - began
    run = _Run(problem, ridge, tol, min_change, max_iterations)
    spectrum, stages = first, []
    while True:
        added, last = rank or len(spectrum.values), True
        if staged and not ridge:
            added, last = components_added(spectrum, rank, run.rank, min(problem.shape))
        if added:
            run.add(spectrum, added)
        before = len(run.history)
        reason = run.sweep(last)
        stages.append(Stage(added, run.rank, len(run.history) - before))
        if last or reason is not ConvergedReason.STEP:
            break
        start_of_stage = time.perf_counter()
        missing = None if rank is None else rank - run.rank
        residual = problem.targets - problem.measure(run.left, run.right)
        spectrum = spectral_start(problem, missing, residual=residual, tol=start_tol, seed=seed)
        seconds_of_starts += time.perf_counter() - start_of_stage
    total = time.perf_counter() - began
    seconds = {"start": seconds_of_starts, "iterations": total - seconds_of_starts}
    return Recovery(
        "alternating least squares", problem.name, run.left, run.right, len(run.history) - 1,
        np.array(run.history), problem.recovery_error(run.left, run.right), seconds,
        sum(problem.shape) * run.rank, reason, first, stages=tuple(stages),
    )  # fmt: skip


class _Run:
    """Factors and history of the iteration, over all stages. Collective."""

    def __init__(
        self, problem: Completion, ridge: float, tol: float, min_change: float, limit: int
    ) -> None:
        self.problem, self.ridge, self.tol = problem, ridge, tol
        self.min_change, self.limit = min_change, limit
        self.columns = _own_columns(problem)
        self.left: Matrix = np.zeros((problem.rows.shape[0], 0))
        self.right: Matrix = np.zeros((problem.shape[1], 0))
        self.history: list[float] = []

    @property
    def rank(self) -> int:
        return self.right.shape[1]

    def add(self, spectrum: SpectralStart, count: int) -> None:
        """Add the dominant components of a spectral start."""
        left, right = spectrum.factors()
        self.left = np.hstack([self.left, left[:, :count]])
        self.right = np.hstack([self.right, right[:, :count]])
        if not self.history:
            self.history.append(_loss(self.problem, self.left, self.right))

    def sweep(self, last: bool) -> ConvergedReason:
        """Iterate until the tolerance, or the end of a stage that is not the last. Collective."""
        done = 0
        while True:
            ended = ends(self.history[-1], self.history[0], self.tol)
            if ended or len(self.history) > self.limit:
                return ended or ConvergedReason.ITERATIONS
            if not last and done >= STAGE_ITERATIONS:
                return ConvergedReason.STEP
            self._solve_both()
            done, before = done + 1, self.history[-1]
            loss = _loss(self.problem, self.left, self.right)
            self.history.append(loss)
            if not last and is_flat(done, before, loss):
                return ConvergedReason.STEP
            # the first iteration with a ridge may increase the loss without the ridge's part
            if done > 1 and abs(loss - before) <= self.min_change * before and loss > self.tol:
                return ConvergedReason.STEP

    def _solve_both(self) -> None:
        """Solve for the left factor, then for the right one. Collective."""
        comm, ridge = self.problem.comm, self.ridge
        right = self.right if ridge else _orthonormal(self.right)
        self.left = _solved(self.problem.rows, right, ridge)
        everywhere = self.left if comm.size == 1 else allgather_rows(comm, self.left)
        if not ridge:
            everywhere = _orthonormal(everywhere)
            self.left = everywhere[slice(*self.problem.row_range)]
        own = _solved(self.columns, everywhere, ridge)
        self.right = own if comm.size == 1 else allgather_rows(comm, own)


def _loss(problem: Completion, left: Matrix, right: Matrix) -> float:
    """Return the loss without the ridge's part. Collective."""
    found = entries_of_product(problem.rows.indptr, problem.rows.indices, left, right)
    found -= problem.rows.data
    return problem.loss(found)


def _orthonormal(factor: Matrix) -> Matrix:
    return np.linalg.qr(factor)[0]


def _solved(rows: Any, other: Matrix, ridge: float) -> Matrix:
    """Return the factor rows that fit the seen entries of CSR rows best. Not collective.

    Rows with similar numbers of entries are solved together; shorter ones are padded with a row of
    zeros. A row without entries is zero.
    """
    k = other.shape[1]
    padded = np.vstack([other, np.zeros((1, k))])
    counts = np.diff(rows.indptr)
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    found = np.zeros((rows.shape[0], k))
    first = 0
    while first < len(order):
        # bound by the first row's count, then cut to the batch's largest count
        most = max(1, _BATCH_NUMBERS // (k * int(counts[order[first]])))
        batch = order[first : first + most]
        largest = 2 * int(counts[batch[0]])
        batch = batch[: max(1, int(np.searchsorted(counts[batch], largest, side="right")))]
        found[batch] = _solved_batch(rows, batch, counts[batch], padded, ridge)
        first += len(batch)
    return found


def _solved_batch(rows: Any, batch: Any, counts: Any, padded: Matrix, ridge: float) -> Matrix:
    k = padded.shape[1]
    places = rows.indptr[batch][:, None] + np.arange(int(counts[-1]))
    real = np.arange(int(counts[-1])) < counts[:, None]
    places[~real] = 0
    indices = np.where(real, rows.indices[places], len(padded) - 1)
    factors = padded[indices]
    values = np.where(real, rows.data[places], 0.0)
    grams = np.matmul(factors.transpose(0, 2, 1), factors)
    sides = np.matmul(factors.transpose(0, 2, 1), values[:, :, None])
    if ridge:
        grams[:, np.arange(k), np.arange(k)] += ridge * counts[:, None]
        return np.linalg.solve(grams, sides)[:, :, 0]
    if int(counts[0]) >= k:
        try:
            return np.linalg.solve(grams, sides)[:, :, 0]
        except np.linalg.LinAlgError:
            pass  # a singular row: all of the batch by the pseudoinverse
    inverses = np.linalg.pinv(grams, rcond=1e-12, hermitian=True)
    return np.matmul(inverses, sides)[:, :, 0]


def _own_columns(problem: Completion) -> Any:
    """Return the seen entries of this rank's columns: CSR of shape (own columns, m). Collective."""
    rows, comm = problem.rows, problem.comm
    if comm.size == 1:
        return scipy.sparse.csr_array(rows.T)
    n = problem.shape[1]
    first, last = ownership_range(n, comm)
    bounds = np.array([*comm.allgather(first), n])
    owners = np.searchsorted(bounds, rows.indices, side="right") - 1
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=comm.size)
    row_numbers = (problem.row_numbers() + problem.row_range[0]).astype(np.int64)
    received = [
        _exchanged(comm, np.ascontiguousarray(values[order]), counts)
        for values in (row_numbers, rows.indices.astype(np.int64), rows.data)
    ]
    own_rows, own_columns, values = received
    return scipy.sparse.csr_array(
        (values, (own_columns - first, own_rows)), shape=(last - first, problem.shape[0])
    )


def _exchanged(comm: MPI.Intracomm, values: Any, counts: Any) -> Any:
    """Send consecutive parts of an array to the ranks; return the parts received. Collective."""
    incoming = np.empty(comm.size, dtype=np.int64)
    comm.Alltoall(counts.astype(np.int64), incoming)
    found = np.empty(int(incoming.sum()), dtype=values.dtype)
    comm.Alltoallv([values, counts.tolist()], [found, incoming.tolist()])
    return found


def _check(
    problem: Completion,
    rank: int | None,
    ridge: float,
    tol: float,
    min_change: float,
    max_iterations: int,
) -> None:
    if not isinstance(problem, Completion):
        raise ConfigError("alternating least squares completes tables: give a Completion")
    check_count("rank", rank, optional=True)
    check_count("max_iterations", max_iterations)
    for name, value in (("ridge", ridge), ("tol", tol), ("min_change", min_change)):
        if not is_number(value) or value < 0:
            raise ConfigError(f"{name} must be a number of at least 0, got {value!r}")
