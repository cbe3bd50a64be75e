"""Features of rows whose inner products approximate a kernel, and their scatter.

* Landmarks: the kernel of a row with m chosen rows L. In the basis in which ``K_LL`` holds their
  inner products, this is the projection of the row's image on the span of theirs (Nystroem's
  approximation). ``K_LL`` is factorised by Cholesky with pivots, ``P' K_LL P = R' R``. The
  factorisation ends where the next landmark lies in the span of the previous ones, as a duplicate
  does: where the remaining diagonal is below 1e-10 of the largest. Dropped landmarks cost nothing
  later.
* Fourier: cosines and sines of random directions, for ``rbf``; direction j is a function of
  (seed, j) alone.

The scatter ``sum (t - t_0)(t - t_0)'`` of the raw features t is added in double precision in one
pass and transformed to the basis afterwards: its rounding grows with the condition of ``K_LL``, to
about 1e-9 of the largest eigenvalue at the limit above.

References: Williams, Seeger, "Using the Nystroem method to speed up kernel machines", NIPS 13
(2000); Rahimi, Recht, "Random features for large-scale kernel machines", NIPS 20 (2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray
from scipy.linalg.blas import dsyr, dsyrk

from hpcembed.data.matrix import RowSource, reading
from hpcembed.operators.kernel.kernel_functions import Kernel, Prepared, tile_rows, tiles
from hpcembed.runtime.ranks import sum_over_ranks
from miramns import seeded_normal

__all__ = [
    "FourierFeatures",
    "LandmarkFeatures",
    "RowFeatures",
    "feature_rows",
    "feature_scatter",
    "fourier_features",
    "independent_landmarks",
]

#: Remaining diagonal, relative to the largest entry, below which a landmark is dependent.
_DEPENDENT = 1e-10

#: Entries of a tile of features.
_TILE_ENTRIES = 2**20


@dataclass(frozen=True)
class LandmarkFeatures:
    """Features of a row: its kernel with landmarks.

    Attributes
    ----------
    kernel : Kernel
    landmarks : ndarray or csr_array of shape (m, d)
    origin : ndarray of shape (d,) or None
        See :meth:`Kernel.prepare`.
    """

    kernel: Kernel
    landmarks: Any
    origin: NDArray[np.float64] | None
    _prepared: Prepared = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_prepared", self.kernel.prepare(self.landmarks, self.origin))

    @property
    def width(self) -> int:
        """Number of features."""
        return int(self.landmarks.shape[0])

    def __call__(self, rows: Any) -> NDArray[np.float64]:
        """Return the features of rows, shape (b, m)."""
        return self.kernel.tile(self.kernel.prepare(rows, self.origin), self._prepared)


@dataclass(frozen=True)
class FourierFeatures:
    """Features of a row: its cosines and sines in random directions.

    Attributes
    ----------
    directions : ndarray of shape (d, q)
    """

    directions: NDArray[np.float64]

    @property
    def width(self) -> int:
        """Number of features."""
        return 2 * self.directions.shape[1]

    def __call__(self, rows: Any) -> NDArray[np.float64]:
        """Return the features of rows, shape (b, 2 q)."""
        angles = np.asarray(rows @ self.directions)
        scale = math.sqrt(2.0 / self.width)
        return scale * np.hstack([np.cos(angles), np.sin(angles)])


RowFeatures = LandmarkFeatures | FourierFeatures


def fourier_features(gamma: float, n_features: int, count: int, seed: int) -> FourierFeatures:
    """Return features of `count` random directions for ``exp(-gamma |x - y|^2)``."""
    columns = [seeded_normal(seed, 0, n_features, stream=j) for j in range(count)]
    return FourierFeatures(math.sqrt(2.0 * gamma) * np.stack(columns, axis=1))


def independent_landmarks(
    kernel: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return landmarks that span all of them, and the factor R of their kernel.

    Parameters
    ----------
    kernel : ndarray of shape (m, m)
        Kernel of the landmarks.

    Returns
    -------
    chosen : ndarray of int, shape (r,)
        Indices of independent landmarks.
    factor : ndarray of shape (r, r)
        Upper triangular; ``factor' factor`` is their kernel.
    """
    largest = float(np.max(kernel.diagonal(), initial=0.0))
    if not largest > 0:
        return np.empty(0, np.int64), np.empty((0, 0))
    factor, pivots, rank, _ = scipy.linalg.lapack.dpstrf(kernel, tol=_DEPENDENT * largest)
    return pivots[:rank].astype(np.int64) - 1, np.triu(factor[:rank, :rank])


def feature_scatter(
    X: RowSource, features: RowFeatures
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of the features and the lower triangle of their centred scatter.

    Collective: one pass over the rows, two reductions.

    Returns
    -------
    mean : ndarray of shape (m,)
    lower : ndarray of shape (m, m)
        Column-major.
    """
    m, shift = features.width, _typical(features)
    sums, lower = np.zeros(m), np.zeros((m, m), order="F")
    with reading(X):
        for _, rows in tiles(X, np.float64, feature_rows(X.n_features, m)):
            found = features(rows)
            found -= shift
            sums += found.sum(axis=0)
            # the transpose of a row-major block is column-major: BLAS reads it in place
            lower = dsyrk(1.0, found.T, beta=1.0, c=lower, lower=1, overwrite_c=1)
    offset = sum_over_ranks(X.comm, sums) / X.n_rows
    lower = dsyr(-X.n_local, offset, a=lower, lower=1, overwrite_a=1)
    sum_over_ranks(X.comm, lower)
    return shift + offset, lower


def _typical(features: RowFeatures) -> NDArray[np.float64]:
    """Return a point near the mean: sums of squares around it lose no digits."""
    if isinstance(features, FourierFeatures):
        return np.zeros(features.width)
    return np.asarray(features(features.landmarks[:256]).mean(axis=0))


def feature_rows(n_features: int, width: int) -> int:
    """Return the number of rows whose features are computed at a time."""
    return max(64, min(tile_rows(n_features, 8), _TILE_ENTRIES // max(width, 1)))
