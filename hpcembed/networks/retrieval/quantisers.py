"""Scalar quantisers of least squared error, and the bits that coordinates get.

A quantiser of b bits has 2**b levels and replaces a number by the nearest one. With levels of least
mean squared error each level is the mean of the numbers nearest to it (S. P. Lloyd, IEEE Trans.
Inform. Theory 28, 1982; J. Max, IRE Trans. Inform. Theory 6, 1960). Further bits of a coordinate
gain less and less, so a greedy allocation has the least total error (A. Gersho, R. M. Gray, "Vector
Quantization and Signal Compression", 1992, chapter 8).
"""

from __future__ import annotations

import functools
import heapq

import numpy as np
import scipy.stats
from numpy.typing import NDArray

__all__ = ["MOST_BITS", "Histograms", "allocate_bits", "fitted_levels", "normal_levels"]

#: Most bits of one coordinate.
MOST_BITS = 8

#: Bins of a histogram, and the standard deviations from the mean at which its last bins begin.
_BINS, _REACH = 4096, 8.0

#: Iterations end if no level moves by more than this part of the standard deviation. The start is
#: near the limit for many levels, which need more iterations.
_TOLERANCE, _MOST_ITERATIONS = 1e-9, 1000
_MOST_FITS = 200


@functools.cache
def normal_levels(bits: int) -> tuple[NDArray[np.float64], float]:
    """Return the 2**bits levels for normal numbers of variance 1, and their mean squared error.

    Examples
    --------
    >>> levels, error = normal_levels(2)
    >>> levels.round(4).tolist(), round(error, 4)
    ([-1.5104, -0.4528, 0.4528, 1.5104], 0.1175)
    """
    normal, count = scipy.stats.norm, 2**bits
    # density of the levels of many bits: the normal one to the power of 1/3
    levels = np.sqrt(3.0) * normal.ppf((np.arange(count) + 0.5) / count)
    for _ in range(_MOST_ITERATIONS):
        edges = np.concatenate(([-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]))
        shares = np.diff(normal.cdf(edges))
        means = -np.diff(normal.pdf(edges)) / shares
        moved, levels = np.abs(means - levels).max(), means
        if moved <= _TOLERANCE:
            break
    levels.setflags(write=False)
    return levels, float(1.0 - (shares * levels**2).sum())


def allocate_bits(
    variances: NDArray[np.float64], total: int, weights: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """Return the bits of each coordinate, at most `MOST_BITS`, of least total error.

    The error of a coordinate is that of a normal one with its variance. Coordinates without
    variance get no bits, so the sum may be smaller than `total`.

    Parameters
    ----------
    variances : ndarray of shape (k,)
    total : int
        Bits of all coordinates.
    weights : ndarray of shape (k,), optional
        Positive weights of the squared errors; default: 1.

    Examples
    --------
    >>> import numpy as np
    >>> allocate_bits(np.array([16.0, 4.0, 1.0, 0.0]), 6)
    array([3, 2, 1, 0])
    """
    errors = [1.0, *(normal_levels(bits)[1] for bits in range(1, MOST_BITS + 1))]
    gains = -np.diff(errors)
    scales = variances if weights is None else variances * weights
    found = np.zeros(len(variances), dtype=np.int64)
    heap = [(-float(one) * gains[0], j) for j, one in enumerate(scales) if one > 0]
    heapq.heapify(heap)
    for _ in range(total):
        if not heap:
            break
        _, j = heapq.heappop(heap)
        found[j] += 1
        if found[j] < MOST_BITS:
            heapq.heappush(heap, (-float(scales[j]) * gains[found[j]], j))
    return found


class Histograms:
    """Counts, sums and sums of squares of coordinates in bins of a width of 1/256 of a deviation.

    Parameters
    ----------
    deviations : ndarray of shape (k,)
        Standard deviations of the coordinates, whose means are 0.

    Attributes
    ----------
    totals : ndarray of shape (3, k, bins)
        Count, sum and sum of squares of the numbers in each bin; those of several ranks are added.
    """

    def __init__(self, deviations: NDArray[np.float64]) -> None:
        self._scales = _BINS / (2 * _REACH * deviations)
        self.totals = np.zeros((3, len(deviations), _BINS))

    def add(self, coordinates: NDArray[np.float64]) -> None:
        """Add rows of shape (n, k)."""
        k = coordinates.shape[1]
        places = np.floor(coordinates * self._scales).astype(np.int64) + _BINS // 2
        places = (np.clip(places, 0, _BINS - 1) + _BINS * np.arange(k)).ravel()
        values = coordinates.ravel()
        for total, weights in zip(self.totals, (None, values, values**2), strict=True):
            total += np.bincount(places, weights, k * _BINS).reshape(k, _BINS)


def fitted_levels(
    totals: NDArray[np.float64], start: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return increasing levels of least squared error for a histogram, and their total error.

    Numbers in one bin have one level. A level without numbers stays where it is.

    Parameters
    ----------
    totals : ndarray of shape (3, bins)
        Counts, sums and sums of squares of :class:`Histograms`, for one coordinate.
    start : ndarray of shape (levels,)
    """
    used = totals[0] > 0
    counts, sums, squares = totals[:, used]
    means, levels = sums / counts, start
    for _ in range(_MOST_FITS):
        nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, means)
        share = np.bincount(nearest, counts, len(levels))
        centres = np.bincount(nearest, sums, len(levels)) / np.maximum(share, 1)
        moved, levels = levels, np.sort(np.where(share > 0, centres, levels))
        if np.array_equal(moved, levels):
            break
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, means)
    chosen = levels[nearest]
    return levels, float((squares - 2 * chosen * sums + chosen**2 * counts).sum())
