"""Projection by independent normal numbers.

Reference: Dasgupta, Gupta, "An elementary proof of a theorem of Johnson and Lindenstrauss", Random
Struct. Alg. 22 (2003).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from hpcembed.embedding.projections._random_projection import RandomProjection, entry_keys
from hpcembed.runtime.counter_random import uniform

__all__ = ["GaussianProjection"]


class GaussianProjection(RandomProjection):
    """Random projection whose entries are normal with mean 0 and variance ``1 / n_components``.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number of coordinates, at most the number of features; "auto" is
        ``4 ln(n) / (eps^2 / 2 - eps^3 / 3)`` for n rows on all ranks
        (:func:`~hpcembed.embedding.projections.least_components`).
    eps : float, default=0.1
        Relative change of squared distances that "auto" allows.
    random_state : int, RandomState or None, default=None
        Seed; None is 0, so that results repeat.
    memory_limit : int, optional
        Bytes that one rank may take beyond the data. A quarter of it may hold the projection; a
        larger projection is generated in panels. Default: the memory available at :meth:`fit`.

    Attributes
    ----------
    n_components_, n_features_in_, n_samples_ : int
    components_ : ndarray of shape (k, d)
        Generated when it is read, unless it is held. Entry (i, j) is a function of (seed, i, j)
        except for the factor ``1 / sqrt(k)``.

    See Also
    --------
    SparseProjection : Fewer operations, for sparse rows.
    FastJohnsonLindenstrauss : O(d log d) operations per row.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed import GaussianProjection
    >>> X = load_digits().data
    >>> model = GaussianProjection(16, random_state=1).fit(X)
    >>> model.transform(X).shape, model.get_feature_names_out()[:2].tolist()
    ((1797, 16), ['gaussianprojection0', 'gaussianprojection1'])
    """

    def __init__(
        self,
        n_components: int | Literal["auto"] = "auto",
        *,
        eps: float = 0.1,
        random_state: Any = None,
        memory_limit: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.eps = eps
        self.random_state = random_state
        self.memory_limit = memory_limit

    def _panel(self, features: NDArray[np.int64]) -> NDArray[np.float64]:
        keys = entry_keys(self._seed, features, self.n_components_)
        return ndtri(uniform(keys)) / math.sqrt(self.n_components_)
