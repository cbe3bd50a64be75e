"""From an operator to certified eigenpairs: which solver, and errors in the user's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from petsc4py import PETSc

import miramns
from hpcembed.runtime.errors import ConfigError, InputError
from miramns import EigenResult, IterationRecord

__all__ = [
    "SolverSettings",
    "engine_tolerance",
    "krylov_schur",
    "leading_vectors",
    "solver_errors",
]

#: Smallest wanted eigenvalue over the largest, as the cost model takes it.
_SMALLEST_SHARE = 1e-2

_CHOICES = {
    "name": ("auto", "miramns", "krylovschur", "lapack"),
    "variant": ("default", "published"),
    "criterion": ("norm", "relative"),
    "on_no_convergence": ("raise", "keep"),
}


@dataclass(frozen=True)
class SolverSettings:
    """How the eigenproblem is solved, for those who want to say.

    Attributes
    ----------
    name : {"auto", "miramns", "krylovschur", "lapack"}
        auto: MIRAMns, or LAPACK where an assembled matrix is small or many pairs are wanted.
    variant : {"default", "published"}
        Of MIRAMns.
    criterion : {"norm", "relative"}
        Whether the tolerance is relative to the largest eigenvalue or to each.
    max_it : int
        Largest number of restarts.
    ncv : int
        Largest subspace, 0 = chosen.
    nested : tuple of int
        Nested sizes, empty = chosen.
    reference : bool
        Solve again with SLEPc's Krylov-Schur, on the same operator, and keep the answer.
    on_no_convergence : {"raise", "keep"}
    on_check : callable, optional
        Called with every look of MIRAMns at a nested size.
    """

    name: Literal["auto", "miramns", "krylovschur", "lapack"] = "auto"
    variant: Literal["default", "published"] = "default"
    criterion: Literal["norm", "relative"] = "norm"
    max_it: int = 500
    ncv: int = 0
    nested: tuple[int, ...] = ()
    reference: bool = False
    on_no_convergence: Literal["raise", "keep"] = "raise"
    on_check: Callable[[IterationRecord], None] | None = None

    def check(self) -> None:
        """Refuse what is no setting.

        Raises
        ------
        ConfigError
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("max_it", "ncv") and (
                isinstance(value, bool) or not isinstance(value, int | np.integer)
            ):
                raise ConfigError(f"{field.name} must be an integer, got {value!r}")
            choices = _CHOICES.get(field.name)
            if choices and value not in choices:
                raise ConfigError(f"{field.name} = {value!r} is not one of {', '.join(choices)}")

    @property
    def needs_single_vectors(self) -> bool:
        """Whether something is asked for that block engines do not do."""
        asked = self.name not in ("auto", "miramns") or self.variant != "default"
        return bool(asked or self.ncv or self.nested)


def engine_tolerance(tol: float, *, relative: bool) -> float:
    """A tolerance relative to each eigenvalue, as one relative to the largest. Not collective."""
    return tol * _SMALLEST_SHARE if relative else tol


@contextmanager
def solver_errors() -> Iterator[None]:
    """MIRAMns's errors, in the words of this package."""
    try:
        yield
    except miramns.OperatorError as error:
        raise InputError(str(error)) from error
    except miramns.MiramnsError as error:
        raise ConfigError(f"solver: {error}") from error


def krylov_schur(mat: PETSc.Mat, k: int, **settings: Any) -> EigenResult:
    """SLEPc's Krylov-Schur, for the largest eigenvalues by default. Collective."""
    settings = {"which": "LA", "hermitian": True, **settings}
    try:
        return miramns.slepc(mat, k, **settings)
    except (PETSc.Error, SystemError) as error:
        # newer bindings wrap PETSc's error; the lines after its code are "[rank] text",
        # outermost function first
        text = str(error.__cause__ or error)
        lines = [line.partition("] ")[2] or line for line in text.splitlines()]
        raise ConfigError(
            f"SLEPc's solver: {lines[-1].strip()}; check --petsc, PETSC_OPTIONS, solver.ncv "
            "and solver.max_it"
        ) from error


def leading_vectors(lower: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Eigenvectors of the k largest eigenvalues, by LAPACK, largest first. Not collective."""
    d = len(lower)
    _, vectors = scipy.linalg.eigh(lower, lower=True, subset_by_index=(d - k, d - 1))
    return np.ascontiguousarray(vectors[:, ::-1])
