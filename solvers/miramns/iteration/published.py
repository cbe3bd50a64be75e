"""The published iteration: all nested sizes, and implicit QR steps from the best of them.

The factorisation is extended to m_l. Then every nested size m_i is tested, with the measure

    ||(est_1 .. est_k)||_2 / ||A||_F

of the residual estimates of its k wanted Ritz pairs. The size of least measure is chosen. If its
measure is below tol, the iteration ends; else it restarts from this size: implicit QR steps with
the unwanted Ritz values as exact shifts leave k columns, and the factorisation is extended again.

References: Shahzadeh Fazeli, Emad, Liu, "A key to choose subspace size in implicitly restarted
Arnoldi method", Numerical Algorithms (2015). Sizes and measure as in the code released with Petit,
Li, Emad, Dongarra, ScalAH (2025). Sorensen, SIAM J. Matrix Anal. Appl. 13 (1992). Golub and Van
Loan, Matrix Computations, sections 7.5 and 10.5.

Deviations from the released code, each of which corrects a defect:

* two-pass orthogonalisation instead of one;
* real arithmetic for real operators, with the real part of a complex shift where it is meant;
* the pairs returned belong to the chosen size, not to the last one tested;
* sizes that leave no shift are left out, and a conjugate pair is not separated;
* the new residual vector is orthogonalised again after a restart;
* if the chosen size passes, and the largest one proves that it misses a wanted eigenvalue
  (Hermitian operators), the largest is chosen instead;
* if the space of the start vector is invariant (equal entries are an eigenvector of every graph
  Laplacian), the factorisation continues with a random vector orthogonal to it, sizes that do not
  reach far enough beyond it are left out, and restarts are thick from then on, with the same number
  of columns: QR steps do not pass a coupling of zero, and the released code returns to the same
  space at every restart;
* if the operator does not provide its Frobenius norm, the norm of the largest projected matrix is
  used, which is never larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miramns.factorization.arnoldi import ArnoldiFactorization
from miramns.iteration.default import (
    COLUMNS_AFTER_BREAKDOWN,
    new_factorization,
    nothing_better_outside,
    project,
    reason_at_end,
    restart_thick,
    solver_name,
)
from miramns.iteration.saved_iteration import Progress, SavedIteration
from miramns.iteration.stagnation import Stagnation
from miramns.norms import ROUNDING
from miramns.problem import Problem
from miramns.projected import RitzPairs, on_root
from miramns.residuals import check_estimates, eigenpairs
from miramns.result import (
    ConvergedReason,
    ConvergenceHistory,
    EigenResult,
    Monitor,
    eigen_result,
)

#: Smallest factor of the tolerance that the measure may be required to meet.
_LEAST_TRUST = 1e-4


def published_iteration(
    problem: Problem, start: NDArray[np.float64], monitor: Monitor | None = None
) -> EigenResult:
    """Find the wanted pairs. Collective. Arguments as for the default iteration."""
    with new_factorization(problem, problem.capacity, start) as factorization:
        return _iterate(problem, factorization, ConvergenceHistory(monitor))


def _iterate(
    problem: Problem, factorization: ArnoldiFactorization, history: ConvergenceHistory
) -> EigenResult:
    # columns of the basis:  [ k kept by the last restart | ... m_1 ... m_i ... m_l | residual ]
    p, f = problem, factorization
    at = Progress(scale=p.scale)
    stagnation = Stagnation(f)
    saved = SavedIteration(p, f, history, stagnation=stagnation, progress=at)
    while True:
        saved.offer()
        f.extend(p.sizes[-1])
        at.scale = at.scale or float(np.linalg.norm(f.hessenberg))

        tested = _test_sizes(p, f, at.scale, history, at.n_restarts)
        best = _best(p, f, tested)
        history.choose(best.size)

        projection = f.projection(best.size)
        explored = f.is_explored(COLUMNS_AFTER_BREAKDOWN) or best.size == f.dimension
        wanted = best.ritz.values[: p.k]
        allowed = p.tolerances(wanted, f.operator_norm, at.scale)
        if best.measure < p.tol and (explored or nothing_better_outside(p, f, wanted)):
            pairs = eigenpairs(p, f, best.ritz, projection, at.scale)
            at.n_certificate_matvec += pairs.n_matvec
            if pairs.passed:
                reason = pairs.reason
                break
            at.trust *= 0.1
            if at.trust < _LEAST_TRUST or stagnation.contradicts(pairs.tolerances):
                reason = ConvergedReason.DIVERGED_STAGNATED
                break
        stagnated = stagnation.at_restart(best.measure, best.ritz.estimates[: p.k], allowed)
        if best.size == f.dimension or at.n_restarts == p.max_it or stagnated:
            pairs = eigenpairs(p, f, best.ritz, projection, at.scale)
            at.n_certificate_matvec += pairs.n_matvec
            reason = reason_at_end(p, pairs, at.n_restarts)
            break

        at.n_restarts += 1
        k = min(best.ritz.whole_pairs(p.k), best.size - 1)
        if f.n_breakdowns == 0:
            _restart_implicitly(f, best, k)
        else:
            # QR steps end at a coupling of zero, and would change nothing from there on
            f.size = best.size
            restart_thick(p, f, best.ritz, projection, k, at.n_restarts)
    return eigen_result(
        pairs, reason, f, history, solver=solver_name(p, history), n_restarts=at.n_restarts,
        n_certificate_matvec=at.n_certificate_matvec + stagnation.n_matvec,
        decisions=stagnation.decisions,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Tested:
    """A nested size with its measure and its Ritz pairs."""

    size: int
    measure: float
    ritz: RitzPairs


def _test_sizes(
    p: Problem,
    f: ArnoldiFactorization,
    scale: float,
    history: ConvergenceHistory,
    n_restarts: int,
) -> list[_Tested]:
    """Solve the projected problem of every nested size, the largest first. Collective."""
    tested = []
    for size in reversed(_informative_sizes(p, f)):
        ritz = project(p, f, f.projection(size))
        check = check_estimates(p, f, ritz, p.k, scale=scale)
        measure = published_measure(check.estimates, scale)
        history.add(check.record(p, f, size, n_restarts, measure))
        tested.append(_Tested(size, measure, ritz))
    return tested


def _informative_sizes(p: Problem, f: ArnoldiFactorization) -> tuple[int, ...]:
    """Return the nested sizes, after a breakdown without those that end too soon after it."""
    if f.n_breakdowns == 0:
        return p.sizes
    least = max(f.part_start + COLUMNS_AFTER_BREAKDOWN, f.n_kept + 1)
    return tuple(size for size in p.sizes if size >= least) or p.sizes[-1:]


def _best(p: Problem, f: ArnoldiFactorization, tested: list[_Tested]) -> _Tested:
    """Return the size of least measure; of equal measures, the smaller size."""
    best = min(tested, key=lambda one: (one.measure, one.size))
    if best.measure < p.tol and _misses(p, f, best.ritz, tested[0].ritz):
        best = tested[0]
    return best


def _misses(p: Problem, f: ArnoldiFactorization, ritz: RitzPairs, largest: RitzPairs) -> bool:
    """Return whether a smaller subspace misses a wanted eigenvalue that the largest one proves.

    Ritz values of Hermitian operators lie within the spectrum, and those of larger subspaces
    further out: a Ritz value that is wanted more, beyond the residual, is another eigenvalue.
    """
    if not p.hermitian or p.which not in ("LM", "LA", "LR", "SA", "SR"):
        return False
    found, proven = ritz.values[: p.k], largest.values[: p.k]
    if p.which == "LM":
        found, proven = np.abs(found), np.abs(proven)
    further = found - proven if p.which[0] == "S" else proven - found
    return bool((further > ritz.estimates[: p.k] + ROUNDING * f.operator_norm).any())


def published_measure(estimates: NDArray[np.float64], frobenius_norm: float) -> float:
    """Return the distance of the wanted Ritz pairs of one subspace from convergence."""
    if frobenius_norm == 0.0:
        return 0.0
    return float(np.linalg.norm(estimates)) / frobenius_norm


def _restart_implicitly(f: ArnoldiFactorization, best: _Tested, k: int) -> None:
    """Restart with k columns, by QR steps with the unwanted Ritz values as shifts. Collective."""
    m = best.size
    H, Q = on_root(f.comm, lambda: implicit_qr(f.hessenberg[:m, :m], best.ritz.values[k:]))
    beta = f.hessenberg[m, m - 1]
    residual = (f.basis[:, :m] @ Q[:, k]) * H[k, k - 1]
    residual += f.basis[:, m] * (beta * Q[m - 1, k - 1])
    f.rotate(Q[:, :k], H[:k, :k], residual)


def implicit_qr(
    H: NDArray[np.float64], shifts: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Apply QR steps with the given shifts to an upper Hessenberg matrix.

    Complex shifts come in pairs, and the arithmetic stays real.

    Parameters
    ----------
    H : ndarray of shape (m, m)
        Upper Hessenberg.
    shifts : ndarray of shape (s,)
        Real, or complex with the conjugates next to each other.

    Returns
    -------
    H : ndarray of shape (m, m)
        ``Q' H Q``, upper Hessenberg.
    Q : ndarray of shape (m, m)
        Orthogonal, with at most s subdiagonals.
    """
    H = np.array(H, order="F")
    Q = np.eye(H.shape[0], order="F")
    position = 0
    while position < len(shifts):
        shift = complex(shifts[position])
        if shift.imag == 0.0:
            _chase_bulge(H, Q, _first_column_single(H, shift.real))
            position += 1
        else:
            _chase_bulge(H, Q, _first_column_double(H, shift))
            position += 2
    return H, Q


def _first_column_single(H: NDArray[np.float64], shift: float) -> NDArray[np.float64]:
    """Return the first entries of ``(H - shift I) e_1``."""
    return np.array([H[0, 0] - shift, H[1, 0]])


def _first_column_double(H: NDArray[np.float64], shift: complex) -> NDArray[np.float64]:
    """Return the first entries of ``(H - shift I)(H - conj(shift) I) e_1``, which is real."""
    trace, determinant = 2 * shift.real, abs(shift) ** 2
    column = [
        H[0, 0] * (H[0, 0] - trace) + determinant + H[0, 1] * H[1, 0],
        H[1, 0] * (H[0, 0] + H[1, 1] - trace),
    ]
    if H.shape[0] > 2:
        column.append(H[1, 0] * H[2, 1])
    return np.array(column)


def _chase_bulge(
    H: NDArray[np.float64], Q: NDArray[np.float64], first: NDArray[np.float64]
) -> None:
    """Make one implicit QR step: reflect `first` onto e_1, and restore the Hessenberg form."""
    m, width = H.shape[0], len(first)
    x = first
    for i in range(m - 1):
        rows = slice(i, min(i + width, m))
        if i > 0:
            x = H[rows, i - 1].copy()
        v, tau = _reflector(x)
        if tau:
            left = slice(max(i - 1, 0), m)
            H[rows, left] -= np.outer(tau * v, v @ H[rows, left])
            upper = slice(0, min(i + width + 1, m))
            H[upper, rows] -= np.outer(H[upper, rows] @ v, tau * v)
            Q[:, rows] -= np.outer(Q[:, rows] @ v, tau * v)
        if i > 0:
            H[i + 1 : min(i + width, m), i - 1] = 0.0


def _reflector(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the Householder vector and factor with ``(I - tau v v') x = -sign(x_1) |x| e_1``."""
    scale = np.abs(x).max()
    if scale == 0.0 or not np.any(x[1:]):
        return x, 0.0
    v = x / scale
    v[0] += np.copysign(np.sqrt(v @ v), v[0])
    return v, 2.0 / (v @ v)
