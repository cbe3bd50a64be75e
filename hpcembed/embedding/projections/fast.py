"""Subsampled randomised Hadamard transform.

``P = R H D / sqrt(k)``: D changes signs at random, H is the Hadamard matrix whose order is the next
power of two, and R samples k of its coordinates without replacement. H D spreads any row over all
coordinates, so that a sample represents it.

Deviations from Ailon and Chazelle: their sparse normal matrix in the place of R; H pads rows.

References: Ailon, Chazelle, SIAM J. Comput. 39 (2009); Tropp, "Improved analysis of the subsampled
randomized Hadamard transform", Adv. Adapt. Data Anal. 3 (2011).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding.projections._random_projection import (
    BLOCK_BYTES,
    RandomProjection,
    entry_keys,
)
from hpcembed.embedding.projections.hadamard import SampledHadamard, hadamard_entries
from hpcembed.runtime.counter_random import permuted
from hpcembed.runtime.machine.threads import on_threads, one_blas_thread

__all__ = ["FastJohnsonLindenstrauss"]

#: The seed of the samples differs from that of the signs.
_SAMPLES = 0x73616D70


class FastJohnsonLindenstrauss(RandomProjection):
    """Random projection by a Hadamard transform: O(d log d) operations per row.

    Random signs, a Walsh-Hadamard transform of the row padded to a power of two, and a random
    sample of its coordinates. No matrix is stored.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        As for :class:`GaussianProjection`. "auto" is the same number, but the bound is not proven
        for this projection with that constant.
    eps, random_state, memory_limit
        As for :class:`GaussianProjection`.
    n_threads : int, optional
        Threads of a rank, each for some of the rows. Default: those of BLAS.

    Attributes
    ----------
    n_components_, n_features_in_, n_samples_ : int
    signs_ : ndarray of shape (d,)
        Entries 1 and -1, functions of (seed, feature).
    coordinates_ : ndarray of int, shape (k,)
        Sampled coordinates, distinct, below the next power of two.
    components_ : ndarray of shape (k, d)
        Generated when it is read; entries are ``1 / sqrt(k)`` or ``-1 / sqrt(k)``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed import FastJohnsonLindenstrauss
    >>> X = load_digits().data
    >>> model = FastJohnsonLindenstrauss(16).fit(X)
    >>> bool(np.allclose(model.transform(X), X @ model.components_.T))
    True
    """

    def __init__(
        self,
        n_components: int | Literal["auto"] = "auto",
        *,
        eps: float = 0.1,
        random_state: Any = None,
        memory_limit: int | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.eps = eps
        self.random_state = random_state
        self.memory_limit = memory_limit
        self.n_threads = n_threads

    def _prepare(self, n_features: int) -> None:
        keys = entry_keys(self._seed, np.arange(n_features), 1)[:, 0]
        self.signs_ = np.where(keys >> np.uint64(63), 1.0, -1.0)
        order = 1 << (n_features - 1).bit_length()
        self.coordinates_ = permuted(self._seed ^ _SAMPLES, order, np.arange(self.n_components_))

    def _multiply(self, X: RowSource, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        transform = SampledHadamard(self.signs_, self.coordinates_, dtype)
        product = np.empty((X.n_local, self.n_components_), dtype=dtype)
        with one_blas_thread():
            for first, block in X.blocks(dtype, BLOCK_BYTES):
                n = block.shape[0]
                share = max(1, -(-n // self._threads))
                parts = [
                    (block[i : i + share], product[first + i : first + min(i + share, n)])
                    for i in range(0, n, share)
                ]
                on_threads(lambda part: transform(*part), parts)
        product /= math.sqrt(self.n_components_)
        return product

    def _panel(self, features: NDArray[np.int64]) -> NDArray[np.float64]:
        entries = hadamard_entries(features, self.coordinates_)
        entries *= (self.signs_[features] / math.sqrt(self.n_components_))[:, np.newaxis]
        return entries
