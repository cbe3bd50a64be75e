"""The small dense problem: Ritz pairs of the projected matrix, wanted ones first.

It is solved on rank 0 and broadcast. Solved on every rank, a multithreaded LAPACK may give answers
that differ in the last bits, and ranks would part ways at the next decision.

Deviation from a textbook Lanczos code: the Hermitian case takes the symmetric part of the whole
projected matrix, not a tridiagonal, so that restarts, breakdowns and rounding need no special form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import scipy.linalg
from mpi4py import MPI
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrsen

from miramns.convergence import ROUNDING

__all__ = [
    "Coupling",
    "Order",
    "RitzPairs",
    "Which",
    "change_of_basis",
    "coupled",
    "known_orders",
    "on_root",
    "refined_pairs",
    "ritz_pairs",
    "schur_basis",
    "ties_at",
    "wanted_order",
]

#: Largest or smallest modulus, real part or modulus of the imaginary part; LA and SA are LR and SR
#: of Hermitian operators; BE takes from both ends in turn, the high one first.
Which = Literal["LM", "SM", "LR", "SR", "LI", "SI", "LA", "SA", "BE"]

#: A name, or a function of the values that returns keys, the wanted ones having the smallest.
Order = Which | Callable[[NDArray[Any]], NDArray[np.float64]]

#: How the residual hangs on the columns: by the last one (its norm), or by a matrix with a row for
#: each of several residual directions.
Coupling = float | NDArray[np.float64]

#: Keys that differ by less than this, relative to themselves, tie.
_TIE = 1e-11

#: Eigenvectors of one eigenvalue whose least singular value is below this are taken as dependent.
_DEPENDENT = 1e-6

_TINY = float(np.finfo(np.float64).tiny)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RitzPairs:
    """Ritz pairs of one subspace, wanted ones first.

    Attributes
    ----------
    values : ndarray of shape (m,)
        float64 for Hermitian operators, complex128 otherwise.
    vectors : ndarray of shape (m, m)
        Coefficients of the Ritz vectors in the basis, unit columns.
    estimates : ndarray of shape (m,)
        Residual norms ``beta |e_m' y|`` of the Ritz pairs.
    """

    values: NDArray[Any]
    vectors: NDArray[Any]
    estimates: NDArray[np.float64]

    def whole_pairs(self, k: int) -> int:
        """`k`, or `k` + 1 where the first k values would cut a complex conjugate pair."""
        return k + int(cuts_pair(self.values, k))


def on_root(comm: MPI.Comm, compute: Callable[[], T]) -> T:
    """Compute on rank 0 and broadcast. Collective."""
    answer: T | Exception | None = None
    if comm.rank == 0:
        try:
            answer = compute()
        except (np.linalg.LinAlgError, ValueError) as error:
            answer = error
    answer = comm.bcast(answer, root=0)
    if isinstance(answer, Exception):
        raise answer
    return answer  # type: ignore[return-value]


def ritz_pairs(
    H: NDArray[np.float64], beta: Coupling, which: Order, *, hermitian: bool
) -> RitzPairs:
    """Solve the projected problem. Not collective.

    Parameters
    ----------
    H : ndarray of shape (m, m)
        Projected operator.
    beta : float or ndarray of shape (b, m)
        Norm of the residual vector of the factorisation, or the coupling to a block of them.
    """
    values: NDArray[Any]
    vectors: NDArray[Any]
    if hermitian:
        # numpy's: a program that multiplies with numpy keeps one set of BLAS threads busy
        values, vectors = np.linalg.eigh((H + H.T) / 2)
    else:
        values, vectors = scipy.linalg.eig(H)
        # LAPACK's vectors come back real when no value is complex.
        vectors = vectors.astype(np.complex128)
    order = wanted_order(values, which)
    values, vectors = values[order], vectors[:, order]
    return RitzPairs(values, vectors, np.linalg.norm(coupled(beta, vectors), axis=0))


def coupled(beta: Coupling, Y: NDArray[Any]) -> NDArray[Any]:
    """Coupling of combinations Y of the columns to the residual directions, a row for each."""
    return beta @ Y if isinstance(beta, np.ndarray) else beta * Y[-1:]


def change_of_basis(
    comm: MPI.Comm, gram: NDArray[np.float64], H: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Express a factorisation ``A V_m = V H`` on orthonormal columns ``N = V R^-1``.

    Collective. With ``V'V = R'R``, ``A N_m = N (R H R_m^-1)`` exactly, however far V was from
    orthonormal.

    Parameters
    ----------
    gram : ndarray of shape (m + b, m + b)
        V'V, also of the b residual directions. The same on all ranks.
    H : ndarray of shape (m + b, m)

    Returns
    -------
    hessenberg : ndarray of shape (m + b, m)
        ``R H R_m^-1``.
    inverse : ndarray of shape (m + b, m + b)
        ``R^-1``, upper triangular.

    Raises
    ------
    numpy.linalg.LinAlgError
        On all ranks, when the columns are dependent.
    """

    def compute() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        m = H.shape[1]
        R = scipy.linalg.cholesky(gram)
        hessenberg = scipy.linalg.solve_triangular(R[:m, :m], (R @ H).T, trans="T").T
        return hessenberg, scipy.linalg.solve_triangular(R, np.eye(len(gram)))

    return on_root(comm, compute)


def refined_pairs(
    H: NDArray[np.float64], values: NDArray[Any], vectors: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Better eigenpairs of a nonsymmetric matrix where given ones are poor. Not collective.

    LAPACK's driver balances first, which spoils the vectors of graded and strongly nonnormal
    matrices by many digits. Schur form and back substitution do not, but overflow on defective
    ones. They take longer, so this is for the pairs of the answer only; of each pair the better one
    is taken.

    Of a multiple eigenvalue LAPACK may return one vector several times, where parts of the matrix
    are coupled by rounding alone. Such vectors are replaced by a basis of the eigenspace, if it is
    as large as their number.

    Parameters
    ----------
    H : ndarray of shape (m, m)
    values : ndarray of shape (k,)
        Complex; of a conjugate pair the one with positive imaginary part comes first.
    vectors : ndarray of shape (m, k)
        Unit columns.

    Returns
    -------
    values, vectors
        As given; conjugate values have conjugate vectors.
    """
    values, vectors = values.copy(), vectors.copy()
    _separate_copies(H, values, vectors)
    T, Z = scipy.linalg.schur(H, output="complex")
    diagonal = T.diagonal().copy()
    rounding = 10 * len(H) * np.finfo(np.float64).eps * np.linalg.norm(T)
    for i, value in enumerate(values):
        j = int(np.argmin(np.abs(diagonal - value)))
        better, y = complex(T[j, j]), Z[:, : j + 1] @ _triangular_vector(T, j)
        diagonal[j] = np.inf
        if value.imag == 0:
            largest = y[np.argmax(np.abs(y))]
            better, y = better.real, (y * (np.conj(largest) / max(abs(largest), _TINY))).real
        poor = _residual(H, value, vectors[:, i])
        if value.imag >= 0 and poor > rounding and _residual(H, better, y) < 0.1 * poor:
            values[i], vectors[:, i] = better, y / np.linalg.norm(y)
            if value.imag > 0 and i + 1 < len(values):
                values[i + 1], vectors[:, i + 1] = np.conj(better), np.conj(vectors[:, i])
    return values, vectors


def _separate_copies(H: NDArray[np.float64], values: NDArray[Any], vectors: NDArray[Any]) -> None:
    """Replace dependent vectors of a multiple eigenvalue by a basis of its eigenspace, in place."""
    rounding = 10 * len(H) * np.finfo(np.float64).eps * np.linalg.norm(H)
    left = [i for i in range(len(values)) if values[i].imag >= 0]
    while left:
        value = values[left[0]]
        copies = [i for i in left if abs(values[i] - value) <= rounding]
        left = [i for i in left if i not in copies]
        if len(copies) == 1 or np.linalg.svd(vectors[:, copies])[1][-1] > _DEPENDENT:
            continue
        shifted = H - (value.real if value.imag == 0 else value) * np.eye(len(H))
        _, singular, right = np.linalg.svd(shifted)
        if singular[-len(copies)] > rounding:
            continue  # a defective eigenvalue has no other vector
        vectors[:, copies] = right[-len(copies) :].conj().T
        for i in copies:
            if value.imag > 0 and i + 1 < len(values):
                vectors[:, i + 1] = np.conj(vectors[:, i])


def _residual(H: NDArray[np.float64], value: complex, y: NDArray[Any]) -> float:
    """Relative residual of a pair; infinite where it is none."""
    norm = float(np.linalg.norm(y))
    if not 0 < norm < np.inf:
        return np.inf
    return float(np.linalg.norm(H @ y - value * y)) / norm


def _triangular_vector(T: NDArray[Any], j: int) -> NDArray[Any]:
    """Eigenvector of an upper triangular matrix for its entry j, of length j + 1."""
    shifted = T[:j, :j] - T[j, j] * np.eye(j)
    small = max(float(np.finfo(np.float64).eps * np.linalg.norm(T)), _TINY)
    entries = shifted.diagonal()
    np.fill_diagonal(shifted, np.where(np.abs(entries) < small, small, entries))
    x = np.ones(j + 1, dtype=np.complex128)
    if j:
        with np.errstate(all="ignore"):
            x[:j] = scipy.linalg.solve_triangular(shifted, -T[:j, j], check_finite=False)
            x /= np.linalg.norm(x)
    return x if np.isfinite(x).all() else np.zeros_like(x)


def wanted_order(
    values: NDArray[Any], which: Order, error: NDArray[np.float64] | None = None
) -> NDArray[np.intp]:
    """Indices that put the wanted values first.

    Two values tie when `which` compares numbers that differ by rounding alone: by at most 1e-11 of
    their size, 100 units of rounding of the largest modulus among the values, or `error`.
    Values that tie come in this order, the same on every machine, number of ranks and threads:

    1. by decreasing real part, so that a comes before -a for "LM";
    2. by increasing modulus of the imaginary part, so that real values come before complex ones;
    3. both of a conjugate pair together, the one with positive imaginary part first.

    Steps 1 and 2 compare with the same tolerance. Values that tie in all of this are copies of one
    eigenvalue. For "BE", the position in the spectrum is compared, and nothing ties.

    Parameters
    ----------
    values : ndarray of shape (m,)
        A conjugate pair stands together, as LAPACK returns it.
    which : str or callable
    error : ndarray of shape (m,), optional
        Error that each value may have, beyond rounding.
    """
    keys = _selection_keys(values, which)
    if which == "BE":
        return np.argsort(keys, kind="stable")
    rounding = ROUNDING * _largest(values)
    ranks = _tied_ranks(keys, ROUNDING * _largest(keys) if callable(which) else rounding, error)
    if ranks is None:
        return np.argsort(keys)
    by_real = _tied_ranks(-values.real, rounding, error)
    by_real = -values.real if by_real is None else by_real
    if not np.iscomplexobj(values):
        return np.lexsort((keys, by_real, ranks))
    by_imag = _tied_ranks(np.abs(values.imag), rounding, error)
    by_imag = np.abs(values.imag) if by_imag is None else by_imag
    # lexsort: the last key counts first. Copies of a conjugate pair are kept apart by their place.
    pair = np.cumsum(values.imag >= 0)
    return np.lexsort((-values.imag, pair, keys, by_imag, by_real, ranks))


def ties_at(values: NDArray[Any], which: Order, k: int, error: float = 0.0) -> bool:
    """Whether the first `k` values, wanted ones first, end within values that tie.

    Parameters
    ----------
    values : ndarray of shape (m,)
    error : float
        Difference of what `which` compares that counts as a tie, beyond rounding.
    """
    if not 0 < k < len(values):
        return False
    # the k values from both ends may be next to the others at either
    keys = values.real if which == "BE" else _selection_keys(values, which)
    inside = keys[:k] if which == "BE" else keys[k - 1 : k]
    rounding = ROUNDING * _largest(keys if callable(which) else values)
    with np.errstate(invalid="ignore"):
        distances = np.abs(inside - keys[k])
    allowed = np.maximum(max(error, rounding), _TIE * np.abs(inside))
    return bool(np.any((inside == keys[k]) | (distances <= allowed)))


def _selection_keys(values: NDArray[Any], which: Order) -> NDArray[np.float64]:
    """Numbers that `which` compares, the wanted values having the smallest."""
    if callable(which):
        return np.asarray(which(values), dtype=np.float64)
    if which == "BE":
        return _from_both_ends(values.real)
    measure = {"M": np.abs(values), "I": np.abs(values.imag)}.get(which[1], values.real)
    return np.asarray(-measure if which in ("LM", "LR", "LI", "LA") else measure)


def _largest(values: NDArray[Any]) -> float:
    """Largest finite modulus; 0 where there is none."""
    moduli = np.abs(values)
    largest = float(moduli.max(initial=0.0))
    return largest if np.isfinite(largest) else float(moduli[np.isfinite(moduli)].max(initial=0.0))


def _tied_ranks(
    keys: NDArray[np.float64], rounding: float, error: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """Ranks of the keys, the same for those that tie with the smallest key of their rank.

    None where no keys tie.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    allowed = np.maximum(_TIE * np.abs(ordered), rounding)
    error = None if error is None else error[order]
    place = np.arange(len(keys))
    begins = np.ones(len(keys), dtype=bool)
    begins[1:] = _apart(ordered, allowed, error, place[:-1], place[1:])
    if begins.all():
        return None
    while True:
        first = np.maximum.accumulate(np.where(begins, place, 0))
        far = _apart(ordered, allowed, error, first, place)
        if not far.any():
            break
        # a chain of ties is wider than a tie: it is cut where it leaves its smallest key
        begins[np.argmax(far)] = True
    ranks = np.empty(len(keys))
    ranks[order] = np.cumsum(begins)
    return ranks


def _apart(
    ordered: NDArray[np.float64],
    allowed: NDArray[np.float64],
    error: NDArray[np.float64] | None,
    low: NDArray[np.intp],
    high: NDArray[np.intp],
) -> NDArray[np.bool_]:
    """Whether keys at places `low` and `high` differ by more than a tie allows."""
    limit = allowed[low] if error is None else np.maximum(allowed[low], error[low] + error[high])
    with np.errstate(invalid="ignore"):
        # two infinite keys differ by NaN, and tie
        return np.asarray(ordered[high] - ordered[low] > limit)


def _from_both_ends(real: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions in the spectrum, counted from its ends in turn, the high end first."""
    rank = np.empty(len(real))
    rank[np.argsort(-real, kind="stable")] = np.arange(len(real))
    return np.minimum(2 * rank, 2 * (len(real) - 1 - rank) + 1)


def known_orders() -> tuple[str, ...]:
    """Names that `which` may take."""
    return get_args(Which)


def cuts_pair(values: NDArray[Any], k: int) -> bool:
    """Whether the first `k` values end between the two of a complex conjugate pair."""
    if k <= 0 or k >= len(values) or not np.iscomplexobj(values):
        return False
    return bool(values[k - 1].imag > 0 and values[k] == np.conj(values[k - 1]))


def schur_basis(
    H: NDArray[np.float64], which: Order, keep: int, most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Leading part of a real Schur form with the wanted values in front.

    Not collective. At most `most` of them.

    Returns
    -------
    T : ndarray of shape (p, p)
        Quasi-triangular; p is `keep`, or one more where a conjugate pair would be cut.
    Q : ndarray of shape (m, p)
        Orthonormal, ``H Q = Q T`` .
    """
    T, Q = scipy.linalg.schur(H, output="real")
    values = _quasi_triangular_values(T)
    order = wanted_order(values, which)
    cut = cuts_pair(values[order], keep)
    # a pair that does not fit is left out as a whole
    p = keep + (int(cut) if keep < most else -int(cut))
    select = np.zeros(len(values), dtype=np.int32)
    select[order[:p]] = 1
    T, Q, *_, info = dtrsen(select, T, Q, job="N", wantq=1)
    if info:
        raise np.linalg.LinAlgError("reordering of the Schur form failed: eigenvalues too close")
    return np.asarray(T[:p, :p]), np.asarray(Q[:, :p])


def _quasi_triangular_values(T: NDArray[np.float64]) -> NDArray[np.complex128]:
    m = T.shape[0]
    values = np.diag(T).astype(np.complex128)
    i = 0
    while i < m - 1:
        if T[i + 1, i] == 0.0:
            i += 1
            continue
        # A standardised 2 x 2 block has equal diagonal entries.
        imag = np.sqrt(abs(T[i, i + 1])) * np.sqrt(abs(T[i + 1, i]))
        values[i], values[i + 1] = complex(T[i, i], imag), complex(T[i, i], -imag)
        i += 2
    return values
