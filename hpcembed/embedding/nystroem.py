"""Kernel PCA by landmarks or random features: for data whose kernel is too large.

Coordinates, eigenvalues and signs approximate those of :class:`~hpcembed.embedding.KernelPCA`.
Models are small, and transform rows on each rank alone; rows may stay in files.

scikit-learn has feature maps of these names, whose ``n_components`` is the number of features; here
it is the number of principal components, and ``n_landmarks``, ``n_directions`` the number of
features.

References: Williams, Seeger, "Using the Nystroem method to speed up kernel machines", NIPS 13
(2000); Rahimi, Recht, "Random features for large-scale kernel machines", NIPS 20 (2007).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding._kernels.feature_components import NOT_FINITE, FeatureComponents
from hpcembed.embedding._kernels.kernel_embedding import Gamma
from hpcembed.operators.kernel.feature_maps import (
    FourierFeatures,
    LandmarkFeatures,
    fourier_features,
    independent_landmarks,
)
from hpcembed.operators.kernel.sampled_rows import sampled_rows
from hpcembed.runtime.arguments import check_count
from hpcembed.runtime.errors import InputError

__all__ = ["Nystroem", "RandomFourierFeatures"]


@dataclass(eq=False, repr=False)
class Nystroem(FeatureComponents):
    """Kernel principal components approximated in the span of seeded landmarks.

    Parameters
    ----------
    n_components : int, default=2
        Principal components, at most the landmarks.
    n_landmarks : int, default=1000
        Number of rows that are chosen, the same on any number of ranks; all rows if there are
        fewer. With all of them the components equal those of
        :class:`~hpcembed.embedding.KernelPCA`.
    kernel, gamma, degree, coef0
        As for :class:`~hpcembed.embedding.KernelPCA`; the default kernel is rbf.
    tol : float, optional
        Tolerance of the eigenpairs of the features' scatter, as for
        :class:`~hpcembed.embedding.KernelPCA`.
    random_state : int, RandomState or None, default=None
        Seed of the landmarks; None is 0, so that results repeat.
    memory_limit, n_threads : int, optional
    solver : SolverSettings, optional
        Settings of the eigensolver of the scatter.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (k,)
        Eigenvalues of the approximate centred kernel, largest first; zero where landmarks span
        fewer.
    explained_variance_, explained_variance_ratio_ : ndarray of shape (k,)
        Variance of the coordinates, and its share in that of all features.
    landmarks_ : ndarray or csr_array of shape (r, d)
        The independent landmarks, on every rank; r may be less than `n_landmarks`.
    projection_ : ndarray of shape (r, k)
        Coordinates are ``kernel(x, landmarks_) @ projection_``, less those of the mean. The
        landmark with the largest coordinate in a component has a positive one.
    gamma_ : float or None
    kernel_ : Kernel
    residual_norms_ : ndarray of shape (k,)
        True residuals of the eigenpairs of the scatter.
    negligible_ : ndarray of bool, shape (k,)
        Components whose eigenvalue is not known to be positive.
    converged_reason_ : str
    certified_ : bool
    n_requested_, n_features_in_, n_samples_ : int
    result_, reference_, comparison_, reference_sin_angle_
        Eigenpairs of the scatter, and those of the reference.
    plan_ : FeaturePlan
    seconds_ : dict of str to float

    See Also
    --------
    KernelPCA : The exact components.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed import Nystroem
    >>> X = load_digits().data / 16
    >>> model = Nystroem(2, n_landmarks=100, gamma=0.05).fit(X)
    >>> model.certified_, model.landmarks_.shape, model.transform(X[:3]).shape
    (True, (100, 64), (3, 2))
    """

    n_components: int = 2
    _: KW_ONLY
    n_landmarks: int = 1000
    kernel: Literal["linear", "poly", "rbf", "cosine"] = "rbf"
    gamma: Gamma = None
    degree: int = 3
    coef0: float = 1
    memory_limit: int | None = None
    n_threads: int | None = None

    def _check_parameters(self) -> None:
        check_count("n_landmarks", self.n_landmarks)
        super()._check_parameters()

    def _width(self, n_rows: int) -> int:
        return min(int(self.n_landmarks), n_rows)

    def _choose_features(self, X: RowSource, seed: int) -> NDArray[np.float64] | None:
        self._choose_kernel(X, seed, shifted=False)
        rows = sampled_rows(X, self._width(X.n_rows), seed)
        # the same bits on any number of ranks, unlike the mean of all rows
        is_shifted = self.kernel == "rbf" and isinstance(rows, np.ndarray)
        self._origin = rows.mean(axis=0) if is_shifted else None
        chosen, factor = None, None
        if X.comm.rank == 0:
            found = LandmarkFeatures(self.kernel_, rows, self._origin)(rows)
            if np.isfinite(found).all():
                chosen, factor = independent_landmarks(found)
        chosen = X.comm.bcast(chosen)
        if chosen is None:
            raise InputError(NOT_FINITE)
        if not len(chosen):
            remedy = "raise coef0" if self.kernel == "poly" else "remove rows of zeros"
            raise InputError(
                f"the kernel ({self.kernel_.text}) of every landmark with itself is at most 0, "
                f"but a basis needs positive ones: {remedy}, or use KernelPCA (kernel_pca)"
            )
        self.landmarks_ = rows[chosen]
        return factor

    @property
    def operator_(self) -> str:
        """The operator and its landmarks."""
        return f"kernel ({self.kernel_.text}), {self.landmarks_.shape[0]:,} landmarks"

    @property
    def _features(self) -> LandmarkFeatures:
        return LandmarkFeatures(self.kernel_, self.landmarks_, self._origin)


@dataclass(eq=False, repr=False)
class RandomFourierFeatures(FeatureComponents):
    """Principal components of random Fourier features, which approximate those of ``rbf``.

    Parameters
    ----------
    n_components : int, default=2
        Principal components, at most twice the directions.
    n_directions : int, default=500
        Random directions, each with a cosine and a sine; functions of (seed, index) alone.
    gamma : float, {"auto", "scale", "median"} or None, default=None
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

    See Also
    --------
    Nystroem : Approximation by landmarks, for every kernel.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed import RandomFourierFeatures
    >>> X = load_digits().data / 16
    >>> model = RandomFourierFeatures(2, n_directions=50, gamma=0.05).fit(X)
    >>> model.certified_, model.directions_.shape, model.transform(X[:3]).shape
    (True, (64, 50), (3, 2))
    """

    kernel, degree, coef0 = "rbf", 1, 0.0

    n_components: int = 2
    _: KW_ONLY
    n_directions: int = 500
    gamma: Gamma = None
    memory_limit: int | None = None
    n_threads: int | None = None

    def _check_parameters(self) -> None:
        check_count("n_directions", self.n_directions)
        super()._check_parameters()

    def _width(self, n_rows: int) -> int:
        return 2 * int(self.n_directions)

    def _choose_features(self, X: RowSource, seed: int) -> NDArray[np.float64] | None:
        self._choose_kernel(X, seed, shifted=False)
        gamma, count = self.kernel_.gamma, int(self.n_directions)
        self.directions_ = fourier_features(gamma, X.n_features, count, seed).directions
        return None

    @property
    def operator_(self) -> str:
        """The operator and its random directions."""
        return f"kernel ({self.kernel_.text}), {self.directions_.shape[1]:,} random directions"

    @property
    def _features(self) -> FourierFeatures:
        return FourierFeatures(self.directions_)
