"""Truncated singular value decomposition: the dominant right singular vectors, without centring.

The engines of :class:`~hpcembed.embedding.PCA` on X'X in place of the covariance. On counts or
TF-IDF weights of documents this is latent semantic analysis.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding._covariance import CovarianceEmbedding, CovariancePairs
from hpcembed.embedding._parameters import check_components
from hpcembed.embedding.protocol import Machine, Shape, Spectrum, shape_of
from hpcembed.operators.cost import EnginePlan
from hpcembed.operators.covariance.moments import column_moments, ordered_moments
from hpcembed.runtime.arguments import check_count
from hpcembed.runtime.ranks import allgather_rows, timed

__all__ = ["TruncatedSVD"]

Self = TypeVar("Self", bound="TruncatedSVD")


@dataclass(eq=False, repr=False)
class TruncatedSVD(CovarianceEmbedding):
    """Dominant singular vectors of rows that are not centred.

    Parameters
    ----------
    n_components : int, default=2
        At most the number of features.
    engine : {"auto", "assembled", "matrix_free", "block", "gram"}, default="auto"
    tol : float, optional
        Largest true residual of X'X, relative to the square of the largest singular value.
        Default: 1e-6 for rows in single precision or short integers, 1e-10 for double.
    random_state : int, RandomState or None, default=None
        Seed of the start vectors; None is 0, so that results repeat.
    certify, memory_limit, n_threads, solver
        As for :class:`~hpcembed.embedding.PCA`.

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        Right singular vectors, on every rank; the largest entry of each is positive.
    singular_values_ : ndarray of shape (k,)
    explained_variance_, explained_variance_ratio_ : ndarray of shape (k,)
        Variance of the coordinates of the training rows, and its share in that of the features.
    eigenvalues_ : ndarray of shape (k,)
        Eigenvalues of ``X'X / (n - 1)``: mean squares of the coordinates of the training rows.
    mean_ : ndarray of shape (d,)
        Zero.
    feature_means_, feature_variances_ : ndarray of shape (d,)
    residual_norms_ : ndarray of shape (k,)
        ``||X'X v - sigma^2 v||`` in double precision, or their bound.
    certificate_ : {"exact", "double", "sampled"}
        Origin of `residual_norms_`, as for :class:`~hpcembed.embedding.PCA`.
    converged_reason_ : str
    certified_ : bool
        Whether every pair meets its tolerance, and no reference has a larger eigenvalue at the
        same position.
    n_requested_, n_features_in_, n_samples_ : int
    result_ : EigenResult
        Eigenpairs of ``X'X / (n - 1)``.
    reference_, comparison_, reference_sin_angle_
        Result of the reference solver and differences, if ``solver.reference`` is set.
    plan_ : EnginePlan
    seconds_ : dict of str to float

    See Also
    --------
    PCA : The same with centring.

    Examples
    --------
    >>> import numpy as np
    >>> from hpcembed import TruncatedSVD
    >>> svd = TruncatedSVD(1).fit(np.array([[3.0, 0.0], [0.0, 1.0], [4.0, 0.0]]))
    >>> svd.singular_values_, svd.components_.round(6)
    (array([5.]), array([[1., 0.]]))
    """

    operator_name = "X'X"
    components_name = "singular vectors"
    _centred = False

    n_components: int = 2
    _: KW_ONLY
    engine: Literal["auto", "assembled", "matrix_free", "block", "gram"] = "auto"
    certify: Literal["auto", "double"] = "auto"
    memory_limit: int | None = None
    n_threads: int | None = None

    def plan(self, shape: Shape, machine: Machine) -> EnginePlan:
        """Return the plan that :meth:`fit` makes for data of this shape; see :meth:`PCA.plan`."""
        return self._plan(shape, machine, int(self.n_components))

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the singular vectors of the rows of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix. Arguments and errors as
        :meth:`hpcembed.embedding.PCA.fit`.
        """
        data, machine, seed = self._begin(X, comm)
        k = int(self.n_components)
        check_components(k, data.n_features, "features")
        self._keep(self._find(data, shape_of(data), machine, k, seed), data)
        return self

    def _check_parameters(self) -> None:
        check_count("n_components", self.n_components)
        super()._check_parameters()

    def _keep(self, found: CovariancePairs, X: RowSource) -> None:
        """Keep the singular vectors, and certify them. Collective."""
        n, result = X.n_rows, found.result
        rows = allgather_rows(X.comm, np.ascontiguousarray(result.eigenvectors))
        self.components_ = np.ascontiguousarray(rows.T)
        self.eigenvalues_ = np.maximum(np.asarray(result.eigenvalues), 0.0)
        squares = self.eigenvalues_ * max(n - 1, 1)
        self.singular_values_ = np.sqrt(squares)
        self.residual_norms_ = np.asarray(result.residual_norms) * max(n - 1, 1)
        self.mean_ = np.zeros(X.n_features)
        with timed(X.comm, self.seconds_, "operator"):
            moments = ordered_moments if self._settings.reproducible else column_moments
            self.feature_means_, self.feature_variances_ = moments(X)
        variances = squares / n - self.coordinate_means_**2
        self.explained_variance_ = np.maximum(variances, 0.0)
        total = float(self.feature_variances_.sum()) * (n - 1) / n
        self.explained_variance_ratio_ = self.explained_variance_ / (total if total > 0 else 1.0)
        self._certify(X.comm, found.solver, result, found.reference)

    @property
    def spectrum_(self) -> Spectrum:
        """Mean squares of the coordinates, and the share of their variance in the whole."""
        n = self.n_samples_
        squares = self.feature_variances_ + self.feature_means_**2 * (n / max(n - 1, 1))
        return Spectrum(
            self.eigenvalues_,
            "mean square",
            self.explained_variance_ratio_,
            share_of="variance",
            trace=float(squares.sum()),
            rank_limit=min(n, self.n_features_in_),
        )

    @property
    def coordinate_means_(self) -> NDArray[np.float64]:
        """Means of the training rows' coordinates, which are not centred."""
        return np.asarray(self.components_ @ self.feature_means_)

    @property
    def coordinate_deviations_(self) -> NDArray[np.float64]:
        """Standard deviations of the training rows' coordinates."""
        return np.sqrt(self.explained_variance_)
