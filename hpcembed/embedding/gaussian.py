"""The probabilistic model behind principal components: a normal distribution of low rank and noise.

Tipping and Bishop, "Probabilistic principal component analysis", J. R. Stat. Soc. B 61 (1999).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowStream
from hpcembed.embedding.linear import LinearEmbedding
from hpcembed.runtime.errors import InputError

__all__ = ["GaussianModel"]


class GaussianModel(LinearEmbedding):
    """Linear embedding of which ``explained_variance_`` and ``noise_variance_`` make a model."""

    explained_variance_: NDArray[np.float64]
    noise_variance_: float

    def get_covariance(self) -> NDArray[np.float64]:
        """Covariance of the probabilistic model, shape (d, d). Not collective."""
        excess = np.maximum(self.explained_variance_ - self.noise_variance_, 0.0)
        model = (self.components_.T * excess) @ self.components_
        model.flat[:: len(model) + 1] += self.noise_variance_
        return model

    def get_precision(self) -> NDArray[np.float64]:
        """Inverse of :meth:`get_covariance`, shape (d, d). Not collective."""
        return np.asarray(np.linalg.inv(self.get_covariance()))

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Log-likelihood of each of this rank's rows under the probabilistic model, shape (n,).

        Not collective. In O(d k) a row: the model's covariance is never formed.
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
        """Mean log-likelihood of the rows.

        Collective for a DataMatrix, and for arrays where `fit` was given a communicator.
        """
        likelihoods = self.score_samples(X)
        comm = X.comm if isinstance(X, DataMatrix | RowStream) else self.comm_
        total, count = comm.allreduce(np.array([likelihoods.sum(), len(likelihoods)]))
        return float(total / count)
