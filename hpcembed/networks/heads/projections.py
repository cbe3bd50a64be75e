"""Linear projections of features before a head.

* without data: Gaussian, sparse and fast random projections, and the first k features;
* from rows: principal components (centred, certified);
* from rows and labels: linear discriminants with a within-class covariance that is shrunk by the
  rule of Ledoit and Wolf (``lda``) or not at all (``cca``: the canonical directions between
  features and class indicators span the same space), and a linear bottleneck that is trained
  together with a head;
* from the full head: the row space of its weights. For k = C the logits are those of the full head;
  for k = C - 1 they are so up to a number for each row, which the softmax removes. For smaller k
  the rows are the dominant eigenvectors of the covariance of the logits, for which the error of
  the logits is least.

A mean is not stored: it belongs to the bias of the head.

References: Ledoit, Wolf, J. Multivariate Anal. 88 (2004); Hastie, Buja, Tibshirani, "Penalized
discriminant analysis", Ann. Statist. 23 (1995).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage

from hpcembed.embedding import (
    PCA,
    FastJohnsonLindenstrauss,
    GaussianProjection,
    SparseProjection,
)
from hpcembed.networks.heads.logistic import LogisticHead, cross_entropy
from hpcembed.runtime.counter_random import row_keys, uniform
from hpcembed.runtime.errors import InputError

__all__ = ["PROJECTIONS", "Calibration", "Projection"]

Matrix = NDArray[np.float64]

#: Variance, relative to the largest, of directions that rows span.
_SPANNED = 1e-10

#: Iterations of the training of a bottleneck.
_BOTTLENECK_ITERATIONS = 300


@dataclass(frozen=True, repr=False)
class Calibration:
    """Data from which a projection is computed.

    Attributes
    ----------
    features : ndarray of shape (n, d)
    labels : ndarray of int, shape (n,)
    n_classes : int
    head : LogisticHead
        Head on all features.
    """

    features: Matrix
    labels: NDArray[np.int64]
    n_classes: int
    head: LogisticHead

    def __repr__(self) -> str:
        n, d = self.features.shape
        return f"<Calibration: {n:,} rows, {d} features, {self.n_classes} classes>"


@dataclass(frozen=True, repr=False)
class Projection:
    """A linear map of features.

    Attributes
    ----------
    components : ndarray of shape (k, d)
    parameters : int
        Numbers that the map stores.
    head : LogisticHead or None
        Head on the coordinates, if the projection determines it.
    """

    components: Matrix
    parameters: int
    head: LogisticHead | None = None

    def __repr__(self) -> str:
        k, d = self.components.shape
        return f"<Projection: {d} -> {k} coordinates, {self.parameters:,} parameters>"


#: Function of (data, components, seed). It raises InputError if there are not so many components.
Projector = Callable[[Calibration, int, int], Projection]


def gaussian(data: Calibration, k: int, seed: int) -> Projection:
    """Return a projection by normal numbers."""
    model = GaussianProjection(k, random_state=seed).fit(data.features)
    return Projection(model.components_, model.components_.size)


def sparse(data: Calibration, k: int, seed: int) -> Projection:
    """Return the projection of Achlioptas, with a third of nonzero entries."""
    matrix = SparseProjection(k, density=1 / 3, random_state=seed).fit(data.features).components_
    return Projection(matrix.toarray(), int(matrix.nnz))


def fast(data: Calibration, k: int, seed: int) -> Projection:
    """Return a subsampled Hadamard transform: d signs and k coordinates are stored."""
    model = FastJohnsonLindenstrauss(k, random_state=seed).fit(data.features)
    return Projection(model.components_, data.features.shape[1] + k)


def truncation(data: Calibration, k: int, seed: int) -> Projection:
    """Return the selection of the first k features."""
    _check(k, data.features.shape[1], "features")
    return Projection(np.eye(k, data.features.shape[1]), 0)


def principal(data: Calibration, k: int, seed: int) -> Projection:
    """Return the principal components."""
    _check(k, min(data.features.shape[0] - 1, data.features.shape[1]), "rows less one, or features")
    model = PCA(k, random_state=seed).fit(data.features)
    return Projection(model.components_, model.components_.size)


def discriminants(data: Calibration, k: int, seed: int) -> Projection:
    """Return linear discriminants; the within-class covariance is shrunk."""
    between, within = _parts(data, k)
    n, d = within.shape
    share = float(ledoit_wolf_shrinkage(within, assume_centered=True))
    covariance = (1 - share) / n * (within.T @ within)
    covariance.flat[:: d + 1] += share * np.square(within).sum() / (n * d)
    _, vectors = scipy.linalg.eigh(between.T @ between, covariance, subset_by_index=(d - k, d - 1))
    components = np.ascontiguousarray(vectors[:, ::-1].T)
    return Projection(components, components.size)


def canonical(data: Calibration, k: int, seed: int) -> Projection:
    """Return the canonical directions between features and class indicators."""
    between, within = _parts(data, k)
    values, vectors = scipy.linalg.eigh(between.T @ between + within.T @ within / len(within))
    spanned = values > _SPANNED * values[-1]
    _check(k, int(spanned.sum()), "dimensions that the rows span")
    whitening = vectors[:, spanned] / np.sqrt(values[spanned])
    _, _, directions = scipy.linalg.svd(between @ whitening, full_matrices=False)
    components = directions[:k] @ whitening.T
    return Projection(components, components.size)


def _parts(data: Calibration, k: int) -> tuple[Matrix, Matrix]:
    """Return factors of the covariances between classes and, times n, within classes."""
    X, y = data.features, data.labels
    counts = np.bincount(y, minlength=data.n_classes)
    present = np.flatnonzero(counts)
    _check(k, min(len(present) - 1, X.shape[1]), "classes in the rows less one, or features")
    means = np.stack([X[y == code].mean(axis=0) for code in present])
    shares = np.sqrt(counts[present] / len(y))
    return (means - X.mean(axis=0)) * shares[:, np.newaxis], X - means[np.searchsorted(present, y)]


def row_space(data: Calibration, k: int, seed: int) -> Projection:
    """Return a basis of the row space of the full head, and the same head in this basis."""
    head, n_classes = data.head, data.n_classes
    _check(k, min(head.weights.shape), "classes, or features")
    weights, bias = head.weights, head.bias
    if k < n_classes:  # the softmax does not depend on the mean of the logits
        weights, bias = weights - weights.mean(axis=0), bias - bias.mean()
    if k < n_classes - 1:
        logits = data.features @ weights.T
        _, vectors = scipy.linalg.eigh(
            np.cov(logits.T), subset_by_index=(n_classes - k, n_classes - 1)
        )
        components = np.ascontiguousarray((vectors[:, ::-1]).T @ weights)
        return Projection(components, components.size)
    left, values, components = scipy.linalg.svd(weights, full_matrices=False)
    exact = LogisticHead(left[:, :k] * values[:k], bias, head.l2, head.converged, head.iterations)
    return Projection(components[:k], components[:k].size, exact)


def bottleneck(data: Calibration, k: int, seed: int) -> Projection:
    """Return the first layer of a linear network d - k - C, trained by L-BFGS.

    Both layers have the penalty of the full head, and start from random weights.
    """
    X, n_classes, l2 = data.features, data.n_classes, data.head.l2
    d = X.shape[1]
    _check(k, d, "features")
    mean = X.mean(axis=0)
    rows = X - mean
    rows /= np.sqrt(np.mean(np.square(rows)))
    split = k * d

    def objective(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        first = parameters[:split].reshape(k, d)
        together = parameters[split:].reshape(n_classes, k + 1)
        second, bias = together[:, :-1], together[:, -1]
        hidden = rows @ first.T
        loss, slope = cross_entropy(hidden @ second.T + bias, data.labels)
        gradient = np.concatenate(
            [
                ((slope @ second).T @ rows + l2 * first).ravel(),
                np.column_stack([slope.T @ hidden + l2 * second, slope.sum(axis=0)]).ravel(),
            ]
        )
        return loss + 0.5 * l2 * float(parameters @ parameters), gradient

    numbers = uniform(row_keys(seed, np.arange(split + n_classes * (k + 1))))
    start = (2 * numbers - 1) / np.sqrt(d)
    found = scipy.optimize.minimize(
        objective, start, jac=True, method="L-BFGS-B",
        options={"maxiter": _BOTTLENECK_ITERATIONS, "gtol": 1e-5, "ftol": 0.0},
    )  # fmt: skip
    components = found.x[:split].reshape(k, d)
    return Projection(components, components.size)


def _check(k: int, most: int, what: str) -> None:
    if k > most:
        raise InputError(f"{k} components are more than {most} ({what})")


#: Projections by name.
PROJECTIONS: dict[str, Projector] = {
    "gaussian": gaussian,
    "sparse": sparse,
    "fast": fast,
    "truncation": truncation,
    "pca": principal,
    "lda": discriminants,
    "cca": canonical,
    "row_space": row_space,
    "bottleneck": bottleneck,
}
