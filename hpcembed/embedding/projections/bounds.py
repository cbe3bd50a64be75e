"""Johnson-Lindenstrauss bounds: components for a distortion, and its probability.

A random projection with independent entries of mean 0 and variance 1/k, normal or from
{-1, 0, 1} with density at least 1/3 (up to the scale), changes the squared length of one vector by
a factor outside of ``[1 - eps, 1 + eps]`` with a probability of at most
``2 exp(-k (eps^2 / 4 - eps^3 / 6))``. With ``k = 4 ln(n) / (eps^2 / 2 - eps^3 / 3)`` components the
probability is at most ``2 / n^2`` for each of the ``n (n - 1) / 2`` differences of n rows, so all
pairwise distances are preserved with positive probability.

References: Dasgupta, Gupta, "An elementary proof of a theorem of Johnson and Lindenstrauss", Random
Struct. Alg. 22 (2003); Achlioptas, "Database-friendly random projections", J. Comput. Syst. Sci. 66
(2003).
"""

from __future__ import annotations

import math

from hpcembed.runtime.arguments import check_count, is_number
from hpcembed.runtime.errors import ConfigError

__all__ = ["check_distortion", "distortion_probability", "least_components"]


def check_distortion(eps: object) -> None:
    """Raise ConfigError unless a distortion is a number between 0 and 1."""
    if not is_number(eps) or not 0 < eps < 1:
        raise ConfigError(f"eps must lie between 0 and 1, got {eps!r}")


def least_components(n_rows: int, eps: float) -> int:
    """Return the number of components that preserves all distances of n rows.

    The integer part of ``4 ln(n_rows) / (eps^2 / 2 - eps^3 / 3)``, but at least 1. It depends on
    the number of rows and not on the number of features.

    Parameters
    ----------
    n_rows : int
        Number of rows, at least 1.
    eps : float
        Largest relative change of a squared distance, between 0 and 1.

    Raises
    ------
    ConfigError
        If a parameter is out of range.

    Examples
    --------
    >>> from hpcembed.embedding.projections import least_components
    >>> least_components(1000, 0.5), least_components(1_000_000, 0.1)
    (331, 11841)
    """
    check_count("n_rows", n_rows)
    check_distortion(eps)
    return max(1, int(4 * math.log(n_rows) / (eps**2 / 2 - eps**3 / 3)))


def distortion_probability(n_components: int, eps: float) -> float:
    """Return a bound of the probability that one squared distance changes by more than `eps`.

    ``2 exp(-n_components (eps^2 / 4 - eps^3 / 6))``, at most 1.

    Raises
    ------
    ConfigError
        If a parameter is out of range.

    Examples
    --------
    >>> from hpcembed.embedding.projections import distortion_probability
    >>> f"{distortion_probability(1000, 0.2):.1e}"
    '3.4e-04'
    """
    check_count("n_components", n_components)
    check_distortion(eps)
    return min(1.0, 2 * math.exp(-n_components * (eps**2 / 4 - eps**3 / 6)))
