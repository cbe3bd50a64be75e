"""The wanted eigenvalues: their order, ties, and the cut after the first k.

Rounding must not decide which eigenvalues are returned: it differs between processors, BLAS
libraries, numbers of threads and numbers of ranks. So values that differ by rounding alone tie, and
values that tie have an order of their own (:func:`wanted_order`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from miramns.norms import ROUNDING

#: Largest or smallest modulus, real part or modulus of the imaginary part; LA and SA are LR and SR
#: of Hermitian operators; BE takes from both ends in turn, the high end first.
Which = Literal["LM", "SM", "LR", "SR", "LI", "SI", "LA", "SA", "BE"]

#: A name, or a function from values to keys; the wanted values have the smallest keys.
Order = Which | Callable[[NDArray[Any]], NDArray[np.float64]]

#: Keys that differ by less than this, relative to themselves, tie.
_TIE = 1e-11


def wanted_order(
    values: NDArray[Any], which: Order, error: NDArray[np.float64] | None = None
) -> NDArray[np.intp]:
    """Return the indices that put the wanted values first.

    Two values tie when `which` compares numbers that differ by rounding alone: by at most 1e-11 of
    their size, 100 units of rounding of the largest modulus among the values, or `error`. Values
    that tie come in this order, which is the same on every machine, number of ranks and threads:

    1. by decreasing real part, so that a comes before -a for "LM";
    2. by increasing modulus of the imaginary part, so that real values come before complex ones;
    3. both members of a conjugate pair together, the positive imaginary part first.

    Steps 1 and 2 compare with the same tolerance. Values that tie in both are copies of one
    eigenvalue, and come in the order of their last digits. "BE" compares positions in the spectrum,
    which do not tie.

    Parameters
    ----------
    values : ndarray of shape (m,)
        Conjugate pairs stand together, as LAPACK returns them.
    which : str or callable
    error : ndarray of shape (m,), optional
        Error that each value may have beyond rounding.
    """
    keys = selection_keys(values, which)
    if which == "BE":
        return np.argsort(keys, kind="stable")
    rounding = ROUNDING * _largest(values)
    ranks = _tied_ranks(keys, ROUNDING * _largest(keys) if callable(which) else rounding, error)
    if ranks is keys:
        return np.argsort(keys)
    by_real = _tied_ranks(-values.real, rounding, error)
    if not np.iscomplexobj(values):
        return np.lexsort((keys, by_real, ranks))
    by_imag = _tied_ranks(np.abs(values.imag), rounding, error)
    # lexsort: the last key counts first. Copies of a conjugate pair are kept apart by their place.
    pair = np.cumsum(values.imag >= 0)
    return np.lexsort((-values.imag, pair, keys, by_imag, by_real, ranks))


def ties_at(values: NDArray[Any], which: Order, k: int, error: float = 0.0) -> bool:
    """Return whether the cut after the first k values, wanted ones first, separates a tie.

    Parameters
    ----------
    values : ndarray of shape (m,)
    error : float
        Difference of the compared numbers that counts as a tie beyond rounding.
    """
    if not 0 < k < len(values):
        return False
    # for "BE", the first value left out may tie with a value of either end
    keys = values.real if which == "BE" else selection_keys(values, which)
    inside = keys[:k] if which == "BE" else keys[k - 1 : k]
    rounding = ROUNDING * _largest(keys if callable(which) else values)
    with np.errstate(invalid="ignore"):
        distances = np.abs(inside - keys[k])
    allowed = np.maximum(max(error, rounding), _TIE * np.abs(inside))
    return bool(np.any((inside == keys[k]) | (distances <= allowed)))


def cuts_pair(values: NDArray[Any], k: int) -> bool:
    """Return whether the cut after the first k values separates a complex conjugate pair."""
    if k <= 0 or k >= len(values) or not np.iscomplexobj(values):
        return False
    return bool(values[k - 1].imag > 0 and values[k] == np.conj(values[k - 1]))


def displaces(values: NDArray[Any], candidate: complex, which: Order, certain: float) -> bool:
    """Return whether `candidate` is wanted more than one of the given wanted values.

    A candidate that equals the value in its place, within `certain`, does not count.

    Parameters
    ----------
    values : ndarray of shape (k,)
    """
    together = np.append(values, candidate)
    displaced = int(wanted_order(together, which)[-1])
    if displaced == len(values):
        return False
    return bool(_distance(which, candidate, values[displaced]) > certain)


def _distance(which: Order, a: complex, b: complex) -> float:
    """Return the difference of the numbers that `which` compares."""
    if which in ("LM", "SM"):
        return abs(abs(a) - abs(b))
    if which in ("LR", "SR"):
        return abs(a.real - b.real)
    if which in ("LI", "SI"):
        return abs(abs(a.imag) - abs(b.imag))
    return abs(a - b)


def selection_keys(values: NDArray[Any], which: Order) -> NDArray[np.float64]:
    """Return the numbers that `which` compares; the wanted values have the smallest."""
    if callable(which):
        return np.asarray(which(values), dtype=np.float64)
    if which == "BE":
        return _from_both_ends(values.real)
    measure = {"M": np.abs(values), "I": np.abs(values.imag)}.get(which[1], values.real)
    return np.asarray(-measure if which in ("LM", "LR", "LI", "LA") else measure)


def _from_both_ends(real: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positions in the spectrum, counted from both ends in turn, the high end first."""
    rank = np.empty(len(real))
    rank[np.argsort(-real, kind="stable")] = np.arange(len(real))
    return np.minimum(2 * rank, 2 * (len(real) - 1 - rank) + 1)


def _largest(values: NDArray[Any]) -> float:
    """Return the largest finite modulus; 0 if there is none."""
    moduli = np.abs(values)
    largest = float(moduli.max(initial=0.0))
    return largest if np.isfinite(largest) else float(moduli[np.isfinite(moduli)].max(initial=0.0))


def _tied_ranks(
    keys: NDArray[np.float64], rounding: float, error: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the ranks of the keys, equal for keys that tie with the smallest key of the rank.

    If no keys tie, the keys themselves are returned.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    allowed = np.maximum(_TIE * np.abs(ordered), rounding)
    error = None if error is None else error[order]
    place = np.arange(len(keys))
    begins = np.ones(len(keys), dtype=bool)
    begins[1:] = _apart(ordered, allowed, error, place[:-1], place[1:])
    if begins.all():
        return keys
    while True:
        first = np.maximum.accumulate(np.where(begins, place, 0))
        far = _apart(ordered, allowed, error, first, place)
        if not far.any():
            break
        # a chain of ties is wider than a tie: cut it where it leaves its smallest key
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
    """Return whether the keys at places `low` and `high` differ by more than a tie allows."""
    limit = allowed[low] if error is None else np.maximum(allowed[low], error[low] + error[high])
    with np.errstate(invalid="ignore"):
        # two infinite keys differ by NaN, and tie
        return np.asarray(ordered[high] - ordered[low] > limit)
