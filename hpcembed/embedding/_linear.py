"""Bases of linear embeddings: projection and back, and the Gaussian model of principal components.

Reference of the model: Tipping and Bishop, "Probabilistic principal component analysis", J. R.
Stat. Soc. B 61 (1999).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hpcembed.data.matrix import DataMatrix, RowSource, RowStream
from hpcembed.data.row_validation import assign
from hpcembed.embedding._estimator import RowEstimator
from hpcembed.embedding._reproducible import row_products
from hpcembed.embedding.protocol import LinearMap
from hpcembed.runtime.errors import InputError

__all__ = ["GaussianModel", "LinearEmbedding"]

#: Mean over deviation beyond which rows are centred before they are projected.
_LARGE_OFFSET = 1e3


class LinearEmbedding(RowEstimator):
    """Base of estimators that project centred or uncentred rows on components.

    Subclasses set ``components_`` (k, d), ``mean_`` (d,) and ``feature_variances_`` (d,).
    """

    components_: NDArray[np.float64]
    mean_: NDArray[np.float64]
    feature_variances_: NDArray[np.float64]

    def _coordinates(self, X: RowSource, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        return self._scaled(self._project(X, dtype))

    def _project(self, X: RowSource, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        # Products with a mean far larger than the spread would cancel.
        spread = np.sqrt(np.max(self.feature_variances_, initial=0.0))
        largest = float(np.max(np.abs(self.mean_), initial=0.0))
        centred = not X.is_sparse and largest > _LARGE_OFFSET * spread
        # a product in float32 costs float32 rows no further digits, unless it cancels
        single = dtype == np.float32 and X.stored_type == np.float32 and largest <= 4 * spread
        work: type[np.floating[Any]] = np.float32 if single else np.float64
        V = np.ascontiguousarray(self.components_.T, dtype=work)
        offset = (0.0 * self.mean_ if centred else self.mean_) @ self.components_.T
        embedded = np.empty((X.n_local, V.shape[1]), dtype=dtype)
        mean = self.mean_ if centred else None
        products = row_products if self._settings.reproducible else _row_products
        for first, product in products(X, V, work, mean):
            part = embedded[first : first + product.shape[0]]
            if work == dtype:
                part[...] = product
                part -= offset.astype(work)
            else:
                assign(part, product - offset)
        return embedded

    def _scaled(self, embedded: NDArray[Any]) -> NDArray[Any]:
        """Return scaled coordinates; unchanged unless a subclass overrides it."""
        return embedded

    def _unscaled(self, coordinates: NDArray[Any]) -> NDArray[Any]:
        """Return the coordinates before scaling."""
        return coordinates

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Return the rows of given coordinates, shape (n, d). Not collective."""
        check_is_fitted(self)
        coordinates = np.asarray(X)
        coordinates = coordinates if coordinates.dtype == np.float32 else coordinates.astype(float)
        k = self.components_.shape[0]
        if coordinates.ndim != 2 or coordinates.shape[1] != k:
            raise InputError(f"coordinates of shape {coordinates.shape}: give (rows, {k})")
        rows = self._unscaled(coordinates) @ self.components_ + self.mean_
        return np.asarray(rows, dtype=coordinates.dtype)

    @property
    def linear_map_(self) -> LinearMap:
        """The map that :meth:`transform` computes."""
        return LinearMap(self.components_, self.mean_)


def _row_products(
    X: RowSource,
    V: NDArray[Any],
    work: type[np.floating[Any]],
    mean: NDArray[np.float64] | None,
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first local index of a block of rows, and its product with V. Not collective."""
    for first, block in X.blocks(work):
        yield first, (block if mean is None else block - mean) @ V


class GaussianModel(LinearEmbedding):
    """Base of embeddings with a probabilistic model: a normal distribution of low rank and noise.

    Subclasses set ``explained_variance_`` (k,) and ``noise_variance_``.
    """

    explained_variance_: NDArray[np.float64]
    noise_variance_: float

    def get_covariance(self) -> NDArray[np.float64]:
        """Return the covariance of the probabilistic model, shape (d, d)."""
        excess = np.maximum(self.explained_variance_ - self.noise_variance_, 0.0)
        model = (self.components_.T * excess) @ self.components_
        model.flat[:: len(model) + 1] += self.noise_variance_
        return model

    def get_precision(self) -> NDArray[np.float64]:
        """Return the inverse of :meth:`get_covariance`, shape (d, d)."""
        return np.asarray(np.linalg.inv(self.get_covariance()))

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return the log-likelihood of each of this rank's rows, shape (n_local,).

        Not collective. It takes O(d k) per row: the model's covariance is never formed.

        Raises
        ------
        InputError
            If the model has no density.
        """
        rows = self._rows(X)
        d, noise = self.n_features_in_, self.noise_variance_
        values = np.maximum(self.explained_variance_, noise)
        left = d - len(values)
        if (left and noise <= 0) or not (values > 0).all():
            raise InputError(
                "the data lie in the span of the components, where the model has no density: "
                "fit fewer components"
            )
        coordinates = self._project(rows, np.float64)
        found = np.empty(rows.n_local)
        for first, block in rows.blocks():
            dense = block if isinstance(block, np.ndarray) else block.toarray()
            squares = np.square(dense - self.mean_).sum(axis=1)
            part = slice(first, first + len(squares))
            z = np.square(coordinates[part])
            found[part] = (z / values).sum(axis=1)
            if left:
                found[part] += np.maximum(squares - z.sum(axis=1), 0.0) / noise
        constant = d * math.log(2 * math.pi) + float(np.log(values).sum())
        constant += left * math.log(noise) if left else 0.0
        return -0.5 * (found + constant)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-likelihood of the rows.

        Collective for a DataMatrix, and for arrays if `fit` was given a communicator.
        """
        likelihoods = self.score_samples(X)
        comm = X.comm if isinstance(X, DataMatrix | RowStream) else self.comm_
        total, count = comm.allreduce(np.array([likelihoods.sum(), len(likelihoods)]))
        return float(total / count)
