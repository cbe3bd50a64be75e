"""Base of kernel approximations: principal components of the features of rows.

One pass over the features of all rows gives their scatter, whose dominant eigenvectors are the
principal components. The scatter is a square matrix of a few thousand rows. LAPACK finds its
eigenvectors if it is small, else MIRAMns.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.data.row_validation import assign
from hpcembed.embedding._eigen_results import column_signs
from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.embedding._kernels.kernel_embedding import KernelEmbedding, check_rows
from hpcembed.embedding._parameters import check_components
from hpcembed.embedding.protocol import Machine, Shape, shape_of
from hpcembed.operators.covariance.covariance import symmetric_mat
from hpcembed.operators.kernel.feature_maps import RowFeatures, feature_rows, feature_scatter
from hpcembed.operators.kernel.feature_plan import FeaturePlan, plan_features
from hpcembed.operators.kernel.kernel_functions import tiles
from hpcembed.operators.kernel.row_panels import broadcast_array
from hpcembed.runtime.arguments import check_count
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import allgather_rows, timed
from miramns import EigenResult

__all__ = ["NOT_FINITE", "FeatureComponents"]

Self = TypeVar("Self", bound="FeatureComponents")

NOT_FINITE = "the kernel is not finite: scale the data, or lower gamma, degree or coef0"

#: Eigenvalues below this share of the trace are within the rounding of the scatter.
_NEGLIGIBLE = 1e-9


class FeatureComponents(KernelEmbedding):
    """Base of both estimators: scatter of features, eigenvectors, coordinates.

    Subclasses choose the features.
    """

    n_components: int
    plan_: FeaturePlan

    def plan(self, shape: Shape, machine: Machine) -> FeaturePlan:
        """Return the plan that :meth:`fit` makes for data of this shape.

        Raises
        ------
        MemoryLimitError
            If the scatter of the features does not fit.
        """
        return plan_features(shape, self._width(shape.n_train), machine)

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the components of the rows of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
        y : ignored
        comm : MPI.Comm, optional
            If `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ValueError
            Rows that cannot be used, fewer than two, or more components than features.
        ConfigError
            Parameters that do not fit.
        MemoryLimitError
            Before anything large is allocated.
        ConvergenceError
            If a pair is unconverged and ``solver.on_no_convergence`` is "raise".
        """
        data, machine, seed = self._begin(X, comm, "a kernel")
        shape, k = shape_of(data), int(self.n_components)
        check_components(k, self._width(data.n_rows), f"features of {type(self).__name__}")
        self.plan_ = self.plan(shape, machine)
        self.seconds_ = {"operator": 0.0, "solve": 0.0}
        with timed(data.comm, self.seconds_, "operator"):
            factor = self._choose_features(data, seed)
            mean, lower = feature_scatter(data, self._features)
        if not np.isfinite(lower).all():
            raise InputError(NOT_FINITE)
        with timed(data.comm, self.seconds_, "operator"):
            lower = _in_basis(data.comm, lower, factor)
        self.trace_ = float(np.trace(lower))
        tol, memory = self._tolerance(shape.item_bytes), machine.available_bytes
        solver = Eigensolver(min(k, len(lower)), tol, seed, self._settings, memory)
        result, reference = self._pairs(data.comm, lower, solver)
        self._keep(mean, result, _projection(data.comm, result, factor))
        self._finish(data, solver, result, reference, k)
        return self

    def _check_parameters(self) -> None:
        check_count("n_components", self.n_components)
        super()._check_parameters()

    def _width(self, n_rows: int) -> int:
        """Return the number of features, or a few more."""
        raise NotImplementedError

    def _choose_features(self, X: RowSource, seed: int) -> NDArray[np.float64] | None:
        """Choose the features; return the factor of their inner products on rank 0. Collective."""
        raise NotImplementedError

    @property
    def _features(self) -> RowFeatures:
        raise NotImplementedError

    def _pairs(
        self, comm: MPI.Comm, lower: NDArray[np.float64], solver: Eigensolver
    ) -> tuple[EigenResult, EigenResult | None]:
        """Return the eigenpairs of the scatter, and those of the reference. Collective."""
        r, mat = len(lower), symmetric_mat(comm, lower)
        try:
            with timed(comm, self.seconds_, "solve"):
                result = solver.lapack(mat, lower) if solver.suits_lapack(r) else solver.solve(mat)
            return result, solver.reference(mat)
        finally:
            mat.destroy()

    def _keep(
        self, mean: NDArray[np.float64], result: EigenResult, projection: NDArray[np.float64]
    ) -> None:
        values = np.asarray(result.eigenvalues, dtype=np.float64)
        residuals = np.asarray(result.residual_norms)
        missing = int(self.n_components) - len(values)
        is_known = values > np.maximum(_NEGLIGIBLE * max(self.trace_, 0.0), residuals)
        # with fewer independent features than components, the others are zero
        self.eigenvalues_ = np.pad(np.maximum(values, 0.0), (0, missing))
        self.residual_norms_ = np.pad(residuals, (0, missing))
        self.negligible_ = ~np.pad(is_known, (0, missing))
        self.projection_ = np.pad(np.where(is_known, projection, 0.0), ((0, 0), (0, missing)))
        self._offset = mean @ self.projection_

    def _coordinates(self, X: RowSource, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        check_rows(X, self.kernel)
        embedded = np.empty((X.n_local, self.projection_.shape[1]), dtype=dtype)
        features = self._features
        for first, some in tiles(X, np.float64, feature_rows(X.n_features, features.width)):
            found = features(some) @ self.projection_ - self._offset
            assign(embedded[first : first + len(found)], found)
        return embedded


def _in_basis(
    comm: MPI.Comm, lower: NDArray[np.float64], factor: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the scatter in the basis of orthonormal features, on every rank. Collective."""
    if factor is not None:
        # R^-T S R^-1, by two solves with the symmetric square
        square = np.tril(lower) + np.tril(lower, -1).T
        half = scipy.linalg.solve_triangular(factor, square, trans="T")
        square = scipy.linalg.solve_triangular(factor, half.T, trans="T")
        lower = np.asfortranarray((square + square.T) / 2)
    broadcast_array(comm, lower.T, 0)  # column-major
    return lower


def _projection(
    comm: MPI.Comm, result: EigenResult, factor: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the map from features to coordinates, on every rank. Collective."""
    vectors = allgather_rows(comm, np.ascontiguousarray(result.eigenvectors))
    if factor is not None:
        places = factor.T @ vectors  # coordinates of the landmarks
        vectors = scipy.linalg.solve_triangular(factor, vectors)
        vectors *= column_signs(MPI.COMM_SELF, places)
    vectors = np.ascontiguousarray(vectors)
    broadcast_array(comm, vectors, 0)
    return vectors
