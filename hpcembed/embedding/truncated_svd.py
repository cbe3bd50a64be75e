"""Truncated singular value decomposition: the dominant right singular vectors, without centring.

The engines of :class:`~hpcembed.embedding.PCA` on X'X in place of the covariance. On counts or
TF-IDF weights of documents this is latent semantic analysis.
"""

from __future__ import annotations

import time
from typing import Any, Literal, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding.certificate import Certificate
from hpcembed.embedding.contract import LinearMap, Spectrum
from hpcembed.embedding.engines import Components, Request, find_components
from hpcembed.embedding.estimate import default_tolerance
from hpcembed.embedding.limits import check_limits
from hpcembed.embedding.linear import LinearEmbedding, available_bytes, n_nonzeros
from hpcembed.embedding.pca import seed_of
from hpcembed.embedding.solving import SolverSettings, engine_tolerance
from hpcembed.operators import EnginePlan, column_moments, expected_products, plan_engine
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError
from hpcembed.runtime.ranks import allgather_rows

__all__ = ["TruncatedSVD"]

Self = TypeVar("Self", bound="TruncatedSVD")


class TruncatedSVD(Certificate, LinearEmbedding):
    """Dominant singular vectors of rows that are not centred.

    Parameters
    ----------
    n_components : int
        At most the number of features.
    eigen_solver : {"auto", "assembled", "matrix_free", "block", "gram"}
    tol : float, optional
        Largest true residual of X'X, relative to the square of the largest singular value.
        Default: 1e-6 for rows in single precision or short integers, 1e-10 for double.
    random_state : int, RandomState or None
        Of the start vectors; None is 0, so that results repeat.
    memory_limit, n_threads, solver
        As for :class:`~hpcembed.embedding.PCA`.

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        Right singular vectors, on every rank; the largest entry of each is positive.
    singular_values_ : ndarray of shape (k,)
    explained_variance_, explained_variance_ratio_ : ndarray of shape (k,)
        Variance of the coordinates of the training rows, and its share of the whole.
    eigenvalues_ : ndarray of shape (k,)
        Of ``X'X / (n - 1)``: mean squares of the coordinates of the training rows.
    mean_, feature_means_, feature_variances_ : ndarray of shape (d,)
        What rows are centred on, which is zero; mean and variance of the features.
    residual_norms_ : ndarray of shape (k,)
        ``||X'X v - sigma^2 v||`` in double.
    converged_reason_ : str
    certified_ : bool
        Every pair meets its tolerance, and no reference has a larger eigenvalue in its place.
    n_requested_, n_features_in_, n_samples_ : int
    result_ : EigenResult
        Eigenpairs of ``X'X / (n - 1)``.
    reference_, comparison_, reference_sin_angle_
        Of a reference solver, where ``solver.reference`` asked for it.
    plan_ : EnginePlan
    seconds_ : dict of str to float
    """

    operator_name = "X'X"
    components_name = "singular vectors"

    def __init__(
        self,
        n_components: int = 2,
        *,
        eigen_solver: Literal["auto", "assembled", "matrix_free", "block", "gram"] = "auto",
        tol: float | None = None,
        random_state: Any = None,
        memory_limit: int | None = None,
        n_threads: int | None = None,
        solver: SolverSettings | None = None,
    ) -> None:
        self.n_components = n_components
        self.eigen_solver = eigen_solver
        self.tol = tol
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_threads = n_threads
        self.solver = solver

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the singular vectors of the rows of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix. Arguments and errors as
        :meth:`hpcembed.embedding.PCA.fit`.
        """
        self._agree_on_settings(X, comm)
        settings = self.solver or SolverSettings()
        settings.check()
        check_limits(self.tol, self.memory_limit, self.n_threads)
        data = self._matrix(X, comm)
        k, d = self.n_components, data.n_features
        if isinstance(k, bool) or not isinstance(k, int | np.integer):
            raise ConfigError(f"n_components must be an integer, got {k!r}")
        if not 1 <= k <= d:
            raise InputError(
                f"need 1 <= n_components <= features, got n_components={k} with {d} features"
            )
        tol = default_tolerance(data.stored_type.itemsize) if self.tol is None else self.tol
        self.plan_ = self._plan(data, tol, settings)
        request = Request(
            k=int(k),
            tol=tol,
            seed=seed_of(self.random_state),
            centred=False,
            threads=self._threads(self.n_threads, data.comm),
            memory_bytes=self.memory_limit,
            solver=settings,
        )
        found = find_components(data, self.plan_, request)
        self.seconds_ = dict(found.seconds)
        self._keep(found, data)
        self._judge(data.comm, found.result, found.reference, tol=tol, n_requested=int(k))
        if not self.certified_ and settings.on_no_convergence == "raise":
            raise ConvergenceError(self.failure_text(), self.result_)
        return self

    def _plan(self, X: RowSource, tol: float, settings: SolverSettings) -> EnginePlan:
        k = int(self.n_components)
        return plan_engine(
            X.n_rows,
            X.n_features,
            k,
            ranks=X.comm.size,
            threads=self._threads(self.n_threads, X.comm),
            available_bytes=available_bytes(X, self.memory_limit),
            n_nonzeros=n_nonzeros(X),
            streamed=X.is_streamed,
            item_bytes=X.stored_type.itemsize,
            tol=engine_tolerance(tol, relative=settings.criterion == "relative"),
            n_reference=2 * expected_products(k) if settings.reference else 0,
            single_vector=settings.needs_single_vectors,
            kind=self.eigen_solver,
            operator=self.operator_name,
        )

    def _keep(self, found: Components, X: RowSource) -> None:
        n, result = X.n_rows, found.result
        rows = allgather_rows(X.comm, np.ascontiguousarray(result.eigenvectors))
        self.components_ = np.ascontiguousarray(rows.T)
        self.eigenvalues_ = np.maximum(np.asarray(result.eigenvalues), 0.0)
        squares = self.eigenvalues_ * max(n - 1, 1)
        self.singular_values_ = np.sqrt(squares)
        self.residual_norms_ = np.asarray(result.residual_norms) * max(n - 1, 1)
        self.mean_ = np.zeros(X.n_features)
        began = time.perf_counter()
        self.feature_means_, self.feature_variances_ = column_moments(X)
        self.seconds_["operator"] += X.comm.allreduce(time.perf_counter() - began, op=MPI.MAX)
        variances = squares / n - self.coordinate_means_**2
        self.explained_variance_ = np.maximum(variances, 0.0)
        total = float(self.feature_variances_.sum()) * (n - 1) / n
        self.explained_variance_ratio_ = self.explained_variance_ / (total if total > 0 else 1.0)
        self.n_samples_ = n

    @property
    def spectrum_(self) -> Spectrum:
        """Mean squares of the coordinates, and what their variance is of the whole."""
        return Spectrum(
            self.eigenvalues_, "mean square", self.explained_variance_ratio_, share_of="variance"
        )

    @property
    def operator_(self) -> str:
        """The operator and how it was held."""
        return self.plan_.name

    @property
    def coordinate_means_(self) -> NDArray[np.float64]:
        """Of the training rows, which are not centred."""
        return np.asarray(self.components_ @ self.feature_means_)

    @property
    def coordinate_deviations_(self) -> NDArray[np.float64]:
        """Of the training rows' coordinates."""
        return np.sqrt(self.explained_variance_)

    @property
    def linear_map_(self) -> LinearMap:
        """What :meth:`transform` computes."""
        return LinearMap(self.components_, self.mean_)
