"""Truncated singular value decomposition: the dominant right singular vectors, without centring.

The engines of :class:`~hpcembed.embedding.PCA` on X'X in place of the covariance. On counts or
TF-IDF weights of documents this is latent semantic analysis.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
from mpi4py import MPI

from hpcembed.embedding.engines import Request, find_components
from hpcembed.embedding.estimate import default_tolerance
from hpcembed.embedding.limits import check_limits
from hpcembed.embedding.linear import LinearEmbedding, available_bytes, n_nonzeros
from hpcembed.embedding.pca import seed_of
from hpcembed.embedding.solving import SolverSettings
from hpcembed.errors import ConfigError, ConvergenceError, InputError
from hpcembed.operators import column_moments, plan_engine
from hpcembed.parallel import allgather_rows

__all__ = ["TruncatedSVD"]

Self = TypeVar("Self", bound="TruncatedSVD")


class TruncatedSVD(LinearEmbedding):
    """Dominant singular vectors of rows that are not centred.

    Parameters
    ----------
    n_components : int
        At most the number of features.
    eigen_solver : {"auto", "assembled", "matrix_free", "block"}
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
    residual_norms_ : ndarray of shape (k,)
        ``||X'X v - sigma^2 v||`` in double.
    converged_reason_ : str
    n_features_in_, n_samples_ : int
    result_ : EigenResult
    plan_ : EnginePlan
    seconds_ : dict of str to float
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        eigen_solver: Literal["auto", "assembled", "matrix_free", "block"] = "auto",
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
        k, n, d = self.n_components, data.n_rows, data.n_features
        if isinstance(k, bool) or not isinstance(k, int | np.integer):
            raise ConfigError(f"n_components must be an integer, got {k!r}")
        if not 1 <= k <= d:
            raise InputError(
                f"need 1 <= n_components <= features, got n_components={k} with {d} features"
            )
        tol = default_tolerance(data.stored_type.itemsize) if self.tol is None else self.tol
        threads = self._threads(self.n_threads, data.comm)
        self.plan_ = plan_engine(
            n,
            d,
            int(k),
            ranks=data.comm.size,
            threads=threads,
            available_bytes=available_bytes(data, self.memory_limit),
            n_nonzeros=n_nonzeros(data),
            streamed=data.is_streamed,
            item_bytes=data.stored_type.itemsize,
            tol=tol,
            single_vector=settings.needs_single_vectors,
            kind=self.eigen_solver,
        )
        request = Request(
            k=int(k),
            tol=tol,
            seed=seed_of(self.random_state),
            centred=False,
            threads=threads,
            memory_bytes=self.memory_limit,
            solver=settings,
        )
        found = find_components(data, self.plan_, request)
        self.result_, self.seconds_ = found.result, found.seconds
        rows = allgather_rows(data.comm, np.ascontiguousarray(found.result.eigenvectors))
        self.components_ = np.ascontiguousarray(rows.T)
        squares = np.maximum(np.asarray(found.result.eigenvalues), 0.0) * max(n - 1, 1)
        self.singular_values_ = np.sqrt(squares)
        self.residual_norms_ = np.asarray(found.result.residual_norms) * max(n - 1, 1)
        self.mean_ = np.zeros(d)
        mean, variances = column_moments(data)
        self.feature_variances_ = variances + mean**2
        self.explained_variance_ = np.maximum(squares / n - (self.components_ @ mean) ** 2, 0.0)
        total = float(variances.sum()) * (n - 1) / n
        self.explained_variance_ratio_ = self.explained_variance_ / (total if total > 0 else 1.0)
        self.n_samples_ = n
        self.converged_reason_ = found.result.reason.name
        if not found.result.converged and settings.on_no_convergence == "raise":
            missed = ", ".join(str(i + 1) for i in found.result.missed[:10])
            raise ConvergenceError(
                f"singular vectors {missed} missed the tolerance {tol:g}: "
                f"{found.result.reason.remedy}",
                found.result,
            )
        return self
