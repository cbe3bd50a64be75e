"""Block Arnoldi factorisation ``A V = V H + V_next B E'``, extended by b columns at a time.

Everything is BLAS-3: the product with a block, the orthogonalisation against the basis, and the
orthogonalisation within the block, which uses the eigenvectors of its Gram matrix twice or more.
Directions that vanish in the block are replaced by random ones without coupling, so dependent
columns do no harm. A block Krylov space holds up to b vectors of each eigenspace.

It suits operators whose product with b vectors costs less than b products (dense matrices, data
that is read once per product), multiple eigenvalues, and many ranks: the number of reductions is
proportional to the number of blocks. It multiplies more columns than the single-vector method, in
fewer passes over the operator.

If the width is not given, it is chosen from two measured products: with t0 + t1 b seconds per block
and a number of passes proportional to b^-0.55, b = 0.55 t0 / (0.45 t1) takes the least time. The
exponent was measured on decaying spectra.

Reference: Stathopoulos and Wu, "A block orthogonalization procedure with constant synchronization
requirements", SIAM J. Sci. Comput. 23 (2002), for the orthonormalisation by eigenvectors.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.agreement import raise_failure
from miramns.factorization.arnoldi import ArnoldiFactorization
from miramns.factorization.orthogonalize import gram_factors, subtract
from miramns.norms import ROUNDING
from miramns.products import apply_block
from miramns.projected import OrthonormalProjection, on_root
from miramns.random_vectors import seeded_normal

#: The number of passes over the operator decreases with this power of the width.
_PASSES_EXPONENT = 0.55

#: Smallest and largest width that is chosen.
_LEAST_WIDTH, _MOST_WIDTH = 2, 32

#: Width of the block that is timed.
_TRIAL_WIDTH = 8

#: Loss of orthonormality up to which a block counts as orthonormal.
_ORTHONORMAL = 1e-14

#: Overlaps with preceding columns that one subtraction removes, and loss of orthonormality that one
#: change of the basis removes, both to the level of rounding.
_SMALL_OVERLAP, _NEARLY_ORTHONORMAL = 1e-8, 1e-3

#: Largest number of rounds of orthonormalisation.
_MAX_ROUNDS = 6

#: First stream of random numbers for blocks.
_STREAM = 2**41


class BlockFactorization(ArnoldiFactorization):
    """Arnoldi factorisation by blocks.

    Parameters
    ----------
    start : ndarray of shape (n_local,) or (n_local, s)
        Up to b start vectors, completed by random ones.
    width : int
        Columns b of a block.

    Attributes
    ----------
    n_blocks : int
        Number of products with a block.
    """

    def __init__(
        self,
        A: PETSc.Mat,
        capacity: int,
        start: NDArray[np.float64],
        seed: int = 0,
        *,
        width: int,
        hermitian: bool = False,
        locked: NDArray[np.float64] | None = None,
    ) -> None:
        self._most = width
        self.n_blocks = 0
        columns = start[:, None] if start.ndim == 1 else start
        first = np.ascontiguousarray(columns[:, 0])
        self._n_random = 0
        super().__init__(A, capacity + 2 * width, first, seed, hermitian=hermitian, locked=locked)
        self.width = min(width, self.dimension)
        try:
            self._start_block(columns[:, 1:])
        except BaseException:
            self.destroy()
            raise

    def _start_block(self, others: NDArray[np.float64]) -> None:
        given = 1 + others.shape[1]
        for j in range(1, self.width):
            self.basis[:, j] = others[:, j - 1] if j < given else self._random()
        self._orthonormalize_block(0, self.width, scale=0.0)

    def _random(self) -> NDArray[np.float64]:
        """Return the next random vector; no vector comes twice."""
        first, last = self.rows
        self._n_random += 1
        return seeded_normal(self.seed, first, last, stream=_STREAM + self._n_random)

    def projection(self, size: int) -> OrthonormalProjection:
        """Return the projection on the first `size` columns, which end with a block."""
        H = self.hessenberg
        return OrthonormalProjection(H[:size, :size], H[size : size + self.width, :size])

    def is_explored(self, columns: int) -> bool:
        """Return whether `columns` blocks followed the last breakdown, if there was one."""
        return super().is_explored(columns * self.width)

    def _append(self) -> None:
        first, width = self.size, self.width
        last = first + width
        room = min(self._most, self.dimension - last)
        block = self.basis[:, first:last]
        target = self.basis[:, last : last + width] if room >= width else np.empty_like(block)
        apply_block(self.operator, block, target)
        self.n_matvec += width
        self.n_blocks += 1
        H = self.hessenberg
        H[:, first:last] = 0.0
        if room < width:
            # the space ends within the next block: any basis of the rest completes it
            self._fill(last, room)
            wide = self.basis[:, : last + room]
            coupling = self._reduce(wide.T @ target)
            self._require_norm(float(np.max(np.sum(coupling**2, axis=0))), target)
            H[: last + room, first:last] = coupling
            self._take_norm(H[: last + room, first:last])
            self.size = last
            return
        n_breakdowns = self.n_breakdowns
        coefficients, factor = self._orthonormalize_block(last, width, scale=self.norm)
        H[:last, first:last] = coefficients
        H[last : last + width, first:last] = factor
        self._take_norm(H[: last + width, first:last])
        self.size = last
        if not factor.any():
            self._note_closed()
            self.part_start = last
        elif self.n_breakdowns > n_breakdowns:
            self._matvecs_at_breakdown = self.n_matvec

    def _fill(self, first: int, room: int) -> None:
        """Fill the remaining columns of the space with random directions."""
        self.width = room
        for j in range(room):
            self.basis[:, first + j] = self._random()
        if room:
            self._orthonormalize_block(first, room, scale=0.0)

    def _take_norm(self, columns: NDArray[np.float64]) -> None:
        self.norm = max(self.norm, float(np.sqrt(np.max(np.sum(columns**2, axis=0)))))

    def _orthonormalize_block(
        self, first: int, width: int, *, scale: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Make a block orthonormal, and orthogonal to all preceding columns.

        Collective. Returns C and R with ``W = V C + W' R``. Directions that contribute less than
        rounding of `scale` to W are replaced by random ones without contribution.

        Directions that the Gram matrix does not distinguish from rounding are kept and scaled up
        for the next round: without a direction that depends to half of the digits, the relation
        would miss a part.
        """
        d = self.n_locked
        before, both = self._columns[:, : d + first], self._columns[:, : d + first + width]
        W = self.basis[:, first : first + width]
        coefficients, factor = np.zeros((d + first, width)), np.eye(width)
        may_vanish = True
        for sweep in range(_MAX_ROUNDS):
            with np.errstate(over="ignore", invalid="ignore"):
                sums = both.T @ W
            self._reduce(sums)
            sums, squares = sums[:-width], sums[-width:]
            self._require_norm(float(np.max(squares.diagonal())), W)
            subtract(before, sums, W)
            gram = self._reduce(W.T @ W)
            coefficients += sums @ factor
            # small overlaps, now subtracted, leave overlaps of the size of rounding
            is_last = sweep > 0 and np.max(np.abs(sums), initial=0.0) <= _SMALL_OVERLAP
            loss = np.max(np.abs(gram - np.eye(width)))
            is_last = is_last and loss <= _NEARLY_ORTHONORMAL
            if is_last and loss <= _ORTHONORMAL:
                break
            floor = ROUNDING * max(scale, float(np.max(np.abs(coefficients), initial=0.0)))
            share = np.sqrt(np.maximum(gram.diagonal(), 0.0)) * np.linalg.norm(factor, axis=1)
            # once all directions are independent, a small one is a rotated random one: another in
            # its place would have to be made orthogonal again
            lost = np.flatnonzero(share <= floor) if may_vanish else np.array([], dtype=int)
            for j in lost:
                W[:, j] = self._random() / np.sqrt(self.n)
                factor[j] = 0.0
                gram[j], gram[:, j] = 0.0, 0.0
                gram[j, j] = 1.0
            self.n_breakdowns += bool(lost.size)
            right, step, may_vanish = on_root(self.comm, partial(gram_factors, gram))
            W[:] = W @ right
            factor = step @ factor
            if is_last and not lost.size:
                break
        return coefficients[d:], factor


def chosen_width(A: PETSc.Mat, k: int, n: int, *, repeats: bool = False) -> int:
    """Return the block width of least predicted time, from two measured products. Collective.

    Parameters
    ----------
    repeats : bool
        Measure nothing, and choose a width that suits most operators.
    """
    comm: MPI.Comm = A.getComm().tompi4py()
    most = min(_MOST_WIDTH, max(k, _LEAST_WIDTH), n)
    if most <= _LEAST_WIDTH:
        return most
    if repeats:
        return min(_TRIAL_WIDTH, most)
    first, last = A.getOwnershipRange()
    streams = range(_STREAM, _STREAM + _TRIAL_WIDTH)
    X = np.stack([seeded_normal(0, first, last, stream) for stream in streams]).T
    Y = np.empty_like(X)
    seconds = np.empty(2)
    # the first product may include a set-up
    apply_block(A, X[:, :1], Y[:, :1])
    raise_failure(comm)
    for index, width in enumerate((1, _TRIAL_WIDTH)):
        comm.Barrier()
        began = time.perf_counter()
        apply_block(A, X[:, :width], Y[:, :width])
        seconds[index] = time.perf_counter() - began
        raise_failure(comm)
    comm.Bcast(seconds, root=0)
    each = max((seconds[1] - seconds[0]) / (_TRIAL_WIDTH - 1), 1e-3 * seconds[1] / _TRIAL_WIDTH)
    fixed = max(seconds[0] - each, 0.0)
    best = _PASSES_EXPONENT / (1 - _PASSES_EXPONENT) * fixed / each
    return int(min(max(round(best), _LEAST_WIDTH), most))
