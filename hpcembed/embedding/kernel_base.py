"""What kernel PCA and its approximations share: how a fit begins and ends, and what a job asks."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding.certificate import Certificate
from hpcembed.embedding.contract import Spectrum
from hpcembed.embedding.estimate import default_tolerance
from hpcembed.embedding.kernel_choice import Gamma
from hpcembed.embedding.limits import check_limits
from hpcembed.embedding.linear import RowEstimator
from hpcembed.embedding.pca import seed_of
from hpcembed.embedding.solving import SolverSettings
from hpcembed.operators import Kernel, column_moments
from hpcembed.runtime.errors import ConvergenceError, InputError
from miramns import EigenResult

__all__ = ["KernelEmbedding"]


class KernelEmbedding(Certificate, RowEstimator):
    """Base of estimators whose coordinates are principal ones in the space of a kernel.

    Subclasses set ``eigenvalues_`` and ``trace_``, of the centred kernel or its approximation.
    """

    components_name = "kernel principal components"

    gamma: Gamma
    tol: float | None
    random_state: Any
    memory_limit: int | None
    n_threads: int | None
    solver: SolverSettings | None

    kernel_: Kernel
    eigenvalues_: NDArray[np.float64]
    trace_: float
    n_samples_: int
    seconds_: dict[str, float]

    #: Coordinates are not affine in the features.
    linear_map_ = None

    def _begin(self, X: Any, comm: MPI.Intracomm | None) -> tuple[RowSource, int]:
        """The rows to fit, and the seed that all ranks share. Collective where distributed."""
        self._agree_on_settings(X, comm)
        self._check_settings()
        data = self._matrix(X, comm)
        if data.n_rows < 2:
            raise InputError(f"a kernel needs at least 2 training rows, got {data.n_rows}")
        self.n_samples_ = data.n_rows
        return data, int(data.comm.bcast(seed_of(self.random_state)))

    def _end(
        self,
        X: RowSource,
        result: EigenResult,
        reference: EigenResult | None,
        n_requested: int,
    ) -> None:
        """Judge what was found. Collective.

        Raises
        ------
        ConvergenceError
        """
        # of rows that only the cosine can take, squares may be beyond the range
        with np.errstate(over="ignore", invalid="ignore"):
            self.feature_means_, self.feature_variances_ = column_moments(X)
        self._judge(X.comm, result, reference, tol=self._tolerance(X), n_requested=n_requested)
        if not self.certified_ and self._settings.on_no_convergence == "raise":
            raise ConvergenceError(self.failure_text(), self.result_)

    @property
    def _settings(self) -> SolverSettings:
        return self.solver or SolverSettings()

    def _check_settings(self) -> None:
        check_limits(self.tol, self.memory_limit, self.n_threads)
        self._settings.check()

    def _tolerance(self, X: RowSource) -> float:
        return default_tolerance(X.stored_type.itemsize) if self.tol is None else self.tol

    @property
    def explained_variance_(self) -> NDArray[np.float64]:
        """Variance of the coordinates of the training rows."""
        return self.eigenvalues_ / max(self.n_samples_ - 1, 1)

    @property
    def explained_variance_ratio_(self) -> NDArray[np.float64]:
        """Its share of the variance in the space of the kernel."""
        return self.eigenvalues_ / (self.trace_ if self.trace_ > 0 else 1.0)

    @property
    def spectrum_(self) -> Spectrum:
        """Eigenvalues of the centred kernel, and what they hold of its trace."""
        share = self.explained_variance_ratio_
        return Spectrum(self.eigenvalues_, "", share, share_of="kernel variance")

    @property
    def coordinate_means_(self) -> NDArray[np.float64]:
        """Of the training rows: zero, as they are centred."""
        return np.zeros(len(self.eigenvalues_))

    @property
    def coordinate_deviations_(self) -> NDArray[np.float64]:
        """Of the training rows' coordinates."""
        return np.sqrt(np.maximum(self.eigenvalues_, 0.0) / self.n_samples_)
