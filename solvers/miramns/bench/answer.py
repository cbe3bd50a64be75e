"""Task and answer of an eigensolver, the same for all methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miramns import EigenResult
from miramns.selection import Which


class RefusedError(RuntimeError):
    """The method does not accept the problem; the message gives the reason."""


@dataclass(frozen=True)
class Task:
    """Task of a method.

    Attributes
    ----------
    k : int
        Number of eigenpairs.
    which : str
        As in :func:`miramns.solve`.
    hermitian : bool
    tol : float
        Largest residual norm relative to the modulus of the eigenvalue, as the method defines it.
    seed : int
        Seed of the start vector.
    """

    k: int
    which: Which
    hermitian: bool
    tol: float
    seed: int


@dataclass(frozen=True)
class Course:
    """Course of a run: its convergence measure at every checkpoint.

    Attributes
    ----------
    products : list of int
        Products made up to each checkpoint.
    measures : list of float
        Convergence measure there; the smallest one where several sizes are examined together.
    sizes : list of int
        Size of the subspace of each restart, and at the end.
    """

    products: list[int] = field(default_factory=list)
    measures: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """Eigenpairs that a method returns, and their cost.

    Attributes
    ----------
    values : ndarray of shape (found,)
    vectors : ndarray of shape (n_local, found)
    claimed : bool
        Whether the method reports that all pairs converged.
    n_matvec : int
        Products to find the answer, without those that certify it.
    n_reductions, n_restarts : int or None
        None where the method does not report them.
    seconds : float
        Wall time to find and certify the answer, on the slowest rank.
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
    """Return the answer of a solver of miramns."""
    return Answer(
        values=result.eigenvalues,
        vectors=result.eigenvectors,
        claimed=result.converged,
        n_matvec=result.n_matvec,
        # SLEPc does not report its reductions
        n_reductions=None if result.solver.startswith("SLEPc") else result.n_reductions,
        n_restarts=result.n_restarts,
        seconds=result.seconds,
        solver=result.solver,
        course=_course(result),
    )


def _course(result: EigenResult) -> Course:
    best: dict[int, float] = {}
    for record in result.history:
        if np.isfinite(record.measure):
            best[record.n_matvec] = min(record.measure, best.get(record.n_matvec, np.inf))
    sizes = [record.size for record in result.history if record.chosen]
    return Course(list(best), list(best.values()), sizes)
