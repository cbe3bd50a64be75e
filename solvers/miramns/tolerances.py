"""Residual norms with which eigenpairs pass.

A pair converges when its residual norm ``||A x - theta x||`` is at most ``tol`` times the modulus
of its value. A residual cannot fall below the rounding of one product, so the tolerance is at least
``ROUNDING * ||A||``: without this floor the zero eigenvalues of a rank-deficient matrix would never
converge. The eigenvalue of a Hermitian operator is off by at most the residual. That of another one
may be off by the residual times its condition number, so the floor applies only if this product is
within it (:func:`accepted_tolerances`). The reason CONVERGED_ROUNDING is given to an answer that
needs the floor.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from miramns.norms import ROUNDING
from miramns.result import ConvergedReason

#: Quantity by which a residual norm is divided: the modulus of the eigenvalue, 1, or ||A||.
Criterion = Literal["relative", "absolute", "norm"]


def residual_tolerances(
    values: NDArray[Any],
    tol: float,
    norm: float,
    criterion: Criterion = "relative",
    *,
    scale: float = 0.0,
    rounding: bool = True,
) -> NDArray[np.float64]:
    """Return the largest residual norm with which each pair passes.

    Parameters
    ----------
    values : ndarray of shape (k,)
        Ritz values.
    tol : float
    norm : float
        Lower bound of ||A||, raised to the largest modulus among `values`.
    criterion : {"relative", "absolute", "norm"}
        `tol` is relative to the modulus of the value, to 1, or to `norm`.
    scale : float
        If positive, "relative" refers to it instead: ||A||_F for the published variant.
    rounding : bool
        Whether the rounding of a product always passes.
    """
    norm = max(norm, float(np.max(np.abs(values), initial=0.0)))
    scale = {"relative": scale, "absolute": 1.0, "norm": norm}[criterion]
    relative_to = np.full(values.shape, scale) if scale > 0 else np.abs(values)
    floor = ROUNDING * norm if rounding else 0.0
    return np.asarray(np.maximum(tol * relative_to, floor), dtype=np.float64)


def accepted_tolerances(
    residuals: NDArray[np.float64],
    tolerances: NDArray[np.float64],
    requested: NDArray[np.float64],
    condition_numbers: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return `tolerances` where they bound the error of the eigenvalue, `requested` elsewhere.

    Parameters
    ----------
    tolerances, requested : ndarray of shape (k,)
        With and without allowance for rounding.
    condition_numbers : ndarray of shape (k,) or None
        None for Hermitian operators.
    """
    if condition_numbers is None:
        return tolerances
    return np.where(condition_numbers * residuals <= tolerances, tolerances, requested)


def converged_reason(
    residuals: NDArray[np.float64],
    tolerances: NDArray[np.float64],
    requested: NDArray[np.float64],
) -> ConvergedReason:
    """Return the reason of an answer with these residuals. Stagnated if one does not pass.

    Parameters
    ----------
    tolerances, requested : ndarray of shape (k,)
        Accepted tolerances, and those without allowance for rounding.
    """
    if (residuals <= requested).all():
        return ConvergedReason.CONVERGED_TOL
    if (residuals <= tolerances).all():
        return ConvergedReason.CONVERGED_ROUNDING
    return ConvergedReason.DIVERGED_STAGNATED
