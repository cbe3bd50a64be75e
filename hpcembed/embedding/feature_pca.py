"""Principal components of features whose inner products approximate a kernel.

The features of all rows are gone through once, for their scatter; its dominant eigenvectors make
the components the principal ones. The scatter is a square of some thousand rows: LAPACK solves it
where it is small, else MIRAMns.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray

import miramns
from hpcembed.data.matrix import DataMatrix, RowSource, RowStream
from hpcembed.data.row_validation import assign
from hpcembed.embedding.kernel_base import KernelEmbedding
from hpcembed.embedding.kernel_choice import check_rows
from hpcembed.embedding.linear import available_bytes
from hpcembed.embedding.solving import krylov_schur, leading_vectors, solver_errors
from hpcembed.operators import (
    RowFeatures,
    broadcast_array,
    feature_rows,
    feature_scatter,
    plan_features,
    symmetric_mat,
    tiles,
)
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import allgather_rows, ownership_range
from miramns import EigenResult

__all__ = ["NOT_FINITE", "FeaturePCA"]

Self = TypeVar("Self", bound="FeaturePCA")

NOT_FINITE = "the kernel is not finite: scale the data, or lower gamma, degree or coef0"

#: Features up to which LAPACK solves the small problem, and the share of pairs from which.
_LAPACK_FEATURES, _LAPACK_SHARE = 300, 0.2

#: Eigenvalues below this share of the trace are not told from the rounding of the scatter.
_NOTHING = 1e-9

#: Entries within this fraction of the largest count as equal when a sign is chosen.
_SIGN_TIE = 1e-8


class FeaturePCA(KernelEmbedding):
    """Base: features by subclasses, scatter, eigenvectors, coordinates."""

    n_components: int

    def fit(self: Self, X: Any, y: Any = None, *, comm: MPI.Intracomm | None = None) -> Self:
        """Find the components of the rows of `X`.

        Collective on `comm`, or on the communicator of a DataMatrix.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
        y : ignored
        comm : MPI.Comm, optional
            Where `X` is an array: the ranks that hold the other rows.

        Raises
        ------
        InputError, ValueError
            Rows that cannot be used, fewer than two, or more components than features.
        ConfigError
            Settings that do not fit.
        MemoryLimitError
            Before anything large is allocated.
        ConvergenceError
            When a pair missed its tolerance and ``solver.on_no_convergence`` is "raise".
        """
        data, seed = self._begin(X, comm)
        width, k = self._width(data), int(self.n_components)
        if not 1 <= k <= width:
            raise InputError(
                f"need 1 <= n_components <= features, got n_components={k} with {width} of "
                f"{type(self).__name__}"
            )
        began = time.perf_counter()
        self.plan_ = plan_features(
            data.n_rows,
            data.n_features,
            width,
            ranks=data.comm.size,
            threads=self._threads(self.n_threads, data.comm),
            available_bytes=available_bytes(data, self.memory_limit),
        )
        factor = self._choose_features(data, seed)
        mean, lower = feature_scatter(data, self._features)
        if not np.isfinite(lower).all():
            raise InputError(NOT_FINITE)
        formed = time.perf_counter()
        result, reference, projection = self._components(data, lower, factor, seed)
        spent = np.array([formed - began, time.perf_counter() - formed])
        data.comm.Allreduce(MPI.IN_PLACE, spent, op=MPI.MAX)
        self.seconds_ = dict(zip(("operator", "solve"), spent.tolist(), strict=True))
        self._keep(mean, result, projection)
        self._end(data, result, reference, k)
        return self

    def _check_settings(self) -> None:
        if isinstance(self.n_components, bool) or not isinstance(
            self.n_components, int | np.integer
        ):
            raise ConfigError(f"n_components must be an integer, got {self.n_components!r}")
        super()._check_settings()

    def _width(self, X: RowSource) -> int:
        """Features that there will be, or a few fewer."""
        raise NotImplementedError

    def _choose_features(self, X: RowSource, seed: int) -> NDArray[np.float64] | None:
        """Choose what `_features` is; on rank 0 the factor of inner products. Collective."""
        raise NotImplementedError

    def _components(
        self,
        X: RowSource,
        lower: NDArray[np.float64],
        factor: NDArray[np.float64] | None,
        seed: int,
    ) -> tuple[EigenResult, EigenResult | None, NDArray[np.float64]]:
        """The eigenpairs, those of a reference, and the map to coordinates. Collective."""
        comm = X.comm
        if factor is not None:
            # R^-T S R^-1, by two solves with the symmetric square
            square = np.tril(lower) + np.tril(lower, -1).T
            half = scipy.linalg.solve_triangular(factor, square, trans="T")
            square = scipy.linalg.solve_triangular(factor, half.T, trans="T")
            lower = np.asfortranarray((square + square.T) / 2)
        broadcast_array(comm, lower.T, 0)  # column-major
        self.trace_ = float(np.trace(lower))
        k = min(int(self.n_components), len(lower))
        result, reference = self._solve(comm, lower, k, self._tolerance(X), seed)
        vectors = allgather_rows(comm, np.ascontiguousarray(result.eigenvectors))
        if factor is not None:
            places = factor.T @ vectors  # coordinates of the landmarks
            vectors = scipy.linalg.solve_triangular(factor, vectors) * _signs(places)
        vectors = np.ascontiguousarray(vectors)
        broadcast_array(comm, vectors, 0)
        return result, reference, vectors

    def _solve(
        self, comm: MPI.Comm, lower: NDArray[np.float64], k: int, tol: float, seed: int
    ) -> tuple[EigenResult, EigenResult | None]:
        settings, r = self._settings, len(lower)
        mat, reference = symmetric_mat(comm, lower), None
        asked: dict[str, Any] = {"tol": tol, "criterion": settings.criterion}
        limits: dict[str, Any] = {"max_it": settings.max_it, "ncv": settings.ncv or None}
        small = r <= _LAPACK_FEATURES or k > _LAPACK_SHARE * r
        automatic = settings.name == "auto" and not settings.needs_single_vectors
        try:
            with solver_errors():
                if settings.name == "lapack" or (automatic and small):
                    vectors = leading_vectors(lower, k) if comm.rank == 0 else np.empty((r, k))
                    comm.Bcast(vectors, root=0)
                    first, last = ownership_range(r, comm)
                    asked["solver"] = "LAPACK"
                    result = miramns.certify(mat, vectors[first:last], which="LA", **asked)
                elif settings.name == "krylovschur":
                    result = krylov_schur(mat, k, tol=tol, seed=seed, **limits)
                else:
                    result = miramns.solve(
                        mat, k, which="LA", hermitian=True, seed=seed, variant=settings.variant,
                        tol=tol, monitor=settings.on_check, **limits,
                        options=miramns.Options(
                            criterion=settings.criterion, nested_sizes=settings.nested or None
                        ),
                    )  # fmt: skip
            if settings.reference:
                reference = krylov_schur(mat, k, tol=tol, seed=seed)
        finally:
            mat.destroy()
        return result, reference

    def _keep(
        self, mean: NDArray[np.float64], result: EigenResult, projection: NDArray[np.float64]
    ) -> None:
        values = np.asarray(result.eigenvalues, dtype=np.float64)
        residuals = np.asarray(result.residual_norms)
        missing = int(self.n_components) - len(values)
        known = values > np.maximum(_NOTHING * max(self.trace_, 0.0), residuals)
        # fewer independent features than components: the others are zero
        self.eigenvalues_ = np.pad(np.maximum(values, 0.0), (0, missing))
        self.residual_norms_ = np.pad(residuals, (0, missing))
        self.negligible_ = ~np.pad(known, (0, missing))
        self.projection_ = np.pad(np.where(known, projection, 0.0), ((0, 0), (0, missing)))
        self._offset = mean @ self.projection_

    def transform(self, X: Any, dtype: type[np.floating[Any]] | None = None) -> NDArray[Any]:
        """Coordinates of rows in the components.

        Not collective.

        Parameters
        ----------
        X : DataMatrix, RowStream, or array or sparse matrix of shape (n_local, d)
        dtype : {float64, float32}, optional
            Of the result. Default: float32 for float32 arrays, float64 otherwise.

        Returns
        -------
        ndarray of shape (n_local, k)

        Raises
        ------
        InputError, ValueError
            When `X` has another number of features than the data of :meth:`fit`, or rows that the
            kernel cannot take.
        """
        rows = self._rows(X)
        check_rows(rows, getattr(self, "kernel", "rbf"))
        single = not isinstance(X, DataMatrix | RowStream) and rows.stored_type == np.float32
        target = dtype or (np.float32 if single else np.float64)
        embedded = np.empty((rows.n_local, self.projection_.shape[1]), dtype=target)
        features = self._features
        for first, some in tiles(rows, np.float64, feature_rows(rows.n_features, features.width)):
            found = features(some) @ self.projection_ - self._offset
            assign(embedded[first : first + len(found)], found)
        return embedded

    @property
    def _features(self) -> RowFeatures:
        raise NotImplementedError

    @property
    def _n_features_out(self) -> int:
        return int(self.projection_.shape[1])


def _signs(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each column the sign of its largest entry, the first of those that are equal."""
    moduli = np.abs(places)
    first = np.argmax(moduli >= (1 - _SIGN_TIE) * moduli.max(axis=0, initial=0.0), axis=0)
    return np.where(places[first, np.arange(places.shape[1])] < 0, -1.0, 1.0)
