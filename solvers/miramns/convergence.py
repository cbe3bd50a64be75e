"""When a Ritz pair counts as converged, and what a run says when it ends.

A pair passes when its residual norm is at most ``tol`` times its own modulus. Residuals cannot fall
below the rounding of one product, so the bound never goes under ``ROUNDING * ||A||``: without that
floor the zero eigenvalues of a rank-deficient matrix would never pass. Estimates from the projected
problem only decide when it is worth looking; what is returned is judged by true residuals
``||A x - theta x||``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EPSILON", "ROUNDING", "MiramnsError", "OperatorError", "Reason", "residual_bounds"]

EPSILON = float(np.finfo(np.float64).eps)

#: Multiple of ||A|| below which a residual is rounding: some hundred units in the last place.
ROUNDING = 100 * EPSILON


class MiramnsError(ValueError):
    """A problem that cannot be set up as it was asked for."""


class OperatorError(MiramnsError):
    """The operator returned something that is not a vector of numbers."""


class Reason(IntEnum):
    """Why a solver stopped; negative values mean that a requested pair is missing."""

    CONVERGED_TOL = 1
    DIVERGED_ITS = -1
    DIVERGED_STAGNATED = -2

    @property
    def remedy(self) -> str:
        """What the reason means and what to try next."""
        return _REMEDIES[self]


_REMEDIES = {
    Reason.CONVERGED_TOL: "all requested pairs have true residuals below the tolerance",
    Reason.DIVERGED_ITS: (
        "the limit of restarts was reached first: raise max_it or ncv, or loosen tol"
    ),
    Reason.DIVERGED_STAGNATED: (
        "the estimates say converged but the true residuals do not: the operator is not the same "
        "at every call, is not Hermitian as declared, or tol is below its rounding"
    ),
}


def residual_bounds(
    theta: NDArray[Any], tol: float, norm: float, *, scale: float = 0.0
) -> NDArray[np.float64]:
    """Largest residual norm with which each pair passes.

    Parameters
    ----------
    theta : ndarray of shape (k,)
        Ritz values.
    tol : float
        Relative to ``|theta|``, or to `scale` where that is positive.
    norm : float
        Estimate of ||A||, for the floor.
    scale : float
        A common scale, ||A||_F for the published variant.
    """
    relative_to = np.full(theta.shape, scale) if scale > 0 else np.abs(theta)
    return np.asarray(np.maximum(tol * relative_to, ROUNDING * norm), dtype=np.float64)
