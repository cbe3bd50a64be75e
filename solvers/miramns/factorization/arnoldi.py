"""Arnoldi factorisation ``A V_j = V_j H_j + beta v_{j+1} e_j'``, extended one column at a time.

The basis is one column-major array per rank (its rows of all vectors), so that a product reads and
writes PETSc vectors laid over its columns, and an orthogonalisation is two BLAS-2 calls for any
number of vectors.

Orthogonalisation is classical Gram-Schmidt with one reduction per pass: the coefficients and the
squared norm are summed together, and Pythagoras gives the norm after the pass. A pass that leaves
less than half of the squared norm is followed by another. For Hermitian operators the known
coupling to the previous column, and a guess of the diagonal, are subtracted first, which mostly
makes one pass enough. If nothing is left of a product, the subspace is invariant (a breakdown): the
factorisation continues with a random direction, and the coupling is exactly zero.

Locked columns stand before the basis. Every column is orthogonal to them, and the factorisation is
that of the operator projected on their complement. With a matrix B, orthogonality refers to the
inner product x'By.

Reference: Daniel, Gragg, Kaufman, Stewart, "Reorthogonalization and stable algorithms for updating
the Gram-Schmidt QR factorization", Math. Comp. 30 (1976).
"""

from __future__ import annotations

import math

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.errors import MiramnsError, OperatorError
from miramns.factorization.orthogonalize import change_of_basis, dot_columns, recombine, subtract
from miramns.norms import ROUNDING
from miramns.products import multiply, require_norm
from miramns.projected import OrthonormalProjection
from miramns.random_vectors import seeded_normal

#: A pass that leaves less than this fraction of the squared norm is followed by another one.
KEPT = 0.5

#: Passes after which a vector that still shrinks is taken as lying in the space.
_MAX_PASSES = 5


class ArnoldiFactorization:
    """Factorisation whose basis is distributed by rows, as the operator is.

    State, in columns of the basis::

        [ locked | kept | new | residual | free ]
                 0      n_kept  size       size + 1 ... capacity

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
        Columns to stay orthogonal to; need not be orthonormal.
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
    width : int
        Number of residual directions behind the columns.
    n_kept : int
        Columns that the last restart kept; H is full on them.
    norm : float
        Largest norm of a column of H so far, a lower bound of ||A||.
    known_norm : float
        A lower bound of ||A|| from elsewhere. Products that are small compared with it are not
        refused.
    part_start : int
        First column of the current part: 0, or the random direction after the last breakdown.
    closed_part : tuple of int or None
        First column and last + 1 of the invariant subspace at the last breakdown, if it was
        generated from a random direction. It contains a vector of each eigenspace that the operator
        has on the complement of all preceding columns.
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
        self.width = 1
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
        self.n_kept = 0
        self.part_start = 0
        self.closed_part: tuple[int, int] | None = None
        self.norm = 0.0
        self.known_norm = 0.0
        self.n_matvec = 0
        self.n_reductions = 0
        self.n_breakdowns = 0
        self.orthogonality_level = 0.0
        self.n_orthogonality_losses = 0
        self._matvecs_at_breakdown = -1
        self._source, self._target = A.createVecs()
        try:
            if locked is not None:
                self._lock(locked)
            self._start(start)
        except BaseException:
            # the caller has no object to destroy yet
            self.destroy()
            raise

    def destroy(self) -> None:
        """Free the PETSc vectors and the basis. Collective."""
        self._source.destroy()
        self._target.destroy()
        self.basis = self._columns = np.empty((0, 0), order="F")

    @property
    def beta(self) -> float:
        """Norm of the residual vector."""
        return float(self.hessenberg[self.size, self.size - 1])

    @property
    def operator_norm(self) -> float:
        """A lower bound of ||A||, of the order of ||A|| after some columns."""
        return max(self.norm, self.known_norm)

    @property
    def locked_columns(self) -> NDArray[np.float64]:
        """This rank's rows of the locked columns, orthonormal."""
        return self._columns[:, : self.n_locked]

    @property
    def dimension(self) -> int:
        """Dimension of the complement of the locked columns."""
        return self.n - self.n_locked

    def projection(self, size: int) -> OrthonormalProjection:
        """Return the projection on the first `size` columns, as if they were orthonormal."""
        H = self.hessenberg
        return OrthonormalProjection(H[:size, :size], float(H[size, size - 1]))

    def orthonormal_projection(self) -> OrthonormalProjection:
        """Return the projection on an orthonormal basis of the columns. Collective."""
        return self.projection(self.size)

    def is_explored(self, columns: int) -> bool:
        """Return whether `columns` products followed the last breakdown, if there was one."""
        since = self.n_matvec - self._matvecs_at_breakdown
        return self._matvecs_at_breakdown < 0 or since >= columns

    def extend(self, size: int) -> None:
        """Extend the factorisation to `size` columns, or more where blocks do not end there.

        Collective: one product and mostly one or two reductions per column or block.

        Raises
        ------
        OperatorError
            On all ranks, when a product has an entry that is not finite.
        """
        while self.size < size:
            self._append()

    def _lock(self, locked: NDArray[np.float64]) -> None:
        """Orthonormalise the locked columns in their place, one by one."""
        self.n_locked = 0
        for j in range(locked.shape[1]):
            # meanwhile the basis is the whole array, without locked columns
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

    def _append(self) -> None:
        self._apply(self.basis[:, self.size], self.basis[:, self.size + 1])
        self._finish_column()

    def _finish_column(self) -> None:
        """Orthogonalise the product in the next column, and add it to the factorisation."""
        j = self.size
        w = self.basis[:, j + 1]
        H, new = self.hessenberg, j - self.n_kept
        coupling = H[j, j - 1] if self.hermitian and new > 0 else 0.0
        # the diagonal, which changes little from column to column, is guessed
        known = np.array([coupling, H[j - 1, j - 1] if new > 1 else 0.0])
        if coupling:
            subtract(self.basis[:, j - 1 : j + 1], known, w)
        coefficients, beta = self._orthogonalize(j + 1)
        if coupling:
            coefficients[j - 1 :] += known
        self._add_column(coefficients, beta)

    def _add_column(
        self, coefficients: NDArray[np.float64], norm: float, length: float = 1.0
    ) -> None:
        """Add a column to H. The residual stands in the next column, divided by `length`."""
        self._set_column(coefficients, length * norm)
        self._accept_residual(norm, length)

    def _accept_residual(self, norm: float, length: float = 1.0) -> None:
        """Normalise the residual, or replace it by a random direction if it is rounding.

        The residual stands in the next column, divided by `length`; `norm` is its norm there.
        """
        j, beta = self.size, length * norm
        exceeds_rounding = beta > ROUNDING * self.norm
        self.hessenberg[j, j - 1] = beta if exceeds_rounding else 0.0
        if exceeds_rounding:
            self.basis[:, j] /= norm
        elif j < self.dimension:
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
        """Record that the columns span an invariant subspace."""
        self._matvecs_at_breakdown = self.n_matvec
        self.closed_part = (self.part_start, self.size) if self.part_start else None

    def _apply(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        multiply(self.operator, self._source, self._target, x, y)
        self.n_matvec += 1

    def _require_norm(self, squared: float, w: NDArray[np.float64]) -> None:
        """Raise if the squared norm of a product is not finite or underflows. Collective."""
        require_norm(self.comm, squared, w, self.operator_norm, self.n_matvec)

    def _orthogonalize(self, j: int) -> tuple[NDArray[np.float64], float]:
        """Make column `j` orthogonal to all preceding columns.

        Collective. Returns its coefficients on them, and the norm left, which is 0 for a column
        that lies in their span.
        """
        d = self.n_locked
        V, w = self._columns[:, : d + j], self.basis[:, j]
        h = np.zeros(d + j)
        sums = np.empty(d + j + 1)
        original = 0.0
        for _sweep in range(_MAX_PASSES):
            z = w
            if self.inner is not None:
                z = np.empty_like(w)
                multiply(self.inner, self._source, self._target, w, z)
            sums[:-1] = dot_columns(V, z)
            sums[-1:] = dot_columns(w[:, None], z)
            self._reduce(sums)
            correction, squared = sums[:-1], float(sums[-1])
            if squared < 0:
                raise MiramnsError("the matrix of the inner product is not positive")
            self._require_norm(squared, w)
            original = max(original, math.sqrt(squared))
            if math.sqrt(squared) <= ROUNDING * original:
                return h[d:], 0.0
            subtract(V, correction, w)
            h += correction
            left = squared - float(correction @ correction)
            if left > KEPT * squared:
                return h[d:], math.sqrt(left)
        return h[d:], 0.0

    def _new_direction(self, j: int) -> None:
        """Put a random unit vector, orthogonal to the first `j` columns, into column `j`."""
        self.part_start = j
        for attempt in range(3):
            stream = 1 + 3 * (self.n_breakdowns + j) + attempt
            self.basis[:, j] = seeded_normal(self.seed, *self.rows, stream=stream)
            _, norm = self._orthogonalize(j)
            if norm > 0:
                self.basis[:, j] /= norm
                return
        raise OperatorError(f"no direction is left beside the {j} found in dimension {self.n}")

    def restart(self, Q: NDArray[np.float64], hessenberg: NDArray[np.float64]) -> None:
        """Replace the factorisation by the smaller one ``A (V Q) = (V Q) H + v b'``.

        The residual directions v, one or a block, stay the last columns.

        Parameters
        ----------
        Q : ndarray of shape (size, p)
            Orthonormal columns.
        hessenberg : ndarray of shape (p + 1, p), or (p + b, p) for blocks
            The new projected matrix over its coupling rows b'.
        """
        size, p, width = self.size, Q.shape[1], self.width
        residual = self.basis[:, size : size + width].copy()
        recombine(self.basis, Q)
        self.basis[:, p : p + width] = residual
        self._set_kept(hessenberg)

    def _set_kept(self, hessenberg: NDArray[np.float64]) -> None:
        """Set the projected matrix of the columns kept, over its coupling rows."""
        rows, p = hessenberg.shape
        # a residual that is a random direction remains one
        self.part_start = p if self.part_start == self.size else 0
        self.closed_part = None
        self.hessenberg[:] = 0.0
        self.hessenberg[:rows, :p] = hessenberg
        self.size = self.n_kept = p

    def reorthonormalize(self) -> None:
        """Restore the orthonormality of the columns to rounding, and keep the relation.

        Collective: one reduction. A restart multiplies the basis by a matrix that is orthogonal to
        rounding, and over many restarts these errors add up.
        """
        if self.inner is not None:
            return
        p = self.size
        wide = p + self.width
        V, H = self.basis[:, :wide], self.hessenberg[:wide, :p]
        gram = self._reduce(np.ascontiguousarray(V.T @ V))
        H[:], inverse = change_of_basis(self.comm, gram, H)
        recombine(self.basis, inverse)

    def rotate(
        self,
        Q: NDArray[np.float64],
        hessenberg: NDArray[np.float64],
        residual: NDArray[np.float64],
    ) -> None:
        """Replace the factorisation by ``A (V Q) = (V Q) H + f e_p'``, as after implicit QR steps.

        Collective: two reductions, which make the new residual f orthogonal to the new basis.

        Parameters
        ----------
        Q : ndarray of shape (size, p)
        hessenberg : ndarray of shape (p, p)
        residual : ndarray of shape (n_local,)
        """
        p = Q.shape[1]
        recombine(self.basis, Q)
        self.basis[:, p] = residual
        self._set_kept(hessenberg)
        self.part_start = 0
        _, beta = self._orthogonalize(p)
        self._accept_residual(beta)

    def _reduce(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum an array over the ranks, in place. Collective."""
        if self.comm.size > 1:
            self.comm.Allreduce(MPI.IN_PLACE, values)
        self.n_reductions += 1
        return values
