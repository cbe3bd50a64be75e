"""Reference of all answers: moments, products and optimal components in double precision.

This code shares nothing with the engines that are compared: it is plain numpy on one block of rows
at a time. LAPACK computes the optimum from the covariance if d is small, or from the Gram matrix of
the centred rows if n is small. If both are large, the optimum is the answer of hpcembed at a
tolerance of 1e-10 after a second test: SciPy's Lanczos on the deflated covariance must find no
eigenvalue larger than the smallest one of the answer.
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

#: Largest size of a matrix that LAPACK diagonalises.
_LARGEST_DENSE = 4500

_BLOCK_BYTES = 64 * 2**20
_TIGHT = 1e-10
#: Relative excess of a remaining eigenvalue over the smallest one found that is tolerated.
_EXCESS = 1e-6


class Covariance:
    """Sample covariance of rows, by products in double precision.

    Attributes
    ----------
    mean : ndarray of shape (d,)
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows
        self.n, self.d = rows.shape
        sums = np.zeros(self.d)
        for block in self._blocks():
            sums += np.asarray(block.sum(axis=0)).ravel()
        self.mean = sums / self.n

    def _blocks(self) -> Iterator[Any]:
        """Yield blocks of rows in double precision, not centred."""
        sparse = scipy.sparse.issparse(self.rows)
        step = 2**15 if sparse else max(1, _BLOCK_BYTES // (8 * self.d))
        for first in range(0, self.n, step):
            yield self.rows[first : first + step].astype(np.float64)

    def times(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the product C V, shape (d, b)."""
        product = np.zeros(V.shape)
        offset = self.mean @ V
        for block in self._blocks():
            if scipy.sparse.issparse(block):
                # the columns of the second factor sum to zero, so the mean of block.T drops out
                product += block.T @ (block @ V - offset)
            else:
                block -= self.mean
                product += block.T @ (block @ V)
        return product / (self.n - 1)

    def dense(self) -> NDArray[np.float64]:
        """Return the covariance as an array, shape (d, d)."""
        C = np.zeros((self.d, self.d))
        for block in self._blocks():
            centred = _dense(block) - self.mean
            C += centred.T @ centred
        return C / (self.n - 1)

    def gram(self) -> NDArray[np.float64]:
        """Return the Gram matrix of the centred rows over n - 1, shape (n, n)."""
        G = np.zeros((self.n, self.n))
        step = max(1, _BLOCK_BYTES // (8 * self.n))
        for first in range(0, self.d, step):
            part = slice(first, first + step)
            columns = _dense(self.rows[:, part]).astype(np.float64) - self.mean[part]
            G += columns @ columns.T
        return G / (self.n - 1)

    def transposed(self, U: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the product of the transposed centred rows with U, shape (d, b)."""
        product, first = np.zeros((self.d, U.shape[1])), 0
        for block in self._blocks():
            part = U[first : first + block.shape[0]]
            product += block.T @ part - np.outer(self.mean, part.sum(axis=0))
            first += block.shape[0]
        return product


@dataclass(frozen=True)
class PcaReference:
    """Dominant eigenpairs of the covariance.

    Attributes
    ----------
    values : ndarray of shape (k,)
        Largest first.
    vectors : ndarray of shape (d, k)
    source : str
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]
    source: str

    def first(self, k: int) -> PcaReference:
        """Return the first k pairs."""
        return PcaReference(self.values[:k], self.vectors[:, :k], self.source)


def reference_of(C: Covariance, k: int, *, largest_dense: int = _LARGEST_DENSE) -> PcaReference:
    """Compute the k dominant eigenpairs.

    Raises
    ------
    InputError
        If there are fewer than k, or the second test finds a larger eigenvalue.
    """
    if k > min(C.n - 1, C.d):
        raise InputError(f"--k {k}: {C.n} rows of {C.d} features have fewer components")
    if C.d <= largest_dense:
        values, vectors = _top(C.dense(), k)
        return PcaReference(values, vectors, "LAPACK on the covariance in double")
    if C.n <= largest_dense:
        _, U = _top(C.gram(), k)
        vectors = np.linalg.qr(C.transposed(U))[0]
        small, W = _top(vectors.T @ C.times(vectors), k)
        return PcaReference(small, vectors @ W, "LAPACK on the Gram matrix in double")
    return _tested_answer(C, k)


def _top(A: NDArray[np.float64], k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    m = len(A)
    values, vectors = scipy.linalg.eigh(A, subset_by_index=(m - k, m - 1))
    return values[::-1], np.ascontiguousarray(vectors[:, ::-1])


def _tested_answer(C: Covariance, k: int) -> PcaReference:
    """Return the answer of hpcembed at a small tolerance, after a test of its completeness."""
    pca = PCA(k, tol=_TIGHT, random_state=20).fit(C.rows)
    V = np.linalg.qr(pca.components_.T)[0]
    values, W = _top(V.T @ C.times(V), k)
    V = V @ W
    remaining = _largest_remaining(C, V)
    if remaining > values[-1] * (1 + _EXCESS):
        raise InputError(
            f"no reference: an eigenvalue of {remaining:.6g} was left out, the smallest of the {k} "
            f"found is {values[-1]:.6g}"
        )
    share = remaining / values[-1]
    source = f"hpcembed at tol {_TIGHT:g}, nothing larger remains (Lanczos: {share:.6f})"
    return PcaReference(values, V, source)


def _largest_remaining(C: Covariance, V: NDArray[np.float64]) -> float:
    """Estimate the largest eigenvalue of the covariance deflated by V, from below."""

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
