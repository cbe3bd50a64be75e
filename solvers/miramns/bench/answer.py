"""What a method is asked and what it hands back, the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miramns.projected import Which
from miramns.result import EigenResult

__all__ = ["Answer", "Course", "RefusedError", "Task", "answer_of"]


class RefusedError(Exception):
    """The method does not take this problem; the message says why."""


@dataclass(frozen=True)
class Task:
    """What every method is asked.

    Attributes
    ----------
    k : int
        Number of eigenpairs.
    which : str
        As in :func:`miramns.solve`.
    hermitian : bool
    tol : float
        Largest residual norm relative to the modulus of the eigenvalue, in the method's own sense.
    seed : int
        Of the start vector.
    """

    k: int
    which: Which
    hermitian: bool
    tol: float
    seed: int


@dataclass(frozen=True)
class Course:
    """How a run came to its answer.

    Attributes
    ----------
    products : list of int
        Products made up to each look at the subspace.
    measures : list of float
        What was seen there; the smallest, when several sizes were examined at once.
    sizes : list of int
        Subspace size that each restart, or the end, took.
    """

    products: list[int] = field(default_factory=list)
    measures: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """Eigenpairs as a method claims them, and what they cost.

    Attributes
    ----------
    values : ndarray of shape (found,)
    vectors : ndarray of shape (n_local, found)
    claimed : bool
        Whether the method says that all are there.
    n_matvec : int
        Products to find the answer, without those that certify it.
    n_reductions, n_restarts : int or None
        None where the method does not tell.
    seconds : float
        Wall time of finding and certifying, on the slowest rank.
    solver : str
    course : Course
    """

    values: NDArray[Any]
    vectors: NDArray[Any]
    claimed: bool
    n_matvec: int
    n_reductions: int | None
    n_restarts: int | None
    seconds: float
    solver: str
    course: Course = field(default_factory=Course)


def answer_of(result: EigenResult) -> Answer:
    """Answer of a solver of this library. Not collective."""
    return Answer(
        values=result.eigenvalues,
        vectors=result.eigenvectors,
        claimed=result.converged,
        n_matvec=result.n_matvec,
        # SLEPc does not tell its reductions
        n_reductions=None if result.solver.startswith("SLEPc") else result.n_reductions,
        n_restarts=result.n_restarts,
        seconds=result.seconds,
        solver=result.solver,
        course=_course(result),
    )


def _course(result: EigenResult) -> Course:
    best: dict[int, float] = {}
    for check in result.history:
        if np.isfinite(check.measure):
            best[check.n_matvec] = min(check.measure, best.get(check.n_matvec, np.inf))
    sizes = [check.size for check in result.history if check.chosen]
    return Course(list(best), list(best.values()), sizes)
