"""Effective numbers of dimensions of a spectrum: exact, or bounded by its largest eigenvalues.

With the eigenvalues ``l_1 >= l_2 >= ... >= 0`` of a covariance, their sum T (the trace) and the
shares ``p_i = l_i / T``:

==========================  =======================================================
von Neumann entropy         ``H = -sum p_i log p_i``, in nats
effective rank              ``exp(H)`` (Roy and Vetterli, of the covariance)
participation ratio         ``1 / sum p_i^2``
stable rank                 ``T / l_1`` (of the rows: squared Frobenius norm / squared norm)
==========================  =======================================================

``exp(H)`` and ``1 / sum p_i^2`` are the Hill numbers (exponentials of the Renyi entropies) of order
1 and 2, the stable rank is that of order infinity. So they do not increase in this order, and none
exceeds the rank.

Bounds
------
An eigensolver finds k eigenvalues, and the trace is the sum of the variances of the features. The
other eigenvalues are then unknown, but they

- add up to ``R = T - (l_1 + ... + l_k)``,
- are at most ``m = r - k``, where r bounds the rank: ``min(n - 1, d)`` for n centred rows,
- lie between 0 and ``l_k``.

These vectors x of m numbers form a convex polytope. The entropy is ``sum f(l_i / T)`` with the
concave ``f(p) = -p log p``, so its part ``F(x) = sum f(x_j / T)`` is concave and does not change
when the entries of x are permuted.

*Largest value.* By Jensen's inequality ``F(x) <= m f(R / (m T))``, the value at m equal entries
``R / m``. They lie in the polytope because ``R <= m l_k``.

*Smallest value.* A concave function on a polytope has its minimum at a vertex. A vertex has at most
one entry strictly between 0 and ``l_k``: of two such entries, one can be increased and the other
decreased by the same small amount, and the opposite, so the point is the middle of a segment in the
polytope. As the entries add up to R, every vertex is a permutation of ``q = floor(R / l_k)``
entries ``l_k``, one entry ``R - q l_k``, and zeros. So
``F(x) >= q f(l_k / T) + f((R - q l_k) / T)``.

The sum of squares is convex. By the same two arguments with the opposite sign it lies between
``R^2 / m`` and ``q l_k^2 + (R - q l_k)^2``. Both bounds of both quantities are attained by a
spectrum that has these k eigenvalues and this trace, so none can be improved.

References
----------
O. Roy, M. Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007;
M. Rudelson, R. Vershynin, "Sampling from large matrices", J. ACM 54 (2007): stable rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.arguments import as_array, check_count, is_number
from hpcembed.runtime.errors import InputError

__all__ = ["Interval", "SpectrumMeasures", "checked_spectrum", "spectrum_measures"]

#: Largest eigenvalue: sums do not overflow.
_LARGEST = 1e300
#: Share of the trace by which approximate eigenvalues may contradict it.
_SLACK = 1e-5


@dataclass(frozen=True, slots=True)
class Interval:
    """A number that lies between two others, which are equal if it is known.

    Attributes
    ----------
    low, high : float
    """

    low: float
    high: float

    @property
    def is_exact(self) -> bool:
        """Whether both ends agree to 12 digits."""
        return self.high - self.low <= 1e-12 * abs(self.high)

    def __contains__(self, value: float) -> bool:
        """Return whether a value lies between the ends, which have 12 correct digits."""
        slack = 1e-12 * max(abs(self.low), abs(self.high), 1.0)
        return self.low - slack <= value <= self.high + slack


@dataclass(frozen=True, slots=True)
class SpectrumMeasures:
    """Effective numbers of dimensions; formulas: :mod:`hpcembed.embedding.diagnostics.spectrum`.

    Attributes
    ----------
    entropy : Interval
        Von Neumann entropy of the shares of the eigenvalues in the trace, in nats.
    effective_rank : Interval
        Exponential of the entropy.
    participation_ratio : Interval
        Squared trace over the sum of the squared eigenvalues.
    stable_rank : Interval
        Trace over the largest eigenvalue; always exact.
    n_known, n_possible : int
        Number of eigenvalues given, and largest number of eigenvalues that are not zero.
    """

    entropy: Interval
    effective_rank: Interval
    participation_ratio: Interval
    stable_rank: Interval
    n_known: int
    n_possible: int


def spectrum_measures(
    eigenvalues: Any, trace: float | None = None, rank_limit: int | None = None
) -> SpectrumMeasures:
    """Compute effective numbers of dimensions from a whole spectrum, or bound them from a part.

    Parameters
    ----------
    eigenvalues : array_like of shape (k,)
        Largest eigenvalues of a positive semidefinite matrix, in any order; negative rounding
        errors count as zero.
    trace : float, optional
        Sum of all eigenvalues. Default: `eigenvalues` are all of them.
    rank_limit : int, optional
        Largest possible number of eigenvalues that are not zero: ``min(n - 1, d)`` for the
        covariance of n rows of d features. Needed if `trace` is given. With as many eigenvalues
        the spectrum is whole.

    Returns
    -------
    SpectrumMeasures
        Intervals that contain the values; their ends are equal for a whole spectrum.

    Raises
    ------
    InputError
        All eigenvalues are zero, one is negative beyond rounding, or eigenvalues, trace and rank
        contradict each other.

    Examples
    --------
    >>> whole = spectrum_measures([4.0, 2.0, 1.0, 1.0])
    >>> round(whole.effective_rank.low, 3), round(whole.participation_ratio.high, 3)
    (3.364, 2.909)

    Two eigenvalues and the trace bound the same numbers:

    >>> part = spectrum_measures([4.0, 2.0], trace=8.0, rank_limit=4)
    >>> part.effective_rank
    Interval(low=2.82842712474619, high=3.363585661014858)
    >>> whole.effective_rank.low in part.effective_rank
    True
    """
    values, total, left = checked_spectrum(eigenvalues, trace, rank_limit)
    shares = values / total
    rest = max(1.0 - math.fsum(shares), 0.0) if left else 0.0
    least, equal = _spread(rest, left, float(shares[-1]))
    entropy = Interval(
        _entropy(shares) + _entropy(least), _entropy(shares) + left * _entropy(np.array([equal]))
    )
    known = float(shares @ shares)
    squares = known + left * equal**2, known + float(least @ least)
    stable = total / float(values[0])
    return SpectrumMeasures(
        entropy=entropy,
        effective_rank=Interval(math.exp(entropy.low), math.exp(entropy.high)),
        participation_ratio=Interval(1 / max(squares), 1 / min(squares)),
        stable_rank=Interval(stable, stable),
        n_known=len(values),
        n_possible=len(values) + left,
    )


def checked_spectrum(
    eigenvalues: Any, trace: float | None, rank_limit: int | None
) -> tuple[NDArray[np.float64], float, int]:
    """Return descending eigenvalues, their whole sum, and the possible number of further ones.

    Raises
    ------
    InputError
        As :func:`spectrum_measures`.
    """
    values = as_array("eigenvalues", eigenvalues)
    if values.ndim != 1 or not values.size or values.dtype.kind not in "fiu":
        raise InputError(
            f"eigenvalues of shape {values.shape} and type {values.dtype}: give at least one "
            "finite number, in one dimension"
        )
    values = values.astype(np.float64)
    if not (np.isfinite(values).all() and values.max() <= _LARGEST):
        raise InputError(
            f"eigenvalues: give at least one finite number, and none above {_LARGEST:g}"
        )
    if values.min() < -_SLACK * values.max(initial=0.0):
        raise InputError(
            f"eigenvalue {values.min():g}: the eigenvalues of a positive semidefinite matrix, such "
            "as a covariance, are not negative"
        )
    values = np.sort(np.maximum(values, 0.0))[::-1]
    known = math.fsum(values)
    if known <= 0:
        raise InputError("all eigenvalues are zero: the rows do not vary")
    if trace is None:
        return values, known, 0
    check_count("rank_limit", rank_limit)
    assert rank_limit is not None
    if not is_number(trace) or trace <= 0:
        raise InputError(f"trace = {trace!r}: give the sum of all eigenvalues, a positive number")
    left = max(int(rank_limit) - len(values), 0)
    slack = _SLACK * trace
    if known > trace + slack:
        raise InputError(f"the eigenvalues add up to {known:g}, more than the trace {trace:g}")
    if trace - known > left * values[-1] + slack:
        raise InputError(
            f"{left} further eigenvalues of at most {values[-1]:g} cannot add up to the rest of "
            f"the trace, {trace - known:g}: give the largest eigenvalues, and the trace and the "
            "largest rank of the same matrix"
        )
    return values, (known if left == 0 else max(float(trace), known)), left


def _spread(rest: float, count: int, largest: float) -> tuple[NDArray[np.float64], float]:
    """Return shares of least entropy that add up to `rest`, and each of those of largest entropy.

    Parameters
    ----------
    rest : float
        Sum of the shares.
    count : int
        Number of shares.
    largest : float
        Largest share.
    """
    if not count or rest <= 0 or largest <= 0:
        return np.zeros(0), 0.0
    rest = min(rest, count * largest)  # beyond it by rounding only
    full = min(int(rest / largest), count)
    least = np.full(full + 1, largest)
    least[-1] = max(rest - full * largest, 0.0)
    return least, rest / count


def _entropy(shares: NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-(positive @ np.log(positive)))
