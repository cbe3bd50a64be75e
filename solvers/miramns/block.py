"""Block Arnoldi factorisation: blocks of b vectors through the same nested machinery.

``A V = V H + V_next B E'`` with blocks of b columns in the place of columns. Everything is BLAS-3:
the product with a block, the orthogonalisation against the basis, and that within the block, which
is made twice or more by the eigenvectors of its Gram matrix. Directions that vanish there are
replaced by random ones without coupling, so a block that has become dependent does no harm. A space
of blocks holds up to b vectors of each eigenspace.

Meant for operators whose product with b vectors costs less than b products (dense matrices, data
that is read once a product), for multiplicities, and for many ranks: reductions go with the number
of blocks. It multiplies more columns than the single-vector method, in fewer passes.

The width is chosen from two measured products where it is not given: with t0 + t1 b seconds a block
and about b^-0.55 as many passes, b = 0.55 t0 / (0.45 t1) takes the least time. The exponent is
measured on decaying spectra.

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

from miramns.arnoldi import ArnoldiFactorization, Settled, apply_block
from miramns.convergence import ROUNDING
from miramns.projected import on_root
from miramns.start import seeded_normal

__all__ = ["BlockFactorization", "chosen_width"]

#: Passes over the operator go down with this power of the width.
_PASSES_EXPONENT = 0.55

#: Widths that are chosen.
_LEAST_WIDTH, _MOST_WIDTH = 2, 32

#: Width of the block that is timed.
_TRIAL_WIDTH = 8

#: Eigenvalues of the scaled Gram matrix of a block below this are not told from rounding.
_DEPENDENT = 1e-13

#: Loss of orthonormality with which a block is good.
_ORTHONORMAL = 1e-14

#: Rounds of orthonormalisation after which a block is taken as it is.
_MAX_ROUNDS = 6

#: First of the streams of random numbers for start blocks.
_STREAM = 2**41


class BlockFactorization(ArnoldiFactorization):
    """A factorisation that grows by blocks.

    Parameters
    ----------
    start : ndarray of shape (n_local,) or (n_local, s)
        Up to b start vectors; random ones follow.
    width : int
        Columns b of a block.

    Attributes
    ----------
    n_blocks : int
        Products with a block made so far.
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
        """The next random vector: none comes twice."""
        first, last = self.rows
        self._n_random += 1
        return seeded_normal(self.seed, first, last, stream=_STREAM + self._n_random)

    @property
    def n_residuals(self) -> int:
        """Residual directions: a block of them stands behind the columns."""
        return self.width

    def leading(self, size: int) -> Settled:
        """The projection on the first `size` columns, which end a block. Not collective."""
        H = self.hessenberg
        return Settled(H[:size, :size], H[size : size + self.width, :size])

    def settled_in(self, columns: int) -> bool:
        """Whether so many blocks of products followed the last new direction, if there was one."""
        return super().settled_in(columns * self.width)

    def expand(self, size: int) -> None:
        """Grow to at least `size` columns, by whole blocks. Collective: some reductions a block."""
        while self.size < size:
            self._append_block()

    def _append_block(self) -> None:
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
            # the space ends within the next block: any basis of what is left serves
            self._fill(last, room)
            wide = self.basis[:, : last + room]
            coupling = self._reduce(wide.T @ target)
            self._need_norm(float(np.max(np.sum(coupling**2, axis=0))), target)
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
            self.block_start = last
        elif self.n_breakdowns > n_breakdowns:
            self._broke_at = self.n_matvec

    def _fill(self, first: int, room: int) -> None:
        """Random directions for the columns that are left."""
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
        """Make a block orthonormal, and orthogonal to all before.

        Collective. Returns C and R with ``W = V C + W' R``. Directions that contribute less than
        rounding of `scale` to W become random ones that do not contribute.

        Directions that the Gram matrix cannot tell from rounding are kept and scaled up, so that
        the next round can: what is dropped for depending to half of the digits would be missing
        in the relation.
        """
        before, d = self._columns[:, : self.n_locked + first], self.n_locked
        W = self.basis[:, first : first + width]
        coefficients, factor = np.zeros((d + first, width)), np.eye(width)
        may_vanish = True
        for sweep in range(_MAX_ROUNDS):
            with np.errstate(over="ignore", invalid="ignore"):
                sums = np.vstack([before.T @ W, W.T @ W])
            self._reduce(sums)
            sums, squares = sums[:-width], sums[-width:]
            self._need_norm(float(np.max(squares.diagonal())), W)
            W -= before @ sums
            gram = self._reduce(W.T @ W)
            coefficients += sums @ factor
            done = sweep > 0 and np.max(np.abs(gram - np.eye(width))) <= _ORTHONORMAL
            if done and np.max(np.abs(sums), initial=0.0) <= _ORTHONORMAL:
                break
            floor = ROUNDING * max(scale, float(np.max(np.abs(coefficients), initial=0.0)))
            share = np.sqrt(np.maximum(gram.diagonal(), 0.0)) * np.linalg.norm(factor, axis=1)
            # once all directions are told apart they only turn: what is small then is a turned
            # random one, and another in its place would have to be made orthogonal again
            lost = np.flatnonzero(share <= floor) if may_vanish else np.array([], dtype=int)
            for j in lost:
                W[:, j] = self._random() / np.sqrt(self.n)
                factor[j] = 0.0
                gram[j], gram[:, j] = 0.0, 0.0
                gram[j, j] = 1.0
            self.n_breakdowns += bool(lost.size)
            right, step, may_vanish = on_root(self.comm, partial(_factors, gram))
            W[:] = W @ right
            factor = step @ factor
        return coefficients[d:], factor

    def compress(self, Q: NDArray[np.float64], hessenberg: NDArray[np.float64]) -> None:
        """Keep the columns times Q; the block of residual directions stays behind them."""
        m, p, width = self.size, Q.shape[1], self.width
        residual = self.basis[:, m : m + width].copy()
        self._recombine(Q)
        self.basis[:, p : p + width] = residual
        self._take_over(hessenberg)


def _factors(
    gram: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """S and R with ``W = (W S) R``, and W S orthonormal but for directions that all but vanish.

    The third says whether there are such directions.
    """
    norms = np.sqrt(np.maximum(gram.diagonal(), 0.0))
    scale = np.where(norms > 0, norms, 1.0)
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    roots = np.sqrt(np.maximum(values, _DEPENDENT))
    unclear = bool(values[0] <= _DEPENDENT)
    return (vectors / scale[:, None]) / roots, (roots[:, None] * vectors.T) * scale, unclear


def chosen_width(A: PETSc.Mat, k: int, n: int) -> int:
    """Width of least predicted time, from one product and one product with a block. Collective."""
    comm: MPI.Comm = A.getComm().tompi4py()
    most = min(_MOST_WIDTH, max(k, _LEAST_WIDTH), n)
    if most <= _LEAST_WIDTH:
        return most
    first, last = A.getOwnershipRange()
    X = np.empty((last - first, _TRIAL_WIDTH), order="F")
    for j in range(_TRIAL_WIDTH):
        X[:, j] = seeded_normal(0, first, last, stream=_STREAM + j)
    Y = np.empty_like(X)
    seconds = np.empty(2)
    # the first product of all may set something up
    apply_block(A, X[:, :1], Y[:, :1])
    for index, width in enumerate((1, _TRIAL_WIDTH)):
        comm.Barrier()
        began = time.perf_counter()
        apply_block(A, X[:, :width], Y[:, :width])
        seconds[index] = time.perf_counter() - began
    comm.Bcast(seconds, root=0)
    each = max((seconds[1] - seconds[0]) / (_TRIAL_WIDTH - 1), 1e-3 * seconds[1] / _TRIAL_WIDTH)
    fixed = max(seconds[0] - each, 0.0)
    best = _PASSES_EXPONENT / (1 - _PASSES_EXPONENT) * fixed / each
    return int(min(max(round(best), _LEAST_WIDTH), most))
