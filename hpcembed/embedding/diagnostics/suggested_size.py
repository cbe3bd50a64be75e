"""Numbers of components that a spectrum suggests: random-matrix thresholds and Bayesian evidence.

All three assume that the rows are a signal of low rank and independent noise of one variance
``s^2`` in every feature. Real features rarely are: the suggestions then count directions that are
not noise, which is usually far more than a prediction needs.

*Marchenko-Pastur edge.* The largest eigenvalue of the covariance of noise alone approaches
``s^2 (1 + sqrt(d / n))^2`` as n and d grow. Components above it are suggested.

*Gavish-Donoho.* The threshold of singular values with the least mean squared error of the
denoised matrix: ``lambda(b) sqrt(N) s`` with the larger side N of the matrix, the ratio b <= 1 of
its sides, and ``lambda(b)^2 = 2 (b + 1) + 8 b / (b + 1 + sqrt(b^2 + 14 b + 1))``. It is above the
edge.

*Minka.* The largest Laplace approximation of the evidence of probabilistic principal component
analysis, as in scikit-learn's ``PCA(n_components="mle")``. It depends on every eigenvalue.

The variance of the noise is estimated from a whole spectrum by its median, which has a known place
in the Marchenko-Pastur distribution. From k eigenvalues and the trace it is the mean of the
eigenvalues left out: the smallest j is suggested at which eigenvalue j + 1 does not exceed the
threshold of ``s_j^2 = (T - l_1 - ... - l_j) / (d - j)``. This rule uses eigenvalues up to j + 1
only, so more of them do not change its result.

References
----------
V. Marchenko, L. Pastur, Math. USSR Sbornik 1 (1967); M. Gavish, D. Donoho, "The optimal hard
threshold for singular values is 4/sqrt(3)", IEEE Trans. Inf. Theory 60 (2014); T. Minka, "Automatic
choice of dimensionality for PCA", NIPS 2000.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.integrate
import scipy.optimize
from numpy.typing import NDArray

from hpcembed.embedding.diagnostics.minka_evidence import minka_evidence
from hpcembed.embedding.diagnostics.spectrum import checked_spectrum
from hpcembed.runtime.arguments import check_count
from hpcembed.runtime.errors import InputError

__all__ = ["SuggestedSize", "gavish_donoho_factor", "marchenko_pastur_median", "suggested_sizes"]

Method = Literal["marchenko_pastur", "gavish_donoho", "minka"]
Noise = Literal["median", "trace"]


@dataclass(frozen=True, slots=True)
class SuggestedSize:
    """Number of components that one rule suggests.

    Attributes
    ----------
    method : {"marchenko_pastur", "gavish_donoho", "minka"}
    size : int or None
        None if the known eigenvalues do not determine it.
    at_least : int
        Lower bound of the size; equal to it if it is known.
    threshold : float
        Eigenvalue above which components are suggested; NaN if there is none.
    noise_variance : float
        Estimated variance of the noise in each feature; NaN if it was not estimated.
    noise : {"median", "trace", ""}
        Origin of this estimate.
    reason : str
        Why there is no size; else empty.
    """

    method: Method
    size: int | None
    at_least: int
    threshold: float = math.nan
    noise_variance: float = math.nan
    noise: Literal["median", "trace", ""] = ""
    reason: str = ""


def suggested_sizes(
    eigenvalues: Any,
    n_rows: int,
    n_features: int,
    *,
    trace: float | None = None,
    centred: bool = True,
) -> tuple[SuggestedSize, SuggestedSize, SuggestedSize]:
    """Suggest numbers of components by Marchenko-Pastur, Gavish-Donoho and Minka.

    Parameters
    ----------
    eigenvalues : array_like of shape (k,)
        Largest eigenvalues of ``X'X / (n - 1)``, in any order.
    n_rows, n_features : int
        Shape of X.
    trace : float, optional
        Sum of all eigenvalues. Default: `eigenvalues` are all that can differ from zero.
    centred : bool, default=True
        Whether the mean was subtracted from the rows of X.

    Returns
    -------
    tuple of SuggestedSize
        By the edge, by the optimal threshold, and by the evidence.

    Raises
    ------
    InputError
        Eigenvalues, trace and sizes contradict each other, or there are fewer than two rows.

    Examples
    --------
    Two directions of variance 10 and 6 in noise of variance 1:

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((500, 20)) * np.sqrt([10, 6] + [1] * 18)
    >>> values = np.linalg.eigvalsh(np.cov(X.T))
    >>> [one.size for one in suggested_sizes(values, 500, 20)]
    [2, 2, 2]

    Five eigenvalues and the trace do not determine the evidence:

    >>> part = suggested_sizes(values[-5:], 500, 20, trace=values.sum())
    >>> [one.size for one in part]
    [2, 2, None]
    """
    check_count("n_rows", n_rows)
    check_count("n_features", n_features)
    if n_rows < 2:
        raise InputError("n_rows = 1: a spectrum needs at least 2 rows")
    degrees = n_rows - 1 if centred else n_rows
    limit = min(degrees, n_features)
    values, total, left = checked_spectrum(eigenvalues, trace, None if trace is None else limit)
    # one convention for both: the mean square over the degrees of freedom
    scale = (n_rows - 1) / degrees
    values, total = values[:limit] * scale, total * scale
    ratio, larger = limit / max(degrees, n_features), max(degrees, n_features) / degrees
    edge = (1 + math.sqrt(n_features / degrees)) ** 2
    best = gavish_donoho_factor(ratio) * larger
    found = []
    rules: tuple[tuple[Method, float], ...] = (("marchenko_pastur", edge), ("gavish_donoho", best))
    for name, factor in rules:
        if left:
            one = _by_trace(name, values, total, n_features, factor)
        else:
            one = _by_median(name, values, max(n_rows, n_features), ratio, larger, factor)
        found.append(_unscaled(one, scale))
    return found[0], found[1], _minka(values, n_rows, n_features, is_whole=not left)


def gavish_donoho_factor(ratio: float) -> float:
    """Return the squared threshold of singular values for noise of variance 1 / (larger side).

    Parameters
    ----------
    ratio : float
        Smaller over larger side of the matrix.

    Examples
    --------
    >>> round(gavish_donoho_factor(1.0) ** 0.5, 4)  # 4 / sqrt(3)
    2.3094
    """
    root = math.sqrt(ratio * ratio + 14 * ratio + 1)
    return 2 * (ratio + 1) + 8 * ratio / (ratio + 1 + root)


def marchenko_pastur_median(ratio: float) -> float:
    """Return the median of the Marchenko-Pastur distribution of unit variance.

    Parameters
    ----------
    ratio : float
        Smaller over larger side of the matrix, positive and at most 1.

    Examples
    --------
    >>> round(marchenko_pastur_median(1.0), 4)
    0.6528
    """
    centre, radius = 1 + ratio, 2 * math.sqrt(ratio)

    # with x = centre + radius sin(t) the density has no singular end
    def density(t: float) -> float:
        return (radius * math.cos(t)) ** 2 / (
            2 * math.pi * ratio * max(centre + radius * math.sin(t), 1e-300)
        )

    def excess(t: float) -> float:
        below = scipy.integrate.quad(density, -math.pi / 2, t, epsabs=1e-13, epsrel=1e-12)[0]
        return float(below) - 0.5

    middle = scipy.optimize.brentq(excess, -math.pi / 2, math.pi / 2, xtol=1e-14)
    return centre + radius * math.sin(float(middle))


def _by_median(
    method: Method,
    values: NDArray[np.float64],
    longest: int,
    ratio: float,
    larger: float,
    factor: float,
) -> SuggestedSize:
    """Count the eigenvalues of a whole spectrum above a threshold."""
    floor = float(values[0]) * longest * float(np.finfo(float).eps)
    nonzero = values[values > floor]
    noise = float(np.median(nonzero)) / (marchenko_pastur_median(ratio) * larger)
    size = int(np.sum(nonzero > factor * noise))
    return SuggestedSize(method, size, size, factor * noise, noise, "median")


def _by_trace(
    method: Method, values: NDArray[np.float64], total: float, n_features: int, factor: float
) -> SuggestedSize:
    """Find the first eigenvalue below the threshold of the mean of those from it on."""
    before = np.concatenate([[0.0], np.cumsum(values)[:-1]])
    noise = np.maximum(total - before, 0.0) / (n_features - np.arange(len(values)))
    below = np.flatnonzero(values <= factor * noise)
    if not below.size:
        reason = f"all {len(values)} known components exceed the threshold"
        return SuggestedSize(method, None, len(values), reason=reason)
    size = int(below[0])
    variance = float(noise[size])
    return SuggestedSize(method, size, size, factor * variance, variance, "trace")


def _unscaled(one: SuggestedSize, scale: float) -> SuggestedSize:
    noise, threshold = one.noise_variance / scale, one.threshold / scale
    return SuggestedSize(
        one.method, one.size, one.at_least, threshold, noise, one.noise, one.reason
    )


def _minka(
    values: NDArray[np.float64], n_rows: int, n_features: int, *, is_whole: bool
) -> SuggestedSize:
    """Find the number of components of largest evidence."""
    if not is_whole:
        reason = f"it needs all {min(n_rows, n_features)} eigenvalues, {len(values)} are known"
        return SuggestedSize("minka", None, 0, reason=reason)
    if n_rows < n_features:
        reason = f"it needs as many rows as features, {n_features}; there are {n_rows}"
        return SuggestedSize("minka", None, 0, reason=reason)
    padded = np.zeros(n_features)
    padded[: len(values)] = values
    evidence = minka_evidence(padded, n_rows)
    if not np.isfinite(evidence).any():
        reason = "the rows have one dimension"
        return SuggestedSize("minka", None, 0, reason=reason)
    size = int(np.argmax(evidence)) + 1
    return SuggestedSize("minka", size, size)
