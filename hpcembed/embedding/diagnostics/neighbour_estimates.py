"""Estimates of the intrinsic dimension from distances to nearest rows: MLE and TwoNN.

With the distances ``r_1 <= ... <= r_k`` of a row:

*MLE.* Levina and Bickel's maximum likelihood estimate of a row is
``m = [sum_{j<k} log(r_k / r_j) / (k - 1)]^-1``. The estimate of all rows is the inverse of the mean
of the inverses (MacKay and Ghahramani), which is the maximum likelihood estimate if all rows have
the same dimension. The mean of the estimates, as in the first paper, is larger.

*TwoNN.* The ratio ``r_2 / r_1`` has the distribution function ``1 - mu^-m``. The estimate is the
slope of ``-log(1 - F)`` over ``log(mu)`` through the origin, with the empirical distribution
function F of the ratios without their largest tenth (Facco et al.).

References
----------
E. Levina, P. Bickel, "Maximum likelihood estimation of intrinsic dimension", NIPS 2004; D. MacKay,
Z. Ghahramani, "Comments on 'Maximum likelihood estimation of intrinsic dimension'", 2005;
E. Facco, M. d'Errico, A. Rodriguez, A. Laio, "Estimating the intrinsic dimension of datasets by a
minimal neighborhood information", Scientific Reports 7 (2017).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.arguments import as_array, is_number
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = [
    "inverse_mean",
    "inverses",
    "log_ratios",
    "mle_dimension",
    "ratio_slope",
    "two_nn_dimension",
]


def mle_dimension(distances: NDArray[np.float64]) -> float:
    """Estimate the dimension by Levina and Bickel's MLE, averaged by MacKay and Ghahramani.

    Parameters
    ----------
    distances : ndarray of shape (n, k)
        To the k >= 2 nearest rows, in ascending order; zeros are omitted.

    Returns
    -------
    float
        NaN if no row has two neighbours of different distance.

    Raises
    ------
    InputError
        The distances are no such table.

    Examples
    --------
    >>> import numpy as np
    >>> round(mle_dimension(np.array([[1.0, 2.0], [0.5, 1.0]])), 4)  # 1 / log 2
    1.4427
    """
    return inverse_mean(inverses(_checked(distances), 0.0))


def two_nn_dimension(distances: NDArray[np.float64], discard: float = 0.1) -> float:
    """Estimate the dimension by TwoNN, the linear fit of Facco et al.

    Parameters
    ----------
    distances : ndarray of shape (n, k)
        To the k >= 2 nearest rows, in ascending order; rows with a zero are left out.
    discard : float, default=0.1
        Share of the largest ratios that the fit leaves out, at least 0 and below 1. The largest one
        is always left out, as its logarithm of 1 - F is infinite.

    Returns
    -------
    float
        NaN for fewer than two rows, and if all ratios are one.

    Raises
    ------
    InputError
        The distances are no such table.
    ConfigError
        `discard` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> mu = (1 - np.arange(1000) / 1000) ** -0.5  # ratios of a plane
    >>> round(two_nn_dimension(np.stack([np.ones(1000), mu], axis=1)), 2)
    2.01
    """
    if not is_number(discard) or not 0 <= discard < 1:
        raise ConfigError(f"discard = {discard!r}: give a number of at least 0 and below 1")
    return ratio_slope(log_ratios(_checked(distances), 0.0), discard)


def _checked(distances: Any) -> NDArray[np.float64]:
    """Return distances as a table.

    Raises
    ------
    InputError
        They are no table with two columns or more, not ascending, negative, or not finite.
    """
    table = as_array("distances", distances)
    if table.ndim != 2 or table.shape[1] < 2 or table.dtype.kind not in "fiu":
        raise InputError(f"distances of shape {table.shape}: give those to 2 rows or more")
    table = table.astype(np.float64)
    if not (np.isfinite(table).all() and (table >= 0).all() and (np.diff(table) >= 0).all()):
        raise InputError("distances: give finite numbers of at least 0, in ascending order")
    return table


def inverses(distances: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Return the inverse of each row's estimate; NaN with fewer than two positive distances."""
    positive = distances > tolerance
    logs = np.log(np.where(positive, distances, 1.0))
    count = positive.sum(axis=1)
    total = np.where(positive, logs[:, -1:] - logs, 0.0).sum(axis=1)
    return np.where(count >= 2, total / np.maximum(count - 1, 1), np.nan)


def log_ratios(distances: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Return log(r_2 / r_1) of each row; NaN where r_1 is zero."""
    positive = distances[:, 0] > tolerance
    first = np.where(positive, distances[:, 0], 1.0)
    second = np.where(positive, distances[:, 1], 1.0)
    return np.where(positive, np.log(second / first), np.nan)


def inverse_mean(inverses: NDArray[np.float64]) -> float:
    """Return the inverse of the mean of the values that are not NaN; NaN if it is zero."""
    known = inverses[~np.isnan(inverses)]
    mean = float(known.mean()) if known.size else 0.0
    return 1 / mean if mean > 0 else math.nan


def ratio_slope(log_ratios: NDArray[np.float64], discard: float = 0.1) -> float:
    """Return the slope of TwoNN from logarithms of ratios; NaN values are left out."""
    known = np.sort(log_ratios[~np.isnan(log_ratios)])
    kept = min(int(len(known) * (1 - discard)), len(known) - 1)
    if kept < 2:
        return math.nan
    x, y = known[:kept], -np.log1p(-np.arange(1, kept + 1) / len(known))
    squares = float(x @ x)
    return float(x @ y) / squares if squares > 0 else math.nan
