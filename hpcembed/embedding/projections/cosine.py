"""Discrete cosine transform, of which the lowest frequencies are kept.

The orthonormal transform of type II: coordinate u of a row x of length N is
``c_u sum_j x_j cos(pi (2 j + 1) u / (2 N))``. Rows that are images are transformed along both axes;
their frequencies (u, v) are ordered by ``(u / H)^2 + (v / W)^2``, ties by u. Each channel of a
colour image is transformed by itself.

Reference: Ahmed, Natarajan, Rao, "Discrete cosine transform", IEEE Trans. Comput. C-23 (1974).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.embedding.projections._fixed_projection import FixedProjection
from hpcembed.runtime.arguments import is_integer
from hpcembed.runtime.errors import ConfigError

__all__ = ["CosineTransform"]


class CosineTransform(FixedProjection):
    """Projection on the lowest frequencies of a cosine transform; nothing is learnt from rows.

    Parameters
    ----------
    n_components : int, default=2
        Number of frequencies, at most the number of features.
    image_shape : sequence of int, optional
        Shape of rows that are images, (height, width) or (channels, height, width). Default: rows
        are sequences.

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        Orthonormal rows.
    frequencies_ : ndarray of int, shape (k, 1), (k, 2) or (k, 3)
        Frequency of each coordinate, for colour images after its channel.
    n_components_, n_features_in_, n_samples_ : int

    See Also
    --------
    FeatureTruncation : Some features, without any transform.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from hpcembed import CosineTransform
    >>> X = load_digits().data
    >>> model = CosineTransform(6, image_shape=(8, 8)).fit(X)
    >>> model.frequencies_.tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [2, 0]]
    >>> model.transform(X).shape
    (1797, 6)
    """

    def __init__(self, n_components: int = 2, *, image_shape: Sequence[int] | None = None) -> None:
        self.n_components = n_components
        self.image_shape = image_shape

    def _check_parameters(self) -> None:
        shape = self.image_shape
        if shape is not None and not (
            isinstance(shape, Sequence)
            and len(shape) in (2, 3)
            and all(is_integer(size) and size >= 1 for size in shape)
        ):
            raise ConfigError(
                f"image_shape must be (height, width) or (channels, height, width), got {shape!r}"
            )
        super()._check_parameters()

    def _rows_of(self, X: RowSource) -> NDArray[np.float64]:
        shape = (X.n_features,) if self.image_shape is None else tuple(self.image_shape)
        if math.prod(shape) != X.n_features:
            raise ConfigError(
                f"image_shape = {list(shape)} has {math.prod(shape):,} values, the rows have "
                f"{X.n_features:,} features: give the shape of a row"
            )
        self.frequencies_ = _lowest(shape, self.n_components_)
        plane = shape[-2:]
        rows = np.empty((self.n_components_, *shape[:-2], *plane))
        for row, frequency in zip(rows, self.frequencies_, strict=True):
            parts = [_wave(n, int(u)) for n, u in zip(plane, frequency[-len(plane) :], strict=True)]
            wave = parts[0] if len(parts) == 1 else np.outer(*parts)
            if len(shape) == 3:
                row[...] = 0.0
                row[frequency[0]] = wave
            else:
                row[...] = wave
        return rows.reshape(self.n_components_, -1)


def _lowest(shape: tuple[int, ...], k: int) -> NDArray[Any]:
    """Return the k lowest frequencies of a shape, for three axes with their channel first."""
    plane = shape[-2:]
    indices = np.indices(plane).reshape(len(plane), -1)
    # exact integers: equal frequencies compare equal
    scales = [math.prod(plane) // n for n in plane]
    norms = sum((indices[i] * scales[i]) ** 2 for i in range(len(plane)))
    order = np.lexsort((*indices[::-1], norms))
    frequencies = indices[:, order].T
    if len(shape) == 3:
        channels = np.tile(np.arange(shape[0]), len(frequencies))
        repeated = np.repeat(frequencies, shape[0], axis=0)
        frequencies = np.column_stack([channels, repeated])
    return frequencies[:k]


def _wave(n: int, u: int) -> NDArray[np.float64]:
    """Return row u of the orthonormal transform of length n."""
    wave = np.cos(np.pi * (2 * np.arange(n) + 1) * u / (2 * n))
    return np.asarray(wave * math.sqrt((1.0 if u == 0 else 2.0) / n))
