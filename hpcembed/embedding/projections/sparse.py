"""Projection by independent entries from {-1, 0, 1}.

The positions of the nonzero entries of a feature are sums of geometric gaps, so the matrix takes
O(density d k) operations and no number is drawn for its zeros.

References: Achlioptas, "Database-friendly random projections", J. Comput. Syst. Sci. 66 (2003),
density 1/3; Li, Hastie, Church, "Very sparse random projections", KDD 2006, density 1/sqrt(d).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from hpcembed.embedding.projections._random_projection import RandomProjection, entry_keys
from hpcembed.runtime.arguments import is_number
from hpcembed.runtime.counter_random import uniform
from hpcembed.runtime.errors import ConfigError

__all__ = ["SparseProjection"]


class SparseProjection(RandomProjection):
    """Random projection with entries ``-a, 0, a``, few of which are nonzero.

    An entry is nonzero with the probability `density`, has either sign with equal probability, and
    ``a = 1 / sqrt(density n_components)``. Coordinates are dense.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        As for :class:`GaussianProjection`. The bound is proven for a density of at least 1/3.
    density : float or "auto", default="auto"
        Probability of a nonzero entry, above 0 and at most 1; "auto" is ``1 / sqrt(d)`` for d
        features (Li), 1/3 is the projection of Achlioptas. Distances of rows with few large
        features need a higher density.
    eps, random_state, memory_limit
        As for :class:`GaussianProjection`.

    Attributes
    ----------
    n_components_, n_features_in_, n_samples_ : int
    density_ : float
    components_ : csr_array of shape (k, d)
        Generated when it is read, unless it is held.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed import SparseProjection
    >>> X = load_digits().data
    >>> model = SparseProjection(16, density=1 / 3).fit(X)
    >>> model.transform(X).shape, model.components_.shape
    ((1797, 16), (16, 64))
    """

    def __init__(
        self,
        n_components: int | Literal["auto"] = "auto",
        *,
        density: float | Literal["auto"] = "auto",
        eps: float = 0.1,
        random_state: Any = None,
        memory_limit: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.density = density
        self.eps = eps
        self.random_state = random_state
        self.memory_limit = memory_limit

    def _check_parameters(self) -> None:
        if self.density != "auto" and not (is_number(self.density) and 0 < self.density <= 1):
            raise ConfigError(
                f'density must be above 0 and at most 1, or "auto", got {self.density!r}'
            )
        super()._check_parameters()

    def _prepare(self, n_features: int) -> None:
        automatic = self.density == "auto"
        self.density_ = 1 / math.sqrt(n_features) if automatic else float(self.density)
        # a double and an index of four bytes per nonzero entry, and temporary copies of both
        self._entry_bytes = 24.0 * self.density_

    def _panel(self, features: NDArray[np.int64]) -> Any:
        k, density = self.n_components_, self.density_
        size = 1 / math.sqrt(density * k)
        # geometric gaps: the entry after a nonzero one is nonzero with the probability `density`
        count = min(k, int(density * k + 6 * math.sqrt(density * k) + 8))
        while True:
            keys = entry_keys(self._seed, features, count)
            if density < 1:
                gaps = np.floor(np.log(uniform(keys)) / math.log1p(-density))
                gaps = np.minimum(gaps, k)
            else:
                gaps = np.zeros(keys.shape)
            places = np.cumsum(gaps + 1, axis=1).astype(np.int64) - 1
            if count == k or (places[:, -1] >= k - 1).all():
                break
            count = min(k, 2 * count)
        is_inside = places < k
        # `uniform` does not use the lower bits of a key
        signs = np.where(keys & np.uint64(1), size, -size)
        indptr = np.concatenate([[0], np.cumsum(is_inside.sum(axis=1))])
        entries = signs[is_inside], places[is_inside].astype(np.int32), indptr
        return scipy.sparse.csr_array(entries, shape=(len(features), k))
