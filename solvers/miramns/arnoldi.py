"""Arnoldi factorisation ``A V_j = V_j H_j + beta v_{j+1} e_j'``, grown one column at a time.

The basis is one column-major array per rank (its rows of all vectors), so that a product reads and
writes PETSc vectors laid over its columns, and an orthogonalisation is two BLAS-2 calls whatever
the number of vectors.

Orthogonalisation is classical Gram-Schmidt in two passes, each with one reduction: the
coefficients and the squared norm travel together, and the norm after the second pass follows from
Pythagoras. A third pass is made only when the second one still removed much. When nothing is left
of a product, the space is invariant: the factorisation goes on with a new random direction, and
the coupling is exactly zero.

Reference: Daniel, Gragg, Kaufman, Stewart, "Reorthogonalization and stable algorithms for updating
the Gram-Schmidt QR factorization", Math. Comp. 30 (1976).
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg.blas import dgemv

from miramns.convergence import ROUNDING, OperatorError
from miramns.start import seeded_normal

__all__ = ["ArnoldiFactorization", "apply_columns"]

#: A pass that leaves less than this fraction of the squared norm is followed by another one.
_KEPT = 0.5

#: Passes after which a vector that still shrinks is taken as lying in the space.
_MAX_PASSES = 4

#: Rows that are recombined at a time, which bounds the extra memory of a restart.
_PANEL_ROWS = 2**16


class ArnoldiFactorization:
    """The growing factorisation, its basis distributed by rows as the operator is.

    Parameters
    ----------
    A : PETSc.Mat
        Square operator of global size n.
    capacity : int
        Largest number of columns m_l; the basis holds one more.
    start : ndarray of shape (n_local,)
        This rank's part of the start vector.
    seed : int
        For the random directions after a breakdown.

    Attributes
    ----------
    size : int
        Number of columns j.
    basis : ndarray of shape (n_local, capacity + 1)
        Column-major; columns 0 to j are orthonormal.
    hessenberg : ndarray of shape (capacity + 1, capacity)
        The same on all ranks; ``hessenberg[j, j - 1]`` is beta.
    block_start : int
        Column of the last new random direction (0, or where the last breakdown was).
    """

    def __init__(
        self, A: PETSc.Mat, capacity: int, start: NDArray[np.float64], seed: int = 0
    ) -> None:
        self.comm: MPI.Comm = A.getComm().tompi4py()
        self.operator = A
        self.rows: tuple[int, int] = A.getOwnershipRange()
        self.n: int = A.getSize()[0]
        self.seed = seed
        self.capacity = capacity
        n_local = self.rows[1] - self.rows[0]
        self.basis = np.empty((n_local, capacity + 1), order="F")
        self.hessenberg = np.zeros((capacity + 1, capacity))
        self.size = 0
        self.block_start = 0
        self.norm = 0.0
        self.n_matvec = 0
        self.n_reductions = 0
        self.n_breakdowns = 0
        self._source, self._target = A.createVecs()
        self.basis[:, 0] = start
        norm = np.sqrt(self._reduce(np.array([start @ start]))[0])
        if norm > 0 and np.isfinite(norm):
            self.basis[:, 0] /= norm
        else:
            self._new_direction(0)

    def destroy(self) -> None:
        """Free the PETSc vectors. Collective."""
        self._source.destroy()
        self._target.destroy()

    @property
    def beta(self) -> float:
        """Norm of the residual vector of the current factorisation."""
        return float(self.hessenberg[self.size, self.size - 1])

    def expand(self, size: int) -> None:
        """Grow to `size` columns.

        Collective: one product and two reductions per column, three where the second pass of the
        orthogonalisation was not enough.

        Raises
        ------
        OperatorError
            On all ranks, when a product has an entry that is not finite.
        """
        while self.size < size:
            self._append_column()

    def _append_column(self) -> None:
        j = self.size
        w = self.basis[:, j + 1]
        self._apply(self.basis[:, j], w)
        coefficients, beta = self._orthogonalize(j + 1)
        column = self.hessenberg[:, j]
        column[: j + 1] = coefficients
        self.norm = max(self.norm, float(np.sqrt(coefficients @ coefficients + beta * beta)))
        self.size = j + 1
        if beta > ROUNDING * self.norm:
            column[j + 1] = beta
            w /= beta
            return
        column[j + 1] = 0.0
        if self.size < self.n:
            self.n_breakdowns += 1
            self._new_direction(self.size)

    def _apply(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        self._source.placeArray(x)
        self._target.placeArray(y)
        try:
            self.operator.mult(self._source, self._target)
        finally:
            self._target.resetArray()
            self._source.resetArray()
        self.n_matvec += 1

    def _orthogonalize(self, j: int) -> tuple[NDArray[np.float64], float]:
        """Make column `j` orthogonal to the ones before; return coefficients and remaining norm."""
        V, w = self.basis[:, :j], self.basis[:, j]
        h = np.zeros(j)
        original = 0.0
        for sweep in range(_MAX_PASSES):
            sums = self._reduce(np.append(V.T @ w, w @ w))
            correction, squared = sums[:j], sums[j]
            if not np.isfinite(squared):
                raise OperatorError(
                    f"product {self.n_matvec} with the operator has entries that are not finite: "
                    "look for NaN or Inf in the data"
                )
            original = max(original, float(np.sqrt(squared)))
            if np.sqrt(squared) <= ROUNDING * original:
                return h, 0.0
            if V.size:
                dgemv(-1.0, V, correction, beta=1.0, y=w, overwrite_y=1)
            h += correction
            left = squared - correction @ correction
            if sweep > 0 and left > _KEPT * squared:
                return h, float(np.sqrt(left))
        return h, 0.0

    def _new_direction(self, j: int) -> None:
        """Put a random unit vector, orthogonal to the first `j` columns, into column `j`."""
        self.block_start = j
        for attempt in range(3):
            stream = 1 + 3 * (self.n_breakdowns + j) + attempt
            self.basis[:, j] = seeded_normal(self.seed, *self.rows, stream=stream)
            _, norm = self._orthogonalize(j)
            if norm > 0:
                self.basis[:, j] /= norm
                return
        raise OperatorError(f"no direction is left beside the {j} found in dimension {self.n}")

    def compress(self, Q: NDArray[np.float64], hessenberg: NDArray[np.float64]) -> None:
        """Replace the factorisation by the smaller one ``A (V Q) = (V Q) H + v b'``.

        Not collective. The residual direction stays the last column.

        Parameters
        ----------
        Q : ndarray of shape (size, p)
            Orthonormal columns.
        hessenberg : ndarray of shape (p + 1, p)
            The new projected matrix over its coupling row b'.
        """
        size, p = self.size, Q.shape[1]
        residual = self.basis[:, size].copy()
        self._recombine(Q)
        self.basis[:, p] = residual
        self.hessenberg[:] = 0.0
        self.hessenberg[: p + 1, :p] = hessenberg
        self.size = p
        self.block_start = 0

    def rotate(
        self,
        Q: NDArray[np.float64],
        hessenberg: NDArray[np.float64],
        residual: NDArray[np.float64],
    ) -> None:
        """Replace the factorisation by one with a new residual vector, as implicit QR needs it.

        Collective. `residual` (n_local,) is f in ``A (V Q) = (V Q) H + f e_p'``; it is made
        orthogonal to the new basis, which costs two reductions.
        """
        p = Q.shape[1]
        self._recombine(Q)
        self.basis[:, p] = residual
        self.hessenberg[:] = 0.0
        self.hessenberg[:p, :p] = hessenberg
        self.size = p
        _, beta = self._orthogonalize(p)
        if beta > ROUNDING * self.norm:
            self.hessenberg[p, p - 1] = beta
            self.basis[:, p] /= beta
        else:
            self._new_direction(p)

    def _recombine(self, Q: NDArray[np.float64]) -> None:
        m, p = Q.shape
        for first in range(0, self.basis.shape[0], _PANEL_ROWS):
            panel = self.basis[first : first + _PANEL_ROWS]
            panel[:, :p] = panel[:, :m] @ Q

    def _reduce(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        self.comm.Allreduce(MPI.IN_PLACE, values)
        self.n_reductions += 1
        return values


def apply_columns(A: PETSc.Mat, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Products of the operator with the columns of `X`, one by one.

    Collective.

    Parameters
    ----------
    X : ndarray of shape (n_local, k)
        Column-major.

    Returns
    -------
    ndarray of shape (n_local, k)
    """
    source, target = A.createVecs()
    Y = np.empty_like(X, order="F")
    for j in range(X.shape[1]):
        source.placeArray(np.ascontiguousarray(X[:, j]))
        target.placeArray(Y[:, j])
        A.mult(source, target)
        target.resetArray()
        source.resetArray()
    source.destroy()
    target.destroy()
    return Y
