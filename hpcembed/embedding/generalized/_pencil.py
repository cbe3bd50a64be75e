"""Base of embeddings from ``A v = lambda B v``: A symmetric, B positive definite.

Both matrices are dense, of the dimension of the features or of a projection, and assembled.
MIRAMns finds the largest eigenvalues of ``B^-1 A`` in the inner product of B
(:mod:`miramns.transform`), and its certificate are the true residuals ``||A v - lambda B v||``.
Components are orthonormal in B.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.embedding._linear import LinearEmbedding
from hpcembed.embedding.protocol import Machine, Shape, Spectrum
from hpcembed.operators.covariance.covariance import symmetric_mat
from hpcembed.runtime.agreement import on_rank
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.machine.memory import check_fits, format_bytes
from hpcembed.runtime.ranks import allgather_rows, ownership_range, timed
from miramns import EigenResult

__all__ = ["Pencil", "PencilEmbedding", "PencilPlan"]

#: Dense matrices of the dimension that a rank holds at once: both sums, both operators, a packed
#: triangle for the reduction, and the factor.
_MATRICES = 6

#: Variance relative to that of all rows which is the square of rounding errors.
_ROUNDING = 1e-28
#: Reciprocal condition of B below which its factors have no correct digit.
_SINGULAR = 1e-14


@dataclass(frozen=True, slots=True)
class PencilPlan:
    """Memory of a generalised eigenproblem with dense matrices.

    Attributes
    ----------
    operator : str
        Names of A and B.
    dimension : int
    bytes : int
        Memory on one rank, beyond the data.
    """

    operator: str
    dimension: int
    bytes: int

    def describe(self) -> str:
        """Return the plan as one line of text."""
        return (
            f"{self.operator}, assembled, {self.dimension:,} x {self.dimension:,}, double "
            f"precision; {format_bytes(self.bytes)}"
        )


@dataclass(frozen=True, slots=True)
class Pencil:
    """A generalised problem and the moments of the rows.

    Attributes
    ----------
    matrix, metric : ndarray of shape (p, p)
        Lower triangles of A and B.
    total : ndarray of shape (p, p)
        Lower triangle of the covariance of the rows, divided by n.
    mean, variances : ndarray of shape (d,)
        Moments of the features.
    basis : ndarray of shape (p, d) or None
        Map from features to the p coordinates of the problem; None for the identity.
    """

    matrix: NDArray[np.float64]
    total: NDArray[np.float64]
    metric: NDArray[np.float64]
    mean: NDArray[np.float64]
    variances: NDArray[np.float64]
    basis: NDArray[np.float64] | None = None


class PencilEmbedding(LinearEmbedding):
    """Base of estimators whose components are eigenvectors of ``A v = lambda B v``.

    Subclasses set ``operator_`` and ``eigenvalue_meaning``, and form the pencil.
    """

    operator_: str
    eigenvalue_meaning: str
    #: Change of the parameters with which B is no longer singular.
    _remedy: str
    _has_dense_operator = False
    _needs_labels = True
    #: Whether A has no negative eigenvalue.
    _is_positive = True

    n_components: int | None
    plan_: PencilPlan
    residual_norms_: NDArray[np.float64]

    def plan(self, shape: Shape, machine: Machine) -> PencilPlan:
        """Return the plan that :meth:`fit` makes for data of this shape.

        Raises
        ------
        MemoryLimitError
            If the matrices do not fit.
        """
        d = shape.n_features
        found = PencilPlan(self.operator_, d, 8 * d * d * _MATRICES)
        check_fits(
            found.bytes,
            machine.available_bytes,
            f"{self.operator_}: matrices of {d:,} x {d:,} entries",
            "project the rows with PCA first, or use more memory per rank",
        )
        return found

    def _find(self, X: RowSource, pencil: Pencil, solver: Eigensolver) -> None:
        """Find the components of a pencil, keep and certify them. Collective."""
        comm = X.comm
        self._check_entries(pencil)
        on_rank(comm, 0, lambda: self._check_metric(pencil.metric))
        with timed(comm, self.seconds_, "operator"):
            A = symmetric_mat(comm, pencil.matrix)
            B = symmetric_mat(comm, pencil.metric)
        try:
            with timed(comm, self.seconds_, "solve"):
                result = solver.solve_pencil(A, B)
            reference = solver.reference(A, B=B)
        finally:
            A.destroy()
            B.destroy()
        vectors = allgather_rows(comm, np.ascontiguousarray(result.eigenvectors))
        found = np.ascontiguousarray(vectors.T)
        self.components_ = found if pencil.basis is None else found @ pencil.basis
        self.mean_, self.feature_variances_ = pencil.mean, pencil.variances
        values = np.asarray(result.eigenvalues)
        self.eigenvalues_ = np.maximum(values, 0.0) if self._is_positive else values
        self.residual_norms_ = np.asarray(result.residual_norms)
        self.n_components_ = len(self.eigenvalues_)
        whole = pencil.total + np.tril(pencil.total, -1).T
        squares = np.einsum("kd,kd->k", found @ whole, found)
        self._deviations = np.sqrt(np.maximum(squares, 0.0))
        self._certify(comm, solver, result, reference)

    def _check_entries(self, pencil: Pencil) -> None:
        """Raise InputError if an entry is not finite, or a matrix is zero apart from rounding."""
        if not (np.isfinite(pencil.matrix).all() and np.isfinite(pencil.metric).all()):
            raise InputError(
                f"{self.operator_}: squares of the features overflow: scale the features"
            )
        if self._needs_labels and not np.any(np.diagonal(pencil.matrix) > 0):
            raise InputError(f"{self.operator_}: no feature differs between the labels")
        if not np.trace(pencil.metric) > _ROUNDING * np.trace(pencil.total):
            raise InputError(
                f"{self.operator_}: the second matrix is zero, as no feature varies among rows of "
                "one class: leave this projection out"
            )

    def _check_metric(self, lower: NDArray[np.float64]) -> None:
        """Raise ConfigError unless B is positive definite in floating-point numbers."""
        factor, failed = scipy.linalg.lapack.dpotrf(lower, lower=1)
        if not failed:
            norm = float(np.max(np.abs(lower + np.tril(lower, -1).T).sum(axis=0)))
            condition, _ = scipy.linalg.lapack.dpocon(factor, norm, uplo="L")
            failed = not condition > _SINGULAR
        if failed:
            raise ConfigError(
                f"{self.operator_}: the second matrix is singular, as some features are constant "
                f"or depend on others: {self._remedy}"
            )

    def _comparable(self, comm: MPI.Comm, result: EigenResult) -> EigenResult:
        """Return a result whose vectors are orthonormal, for angles. Collective."""
        vectors = allgather_rows(comm, np.ascontiguousarray(result.eigenvectors))
        first, last = ownership_range(len(vectors), comm)
        return replace(result, eigenvectors=np.linalg.qr(vectors)[0][first:last])

    @property
    def spectrum_(self) -> Spectrum:
        """Eigenvalues, which are not shares of a whole."""
        return Spectrum(self.eigenvalues_, self.eigenvalue_meaning)

    @property
    def feature_means_(self) -> NDArray[np.float64]:
        """Mean of the features, which centres the rows."""
        return self.mean_

    @property
    def coordinate_means_(self) -> NDArray[np.float64]:
        """Means of the coordinates: zero, as rows are centred."""
        return np.zeros(len(self.eigenvalues_))

    @property
    def coordinate_deviations_(self) -> NDArray[np.float64]:
        """Standard deviations of the training rows' coordinates."""
        return self._deviations

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Return the rows of least norm, less the mean, that have given coordinates.

        Not collective.

        Raises
        ------
        InputError
            If the coordinates do not have the shape (n, k).
        """
        coordinates = np.asarray(X)
        k = len(self.components_)
        if coordinates.ndim != 2 or coordinates.shape[1] != k:
            raise InputError(f"coordinates of shape {coordinates.shape}: give (rows, {k})")
        inverse = np.linalg.pinv(self.components_)
        return np.asarray(coordinates @ inverse.T + self.mean_)

    def _more_tags(self) -> dict[str, Any]:
        return {**super()._more_tags(), "requires_y": self._needs_labels}

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: whether labels are required."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._needs_labels
        return tags
