"""Vectors from co-occurrence counts: dominant eigenpairs of their information, scaled.

What word vectors and the embedding of tables by shared rows have in common.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

import miramns
from hpcembed.embedding.solving import SolverSettings, krylov_schur, solver_errors
from hpcembed.operators import CooccurrenceMatrix, check_information, positive_information
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.ranks import allgather_rows
from miramns import EigenResult

__all__ = ["InformationPairs", "InformationSettings", "information_pairs"]


@dataclass(frozen=True, slots=True)
class InformationSettings:
    """What is formed of the counts, and how its eigenpairs are found.

    Attributes
    ----------
    k : int
    shift, smoothing : float
        As for :func:`hpcembed.operators.positive_information`.
    power : float
        p of ``U |Lambda|^p``.
    tol : float
    seed : int
    solver : SolverSettings
    """

    k: int
    shift: float
    smoothing: float
    power: float
    tol: float
    seed: int
    solver: SolverSettings

    def check(self) -> None:
        """Refuse what makes no sense. Not collective.

        Raises
        ------
        ConfigError
        """
        self.solver.check()
        if self.solver.name == "lapack":
            raise ConfigError("solver.name = 'lapack': information is sparse; use auto or miramns")
        check_information(self.shift, self.smoothing)
        if isinstance(self.k, bool) or not isinstance(self.k, int | np.integer) or self.k < 1:
            raise ConfigError(f"n_components must be a positive integer, got {self.k!r}")
        if isinstance(self.power, bool) or not isinstance(self.power, int | float | np.number):
            raise ConfigError(f"power must be a number, got {self.power!r}")
        if not 0 <= self.power < np.inf:
            raise ConfigError(f"power must not be negative, got {self.power!r}")


@dataclass(frozen=True, slots=True)
class InformationPairs:
    """What was found.

    Attributes
    ----------
    result : EigenResult
        Largest modulus first; rows of the vectors distributed.
    reference : EigenResult or None
        Of Krylov-Schur, where the settings asked for one.
    vectors : ndarray of shape (n, k)
        ``U |Lambda|^p`` on every rank.
    n_nonzeros : int
        Entries of the information.
    seconds : dict of str to float
        ``information``: counting and forming it; ``solve``. On the slowest rank.
    """

    result: EigenResult
    reference: EigenResult | None
    vectors: NDArray[np.float64]
    n_nonzeros: int
    seconds: dict[str, float]


def information_pairs(
    comm: MPI.Intracomm, count: Callable[[], CooccurrenceMatrix], settings: InformationSettings
) -> InformationPairs:
    """Count, turn counts into information, find its eigenpairs.

    Collective.

    Parameters
    ----------
    count : callable
        Gives the counts, which nobody else keeps: their memory is used again.
    """
    began = _collective_time(comm)
    information = positive_information(count(), shift=settings.shift, smoothing=settings.smoothing)
    n_nonzeros = information.n_nonzeros
    # rows without entries: their part of an eigenvector is rounding
    silent = np.diff(information.rows.indptr) == 0
    mat = information.create_mat()
    del information  # the Mat has its own copy
    formed = _collective_time(comm)
    reference = None
    try:
        with solver_errors():
            result = _solve(mat, settings)
        solved = _collective_time(comm)
        if settings.solver.reference:
            reference = krylov_schur(
                mat, settings.k, which="LM", tol=settings.tol, seed=settings.seed
            )
    finally:
        mat.destroy()
    values = np.asarray(result.eigenvalues)
    # a vector of an eigenvalue of zero is anybody's choice and says nothing of a word
    scales = np.where(values == 0, 0.0, np.abs(values) ** settings.power)
    vectors = np.ascontiguousarray(result.eigenvectors) * scales
    vectors[silent] = 0.0
    vectors = allgather_rows(comm, vectors)
    seconds = {"information": formed - began, "solve": solved - formed}
    return InformationPairs(result, reference, vectors, n_nonzeros, seconds)


def _solve(mat: Any, settings: InformationSettings) -> EigenResult:
    solver = settings.solver
    if solver.name == "krylovschur":
        return krylov_schur(
            mat,
            settings.k,
            which="LM",
            tol=settings.tol,
            seed=settings.seed,
            max_it=solver.max_it,
            ncv=solver.ncv or None,
        )
    return miramns.solve(
        mat,
        settings.k,
        which="LM",
        hermitian=True,
        tol=settings.tol,
        variant=solver.variant,
        max_it=solver.max_it,
        ncv=solver.ncv or None,
        seed=settings.seed,
        monitor=solver.on_check,
        options=miramns.Options(criterion=solver.criterion, nested_sizes=solver.nested or None),
    )


def _collective_time(comm: MPI.Intracomm) -> float:
    """The time by which all ranks are here. Collective."""
    comm.Barrier()
    return time.perf_counter()
