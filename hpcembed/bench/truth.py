"""What every answer is held against: moments, products and optimum in double precision.

The code here shares nothing with the engines that are compared: plain numpy, a block of rows at a
time. The optimum comes from LAPACK on the covariance where d is small, on the Gram matrix of the
centred rows where n is. Where both are large it is our answer at a tolerance of 1e-10, looked at a
second time: Lanczos (scipy's) on what is left of the covariance, with those directions taken out,
must find no larger eigenvalue there than the smallest one that was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from hpcembed.embedding import PCA
from hpcembed.runtime.errors import InputError

__all__ = ["Covariance", "Reference", "reference_of"]

#: Largest side of a matrix that goes to LAPACK whole.
_LARGEST_DENSE = 4500

_BLOCK_BYTES = 64 * 2**20
_TIGHT = 1e-10
#: Share of the smallest eigenvalue found by which one that was left out may exceed it.
_EXCESS = 1e-6


class Covariance:
    """The sample covariance of rows, by products in double.

    Attributes
    ----------
    mean : ndarray of shape (d,)
    total : float
        Sum of all variances.
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows
        self.n, self.d = rows.shape
        sums = np.zeros(self.d)
        for block in self._blocks():
            sums += np.asarray(block.sum(axis=0)).ravel()
        self.mean = sums / self.n
        self.total = self._total_variance()

    def _blocks(self) -> Iterator[Any]:
        """Rows in double, not centred."""
        sparse = scipy.sparse.issparse(self.rows)
        step = 2**15 if sparse else max(1, _BLOCK_BYTES // (8 * self.d))
        for first in range(0, self.n, step):
            yield self.rows[first : first + step].astype(np.float64)

    def _total_variance(self) -> float:
        total = 0.0
        for block in self._blocks():
            if scipy.sparse.issparse(block):
                total += float(np.square(block.data).sum())
            else:
                total += float(np.square(block - self.mean).sum())
        if scipy.sparse.issparse(self.rows):
            total -= self.n * float(self.mean @ self.mean)
        return total / (self.n - 1)

    def times(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """The product C V, shape (d, b)."""
        product = np.zeros(V.shape)
        offset = self.mean @ V
        for block in self._blocks():
            if scipy.sparse.issparse(block):
                # columns of what is multiplied add up to zero: no second term is needed
                product += block.T @ (block @ V - offset)
            else:
                block -= self.mean
                product += block.T @ (block @ V)
        return product / (self.n - 1)

    def dense(self) -> NDArray[np.float64]:
        """The matrix itself, shape (d, d)."""
        C = np.zeros((self.d, self.d))
        for block in self._blocks():
            centred = _dense(block) - self.mean
            C += centred.T @ centred
        return C / (self.n - 1)

    def gram(self) -> NDArray[np.float64]:
        """The matrix of scalar products of the centred rows over n - 1, shape (n, n)."""
        G = np.zeros((self.n, self.n))
        step = max(1, _BLOCK_BYTES // (8 * self.n))
        for first in range(0, self.d, step):
            part = slice(first, first + step)
            columns = _dense(self.rows[:, part]).astype(np.float64) - self.mean[part]
            G += columns @ columns.T
        return G / (self.n - 1)

    def transposed(self, U: NDArray[np.float64]) -> NDArray[np.float64]:
        """The product of the transposed centred rows with U, shape (d, b)."""
        product, first = np.zeros((self.d, U.shape[1])), 0
        for block in self._blocks():
            part = U[first : first + block.shape[0]]
            product += block.T @ part - np.outer(self.mean, part.sum(axis=0))
            first += block.shape[0]
        return product


@dataclass(frozen=True)
class Reference:
    """The optimum.

    Attributes
    ----------
    values : ndarray of shape (k,)
        Largest eigenvalues of the covariance, largest first.
    vectors : ndarray of shape (d, k)
    source : str
        Where they come from.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]
    source: str

    def first(self, k: int) -> Reference:
        """The first k pairs."""
        return Reference(self.values[:k], self.vectors[:, :k], self.source)


def reference_of(C: Covariance, k: int, *, largest_dense: int = _LARGEST_DENSE) -> Reference:
    """Find the k dominant eigenpairs, once and for all.

    Raises
    ------
    InputError
        When there are fewer than k, or the second look finds a larger eigenvalue.
    """
    if k > min(C.n - 1, C.d):
        raise InputError(f"--k {k}: {C.n} rows of {C.d} features have fewer components")
    if C.d <= largest_dense:
        values, vectors = _top(C.dense(), k)
        return Reference(values, vectors, "LAPACK on the covariance in double")
    if C.n <= largest_dense:
        _, U = _top(C.gram(), k)
        vectors = np.linalg.qr(C.transposed(U))[0]
        small, W = _top(vectors.T @ C.times(vectors), k)
        return Reference(small, vectors @ W, "LAPACK on the Gram matrix in double")
    return _certified(C, k)


def _top(A: NDArray[np.float64], k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    m = len(A)
    values, vectors = scipy.linalg.eigh(A, subset_by_index=(m - k, m - 1))
    return values[::-1], np.ascontiguousarray(vectors[:, ::-1])


def _certified(C: Covariance, k: int) -> Reference:
    """Our answer at a small tolerance, and a look at what it leaves out."""
    pca = PCA(k, tol=_TIGHT, random_state=20).fit(C.rows)
    V = np.linalg.qr(pca.components_.T)[0]
    values, W = _top(V.T @ C.times(V), k)
    V = V @ W
    left = _largest_left(C, V)
    if left > values[-1] * (1 + _EXCESS):
        raise InputError(
            f"no optimum to compare with: an eigenvalue of {left:.6g} was left out, the smallest "
            f"of the {k} found is {values[-1]:.6g}"
        )
    source = f"hpcembed at tol {_TIGHT:g}, nothing larger left (Lanczos: {left / values[-1]:.6f})"
    return Reference(values, V, source)


def _largest_left(C: Covariance, V: NDArray[np.float64]) -> float:
    """A lower bound, mostly sharp, on the largest eigenvalue with V taken out."""

    def product(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = x.reshape(-1, 1)
        y = C.times(x - V @ (V.T @ x))
        return np.asarray(y - V @ (V.T @ y))

    operator = LinearOperator((C.d, C.d), matvec=product, dtype=np.float64)
    start = np.random.default_rng(21).standard_normal(C.d)
    settings = {"k": 1, "which": "LA", "ncv": min(20, C.d), "tol": 1e-3, "v0": start}
    try:
        found = eigsh(operator, return_eigenvectors=False, maxiter=5, **settings)
    except ArpackNoConvergence as error:
        found = error.eigenvalues
    return float(np.max(found, initial=0.0))


def _dense(block: Any) -> NDArray[Any]:
    return np.asarray(block.toarray() if scipy.sparse.issparse(block) else block)
