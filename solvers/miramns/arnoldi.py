"""Arnoldi factorisation ``A V_j = V_j H_j + beta v_{j+1} e_j'``, grown one column at a time.

The basis is one column-major array per rank (its rows of all vectors), so that a product reads and
writes PETSc vectors laid over its columns, and an orthogonalisation is two BLAS-2 calls whatever
the number of vectors.

Orthogonalisation is classical Gram-Schmidt, one reduction a pass: the coefficients and the squared
norm travel together, and the norm afterwards follows from Pythagoras. A pass that leaves less than
half of the squared norm is followed by another. For Hermitian operators the known coupling to the
column before is subtracted first, which makes one pass enough. When nothing is left of a product,
the space is invariant: the factorisation goes on with a new random direction, and the coupling is
exactly zero.

Locked columns stand before the basis: every column is orthogonal to them, and the factorisation is
that of the operator projected on their complement. With a matrix B, "orthogonal" is meant in the
inner product x'By.

Reference: Daniel, Gragg, Kaufman, Stewart, "Reorthogonalization and stable algorithms for updating
the Gram-Schmidt QR factorization", Math. Comp. 30 (1976).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg.blas import dgemv

from miramns.convergence import ROUNDING, MiramnsError, OperatorError
from miramns.projected import Coupling, change_of_basis
from miramns.start import seeded_normal

__all__ = ["ArnoldiFactorization", "Settled", "apply_block", "apply_columns", "subtract"]

#: A pass that leaves less than this fraction of the squared norm is followed by another one.
_KEPT = 0.5

#: Passes after which a vector that still shrinks is taken as lying in the space.
_MAX_PASSES = 5

#: Norms below this have squares in which too few digits are left.
_LEAST_NORM = 1e-140

#: Entries that are recombined at a time: some MB, which bounds the extra memory of a restart and
#: keeps what is read once in the cache.
_PANEL_ENTRIES = 2**18


@dataclass(frozen=True, slots=True)
class Settled:
    """The projected operator on an orthonormal basis of the subspace.

    Attributes
    ----------
    hessenberg : ndarray of shape (m, m)
        The projection.
    beta : float or ndarray of shape (b, m)
        Coupling to the residual direction: of the last column, or of all to a block of directions.
    inverse : ndarray of shape (m + 1, m + 1) or None
        Upper triangular: the stored columns times this are orthonormal. None where they are.
    """

    hessenberg: NDArray[np.float64]
    beta: Coupling
    inverse: NDArray[np.float64] | None = None

    @property
    def size(self) -> int:
        """Number of columns m."""
        return len(self.hessenberg)

    def coordinates(self, Y: NDArray[Any]) -> NDArray[Any]:
        """What the stored columns have to be multiplied by to give the settled ones times `Y`."""
        return Y if self.inverse is None else self.inverse[: self.size, : self.size] @ Y


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
    hermitian : bool
        Whether A is self-adjoint in the inner product.
    locked : ndarray of shape (n_local, d), optional
        Columns to stay orthogonal to; any that span what is meant, they are orthonormalised here.
    inner : PETSc.Mat, optional
        Symmetric positive B of the inner product ``x'By``; the identity by default.

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
    kept : int
        Columns that the last restart kept; before them H is full.
    known_norm : float
        What is known of ||A|| beside the products: next to it, products may be as small as they
        like. To be set where that is so.
    closed : tuple of int or None
        First column, and the one behind the last, of the part that closed last, where it began with
        a random direction. It then holds a vector of each eigenspace that the operator has on the
        complement of the columns before.
    """

    def __init__(
        self,
        A: PETSc.Mat,
        capacity: int,
        start: NDArray[np.float64],
        seed: int = 0,
        *,
        hermitian: bool = False,
        locked: NDArray[np.float64] | None = None,
        inner: PETSc.Mat | None = None,
    ) -> None:
        self.comm: MPI.Comm = A.getComm().tompi4py()
        self.operator = A
        self.inner = inner
        self.hermitian = hermitian
        self.rows: tuple[int, int] = A.getOwnershipRange()
        self.n: int = A.getSize()[0]
        self.seed = seed
        self.capacity = capacity
        self.n_locked = 0 if locked is None else locked.shape[1]
        n_local = self.rows[1] - self.rows[0]
        self._columns = np.empty((n_local, self.n_locked + capacity + 1), order="F")
        self.basis = self._columns[:, self.n_locked :]
        self.hessenberg = np.zeros((capacity + 1, capacity))
        self.size = 0
        self.block_start = 0
        self.norm = 0.0
        self.known_norm = 0.0
        self.n_matvec = 0
        self.n_reductions = 0
        self.n_breakdowns = 0
        self.closed: tuple[int, int] | None = None
        self._broke_at = -1
        self.kept = 0
        self._source, self._target = A.createVecs()
        try:
            if locked is not None:
                self._lock(locked)
            self._start(start)
        except BaseException:
            # nobody else knows of the vectors yet
            self.destroy()
            raise

    def destroy(self) -> None:
        """Free the PETSc vectors and the basis. Collective."""
        self._source.destroy()
        self._target.destroy()
        self.basis = self._columns = np.empty((0, 0), order="F")

    @property
    def beta(self) -> float:
        """Norm of the residual vector of the current factorisation."""
        return float(self.hessenberg[self.size, self.size - 1])

    @property
    def dimension(self) -> int:
        """Dimension of the space that the factorisation can fill: n without what is locked."""
        return self.n - self.n_locked

    @property
    def n_residuals(self) -> int:
        """Residual directions, which stand behind the columns."""
        return 1

    def leading(self, size: int) -> Settled:
        """The projection on the first `size` columns, as it stands. Not collective."""
        H = self.hessenberg
        return Settled(H[:size, :size], float(H[size, size - 1]))

    def settle(self) -> Settled:
        """Give the projection on the columns so far. Collective."""
        return self.leading(self.size)

    def settled_in(self, columns: int) -> bool:
        """Whether so many products followed the last new direction, if there was one."""
        return self._broke_at < 0 or self.n_matvec - self._broke_at >= columns

    def expand(self, size: int) -> None:
        """Grow to `size` columns.

        Collective: one product and mostly one or two reductions per column.

        Raises
        ------
        OperatorError
            On all ranks, when a product has an entry that is not finite.
        """
        while self.size < size:
            self._append_column()

    def _lock(self, locked: NDArray[np.float64]) -> None:
        """Orthonormalise the locked columns where they stand, one by one."""
        self.n_locked = 0
        for j in range(locked.shape[1]):
            # while they are filled in, the basis is the whole array and nothing is locked
            self.basis = self._columns
            self.basis[:, j] = locked[:, j]
            _, norm = self._orthogonalize(j)
            if norm == 0.0:
                raise MiramnsError(f"vector {j} to stay orthogonal to is zero or depends on others")
            self.basis[:, j] /= norm
        self.n_locked = locked.shape[1]
        self.basis = self._columns[:, self.n_locked :]

    def _start(self, start: NDArray[np.float64]) -> None:
        self.basis[:, 0] = start
        largest = self.comm.allreduce(float(np.max(np.abs(start), initial=0.0)), op=MPI.MAX)
        norm = 0.0
        if 0 < largest < np.inf:
            # scaled, so that no square overflows or vanishes
            self.basis[:, 0] /= largest
            _, norm = self._orthogonalize(0)
        if norm > 0:
            self.basis[:, 0] /= norm
        else:
            self._new_direction(0)

    def _append_column(self) -> None:
        self._apply(self.basis[:, self.size], self.basis[:, self.size + 1])
        self._finish_column()

    def _finish_column(self) -> None:
        """Orthogonalise the product that stands in the next column, and take it in."""
        j = self.size
        w = self.basis[:, j + 1]
        coupling = self.hessenberg[j, j - 1] if self.hermitian and j > self.kept else 0.0
        if coupling:
            w -= coupling * self.basis[:, j - 1]
        coefficients, beta = self._orthogonalize(j + 1)
        if coupling:
            coefficients[j - 1] += coupling
        self._take_in(coefficients, beta)

    def _take_in(self, coefficients: NDArray[np.float64], norm: float, length: float = 1.0) -> None:
        """Take in a column whose remainder, of `length` times `norm`, stands in the next one."""
        self._set_column(coefficients, length * norm)
        j = self.size
        if length * norm > ROUNDING * self.norm:
            self.basis[:, j] /= norm
            return
        self.hessenberg[j, j - 1] = 0.0
        if j < self.dimension:
            self.n_breakdowns += 1
            self._note_closed()
            self._new_direction(j)

    def _set_column(self, coefficients: NDArray[np.float64], beta: float) -> None:
        j = self.size
        self.hessenberg[: j + 1, j] = coefficients
        self.hessenberg[j + 1, j] = beta
        self.norm = max(self.norm, math.hypot(math.sqrt(coefficients @ coefficients), beta))
        self.size = j + 1

    def _note_closed(self) -> None:
        """The columns so far span an invariant subspace."""
        self._broke_at = self.n_matvec
        self.closed = (self.block_start, self.size) if self.block_start else None

    def _apply(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        self._source.placeArray(x)
        self._target.placeArray(y)
        try:
            self.operator.mult(self._source, self._target)
        finally:
            self._target.resetArray()
            self._source.resetArray()
        self.n_matvec += 1

    def _metric(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """B w, or w itself. Collective."""
        if self.inner is None:
            return w
        z = np.empty_like(w)
        self._source.placeArray(w)
        self._target.placeArray(z)
        try:
            self.inner.mult(self._source, self._target)
        finally:
            self._target.resetArray()
            self._source.resetArray()
        return z

    def _orthogonalize(self, j: int) -> tuple[NDArray[np.float64], float]:
        """Make column `j` orthogonal to the ones before; return coefficients and remaining norm."""
        d = self.n_locked
        V, w = self._columns[:, : d + j], self.basis[:, j]
        h = np.zeros(d + j)
        sums = np.empty(d + j + 1)
        original = 0.0
        for _sweep in range(_MAX_PASSES):
            z = self._metric(w)
            with np.errstate(over="ignore", invalid="ignore"):
                sums[:-1] = V.T @ z
                sums[-1] = w @ z
            self._reduce(sums)
            correction, squared = sums[:-1], float(sums[-1])
            if squared < 0:
                raise MiramnsError("the matrix of the inner product is not positive")
            self._need_norm(squared, w)
            original = max(original, math.sqrt(squared))
            if math.sqrt(squared) <= ROUNDING * original:
                return h[d:], 0.0
            subtract(V, correction, w)
            h += correction
            left = squared - float(correction @ correction)
            if left > _KEPT * squared:
                return h[d:], math.sqrt(left)
        return h[d:], 0.0

    def _need_norm(self, squared: float, w: NDArray[np.float64]) -> None:
        """Refuse a product whose squared norm is no number, overflows or vanishes. Collective."""
        usable = math.isfinite(squared)
        if usable and max(math.sqrt(squared), self.norm, self.known_norm) >= _LEAST_NORM:
            return
        # a maximum over ranks may lose a NaN
        if not self.comm.allreduce(bool(np.isfinite(w).all()), op=MPI.LAND):
            raise OperatorError(
                f"product {self.n_matvec} with the operator has entries that are not finite: "
                "look for NaN or Inf in the data"
            )
        largest = self.comm.allreduce(float(np.max(np.abs(w), initial=0.0)), op=MPI.MAX)
        if not usable or largest > 0:
            raise OperatorError(
                f"the squared norm of product {self.n_matvec} with the operator "
                f"{'underflows' if usable else 'overflows'}: its largest entry is {largest:.1e}. "
                "Rescale the operator, so that its eigenvalues are nearer to 1"
            )

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

    def cut_to(self, size: int) -> None:
        """Go back to the first `size` columns. Not collective."""
        self.size = size

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
        self._take_over(hessenberg)

    def _take_over(self, hessenberg: NDArray[np.float64]) -> None:
        """Make the projected matrix, over its coupling rows, that of the columns kept."""
        rows, p = hessenberg.shape
        # a residual direction that is a new one still is
        self.block_start = p if self.block_start == self.size else 0
        self.closed = None
        self.hessenberg[:] = 0.0
        self.hessenberg[:rows, :p] = hessenberg
        self.size = self.kept = p

    def refresh(self) -> None:
        """Make what a restart kept orthonormal to rounding again, with the relation unharmed.

        Collective: one reduction. Restarts multiply the basis by matrices that are orthogonal to
        rounding only; over thousands of them that adds up.
        """
        if self.inner is not None:
            return
        p = self.size
        wide = p + self.n_residuals
        V, H = self.basis[:, :wide], self.hessenberg[:wide, :p]
        gram = self._reduce(np.ascontiguousarray(V.T @ V))
        H[:], inverse = change_of_basis(self.comm, gram, H)
        self._recombine(inverse)

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
        self._take_over(hessenberg)
        self.block_start = 0
        _, beta = self._orthogonalize(p)
        if beta > ROUNDING * self.norm:
            self.hessenberg[p, p - 1] = beta
            self.basis[:, p] /= beta
        else:
            self.n_breakdowns += 1
            self._note_closed()
            self._new_direction(p)

    def _recombine(self, Q: NDArray[np.float64]) -> None:
        m, p = Q.shape
        rows = max(_PANEL_ENTRIES // m, 256)
        for first in range(0, self.basis.shape[0], rows):
            panel = self.basis[first : first + rows]
            panel[:, :p] = panel[:, :m] @ Q

    def _reduce(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.comm.size > 1:
            self.comm.Allreduce(MPI.IN_PLACE, values)
        self.n_reductions += 1
        return values


def subtract(
    V: NDArray[np.float64], coefficients: NDArray[np.float64], w: NDArray[np.float64]
) -> None:
    """Subtract V times the coefficients from `w`, in place. Not collective.

    Parameters
    ----------
    V : ndarray of shape (n_local, j)
        Column-major; may be empty.
    """
    if V.size:
        dgemv(-1.0, V, coefficients, beta=1.0, y=w, overwrite_y=1)


def apply_block(A: PETSc.Mat, X: NDArray[np.float64], Y: NDArray[np.float64]) -> None:
    """Products of the operator with the columns of `X`, into `Y`, as one where it can do that.

    Collective. A shell whose context has ``mult_block(X, Y)`` (this rank's rows of both, as arrays)
    is asked for it; assembled matrices multiply a dense one; others make one product a column.

    Parameters
    ----------
    X, Y : ndarray of shape (n_local, k)
        Column-major.
    """
    kind = A.getType()
    if X.shape[1] > 1 and kind == "python":
        context = A.getPythonContext()
        if hasattr(context, "mult_block"):
            context.mult_block(X, Y)
            return
    if X.shape[1] > 1 and ("dense" in kind or "aij" in kind):
        _multiply_at_once(A, X, Y)
    else:
        _multiply_one_by_one(A, X, Y)


def _multiply_at_once(A: PETSc.Mat, X: NDArray[np.float64], Y: NDArray[np.float64]) -> None:
    sizes = ((X.shape[0], A.getSize()[0]), (None, X.shape[1]))
    source = PETSc.Mat().createDense(sizes, array=np.asfortranarray(X), comm=A.getComm())
    target = None
    try:
        source.assemble()
        target = A.matMult(source)
        Y[:] = target.getDenseArray()
    finally:
        if target is not None:
            target.destroy()
        source.destroy()


def _multiply_one_by_one(A: PETSc.Mat, X: NDArray[np.float64], Y: NDArray[np.float64]) -> None:
    source, target = A.createVecs()
    try:
        for j in range(X.shape[1]):
            source.placeArray(np.ascontiguousarray(X[:, j]))
            target.placeArray(Y[:, j])
            try:
                A.mult(source, target)
            finally:
                target.resetArray()
                source.resetArray()
    finally:
        source.destroy()
        target.destroy()


def apply_columns(A: PETSc.Mat, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Products of the operator with the columns of `X`, in a new array. Collective."""
    Y = np.empty(X.shape, order="F")
    apply_block(A, X, Y)
    return Y
