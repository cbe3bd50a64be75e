"""Minka's evidence of probabilistic principal component analysis, for all numbers of components.

Reference: T. Minka, "Automatic choice of dimensionality for PCA", NIPS 2000. scikit-learn computes
the same for each number of components anew, in O(d^3).

Deviation from scikit-learn: components that span all rows leave no noise, so their evidence is
infinite. If features are constant or dependent, scikit-learn's choice is therefore the rank. Here
it is below the rank.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.special
from numpy.typing import NDArray

__all__ = ["minka_evidence"]


def minka_evidence(values: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
    """Compute the logarithm of the evidence of 1, ..., d - 1 components.

    Minka's equation (30), in O(d^2): sums over pairs of eigenvalues are updated from one number of
    components to the next.

    Parameters
    ----------
    values : ndarray of shape (d,)
        All eigenvalues, descending.
    n_rows : int

    Returns
    -------
    ndarray of shape (d - 1,)
        Minus infinity from the numerical rank on.
    """
    d, log = len(values), np.log
    # the best number of components does not depend on the scale
    values = values / float(values[0])
    floor = float(np.finfo(float).eps)
    rank = int(np.sum(values > d * floor))
    evidence = np.full(d - 1, -math.inf)
    after = np.cumsum(values[::-1])[::-1]
    log_area = pairs = inside = 0.0  # of spheres; log(l_i - l_j), i <= k < j; the other pairs
    for k in range(1, rank):
        i = k - 1
        value, half = float(values[i]), (d - i) / 2
        log_area += float(scipy.special.gammaln(half)) - half * math.log(math.pi) - math.log(2)
        gaps = log(np.maximum(np.abs(values - value), floor * values))[:i]
        inside += float(np.sum(2 * gaps - log(values[:i]) - math.log(value)))
        pairs += float(np.sum(log(np.maximum(value - values[k:], floor * value))) - np.sum(gaps))
        noise = max(float(after[k]) / (d - k), floor * floor)
        inverse = np.maximum(1 / noise - 1 / values[:k], floor / noise)
        determinant = inside + pairs + (d - k) * float(np.sum(log(inverse)))
        m = d * k - k * (k + 1) / 2
        determinant += m * math.log(n_rows)
        likelihood = float(np.sum(log(values[:k]))) + (d - k) * math.log(noise)
        evidence[i] = (
            log_area
            - n_rows / 2 * likelihood
            + math.log(2 * math.pi) * (m + k) / 2
            - determinant / 2
            - k * math.log(n_rows) / 2
        )
    return evidence
