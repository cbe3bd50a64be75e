"""Principal components of distributed rows: the k dominant eigenvectors of their covariance.

``fit`` forms the covariance, assembled or matrix-free, and hands it to an eigensolver whose answer
carries its true residuals; ``transform`` computes ``(X - mean) V`` by BLAS-3 on each rank's rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

import miramns
from hpcembed.embedding.reference import Comparison, compare, subspace_sin_angle
from hpcembed.errors import ConfigError, ConvergenceError, InputError
from hpcembed.matrix import DataMatrix
from hpcembed.operators import (
    CovarianceOperator,
    CovariancePlan,
    covariance,
    expected_products,
    plan_covariance,
)
from hpcembed.parallel import allgather_rows
from hpcembed.rows import assign
from miramns import Check, EigenResult

__all__ = ["PCA", "subspace_sin_angle"]

#: Mean over deviation beyond which rows are centred before they are projected.
_LARGE_OFFSET = 1e3

_CHOICES = {
    "operator": ("auto", "assembled", "matrix_free"),
    "solver": ("miramns", "krylovschur"),
    "variant": ("default", "published"),
    "on_no_convergence": ("raise", "keep"),
}


class PCA:
    """Principal component analysis of a :class:`~hpcembed.matrix.DataMatrix`.

    Parameters
    ----------
    n_components : int
        k, at most d.
    operator : {"auto", "assembled", "matrix_free"}
        How the covariance is formed; auto asks the cost model.
    solver : {"miramns", "krylovschur"}
    variant : {"default", "published"}
        Of MIRAMns.
    tol : float
        Largest true residual relative to each eigenvalue.
    max_it : int
        Largest number of restarts.
    ncv : int
        Largest subspace, 0 = chosen.
    nested : tuple of int
        Nested sizes, empty = chosen.
    seed : int
        Of the start vector.
    available_bytes : int, optional
        Memory that one rank may still take.
    threads : int
        BLAS threads per rank, for the cost model.
    reference : bool
        Solve again with SLEPc's Krylov-Schur, on the same operator, and keep the answer.
    on_no_convergence : {"raise", "keep"}
    on_check : callable, optional
        Called with every look of MIRAMns at a nested size.

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        Orthonormal rows, on every rank; the largest entry of each is positive.
    mean_, feature_variances_ : ndarray of shape (d,)
        Of the rows that were fitted.
    eigenvalues_, explained_variance_ : ndarray of shape (k,)
        Of the sample covariance, largest first.
    explained_variance_ratio_ : ndarray of shape (k,)
    result_ : EigenResult
        The solver's answer with its certificate.
    reference_ : EigenResult or None
    comparison_ : Comparison or None
        How far the reference lies away.
    reference_sin_angle_ : float
        Sine of the largest angle between both subspaces, NaN without reference.
    certified_ : bool
        Every pair meets its tolerance, and no reference has a larger eigenvalue in its place.
    plan_ : CovariancePlan
    seconds_ : dict of str to float
        Wall time of ``operator`` and ``solve`` on the slowest rank.
    """

    def __init__(
        self,
        n_components: int,
        *,
        operator: Literal["auto", "assembled", "matrix_free"] = "auto",
        solver: Literal["miramns", "krylovschur"] = "miramns",
        variant: Literal["default", "published"] = "default",
        tol: float = 1e-10,
        max_it: int = 500,
        ncv: int = 0,
        nested: tuple[int, ...] = (),
        seed: int = 0,
        available_bytes: int | None = None,
        threads: int = 1,
        reference: bool = False,
        on_no_convergence: Literal["raise", "keep"] = "raise",
        on_check: Callable[[Check], None] | None = None,
    ) -> None:
        self.n_components = n_components
        self.operator = operator
        self.solver = solver
        self.variant = variant
        self.tol = tol
        self.max_it = max_it
        self.ncv = ncv
        self.nested = nested
        self.seed = seed
        self.available_bytes = available_bytes
        self.threads = threads
        self.reference = reference
        self.on_no_convergence = on_no_convergence
        self.on_check = on_check

    def plan(self, X: DataMatrix) -> CovariancePlan:
        """What :meth:`fit` would do with the covariance. Collective for sparse rows."""
        solves = 3 if self.reference else 1
        return plan_covariance(
            X.n_rows,
            X.n_features,
            solves * expected_products(self.n_components),
            ranks=X.comm.size,
            threads=self.threads,
            available_bytes=self.available_bytes or 2**62,
            n_nonzeros=X.n_nonzeros if X.is_sparse else None,
            kind=self.operator,
        )

    def fit(self, X: DataMatrix) -> PCA:
        """Find the components of the rows of `X`.

        Collective.

        Raises
        ------
        InputError
            When k exceeds the number of features, or there are fewer than two rows.
        ConvergenceError
            When a pair missed its tolerance, or the reference has a larger eigenvalue in its
            place, and ``on_no_convergence="raise"``.
        """
        self._check_settings()
        if not 1 <= self.n_components <= X.n_features:
            raise InputError(
                f"need 1 <= n_components <= features, got n_components={self.n_components} with "
                f"{X.n_features} features"
            )
        self.plan_ = self.plan(X)
        began = _collective_time(X.comm)
        operator = covariance(X, self.plan_)
        formed = _collective_time(X.comm)
        try:
            result = self._solve(operator.mat)
            solved = _collective_time(X.comm)
            self.reference_ = self._reference_solve(operator.mat) if self.reference else None
        finally:
            operator.destroy()
        self.seconds_ = {"operator": formed - began, "solve": solved - formed}
        self._keep(result, operator, X)
        if not self.certified_ and self.on_no_convergence == "raise":
            raise ConvergenceError(self.failure_text(), result)
        return self

    def _check_settings(self) -> None:
        for name in ("n_components", "max_it", "ncv", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise ConfigError(f"{name} must be an integer, got {value!r}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must lie between 0 and 2^63 - 1, got {self.seed}")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(f"{name} = {value!r} is not one of {', '.join(choices)}")

    def failure_text(self) -> str:
        """Which eigenpairs missed their tolerance, and what to do. Not collective."""
        result, comparison = self.result_, self.comparison_
        if comparison is not None and comparison.exceeded:
            assert self.reference_ is not None  # it is what was compared with
            listed = _listed([i + 1 for i in comparison.exceeded])
            return (
                f"eigenpairs {listed} are not the dominant ones: {self.reference_.solver} has "
                "larger eigenvalues there; raise solver.ncv or try another solver.seed"
            )
        missed = [i + 1 for i in result.missed]
        missed += range(len(result.eigenvalues) + 1, self.n_components + 1)
        remedy = result.reason.remedy
        return f"eigenpairs {_listed(missed)} missed the tolerance {self.tol:g}: {remedy}"

    def _solve(self, mat: object) -> EigenResult:
        if self.solver == "krylovschur":
            return self._slepc(mat, max_it=self.max_it, ncv=self.ncv or None)
        try:
            return miramns.solve(
                mat,
                self.n_components,
                which="LA",
                hermitian=True,
                tol=self.tol,
                max_it=self.max_it,
                ncv=self.ncv or None,
                nested_sizes=self.nested or None,
                variant=self.variant,
                seed=self.seed,
                memory_bytes=self.available_bytes // 2 if self.available_bytes else None,
                on_check=self.on_check,
            )
        except miramns.OperatorError as error:
            raise InputError(str(error)) from error
        except miramns.MiramnsError as error:
            raise ConfigError(f"solver: {error}") from error

    def _reference_solve(self, mat: object) -> EigenResult:
        return self._slepc(mat)

    def _slepc(self, mat: object, **limits: int | None) -> EigenResult:
        settings: dict[str, Any] = {"tol": self.tol, "seed": self.seed, **limits}
        try:
            return miramns.slepc(mat, self.n_components, which="LA", hermitian=True, **settings)
        except (PETSc.Error, SystemError) as error:
            # newer bindings wrap PETSc's error; the lines after its code are "[rank] text",
            # outermost function first
            text = str(error.__cause__ or error)
            lines = [line.partition("] ")[2] or line for line in text.splitlines()]
            raise ConfigError(
                f"SLEPc's solver: {lines[-1].strip()}; check --petsc, PETSC_OPTIONS, solver.ncv "
                "and solver.max_it"
            ) from error

    def _keep(self, result: EigenResult, operator: CovarianceOperator, X: DataMatrix) -> None:
        comm, total = X.comm, operator.total_variance
        self.result_ = result
        vectors: NDArray[Any] = allgather_rows(comm, np.asarray(result.eigenvectors))
        self.components_ = np.ascontiguousarray(vectors.T)
        self.mean_ = operator.mean
        self.feature_variances_ = operator.variances
        self.eigenvalues_ = self.explained_variance_ = np.asarray(result.eigenvalues)
        self.explained_variance_ratio_ = (
            self.eigenvalues_ / total if total > 0 else np.zeros_like(self.eigenvalues_)
        )
        self.n_features_in_ = X.n_features
        self.comparison_: Comparison | None = None
        if self.reference_ is not None:
            self.comparison_ = compare(comm, result, self.reference_, self.tol)
        compared = self.comparison_
        self.reference_sin_angle_ = compared.sin_angle if compared else float("nan")
        self.certified_ = result.converged and not (compared and compared.exceeded)

    def transform(
        self, X: DataMatrix, dtype: type[np.floating[Any]] = np.float64
    ) -> NDArray[np.floating[Any]]:
        """Coordinates of this rank's rows in the components, shape (n_local, k).

        Not collective.

        Raises
        ------
        InputError
            When `X` has another number of features than the data of :meth:`fit`, or a coordinate
            is beyond `dtype`.
        """
        if X.n_features != self.n_features_in_:
            raise InputError(
                f"fitted on {self.n_features_in_} features, asked to transform {X.n_features}"
            )
        V = np.ascontiguousarray(self.components_.T)
        # Products with a mean far larger than the spread would cancel.
        spread = np.sqrt(np.max(self.feature_variances_, initial=0.0))
        centred = not X.is_sparse and np.max(np.abs(self.mean_)) > _LARGE_OFFSET * spread
        offset = 0.0 if centred else self.mean_ @ V
        embedded = np.empty((X.n_local, V.shape[1]), dtype=dtype)
        for first, block in X.blocks():
            rows = block - self.mean_ if centred else block
            assign(embedded[first : first + block.shape[0]], rows @ V - offset)
        return embedded


def _collective_time(comm: MPI.Comm) -> float:
    """Time at which all ranks have arrived here."""
    comm.Barrier()
    return time.perf_counter()


def _listed(pairs: list[int]) -> str:
    return ", ".join(map(str, pairs[:10])) + (" and more" if len(pairs) > 10 else "")
