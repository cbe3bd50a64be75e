"""Parameters of estimators: the settings of the eigensolver, and checks of single values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hpcembed.runtime.arguments import check_choice, is_integer
from hpcembed.runtime.errors import ConfigError, InputError
from miramns import IterationRecord
from miramns.checkpointing import CheckpointStore

__all__ = [
    "SolverSettings",
    "check_components",
    "check_tolerance",
    "default_tolerance",
    "seed_of",
]

#: Smallest wanted eigenvalue over the largest, as cost models assume it.
_SMALLEST_SHARE = 1e-2


def check_components(k: Any, most: int, what: str) -> None:
    """Raise InputError unless ``1 <= k <= most``, the number of features, rows or words."""
    if not 1 <= k <= most:
        raise InputError(
            f"need 1 <= n_components <= {what}, got n_components={k} with {most} {what}"
        )


def check_tolerance(tol: Any) -> None:
    """Raise ConfigError unless a tolerance is None or lies between 0 and 1."""
    if tol is not None and (not isinstance(tol, float | np.floating) or not 0 < tol < 1):
        raise ConfigError(f"tol must lie between 0 and 1, got {tol!r}")


def default_tolerance(item_bytes: int) -> float:
    """Return the tolerance relative to the largest eigenvalue, from the bytes per number."""
    return 1e-10 if item_bytes > 4 else 1e-6


def seed_of(random_state: Any) -> int:
    """Return the seed of a ``random_state`` of scikit-learn; 0 for None.

    Raises
    ------
    ConfigError
    """
    if random_state is None:
        return 0
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if not is_integer(random_state):
        raise ConfigError(f"random_state must be an integer or None, got {random_state!r}")
    if not 0 <= random_state < 2**63:
        raise ConfigError(f"seed must lie between 0 and 2^63 - 1, got {random_state}")
    return int(random_state)


@dataclass(frozen=True)
class SolverSettings:
    """Settings of the eigensolver of an estimator.

    Attributes
    ----------
    name : {"auto", "miramns", "krylovschur", "lapack"}
        auto: MIRAMns, or LAPACK where an assembled operator is small or many pairs are wanted.
    variant : {"default", "published"}
        Variant of MIRAMns.
    criterion : {"norm", "relative"}
        Whether the tolerance is relative to the largest eigenvalue or to each. The published
        variant always has "relative", which is the test of its authors.
    max_it : int
        Largest number of restarts.
    ncv : int
        Largest subspace; 0 leaves the choice to the solver.
    nested : tuple of int
        Nested sizes; empty leaves the choice to the solver.
    reference : bool
        Solve again with SLEPc's Krylov-Schur on the same operator, and compare.
    on_no_convergence : {"raise", "keep"}
    monitor : callable, optional
        Called with each iteration record of MIRAMns.
    checkpoint : path or CheckpointStore, optional
        Where the sums of an assembled covariance and the states of MIRAMns are saved from time to
        time: in a folder that all ranks share, or in an open store. The same fit continues from
        them. LAPACK and Krylov-Schur save nothing.
    reproducible : bool
        Components, and coordinates of a :class:`~hpcembed.data.matrix.DataMatrix`, with the same
        bits on any number of ranks (PCA and TruncatedSVD, up to 10,000 features): sums in the order
        of the rows, and an eigenproblem that rank 0 solves alone. Nothing is saved to `checkpoint`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed.embedding import PCA, SolverSettings
    >>> pca = PCA(3, solver=SolverSettings(reference=True)).fit(load_digits().data)
    >>> pca.reference_.solver, pca.comparison_.exceeded
    ('SLEPc krylovschur', ())
    """

    name: Literal["auto", "miramns", "krylovschur", "lapack"] = "auto"
    variant: Literal["default", "published"] = "default"
    criterion: Literal["norm", "relative"] = "norm"
    max_it: int = 500
    ncv: int = 0
    nested: tuple[int, ...] = ()
    reference: bool = False
    on_no_convergence: Literal["raise", "keep"] = "raise"
    monitor: Callable[[IterationRecord], None] | None = None
    checkpoint: CheckpointStore | Path | str | None = None
    reproducible: bool = False

    def comparable(self) -> SolverSettings:
        """Return the settings without those that are objects of one rank."""
        return replace(self, monitor=None, checkpoint=None)

    def check(self, *, has_dense_operator: bool = True) -> None:
        """Raise ConfigError unless every setting has a valid value.

        Parameters
        ----------
        has_dense_operator : bool
            Whether LAPACK can solve the eigenproblem.
        """
        for name in ("max_it", "ncv"):
            value = getattr(self, name)
            if not is_integer(value):
                raise ConfigError(f"{name} must be an integer, got {value!r}")
        check_choice("name", self.name, ("auto", "miramns", "krylovschur", "lapack"))
        check_choice("variant", self.variant, ("default", "published"))
        check_choice("criterion", self.criterion, ("norm", "relative"))
        check_choice("on_no_convergence", self.on_no_convergence, ("raise", "keep"))
        if not isinstance(self.reproducible, bool):
            raise ConfigError(f"reproducible must be True or False, got {self.reproducible!r}")
        if self.name == "lapack" and not has_dense_operator:
            raise ConfigError(
                "solver.name = 'lapack': there is no dense operator here; use auto or krylovschur"
            )

    @property
    def needs_single_vectors(self) -> bool:
        """Whether a setting excludes engines with blocks of vectors."""
        is_other = self.name not in ("auto", "miramns") or self.variant != "default"
        return bool(is_other or self.ncv or self.nested)

    @property
    def allows_lapack(self) -> bool:
        """Whether LAPACK may solve small problems: no other solver is requested."""
        return self.name == "auto" and not self.needs_single_vectors

    @property
    def convergence_criterion(self) -> Literal["norm", "relative"]:
        """The criterion in use: "relative" for the published variant."""
        return "relative" if self.variant == "published" else self.criterion

    def relative_to_largest(self, tol: float) -> float:
        """Return a tolerance relative to the largest eigenvalue, for the choice of precision."""
        return tol * _SMALLEST_SHARE if self.convergence_criterion == "relative" else tol
