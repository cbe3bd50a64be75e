"""Principal components of features that approximate a kernel: for data whose kernel is too large.

The features of all rows are gone through once, for their scatter; its dominant eigenvectors make
the components the principal ones, so that coordinates, eigenvalues and signs mean what they mean
for :class:`~hpcembed.embedding.KernelPCA`, of which this is an approximation. Models are small, and
transform rows on each rank alone. Rows may stay in files.

scikit-learn has feature maps of these names, whose ``n_components`` is the number of features; here
it is the number of principal components, and ``n_landmarks``, ``n_directions`` that of features.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray

import miramns
from hpcembed.embedding.estimate import default_tolerance
from hpcembed.embedding.kernel_choice import Gamma, check_kernel, check_rows, choose_kernel
from hpcembed.embedding.limits import check_limits
from hpcembed.embedding.linear import RowEstimator, available_bytes
from hpcembed.embedding.pca import seed_of
from hpcembed.embedding.solving import SolverSettings, krylov_schur, leading_vectors, solver_errors
from hpcembed.errors import ConfigError, ConvergenceError, InputError
from hpcembed.matrix import DataMatrix, RowSource, RowStream
from hpcembed.memory import check_fits
from hpcembed.operators import (
    FourierFeatures,
    LandmarkFeatures,
    broadcast_array,
    feature_bytes,
    feature_rows,
    feature_scatter,
    fourier_features,
    independent_landmarks,
    sampled_rows,
    symmetric_mat,
    tiles,
)
from hpcembed.parallel import allgather_rows, ownership_range
from hpcembed.rows import assign
from miramns import EigenResult

__all__ = ["Nystroem", "RandomFourierFeatures"]

Self = TypeVar("Self", bound="_FeaturePCA")

#: Features up to which LAPACK solves the small problem, and the share of pairs from which.
_LAPACK_FEATURES, _LAPACK_SHARE = 300, 0.2

#: Eigenvalues below this share of the largest are not told from the rounding of the scatter.
_NOTHING = 1e-9

_NOT_FINITE = "the kernel is not finite: scale the data, or lower gamma, degree or coef0"

#: Entries within this fraction of the largest count as equal when a sign is chosen.
_SIGN_TIE = 1e-8


class _FeaturePCA(RowEstimator):
    """Base: features by subclasses, scatter, eigenvectors, coordinates."""

    n_components: int
    gamma: Gamma
    tol: float | None
    random_state: Any
    memory_limit: int | None
    n_threads: int | None
    solver: SolverSettings | None

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
        self._agree_on_settings(X, comm)
        self._check_settings()
        data = self._matrix(X, comm)
        if data.n_rows < 2:
            raise InputError(f"a kernel needs at least 2 training rows, got {data.n_rows}")
        seed = int(data.comm.bcast(seed_of(self.random_state)))
        width, k = self._width(data), self.n_components
        if not 1 <= k <= width:
            raise InputError(
                f"need 1 <= n_components <= features, got n_components={k} with {width} of "
                f"{type(self).__name__}"
            )
        check_fits(
            feature_bytes(data.n_features, width, data.comm.size),
            available_bytes(data, self.memory_limit),
            f"the scatter of {width} features",
            "use fewer of them",
        )
        factor = self._choose_features(data, seed)
        mean, lower = feature_scatter(data, self._features)
        if not np.isfinite(lower).all():
            raise InputError(_NOT_FINITE)
        self._keep(data, mean, *self._components(data, lower, factor, seed))
        if not self.certified_ and self._settings.on_no_convergence == "raise":
            missed = ", ".join(str(i + 1) for i in self.result_.missed[:10])
            raise ConvergenceError(
                f"eigenpairs {missed} missed the tolerance {self._tolerance(data):g}: "
                f"{self.result_.reason.remedy}",
                self.result_,
            )
        return self

    @property
    def _settings(self) -> SolverSettings:
        return self.solver or SolverSettings()

    def _check_settings(self) -> None:
        if isinstance(self.n_components, bool) or not isinstance(
            self.n_components, int | np.integer
        ):
            raise ConfigError(f"n_components must be an integer, got {self.n_components!r}")
        check_limits(self.tol, self.memory_limit, self.n_threads)
        self._settings.check()

    def _tolerance(self, X: RowSource) -> float:
        return default_tolerance(X.stored_type.itemsize) if self.tol is None else self.tol

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
    ) -> tuple[EigenResult, NDArray[np.float64], float]:
        """The eigenpairs, the map from features to coordinates, and the trace. Collective."""
        comm = X.comm
        if factor is not None:
            # R^-T S R^-1, by two solves with the symmetric square
            square = np.tril(lower) + np.tril(lower, -1).T
            half = scipy.linalg.solve_triangular(factor, square, trans="T")
            square = scipy.linalg.solve_triangular(factor, half.T, trans="T")
            lower = np.asfortranarray((square + square.T) / 2)
        broadcast_array(comm, lower.T, 0)  # column-major
        result = self._solve(comm, lower, min(int(self.n_components), len(lower)), X, seed)
        vectors = allgather_rows(comm, np.ascontiguousarray(result.eigenvectors))
        if factor is not None:
            places = factor.T @ vectors  # coordinates of the landmarks
            vectors = scipy.linalg.solve_triangular(factor, vectors) * _signs(places)
        vectors = np.ascontiguousarray(vectors)
        broadcast_array(comm, vectors, 0)
        return result, vectors, float(np.trace(lower))

    def _solve(
        self, comm: MPI.Comm, lower: NDArray[np.float64], k: int, X: RowSource, seed: int
    ) -> EigenResult:
        settings, r, tol = self._settings, len(lower), self._tolerance(X)
        mat = symmetric_mat(comm, lower)
        self.reference_: EigenResult | None = None
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
                        nested_sizes=settings.nested or None, on_check=settings.on_check,
                        **asked, **limits,
                    )  # fmt: skip
            if settings.reference:
                self.reference_ = krylov_schur(mat, k, tol=tol, seed=seed)
        finally:
            mat.destroy()
        return result

    def _keep(
        self,
        X: RowSource,
        mean: NDArray[np.float64],
        result: EigenResult,
        projection: NDArray[np.float64],
        trace: float,
    ) -> None:
        values = np.asarray(result.eigenvalues, dtype=np.float64)
        residuals = np.asarray(result.residual_norms)
        missing = int(self.n_components) - len(values)
        known = values > np.maximum(_NOTHING * max(trace, 0.0), residuals)
        self.result_, self.n_samples_ = result, X.n_rows
        self.certified_, self.converged_reason_ = result.converged, result.reason.name
        # fewer independent features than components: the others are zero
        self.eigenvalues_ = np.pad(np.maximum(values, 0.0), (0, missing))
        self.residual_norms_ = np.pad(residuals, (0, missing))
        self.negligible_ = ~np.pad(known, (0, missing))
        self.explained_variance_ = self.eigenvalues_ / max(X.n_rows - 1, 1)
        self.explained_variance_ratio_ = self.eigenvalues_ / (trace if trace > 0 else 1.0)
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
    def _features(self) -> LandmarkFeatures | FourierFeatures:
        raise NotImplementedError

    @property
    def _n_features_out(self) -> int:
        return int(self.projection_.shape[1])


class Nystroem(_FeaturePCA):
    """Kernel principal components approximated in the span of seeded landmarks.

    Parameters
    ----------
    n_components : int
        Principal components, at most the landmarks.
    n_landmarks : int
        Rows that are chosen, the same on any number of ranks; all rows where there are fewer.
        With all of them the components are those of :class:`~hpcembed.embedding.KernelPCA`.
    kernel, gamma, degree, coef0
        As for :class:`~hpcembed.embedding.KernelPCA`.
    tol : float, optional
        Of the eigenpairs of the features' scatter, as there.
    random_state : int, RandomState or None
        Of the landmarks; None is 0, so that results repeat.
    memory_limit, n_threads : int, optional
    solver : SolverSettings, optional
        How the scatter's eigenproblem is solved, for those who want to say.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (k,)
        Of the approximate centred kernel, largest first; zero where landmarks span fewer.
    explained_variance_, explained_variance_ratio_ : ndarray of shape (k,)
        Variance of the coordinates, and its share of that of all features.
    landmarks_ : ndarray or csr_array of shape (r, d)
        The independent ones, on every rank; r may be less than `n_landmarks`.
    projection_ : ndarray of shape (r, k)
        Coordinates are ``kernel(x, landmarks_) @ projection_``, less those of the mean. Of each
        component the landmark with the largest coordinate has a positive one.
    gamma_ : float or None
    kernel_ : Kernel
    residual_norms_ : ndarray of shape (k,)
        True residuals of the eigenpairs of the scatter.
    negligible_ : ndarray of bool, shape (k,)
    converged_reason_ : str
    certified_ : bool
    n_features_in_, n_samples_ : int
    result_, reference_ : EigenResult
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        n_landmarks: int = 1000,
        kernel: Literal["linear", "poly", "rbf", "cosine"] = "rbf",
        gamma: Gamma = None,
        degree: int = 3,
        coef0: float = 1,
        tol: float | None = None,
        random_state: Any = None,
        memory_limit: int | None = None,
        n_threads: int | None = None,
        solver: SolverSettings | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_landmarks = n_landmarks
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.tol = tol
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_threads = n_threads
        self.solver = solver

    def _check_settings(self) -> None:
        super()._check_settings()
        check_kernel(self.kernel, self.gamma, self.degree, self.coef0)
        _check_count("n_landmarks", self.n_landmarks)

    def _width(self, X: RowSource) -> int:
        return min(int(self.n_landmarks), X.n_rows)

    def _choose_features(self, X: RowSource, seed: int) -> NDArray[np.float64] | None:
        choice = choose_kernel(
            X, self.kernel, self.gamma, self.degree, self.coef0, seed, shifted=False
        )
        self.kernel_ = choice.kernel
        self.gamma_ = choice.kernel.gamma if self.kernel in ("rbf", "poly") else None
        rows = sampled_rows(X, self._width(X), seed)
        # the same bits on any number of ranks, unlike the mean of all rows
        dense = self.kernel == "rbf" and isinstance(rows, np.ndarray)
        self._origin = rows.mean(axis=0) if dense else None
        chosen, factor = None, None
        if X.comm.rank == 0:
            found = LandmarkFeatures(self.kernel_, rows, self._origin)(rows)
            if np.isfinite(found).all():
                chosen, factor = independent_landmarks(found)
        chosen = X.comm.bcast(chosen)
        if chosen is None or not len(chosen):
            raise InputError(_NOT_FINITE if chosen is None else "the kernel of the landmarks is 0")
        self.landmarks_ = rows[chosen]
        return factor

    @property
    def _features(self) -> LandmarkFeatures:
        return LandmarkFeatures(self.kernel_, self.landmarks_, self._origin)


class RandomFourierFeatures(_FeaturePCA):
    """Principal components of random Fourier features, which approximate those of ``rbf``.

    Parameters
    ----------
    n_components : int
        Principal components, at most twice the directions.
    n_directions : int
        Random directions, each with a cosine and a sine; functions of (seed, index) alone.
    gamma : float, {"auto", "scale", "median"} or None
        As for :class:`~hpcembed.embedding.KernelPCA`.
    tol, random_state, memory_limit, n_threads, solver
        As for :class:`Nystroem`.

    Attributes
    ----------
    directions_ : ndarray of shape (d, n_directions)
    projection_ : ndarray of shape (2 n_directions, k)
        Orthonormal columns; the largest entry of each is positive.
    eigenvalues_, explained_variance_, explained_variance_ratio_, residual_norms_, negligible_
        As for :class:`Nystroem`, and ``gamma_``, ``converged_reason_``, ``certified_``.
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        n_directions: int = 500,
        gamma: Gamma = None,
        tol: float | None = None,
        random_state: Any = None,
        memory_limit: int | None = None,
        n_threads: int | None = None,
        solver: SolverSettings | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_directions = n_directions
        self.gamma = gamma
        self.tol = tol
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_threads = n_threads
        self.solver = solver

    def _check_settings(self) -> None:
        super()._check_settings()
        check_kernel("rbf", self.gamma, 1, 0.0)
        _check_count("n_directions", self.n_directions)

    def _width(self, X: RowSource) -> int:
        return 2 * int(self.n_directions)

    def _choose_features(self, X: RowSource, seed: int) -> NDArray[np.float64] | None:
        choice = choose_kernel(X, "rbf", self.gamma, 1, 0.0, seed, shifted=False)
        self.gamma_ = choice.kernel.gamma
        directions = fourier_features(self.gamma_, X.n_features, int(self.n_directions), seed)
        self.directions_ = directions.directions
        return None

    @property
    def _features(self) -> FourierFeatures:
        return FourierFeatures(self.directions_)


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{name} must be a positive integer, got {value!r}")


def _signs(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each column the sign of its largest entry, the first of those that are equal."""
    moduli = np.abs(places)
    first = np.argmax(moduli >= (1 - _SIGN_TIE) * moduli.max(axis=0, initial=0.0), axis=0)
    return np.where(places[first, np.arange(places.shape[1])] < 0, -1.0, 1.0)
