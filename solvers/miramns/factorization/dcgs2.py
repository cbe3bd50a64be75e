"""Arnoldi factorisation with one reduction per column: delayed reorthogonalisation (DCGS2).

Two passes of Gram-Schmidt make a basis orthonormal to rounding, and cost two reductions. Here one
reduction serves the second pass of a column, its norm, and the first pass of the next column. The
next product is made from the candidate u of a column, which is neither reorthogonalised nor of
exact length 1, and is corrected afterwards. With Q the preceding columns and

    A q_(j-1) = Q h + sigma u,      w = A u,

one reduction of [Q u w]'[u w] gives s = Q'u, t = Q'w and the three scalars. Then

    q_j = (u - Q s) / beta,         beta^2 = u'u - s's,
    H(:, j-1) = [h + sigma s, sigma beta],

and, as A Q s = [Q q_j] H s is known without a product,

    A q_j = (w - [Q q_j] H s) / beta = [Q q_j] (g - H s) / beta + r / beta,
    g = [t, (u'w - s't) / beta],    r = w - [Q q_j] g,

which is the next candidate, of length sqrt(w'w - g'g) up to rounding. If the second pass still
removes much, which happens near breakdowns, the candidate is orthogonalised with more passes and
its product is repeated.

The factorisation is one product ahead of its columns. A thick restart keeps this product.

Reference: Bielich, Langou, Thomas, Swirydowicz, Yamazaki, Boman, "Low-synch Gram-Schmidt with
delayed reorthogonalization for Krylov solvers", Parallel Computing 112 (2022), arXiv:2104.01253.

Deviations: candidates are scaled by their predicted length, so that no squared norm exceeds that
of the operator; locked columns need not span an invariant subspace.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.factorization.arnoldi import KEPT, ArnoldiFactorization
from miramns.factorization.orthogonalize import subtract
from miramns.norms import ROUNDING

#: If the first pass leaves less than this fraction of the squared norm, Pythagoras has no digit.
_NOTHING = 1e-13


class DCGS2Factorization(ArnoldiFactorization):
    """Arnoldi factorisation with delayed reorthogonalisation, one product ahead of its columns.

    Parameters are the same as for the base class, without an inner product.

    Attributes
    ----------
    ahead : bool
        Whether column ``size + 1`` holds a candidate: the next product after its first pass.
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
    ) -> None:
        self.ahead = False
        # coefficients of the candidate from its first pass, and its length
        self._coefficients = np.zeros(capacity + 2)
        self._length = 0.0
        # fraction of the squared norm of the candidate after its first pass
        self._left = 0.0
        super().__init__(A, capacity + 1, start, seed, hermitian=hermitian, locked=locked)

    def _append(self) -> None:
        if not self.ahead:
            self._propose()
        j = self.size + 1
        # a candidate of little more than rounding would be multiplied again
        is_rounding = self._left <= _NOTHING or self._length <= ROUNDING * self.norm
        is_last = is_rounding or j == self.dimension
        if is_last or not self._finish_and_propose(j):
            self._finish_alone(j)

    def _propose(self) -> None:
        """Multiply the last column, and make a candidate of the product by a first pass."""
        j, d = self.size, self.n_locked
        self._apply(self.basis[:, j], self.basis[:, j + 1])
        V, w = self._columns[:, : d + j + 1], self.basis[:, j + 1]
        with np.errstate(over="ignore", invalid="ignore"):
            sums = self._reduce(self._columns[:, : d + j + 2].T @ w)
        first, squared = sums[:-1], float(sums[-1])
        self._require_norm(squared, w)
        subtract(V, first, w)
        self._coefficients[: j + 1] = first[d:]
        self._length = self._scale(w, squared, squared - float(first @ first))
        self.ahead = True

    def _finish_and_propose(self, j: int) -> bool:
        """Finish the candidate in column `j`, and make the next one, with one reduction.

        Returns False, and leaves the candidate unchanged, if it needs more passes.
        """
        d = self.n_locked
        V, u, w = self._columns[:, : d + j], self.basis[:, j], self.basis[:, j + 1]
        self._apply(u, w)
        with np.errstate(over="ignore", invalid="ignore"):
            sums = self._columns[:, : d + j + 2].T @ self._columns[:, d + j : d + j + 2]
        self._reduce(sums)
        s, t = sums[: d + j].T
        (uu, uw), ww = sums[d + j], float(sums[d + j + 1, 1])
        self._require_norm(ww, w)
        left = float(uu - s @ s)
        if left <= KEPT * uu:
            return False
        beta = math.sqrt(left)
        coefficients = self._coefficients[:j] + self._length * s[d:]
        norm = max(self.norm, float(np.linalg.norm(coefficients)))
        if self._length * beta <= ROUNDING * norm:
            return False
        if np.linalg.norm(s[:d]) > ROUNDING * beta:
            # the products of locked columns are unknown
            return False
        subtract(V, s, u)
        u /= beta
        self._set_column(coefficients, self._length * beta)
        g = np.append(t, (uw - s @ t) / beta)
        subtract(self._columns[:, : d + j + 1], g, w)
        self._coefficients[: j + 1] = (g[d:] - self.hessenberg[: j + 1, :j] @ s[d:]) / beta
        self._length = self._scale(w, ww, ww - float(g @ g)) / beta
        return True

    def _scale(self, w: NDArray[np.float64], before: float, after: float) -> float:
        """Divide `w` by its length, known from its squares before and after a pass. Return it."""
        self._left = after / before if before > 0 else 0.0
        length = math.sqrt(max(after, ROUNDING**2 * before))
        if length > 0:
            w /= length
        return length

    def _finish_alone(self, j: int) -> None:
        """Finish the candidate in column `j` with as many passes as it needs."""
        self.ahead = False
        coefficients, norm = self._orthogonalize(j)
        self._add_column(self._coefficients[:j] + self._length * coefficients, norm, self._length)

    def restart(self, Q: NDArray[np.float64], hessenberg: NDArray[np.float64]) -> None:
        """Keep the columns times Q, and the product that is ahead."""
        if not self.ahead:
            super().restart(Q, hessenberg)
            return
        m, p = Q.shape
        first = self._coefficients[:m]
        kept = Q.T @ first
        # the part of the product in the columns that are dropped becomes part of the candidate
        outside = first - Q @ kept
        candidate = self._length * self.basis[:, m + 1] + self.basis[:, :m] @ outside
        self._coefficients[: p + 1] = *kept, self._coefficients[m]
        self._length = math.hypot(self._length, float(np.linalg.norm(outside)))
        super().restart(Q, hessenberg)
        self.basis[:, p + 1] = candidate / self._length if self._length > 0 else 0.0

    def reorthonormalize(self) -> None:
        """Restore the orthonormality of the columns. Collective: one reduction."""
        super().reorthonormalize()
        # its column has changed
        self.ahead = False
