"""Lanczos factorisation with partial reorthogonalisation, for Hermitian operators and long vectors.

Full orthogonalisation reads the whole basis several times per column, which costs more than a
sparse product. For a Hermitian operator three terms are enough in exact arithmetic. In floating
point the basis loses its orthogonality, but only along converged Ritz vectors, and predictably:

1. The three-term recurrence makes a column, with one reduction.
2. A recurrence of their own (the omega recurrence) predicts the inner products of the newest
   columns with all others. When they exceed a level, the last two columns are orthogonalised
   together, against the columns concerned alone: after a thick restart mostly a few kept, converged
   ones. Measured inner products replace the predictions.
3. Every subtraction is entered into the projected matrix, so that ``A V = V H`` always holds to
   rounding, with tiny entries of H above the diagonal.
4. Before a restart and before the answer, the projection is expressed on an orthonormal basis: with
   G = V'V = R'R, the columns of N = V R^-1 are orthonormal and ``A N = N (R H R^-1)`` exactly,
   whatever orthogonality is left. Only coordinates change; N is never formed. G also measures the
   orthogonality: if it is lost, the factorisation is truncated to the columns that are orthogonal
   to 1e-3, and the reorthogonalisation becomes stricter.

References: Simon, "The Lanczos algorithm with partial reorthogonalization", Math. Comp. 42 (1984).
Wu and Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems", SIAM J.
Matrix Anal. Appl. 22 (2000).

Deviations: Simon does not enter the subtractions into the projected matrix (3). Step 4 replaces the
theorem that the projected matrix of a semi-orthogonal basis is correct to rounding, which does not
hold after a restart.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.factorization.arnoldi import ArnoldiFactorization
from miramns.factorization.orthogonalize import change_of_basis, panels, recombine
from miramns.norms import EPSILON, ROUNDING
from miramns.projected import OrthonormalProjection

#: Inner products beyond this level are removed. Step 4 needs a level well below 1; a higher one
#: gains little, because the growth is exponential.
_LEVEL = 1e-8

#: A reorthogonalisation includes every column whose inner product is beyond this.
_CONCERNED = 1e-13

#: Largest entry of ``|V'V - I|`` up to which columns count as orthogonal.
_SOUND = 1e-3

#: Upper limit of the rounding assumed in one step; beyond it every column is reorthogonalised
#: anyway.
_MOST_NOISE = 1e-10

#: The norm follows from the squares of the coefficients unless less than this fraction is left.
_PYTHAGORAS = 1e-4

#: Entries of the basis that are processed at a time, so that they fit into the cache.
_PANEL_ENTRIES = 2**17


class LanczosFactorization(ArnoldiFactorization):
    """Factorisation of a Hermitian operator with partial reorthogonalisation.

    Attributes
    ----------
    n_reorthogonalized : int
        Number of reorthogonalised pairs of columns.
    orthogonality_level : float
        Largest entry of ``|V'V - I|`` measured so far.
    n_orthogonality_losses : int
        Number of times that the factorisation was truncated to its orthogonal columns.
    seconds : dict of str to float
        Time of this rank: product, local, reorthogonalization, projection, restart.
    """

    def __init__(
        self,
        A: PETSc.Mat,
        capacity: int,
        start: NDArray[np.float64],
        seed: int = 0,
        *,
        locked: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(A, capacity, start, seed, hermitian=True, locked=locked)
        self.n_reorthogonalized = 0
        kinds = ("product", "local", "reorthogonalization", "projection", "restart")
        self.seconds = dict.fromkeys(kinds, 0.0)
        self._strictness = 1.0
        self._multiplied = 0
        # seconds of reorthogonalisation and columns that it could read, before and after a restart
        self._passed = np.zeros((1, 2))
        self._orthonormal: OrthonormalProjection | None = None
        # rounding of an inner product in one step, relative to ||A||
        self._noise = 10 * EPSILON
        # predicted inner products of the last two columns with all preceding ones
        self._before = np.zeros(capacity + 1)
        self._now = np.zeros(capacity + 1)
        self._square_of_last = 1.0

    def _append(self) -> None:
        self._orthonormal = None
        j = self.size
        began = time.perf_counter()
        self._apply(self.basis[:, j], self.basis[:, j + 1])
        applied = time.perf_counter()
        self.seconds["product"] += applied - began
        follows = j > self.n_kept and self.hessenberg[j, j - 1] > 0.0
        if follows and self._three_terms(j):
            self._predict(j)
        else:
            self._finish_column()
            self._predict_fresh(j)
        done = time.perf_counter()
        self.seconds["local"] += done - applied
        if np.max(np.abs(self._now[:j]), initial=0.0) > self._strictness * _LEVEL:
            self._reorthogonalize_pair(j)
            self.seconds["reorthogonalization"] += time.perf_counter() - done
        self._passed[-1] += time.perf_counter() - done, j

    def _three_terms(self, j: int) -> bool:
        """Orthogonalise column j + 1 against the two before. Return False if little is left."""
        w = self.basis[:, j + 1]
        last, this = self.basis[:, j - 1], self.basis[:, j]
        parts = panels(len(w), _PANEL_ENTRIES // 4)
        sums = np.zeros(4)
        for part in parts:
            x, y = w[part], this[part]
            with np.errstate(over="ignore", invalid="ignore"):
                sums += last[part] @ x, y @ x, x @ x, y @ y
        products, squared, norm = self._reduce(sums)[:2], sums[2], sums[3]
        self._require_norm(squared, w)
        # measured norms instead of 1, whose errors would grow from column to column
        coefficients = products / [self._square_of_last, norm]
        self._square_of_last = norm
        left = squared - float(coefficients @ products)
        self.norm = max(self.norm, float(np.sqrt(squared)))
        if left <= max(_PYTHAGORAS * squared, (ROUNDING * self.norm) ** 2):
            return False
        beta = float(np.sqrt(left))
        for part in parts:
            x = w[part]
            x -= self.basis[part, j - 1 : j + 1] @ coefficients
            x /= beta
        if self.n_locked:
            # last: the columns subtracted above contain traces of the locked ones, which would grow
            locked = self._columns[:, : self.n_locked]
            w -= locked @ self._reduce(locked.T @ w)
        column = self.hessenberg[:, j]
        column[: j + 2] = 0.0
        column[j - 1 : j + 1] = coefficients
        column[j + 1] = beta
        self.size = j + 1
        return True

    def _predict(self, j: int) -> None:
        """Advance the predicted inner products to column j + 1."""
        H, now, before, q = self.hessenberg, self._now, self._before, self.n_kept
        diagonal, below = H.diagonal()[: j + 1], H.diagonal(-1)[: j + 1]
        alpha, beta, gamma = diagonal[j], below[j], below[j - 1]
        now[j] = before[j - 1] = 1.0
        new = (diagonal[:j] - alpha) * now[:j] - gamma * before[:j]
        new[q:] += below[q:j] * now[q + 1 : j + 1]
        new[q + 1 :] += below[q : j - 1] * now[q : j - 1]
        if q:
            arrow = H[q, :q]
            new[:q] += arrow * now[q]
            new[q] += arrow @ now[:q]
        rounding = self._noise * self.norm
        before[:j] = now[:j]
        now[:j] = (new + np.copysign(rounding, new)) / beta
        now[j] = rounding / beta

    def _predict_fresh(self, j: int) -> None:
        """Reset the predictions: columns j and j + 1 are orthogonal to all preceding ones."""
        self._before[: j + 1] = self._noise
        self._now[: j + 1] = self._noise
        self._square_of_last = 1.0

    def _reorthogonalize_pair(self, j: int, *, everything: bool = False) -> None:
        """Orthogonalise columns j and j + 1 against the columns whose inner products have grown."""
        level = -1.0 if everything else self._strictness * _CONCERNED
        grown = np.maximum(np.abs(self._now[:j]), np.abs(self._before[:j]))
        spans = _spans(grown > level, self.n_kept)
        blocks = [self.basis[:, span] for span in spans]
        pair = self.basis[:, j : j + 2]
        count = sum(block.shape[1] for block in blocks)
        parts = panels(len(pair), _PANEL_ENTRIES // max(count, 1))
        sums = np.zeros((2, count))
        for part in parts:
            for column in range(2):
                w = pair[part, column]
                sums[column] += np.concatenate([w @ block[part] for block in blocks])
        sums = self._reduce(sums)
        products = np.split(sums, np.cumsum([block.shape[1] for block in blocks])[:-1], axis=1)
        for part in parts:
            for column in range(2):
                for block, inner in zip(blocks, products, strict=True):
                    pair[part, column] -= block[part] @ inner[column]
        self.n_reorthogonalized += 1
        subtracted = np.zeros((2, j))
        for span, inner in zip(spans, products, strict=True):
            subtracted[:, span] = inner
        # V' = V M, H' = M^-1 H M
        H = self.hessenberg
        H[: j + 2, j] -= H[: j + 2, :j] @ subtracted[0]
        H[:j, : j + 1] += subtracted.T @ H[j : j + 2, : j + 1]
        self._learn_noise(spans, subtracted[1])

    def _learn_noise(self, spans: list[slice], measured: NDArray[np.float64]) -> None:
        """Adjust the assumed rounding so that predictions are ten times the measurements."""
        found = float(np.max(np.abs(measured), initial=0.0))
        expected = max((float(np.max(np.abs(self._now[span]))) for span in spans), default=0.0)
        if expected > 0:
            correction = min(max(10 * found / expected, 0.3), 1e4)
            self._noise = min(max(self._noise * correction, 2 * EPSILON), _MOST_NOISE)
        for span in spans:
            self._before[span] = self._now[span] = self._noise

    def orthonormal_projection(self) -> OrthonormalProjection:
        """Measure the orthogonality of the columns, and return the projection without its loss.

        Collective: one reduction of a matrix of the size of the projected one. Afterwards ``size``
        is smaller if the last columns are not orthogonal to 1e-3.
        """
        if self._orthonormal is not None:
            return self._orthonormal
        began = time.perf_counter()
        while True:
            m = self.size
            gram = self._gram(m + 1)
            loss = np.triu(np.abs(gram - np.eye(m + 1))).max(axis=0)
            self.orthogonality_level = max(self.orthogonality_level, float(loss.max()))
            lost = np.flatnonzero(loss > _SOUND)
            if not lost.size:
                break
            self._truncate_strictly(max(int(lost[0]) - 1, self.n_kept + 1))
        hessenberg, inverse = change_of_basis(self.comm, gram, self.hessenberg[: m + 1, :m])
        self._orthonormal = OrthonormalProjection(
            hessenberg[:m], float(hessenberg[m, m - 1]), inverse
        )
        self.seconds["projection"] += time.perf_counter() - began
        return self._orthonormal

    def _gram(self, m: int) -> NDArray[np.float64]:
        """Return V'V of the first `m` columns; those kept by a restart are orthonormal."""
        q = self.n_kept
        V = self.basis[:, :m]
        sums = np.zeros((m, m - q))
        for part in panels(len(V), _PANEL_ENTRIES // m):
            kept, new = V[part, :q], V[part, q:]
            sums[:q] += kept.T @ new
            sums[q:] += new.T @ new
        self._multiplied += len(V) * (m * m - q * q) // 2
        sums = self._reduce(sums)
        gram = np.eye(m)
        gram[:, q:] = sums
        gram[q:, :q] = sums[:q].T
        return gram

    def seconds_per_multiply(self) -> float:
        """Return the measured time of one multiply-add in a matrix product with the basis."""
        if not self._multiplied:
            began = time.perf_counter()
            panel = self.basis[: max(_PANEL_ENTRIES // max(self.size, 1), 256), : self.size]
            for _repeat in range(2):
                panel.T @ panel
            spent = time.perf_counter() - began
            return spent / max(panel.size * self.size, 1)
        return (self.seconds["projection"] + self.seconds["restart"]) / self._multiplied

    def reorthogonalization_seconds(self) -> tuple[float, float]:
        """Return the seconds of reorthogonalisation per column and column of the basis.

        Before the first restart, and after it; without a restart, a third of the former.
        """
        seconds, columns = self._passed.T
        units = seconds / np.maximum(columns, 1.0)
        return float(units[0]), float(units[1] if len(units) > 1 else units[0] / 3)

    def _truncate_strictly(self, size: int) -> None:
        """Keep the first `size` orthogonal columns, and reorthogonalise more strictly."""
        self.n_orthogonality_losses += 1
        self._strictness *= 1e-2
        self._noise = min(100 * self._noise, _MOST_NOISE)
        self.size = size
        self.closed_part = None
        self.part_start = 0 if self.part_start > size else self.part_start
        self.hessenberg[:, size:] = 0.0
        self.hessenberg[size + 1 :, :] = 0.0
        self._predict_fresh(size - 1)
        self._reorthogonalize_pair(size - 1, everything=True)

    def restart(self, Q: NDArray[np.float64], hessenberg: NDArray[np.float64]) -> None:
        """Keep the orthonormal columns times Q. Collective."""
        projection = self.orthonormal_projection()
        began = time.perf_counter()
        m, p = Q.shape
        kept = np.zeros((m + 1, p + 1))
        kept[:m, :p] = Q
        kept[m, p] = 1.0
        assert projection.inverse is not None
        recombine(self.basis, projection.inverse @ kept)
        self._multiplied += self.basis.shape[0] * (m + 1) * (p + 1)
        if len(self._passed) == 1:
            self._passed = np.vstack([self._passed, np.zeros((1, 2))])
        self._set_kept(hessenberg)
        self._orthonormal = None
        self._predict_fresh(p)
        self.seconds["restart"] += time.perf_counter() - began

    def reorthonormalize(self) -> None:
        """Do nothing: every restart keeps orthonormal columns."""


def _spans(grown: NDArray[np.bool_], kept: int) -> list[slice]:
    """Return ranges of columns that include all that have grown: of kept, and of later columns."""
    spans = []
    for first, last in ((0, kept), (kept, len(grown))):
        where = np.flatnonzero(grown[first:last])
        if where.size:
            spans.append(slice(first + int(where[0]), first + int(where[-1]) + 1))
    return spans
