"""Bases of all estimators: parameters, the certificate of the eigenproblem, and input of rows.

To add an estimator:

1. Write a module with a dataclass whose fields are its parameters, on one of the bases: here for
   rows or for anything else, ``_linear`` for projections, ``_covariance``, ``_kernel`` or
   ``_mutual_information`` for operators of these kinds. It meets the contract of
   :mod:`hpcembed.embedding.protocol`: ``plan``, ``fit``, ``transform``, and ``linear_map_``, None
   if the coordinates are not affine functions of the features.
   :class:`~hpcembed.embedding._eigensolver.Eigensolver` finds its eigenpairs.
2. List its name in ``hpcembed/embedding/__init__.py`` and in ``hpcembed/__init__.py``.
3. For jobs, follow the steps in :mod:`hpcembed.jobs.embedding_methods`.

Parameters are checked on all ranks before the first step that could fail on one rank alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hpcembed.data.matrix import DataMatrix, RowSource, RowStream
from hpcembed.embedding._eigen_results import compare
from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.embedding._parameters import (
    SolverSettings,
    check_tolerance,
    default_tolerance,
    seed_of,
)
from hpcembed.operators.cost import Machine
from hpcembed.runtime.agreement import agreement, same_on_all_ranks
from hpcembed.runtime.arguments import check_count
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError
from hpcembed.runtime.machine.memory import available_per_rank
from hpcembed.runtime.machine.threads import available_cores, blas_threads
from hpcembed.runtime.ranks import allgather_rows, communicator
from miramns import EigenResult

try:
    from sklearn.utils.validation import validate_data as validated
except ImportError:  # in releases before 1.6 it is a method of estimators

    def validated(estimator: Any, X: Any, **settings: Any) -> Any:
        """Return the input of an estimator, validated by scikit-learn."""
        return estimator._validate_data(X, **settings)


__all__ = ["CertifiedEstimator", "RowEstimator", "validated", "wrapped"]

#: Parameters that may differ between ranks.
_PER_RANK = ("memory_limit", "n_threads", "random_state", "buffer_bytes")

#: Types in which plain arrays are used as they are; others become float64.
_TYPES = [np.float64, np.float32, *(np.dtype(code).type for code in "bBhHiIlL?")]


@dataclass(eq=False, repr=False, kw_only=True)
class _SolverParameters:
    """Parameters of every estimator."""

    tol: float | None = None
    random_state: Any = None
    solver: SolverSettings | None = None


class CertifiedEstimator(_SolverParameters, BaseEstimator):  # type: ignore[misc]
    """Base of estimators whose coordinates solve one eigenproblem.

    An estimator is a dataclass: its fields are its parameters. Bases are not, except for the
    parameters that all estimators share.

    Attributes
    ----------
    result_ : EigenResult
        Eigenpairs with true residuals; rows of the vectors distributed.
    reference_ : EigenResult or None
        Result of the reference solver, if one is requested.
    comparison_ : ReferenceComparison or None
        Differences between both.
    reference_sin_angle_ : float
        Sine of the largest angle to the subspace of the reference; NaN without reference.
    certified_ : bool
        Whether every pair meets its tolerance, and no reference has a larger eigenvalue at the
        same position.
    converged_reason_ : str
    n_requested_ : int
        Number of requested pairs.
    seconds_ : dict of str to float
        Wall time of each step on the slowest rank.
    """

    memory_limit: int | None = None
    n_threads: int | None = None

    #: Whether LAPACK can solve the eigenproblem.
    _has_dense_operator = True

    #: Whether there is a way to the same bits on any number of ranks.
    _is_reproducible = False

    #: Origin of the residuals.
    certificate_: Literal["exact", "double", "sampled"] = "double"

    comm_: MPI.Intracomm
    n_features_in_: int
    eigenvalues_: NDArray[np.float64]
    seconds_: dict[str, float]

    @property
    def _settings(self) -> SolverSettings:
        return self.solver or SolverSettings()

    def _check_parameters(self) -> None:
        """Raise ConfigError unless every parameter has a valid value."""
        check_tolerance(self.tol)
        check_count("memory_limit", self.memory_limit, optional=True)
        check_count("n_threads", self.n_threads, optional=True)
        self._settings.check(has_dense_operator=self._has_dense_operator)
        if self._settings.reproducible and not self._is_reproducible:
            raise ConfigError(
                f"reproducible: the sums of {type(self).__name__} depend on the number of ranks: "
                "use PCA or TruncatedSVD, or reproducible = False"
            )

    def _start(self, comm: MPI.Intracomm) -> int:
        """Check the parameters and return the seed of all ranks.

        Collective.

        Raises
        ------
        ConfigError
            On all ranks: invalid parameters, or parameters that differ between ranks.
        """
        shared = {
            name: value.comparable() if isinstance(value, SolverSettings) else value
            for name, value in self.get_params(deep=False).items()
            if name not in _PER_RANK
        }
        same_on_all_ranks(comm, estimator=type(self).__name__, **shared)
        seed = 0
        with agreement(comm):
            self._check_parameters()
            seed = seed_of(self.random_state)
        return int(comm.bcast(seed))

    def _machine(self, comm: MPI.Intracomm, held_bytes: int = 0) -> Machine:
        """Return the resources of the ranks; BLAS threads are the fewest of all ranks.

        Collective.

        Parameters
        ----------
        held_bytes : int
            Memory that passes over the data will allocate.
        """
        threads = self.n_threads or blas_threads() or len(available_cores())
        available = available_per_rank(comm, self.memory_limit or 0) - held_bytes
        return Machine(comm.size, int(comm.allreduce(threads, op=MPI.MIN)), available)

    def _certify(
        self,
        comm: MPI.Comm,
        solver: Eigensolver,
        result: EigenResult,
        reference: EigenResult | None,
        n_requested: int | None = None,
    ) -> None:
        """Keep a result, and state whether it is certified.

        Collective.

        Raises
        ------
        ConvergenceError
            If it is not, and ``solver.on_no_convergence`` is "raise".
        """
        self.result_, self.reference_ = result, reference
        self.n_requested_ = solver.k if n_requested is None else n_requested
        self.converged_reason_ = result.reason.name
        self._tol = solver.tol
        compared = None
        if reference is not None:
            pairs = self._comparable(comm, result), self._comparable(comm, reference)
            if solver.settings.reproducible:  # no sums over ranks
                comm, pairs = MPI.COMM_SELF, (_gathered(comm, result), _gathered(comm, reference))
            compared = compare(comm, *pairs, solver.tol, solver.which)
        self.comparison_ = compared
        self.reference_sin_angle_ = compared.sin_angle if compared else float("nan")
        self.certified_ = result.converged and not (compared and compared.exceeded)
        if not self.certified_ and solver.settings.on_no_convergence == "raise":
            raise ConvergenceError(self.failure_text(), result)

    def _comparable(self, comm: MPI.Comm, result: EigenResult) -> EigenResult:
        """Return a result with orthonormal vectors, for a comparison of subspaces. Collective."""
        return result

    def failure_text(self) -> str:
        """Return the unconverged eigenpairs, and a remedy."""
        result, comparison = self.result_, self.comparison_
        if comparison is not None and comparison.exceeded:
            assert self.reference_ is not None  # it was compared with
            listed = _listed([i + 1 for i in comparison.exceeded])
            return (
                f"eigenpairs {listed} are not the dominant ones: {self.reference_.solver} has "
                "larger eigenvalues there; raise solver.ncv or try another solver.seed"
            )
        unconverged = [i + 1 for i in result.unconverged]
        unconverged += range(len(result.eigenvalues) + 1, self.n_requested_ + 1)
        return (
            f"eigenpairs {_listed(unconverged)} did not converge to the tolerance {self._tol:g}: "
            f"{result.reason.remedy}"
        )

    @property
    def _n_features_out(self) -> int:
        """Number of coordinates, for scikit-learn's names of them."""
        return len(self.eigenvalues_)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy in another process, without the communicator."""
        state = dict(super().__getstate__())
        state.pop("comm_", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "n_features_in_" in state:
            self.comm_ = MPI.COMM_SELF


class RowEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, CertifiedEstimator):  # type: ignore[misc]
    """Base of estimators of rows, which may be distributed.

    Rows are a :class:`~hpcembed.data.matrix.DataMatrix`, or an array or sparse matrix: all rows, or
    this rank's if `fit` was given a communicator.
    """

    n_samples_: int

    def _begin(
        self, X: Any, comm: MPI.Intracomm | None, operator: str = ""
    ) -> tuple[RowSource, Machine, int]:
        """Return the rows to fit, the resources, and the seed of all ranks.

        Collective.

        Parameters
        ----------
        operator : str
            Name of an operator that needs two rows, for the error message.
        """
        if isinstance(X, DataMatrix | RowStream):
            if comm is not None and comm != X.comm:
                raise ConfigError("these rows have a communicator of their own: omit comm")
            comm = X.comm
        comm = communicator(comm)
        seed = self._start(comm)
        self.comm_ = comm
        data = self._matrix(X)
        if operator and data.n_rows < 2:
            raise InputError(f"{operator} needs at least 2 training rows, got {data.n_rows}")
        self.n_samples_ = data.n_rows
        held = data.buffer_bytes if isinstance(data, RowStream) else 0
        return data, self._machine(comm, held), seed

    def _matrix(self, X: Any) -> RowSource:
        """Return rows over the same memory, or in their files. Collective."""
        if isinstance(X, DataMatrix | RowStream):
            self.n_features_in_ = X.n_features
            if X.feature_names:
                self.feature_names_in_ = np.asarray(X.feature_names, dtype=object)
            return X
        if self.comm_.size == 1:
            rows = self._checked(X, reset=True, ensure_min_samples=2)
        else:
            with agreement(self.comm_):
                try:
                    rows = self._checked(X, reset=True, ensure_min_samples=0)
                except (ValueError, TypeError, RuntimeError) as error:  # the last one of torch
                    raise InputError(str(error)) from error
        return wrapped(rows, self.comm_)

    def _rows(self, X: Any) -> RowSource:
        """Return rows to transform, on this rank alone. Not collective."""
        check_is_fitted(self)
        if isinstance(X, DataMatrix | RowStream):
            if X.n_features != self.n_features_in_:
                raise InputError(
                    f"fitted on {self.n_features_in_} features, got {X.n_features} to transform"
                )
            return X
        least = 1 if self.comm_.size == 1 else 0
        rows = self._checked(X, reset=False, ensure_min_samples=least)
        return wrapped(rows, MPI.COMM_SELF)

    def _checked(self, X: Any, **settings: Any) -> Any:
        return validated(self, X, **{"accept_sparse": "csr", "dtype": _TYPES, **settings})

    def _tolerance(self, item_bytes: int) -> float:
        return default_tolerance(item_bytes) if self.tol is None else self.tol

    @staticmethod
    def _output_type(
        X: Any, rows: RowSource, dtype: type[np.floating[Any]] | None
    ) -> type[np.floating[Any]]:
        """Return the type of coordinates: `dtype`, or float32 for float32 arrays, else float64."""
        single = not isinstance(X, DataMatrix | RowStream) and rows.stored_type == np.float32
        return dtype or (np.float32 if single else np.float64)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: sparse rows are accepted, float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {"preserves_dtype": [np.float64, np.float32]}


def wrapped(rows: Any, comm: MPI.Intracomm) -> DataMatrix:
    """Return the rows of an array or sparse matrix as a DataMatrix over the same memory.

    Collective.
    """
    storage: Any = "aij" if scipy.sparse.issparse(rows) else "shell"
    return DataMatrix(rows, np.zeros(rows.shape[0], np.int64), comm, storage=storage)


def _gathered(comm: MPI.Comm, result: EigenResult) -> EigenResult:
    """Return a result with all rows of its vectors. Collective."""
    vectors = allgather_rows(comm, np.ascontiguousarray(result.eigenvectors))
    return replace(result, eigenvectors=vectors, ownership_range=(0, len(vectors)))


def _listed(pairs: list[int]) -> str:
    return ", ".join(map(str, pairs[:10])) + (" and more" if len(pairs) > 10 else "")
