"""Scaled gradient descent (ScaledGD) on two factors, from staged spectral starts.

Tong, Ma and Chi, "Accelerating ill-conditioned low-rank matrix estimation via scaled gradient
descent", J. Mach. Learn. Res. 22 (2021): with G the surrogate of the residual,

    left  -= step * G  right (right' right)^-1
    right -= step * G' left  (left' left)^-1.

The rate does not depend on the condition number of the matrix. ``direction="gradient"`` with
``step=0.5`` and ``staged=False`` is the published method. By default, three things differ:

* Directions are conjugate (Polak-Ribiere) in the metric of the scaling, and the step minimises the
  loss along the direction: a polynomial of degree 4, whose coefficients are inner products of
  measurements. The step needs no tuning.
* Small singular values lie below the noise that the missing entries give the surrogate, so that a
  single spectral start has no direction of theirs. The start is staged: a few iterations with the
  components above the noise, then the spectral start of the residual, whose noise is smaller.
* Without a given rank, stages end when no singular value of the residual is above its noise.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hpcembed.networks.deep_linear.problems import Matrix, Problem
from hpcembed.networks.deep_linear.record import ConvergedReason, Recovery, Stage, ends
from hpcembed.networks.deep_linear.search_directions import (
    Directions,
    Pair,
    best_step,
    times_inverse,
)
from hpcembed.networks.deep_linear.stages import STAGE_ITERATIONS, components_added, is_flat
from hpcembed.networks.deep_linear.surrogate_spectrum import SpectralStart, spectral_start
from hpcembed.runtime.arguments import check_choice, check_count, is_number
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["fit_scaled_gradient"]

#: The iteration ends when `_STALLED` iterations in turn change the loss by less than this share.
_SMALLEST_CHANGE = 1e-9
_STALLED = 3
#: Iterations after which the residual is computed afresh; else it is updated.
_REFRESH = 25


def fit_scaled_gradient(
    problem: Problem,
    rank: int | None = None,
    *,
    direction: Literal["conjugate", "gradient"] = "conjugate",
    step: float | None = None,
    staged: bool = True,
    tol: float = 1e-12,
    max_iterations: int = 1000,
    start: SpectralStart | None = None,
    start_tol: float | None = None,
    seed: int = 0,
) -> Recovery:
    """Recover a matrix of low rank by scaled gradient descent on its two factors.

    Collective on the problem's communicator.

    Parameters
    ----------
    problem : Factorisation, Completion or Sensing
    rank : int, optional
        Default: by the spectra of the surrogates, for measurements without noise.
    direction : {"conjugate", "gradient"}, default="conjugate"
    step : float, optional
        Length of the step. Default: the one that minimises the loss along the direction.
    staged : bool, default=True
        Whether components are added in stages.
    tol : float
        The iteration ends when the loss is at most `tol`.
    max_iterations : int
        Of all stages together.
    start : SpectralStart, optional
        Singular triplets of the surrogate, if they are known.
    start_tol : float, optional
        Tolerance of spectral starts, see :func:`spectral_start`.
    seed : int
        Of the solver of the spectral start.

    Returns
    -------
    Recovery
        `start` is the first spectral start.

    Raises
    ------
    ConfigError
        An argument is out of range.
    ConvergenceError
        A singular vector of a surrogate misses its tolerance.

    References
    ----------
    T. Tong, C. Ma, Y. Chi, J. Mach. Learn. Res. 22 (2021), 1-63.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse
    >>> from hpcembed.networks.deep_linear import Completion, fit_scaled_gradient
    >>> target = np.outer(np.arange(1.0, 21.0), np.arange(2.0, 22.0))
    >>> seen = scipy.sparse.coo_array(target * (np.random.default_rng(0).random((20, 20)) < 0.5))
    >>> found = fit_scaled_gradient(Completion(seen), 1)
    >>> found.converged, bool(np.abs(found.left @ found.right.T - target).max() < 1e-3)
    (True, True)
    """
    _check(problem, rank, direction, step, tol, max_iterations)
    run = _Run(problem, direction, step, tol, max_iterations)
    began = time.perf_counter()
    first = start or spectral_start(problem, rank, tol=start_tol, seed=seed)
    if not staged:
        first.check_count(rank or 1)
    seconds_of_starts = time.perf_counter() - began
    spectrum, stages = first, []
    while True:
        added, last = rank or len(spectrum.values), True
        if staged:
            added, last = components_added(spectrum, rank, run.rank, min(problem.shape))
        if added:
            run.add(spectrum, added)
        before = len(run.history)
        reason = run.descend(last)
        done = len(run.history) - max(before, 1)
        stages.append(Stage(added, run.rank, done))
        if last or reason in (ConvergedReason.LOSS, ConvergedReason.DIVERGED) or run.spent:
            break
        start_of_stage = time.perf_counter()
        missing = None if rank is None else rank - run.rank
        spectrum = spectral_start(
            problem, missing, residual=-run.residual, tol=start_tol, seed=seed
        )
        seconds_of_starts += time.perf_counter() - start_of_stage
    seconds = {
        "start": seconds_of_starts,
        "iterations": time.perf_counter() - began - seconds_of_starts,
    }
    parameters = (problem.shape[0] + problem.shape[1]) * run.rank
    return Recovery(
        "scaled gradient" if direction == "gradient" else "scaled conjugate gradient",
        problem.name, run.left, run.right, len(run.history) - 1, np.array(run.history),
        problem.recovery_error(run.left, run.right), seconds, parameters, reason, first,
        stages=tuple(stages),
    )  # fmt: skip


@dataclass
class _Run:
    """Factors, residual and history of the iteration, over all stages."""

    problem: Problem
    direction: str
    step: float | None
    tol: float
    max_iterations: int
    history: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        start, end = self.problem.row_range
        self.left: Matrix = np.zeros((end - start, 0))
        self.right: Matrix = np.zeros((self.problem.shape[1], 0))
        self.residual: Matrix = -self.problem.targets

    @property
    def rank(self) -> int:
        return self.left.shape[1]

    @property
    def spent(self) -> bool:
        return len(self.history) > self.max_iterations

    def add(self, spectrum: SpectralStart, count: int) -> None:
        """Add the dominant components of a spectral start."""
        left, right = spectrum.factors()
        self.left = np.hstack([self.left, left[:, :count]])
        self.right = np.hstack([self.right, right[:, :count]])
        self._refresh()

    def _refresh(self) -> None:
        self.residual = self.problem.measure(self.left, self.right)
        self.residual -= self.problem.targets

    def descend(self, last: bool) -> ConvergedReason:
        """Iterate until the tolerance, or the end of a stage that is not the last. Collective."""
        problem, unit = self.problem, self.problem.surrogate_factor
        directions: Directions | None = None
        loss = problem.loss(self.residual)
        if not self.history:
            self.history.append(loss)
        stalled = done = 0
        while True:
            ended = ends(loss, self.history[0], self.tol)
            if ended is ConvergedReason.LOSS and self.step is None and done % _REFRESH:
                self._refresh()  # the loss of the updated residual has rounding errors
                loss = problem.loss(self.residual)
                ended = ends(loss, self.history[0], self.tol)
            if ended or self.spent:
                return ended or ConvergedReason.ITERATIONS
            if not last and done >= STAGE_ITERATIONS:
                return ConvergedReason.STEP
            gradients = problem.adjoint_products(self.residual, self.left, self.right)
            scaled = self._scaled(unit, *gradients)
            directions = Directions.next(
                problem, gradients, scaled, directions if self.direction == "conjugate" else None
            )
            self._move(directions, refresh=done % _REFRESH == _REFRESH - 1)
            done, before, loss = done + 1, loss, problem.loss(self.residual)
            self.history.append(loss)
            if not last and is_flat(done, before, loss):
                return ConvergedReason.STEP
            stalled = stalled + 1 if abs(loss - before) <= _SMALLEST_CHANGE * before else 0
            if stalled >= _STALLED:
                return ConvergedReason.LOSS if loss <= self.tol else ConvergedReason.STEP

    def _scaled(self, unit: float, left_product: Matrix, right_product: Matrix) -> Pair:
        """Return the scaled gradient. Collective."""
        own = np.ascontiguousarray(self.left.T @ self.left)
        left_gram = sum_over_ranks(self.problem.comm, own)
        right_gram = self.right.T @ self.right
        return (
            unit * times_inverse(left_product, right_gram),
            unit * times_inverse(right_product, left_gram),
        )

    def _move(self, directions: Directions, refresh: bool) -> None:
        """Take a step along the directions. Collective."""
        d_left, d_right = directions.left, directions.right
        if self.step is not None:
            self.left = self.left + self.step * d_left
            self.right = self.right + self.step * d_right
            self._refresh()
            return
        linear = self.problem.measure(
            np.hstack([d_left, self.left]), np.hstack([self.right, d_right])
        )
        square = self.problem.measure(d_left, d_right)
        t = best_step(self.problem, self.residual, linear, square)
        self.left = self.left + t * d_left
        self.right = self.right + t * d_right
        if refresh:
            self._refresh()
            return
        linear *= t
        square *= t * t
        self.residual += linear
        self.residual += square


def _check(
    problem: Problem,
    rank: int | None,
    direction: str,
    step: float | None,
    tol: float,
    max_iterations: int,
) -> None:
    check_count("rank", rank, optional=True)
    check_count("max_iterations", max_iterations)
    check_choice("direction", direction, ("conjugate", "gradient"))
    if rank is not None and rank > min(problem.shape):
        raise ConfigError(f"rank = {rank} exceeds {min(problem.shape)}, the smaller dimension")
    if step is not None and (not is_number(step) or step <= 0):
        raise ConfigError(f"step must be a positive number or None, got {step!r}")
    if step is not None and direction == "conjugate":
        raise ConfigError("a fixed step needs direction 'gradient': give it, or leave step out")
    if not is_number(tol) or tol < 0:
        raise ConfigError(f"tol must be a number of at least 0, got {tol!r}")
