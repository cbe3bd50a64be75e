"""MIRAMns: multiple implicitly restarted Arnoldi method with nested subspaces.

Problem: k dominant eigenpairs of a real operator A of size n, known by its products.

Method. One Arnoldi factorisation carries all nested subspaces m_1 < ... < m_l.

* ``variant="default"``: each size is a checkpoint. The projected problem is solved there, and the
  run ends as soon as the k wanted pairs pass, within the sweep. Only at m_l it restarts, thick: it
  keeps the wanted directions and half of the others. m_l is generous, so most runs never restart.
* ``variant="published"``: the factorisation is grown to m_l, every size is examined, and the one
  with the smallest measure is restarted from by implicit QR, its unwanted Ritz values as exact
  shifts, keeping k columns.

Both end with true residuals, computed from the returned vectors.

References: Shahzadeh Fazeli, Emad, Liu, "A key to choose subspace size in implicitly restarted
Arnoldi method", Numerical Algorithms (2015); Petit, Li, Emad, Dongarra, ScalAH (2025) for the
published code.

Deviations of ``published`` from the released code, each of which mends a defect there: two-pass
orthogonalisation instead of one; real arithmetic for real operators, with the real part of a
complex shift where it is meant; the pairs returned belong to the size that was chosen, not to the
last one examined; sizes that leave no shift are skipped; a conjugate pair is kept whole; the new
residual vector is orthogonalised again after a restart. Where the operator cannot tell its
Frobenius norm, that of the largest projected matrix stands in (it is never larger).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns import nested
from miramns.arnoldi import ArnoldiFactorization
from miramns.certificate import error_bounds, fix_signs, orthogonality, true_residuals
from miramns.convergence import MiramnsError, Reason, residual_bounds
from miramns.projected import RitzPairs, Which, on_root, ritz_pairs
from miramns.restart import implicit_qr, kept_size, thick_restart
from miramns.result import Check, EigenResult
from miramns.start import seeded_normal

__all__ = ["Variant", "solve"]

Variant = Literal["default", "published"]

#: Columns that must follow a new random direction before the wanted pairs are believed: right after
#: a breakdown every estimate is zero, whether or not a larger eigenvalue lies outside.
_COLUMNS_AFTER_BREAKDOWN = 20

#: How far estimates may have to fall below the tolerance before the true residuals pass.
_LEAST_TRUST = 1e-4


def solve(
    A: PETSc.Mat,
    k: int,
    *,
    which: Which = "LM",
    hermitian: bool | None = None,
    tol: float = 1e-8,
    max_it: int = 500,
    ncv: int | None = None,
    nested_sizes: Sequence[int] | None = None,
    variant: Variant = "default",
    seed: int = 0,
    start: NDArray[np.float64] | None = None,
    memory_bytes: int | None = None,
    on_check: Callable[[Check], None] | None = None,
) -> EigenResult:
    """Find k dominant eigenpairs of a real operator.

    Collective on ``A.comm``.

    Parameters
    ----------
    A : PETSc.Mat
        Square, assembled or shell, real. Only ``A.mult`` is used (and, for the published variant,
        ``A.norm`` where it exists).
    k : int
        Number of eigenpairs, 1 <= k <= n.
    which : {"LM", "LR", "SR", "LA", "SA"}
        Largest modulus, largest or smallest real part; LA and SA are LR and SR of Hermitian
        operators.
    hermitian : bool, optional
        Default: what `A` says of itself (``isHermitianKnown``), False where it says nothing.
    tol : float
        Largest residual norm relative to the modulus of the eigenvalue (relative to ||A||_F for the
        published variant). Rounding level is accepted where that is smaller still.
    max_it : int
        Largest number of restarts.
    ncv : int, optional
        Largest subspace m_l. Default: chosen from k, n and `memory_bytes`; 200 for the published
        variant.
    nested_sizes : sequence of int, optional
        Increasing subspace sizes instead of those of the variant.
    seed : int
        Start vector of the default variant: normal numbers that depend on (seed, index) alone.
        The published variant starts from equal entries.
    start : ndarray of shape (n_local,), optional
        This rank's part of another start vector.
    memory_bytes : int, optional
        Memory that the basis may take on one rank.
    on_check : callable, optional
        Called on every rank with each :class:`~miramns.result.Check`.

    Returns
    -------
    EigenResult
        Also when pairs are missing: look at ``converged`` or ``reason``.

    Raises
    ------
    MiramnsError
        When the arguments do not fit together.
    OperatorError
        When a product is not finite.
    """
    began = time.perf_counter()
    problem = _problem(
        A, k, which, hermitian, tol, max_it, ncv, nested_sizes, variant, memory_bytes
    )
    arnoldi = ArnoldiFactorization(
        A, problem.sizes[-1], _start_vector(A, variant, seed, start), seed
    )
    try:
        run = _Run(problem, arnoldi, on_check)
        advance = run.published_cycle if variant == "published" else run.default_cycle
        while run.reason is None:
            advance()
        return run.result(time.perf_counter() - began)
    finally:
        arnoldi.destroy()


@dataclass(frozen=True, slots=True)
class _Problem:
    """The validated arguments."""

    k: int
    n: int
    which: Which
    hermitian: bool
    tol: float
    max_it: int
    sizes: tuple[int, ...]
    variant: Variant
    scale: float


class _Run:
    """State of one run: the factorisation, the history, and the answer once there is one."""

    def __init__(
        self,
        problem: _Problem,
        arnoldi: ArnoldiFactorization,
        on_check: Callable[[Check], None] | None,
    ) -> None:
        self.problem = problem
        self.arnoldi = arnoldi
        self.on_check = on_check
        self.reason: Reason | None = None
        self.n_restarts = 0
        self.n_certificate = 0
        self.history: list[Check] = []
        self.trust = 1.0
        self.scale = problem.scale

    def default_cycle(self) -> None:
        """Grow through the checkpoints; end at the first that has the answer, or restart."""
        p, arnoldi = self.problem, self.arnoldi
        ritz = None
        for size in p.sizes:
            if size <= arnoldi.size:
                continue
            arnoldi.expand(size)
            last = size == p.sizes[-1]
            settled = size - arnoldi.block_start >= _COLUMNS_AFTER_BREAKDOWN
            if not last and arnoldi.block_start and not settled:
                continue
            ritz = self._ritz(size)
            count = ritz.whole_pairs(p.k)
            passed = ritz.estimates[:count] <= self.trust * self._bounds(ritz.values[:count])
            ready = bool(passed.all())
            self._record(size, self._relative_measure(ritz, count), int(passed.sum()), ready)
            if ready and self._certified(ritz, size):
                return
        assert ritz is not None  # the last size is always examined
        if arnoldi.size == p.n or self.n_restarts == p.max_it:
            self._give_up(ritz, p.sizes[-1])
            return
        self._mark_chosen(p.sizes[-1])
        self._thick_restart(ritz)

    def published_cycle(self) -> None:
        """Grow to the largest size, examine all, end or restart from the best."""
        p, arnoldi = self.problem, self.arnoldi
        arnoldi.expand(p.sizes[-1])
        if self.scale == 0.0:
            self.scale = float(np.linalg.norm(arnoldi.hessenberg))
        best, best_measure, best_ritz = 0, np.inf, None
        for size in reversed(p.sizes):
            ritz = self._ritz(size)
            measure = nested.published_measure(ritz.estimates[: p.k], self.scale)
            passed = ritz.estimates[: p.k] <= self._bounds(ritz.values[: p.k])
            self._record(size, measure, int(passed.sum()), chosen=False)
            if measure <= best_measure:
                best, best_measure, best_ritz = size, measure, ritz
        assert best_ritz is not None  # there is at least one size, and a measure is finite
        self._mark_chosen(best)
        if best_measure < p.tol and self._certified(best_ritz, best):
            return
        if best == p.n or self.n_restarts == p.max_it:
            self._give_up(best_ritz, best)
            return
        self._implicit_restart(best_ritz, best)

    def _ritz(self, size: int) -> RitzPairs:
        arnoldi, p = self.arnoldi, self.problem
        H = arnoldi.hessenberg[:size, :size]
        beta = arnoldi.hessenberg[size, size - 1]
        return on_root(arnoldi.comm, lambda: ritz_pairs(H, beta, p.which, hermitian=p.hermitian))

    def _bounds(self, values: NDArray[Any]) -> NDArray[np.float64]:
        return residual_bounds(values, self.problem.tol, self.arnoldi.norm, scale=self.scale)

    def _relative_measure(self, ritz: RitzPairs, count: int) -> float:
        bounds = self._bounds(ritz.values[:count])
        positive = bounds > 0
        ratios = ritz.estimates[:count][positive] / bounds[positive]
        return float(np.max(ratios, initial=0.0)) * self.problem.tol

    def _record(self, size: int, measure: float, n_converged: int, chosen: bool) -> None:
        check = Check(self.n_restarts, size, self.arnoldi.n_matvec, measure, n_converged, chosen)
        self.history.append(check)
        if self.on_check:
            self.on_check(check)

    def _mark_chosen(self, size: int) -> None:
        """Mark the look at `size` in this cycle as the one that decided."""
        for position in range(len(self.history) - 1, -1, -1):
            check = self.history[position]
            if check.size == size:
                self.history[position] = Check(
                    check.restart,
                    check.size,
                    check.n_matvec,
                    check.measure,
                    check.n_converged,
                    True,
                )
                return

    def _thick_restart(self, ritz: RitzPairs) -> None:
        p, arnoldi = self.problem, self.arnoldi
        m = arnoldi.size
        H = arnoldi.hessenberg[:m, :m]
        keep = kept_size(p.k, m)
        Q, hessenberg = on_root(
            arnoldi.comm,
            lambda: thick_restart(H, arnoldi.beta, ritz, keep, p.which, hermitian=p.hermitian),
        )
        arnoldi.compress(Q, hessenberg)
        self.n_restarts += 1

    def _implicit_restart(self, ritz: RitzPairs, m: int) -> None:
        p, arnoldi = self.problem, self.arnoldi
        k = min(ritz.whole_pairs(p.k), m - 1)
        H, Q = on_root(
            arnoldi.comm,
            lambda: implicit_qr(arnoldi.hessenberg[:m, :m], ritz.values[k:]),
        )
        beta = arnoldi.hessenberg[m, m - 1]
        residual = (arnoldi.basis[:, :m] @ Q[:, k]) * H[k, k - 1]
        residual += arnoldi.basis[:, m] * (beta * Q[m - 1, k - 1])
        arnoldi.rotate(Q[:, :k], H[:k, :k], residual)
        self.n_restarts += 1

    def _certified(self, ritz: RitzPairs, size: int) -> bool:
        """Compute the eigenvectors and their true residuals; whether they all pass."""
        self._form_answer(ritz, size)
        if (self.residuals <= self._bounds(self.values)).all():
            self.reason = Reason.CONVERGED_TOL
            return True
        self.trust *= 0.1
        if self.trust < _LEAST_TRUST:
            self.reason = Reason.DIVERGED_STAGNATED
            return True
        return False

    def _give_up(self, ritz: RitzPairs, size: int) -> None:
        """Hand over what there is: the whole space is spanned, or the restarts are used up."""
        self._form_answer(ritz, size)
        passed = (self.residuals <= self._bounds(self.values)).all()
        if passed:
            self.reason = Reason.CONVERGED_TOL
        elif self.n_restarts == self.problem.max_it:
            self.reason = Reason.DIVERGED_ITS
        else:
            self.reason = Reason.DIVERGED_STAGNATED

    def _form_answer(self, ritz: RitzPairs, size: int) -> None:
        arnoldi = self.arnoldi
        count = ritz.whole_pairs(self.problem.k)
        self.values = ritz.values[:count]
        self.others, self.uncertainties = ritz.values, ritz.estimates
        self.basis_size = size
        self.vectors = np.asfortranarray(arnoldi.basis[:, :size] @ ritz.vectors[:, :count])
        self.residuals, made = true_residuals(arnoldi.operator, self.values, self.vectors)
        self.n_certificate += made

    def result(self, seconds: float) -> EigenResult:
        """The answer with its certificate."""
        p, arnoldi = self.problem, self.arnoldi
        assert self.reason is not None  # called after the loop has ended
        fix_signs(arnoldi.comm, arnoldi.rows[0], self.vectors)
        basis = self.vectors if p.hermitian else arnoldi.basis[:, : self.basis_size]
        bounds = self._bounds(self.values)
        return EigenResult(
            eigenvalues=self.values,
            eigenvectors=self.vectors,
            ownership_range=arnoldi.rows,
            residual_norms=self.residuals,
            bounds=bounds,
            error_bounds=error_bounds(self.values, self.residuals, self.others, self.uncertainties),
            orthogonality=orthogonality(arnoldi.comm, basis),
            n_converged=int(np.sum(self.residuals <= bounds)),
            reason=self.reason,
            n_matvec=arnoldi.n_matvec,
            n_certificate_matvec=self.n_certificate,
            n_reductions=arnoldi.n_reductions,
            n_restarts=self.n_restarts,
            history=tuple(self.history),
            seconds=float(arnoldi.comm.allreduce(seconds, op=MPI.MAX)),
            solver=f"MIRAMns {p.variant} ({_sizes_text(p.sizes)})",
            comm=arnoldi.comm,
        )


def _sizes_text(sizes: tuple[int, ...]) -> str:
    if len(sizes) == 1:
        return f"size {sizes[0]}"
    return f"{len(sizes)} nested sizes {sizes[0]}..{sizes[-1]}"


def _problem(
    A: PETSc.Mat,
    k: int,
    which: Which,
    hermitian: bool | None,
    tol: float,
    max_it: int,
    ncv: int | None,
    nested_sizes: Sequence[int] | None,
    variant: Variant,
    memory_bytes: int | None,
) -> _Problem:
    n, columns = A.getSize()
    if np.dtype(PETSc.ScalarType).kind == "c":
        raise MiramnsError("this PETSc build has complex scalars; MIRAMns needs a real one")
    if n != columns:
        raise MiramnsError(f"the operator must be square, got {n} x {columns}")
    if not 1 <= k <= n:
        raise MiramnsError(f"need 1 <= k <= n, got k={k}, n={n}")
    if hermitian is None:
        known, value = A.isHermitianKnown()
        hermitian = bool(known and value)
    if which not in ("LM", "LR", "SR", *(("LA", "SA") if hermitian else ())):
        raise MiramnsError(
            f"which={which!r} is not one of LM, LR, SR, or LA, SA for Hermitian operators"
        )
    if variant not in ("default", "published"):
        raise MiramnsError(f"variant={variant!r} is not one of default, published")
    if not (0 < tol < 1 and max_it >= 0):
        raise MiramnsError(f"need 0 < tol < 1 and max_it >= 0, got tol={tol}, max_it={max_it}")
    sizes = _sizes(A, k, n, ncv, nested_sizes, variant, memory_bytes)
    scale = _frobenius_norm(A) if variant == "published" else 0.0
    return _Problem(k, n, which, hermitian, tol, max_it, sizes, variant, scale)


def _sizes(
    A: PETSc.Mat,
    k: int,
    n: int,
    ncv: int | None,
    nested_sizes: Sequence[int] | None,
    variant: Variant,
    memory_bytes: int | None,
) -> tuple[int, ...]:
    if nested_sizes:
        sizes = tuple(min(int(size), n) for size in nested_sizes)
        sizes = tuple(sorted(set(sizes)))
    elif variant == "published":
        sizes = nested.published_sizes(k, n, ncv or 0)
    else:
        largest = ncv or nested.largest_size(k, n, _basis_columns(A, n, memory_bytes))
        sizes = nested.checkpoints(k, min(largest, n))
    least = min(k + 2, n)
    if sizes[-1] < least:
        raise MiramnsError(
            f"need a largest subspace of at least min(k + 2, n) = {least}, got {sizes[-1]}"
        )
    return tuple(size for size in sizes if size >= min(k + 1, n))


def _basis_columns(A: PETSc.Mat, n: int, memory_bytes: int | None) -> int:
    if memory_bytes is None:
        return n + 1
    longest = A.getComm().tompi4py().allreduce(A.getLocalSize()[0], op=MPI.MAX)
    return int(memory_bytes // (8 * max(longest, 1)))


def _frobenius_norm(A: PETSc.Mat) -> float:
    """||A||_F where the operator can tell it, else 0."""
    if A.getType() in ("python", "shell"):
        return 0.0
    return float(A.norm(PETSc.NormType.FROBENIUS))


def _start_vector(
    A: PETSc.Mat, variant: Variant, seed: int, start: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    first, last = A.getOwnershipRange()
    if start is not None:
        comm = A.getComm().tompi4py()
        fits = np.shape(start) == (last - first,) and bool(np.isfinite(start).all())
        if not comm.allreduce(fits, op=MPI.LAND):
            raise MiramnsError(
                "start must hold this rank's finite entries: shape (n_local,) on every rank"
            )
        return np.asarray(start, dtype=np.float64)
    if variant == "published":
        return np.ones(last - first)
    return seeded_normal(seed, first, last)
