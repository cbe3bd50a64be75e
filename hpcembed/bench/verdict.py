"""Verdict on an answer, and its quality: the same measures for every method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from hpcembed.bench.methods import PcaAnswer
from hpcembed.bench.reference import Covariance, PcaReference

#: Smallest share of the optimal variance that exact components capture.
EXACT = 0.9999999

#: Limits for every answer, exact or approximate: loss of orthogonality, share of the optimal
#: variance, error of the variances over the largest one, error of the coordinates.
_ORTHOGONALITY = 1e-3
_LEAST_CAPTURED = 0.5
_VALUES = 0.05
_COORDINATES = 1e-3

#: Factor by which a residual may exceed the certificate of the method.
_SLACK = 2.0

_SAMPLE = 64
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class PcaMeasures:
    """Measures of an answer in double precision.

    Attributes
    ----------
    found : int
        Number of components; 0 if the shapes of an answer do not fit.
    finite : bool
    deficit, sin_angle, residual, orthogonality : float
        As in :class:`~hpcembed.bench.pca_record.PcaRecord`.
    values_error : float
        Largest difference between a reported variance and the variance along its component, over
        the largest eigenvalue.
    coordinates_error : float
        Largest error of the coordinates of some rows over the largest coordinate.
    """

    found: int
    finite: bool
    deficit: float = np.inf
    sin_angle: float = np.inf
    residual: float = np.inf
    orthogonality: float = np.inf
    values_error: float = np.inf
    coordinates_error: float = np.inf


def measure(
    C: Covariance, answer: PcaAnswer, coordinates: NDArray[Any], reference: PcaReference
) -> PcaMeasures:
    """Compute the measures of an answer, in one pass over the rows.

    Parameters
    ----------
    coordinates : ndarray of shape (n, k)
        Coordinates of the fitted rows.
    """
    V = np.asarray(answer.components, dtype=np.float64).T
    k = len(reference.values)
    found = V.shape[1] if V.ndim == 2 and V.shape[0] == C.d else 0
    given = answer.variances
    claimed = None if given is None else np.asarray(given, dtype=np.float64)
    shapes = coordinates.shape == (C.n, found) and (claimed is None or len(claimed) == found)
    if found != k or not shapes:
        return PcaMeasures(found if found != k else 0, True)
    if not (np.isfinite(V).all() and (claimed is None or np.isfinite(claimed).all())):
        return PcaMeasures(found, False)
    product = C.times(V)
    lengths = np.maximum(np.sum(V * V, axis=0), _TINY)
    along = np.sum(V * product, axis=0) / lengths
    values = along if claimed is None else claimed
    largest = max(float(reference.values[0]), _TINY)
    residuals = np.linalg.norm(product - V * values, axis=0) / np.sqrt(lengths)
    deficit, angle = _space(V, product, reference)
    return PcaMeasures(
        found=found,
        finite=bool(np.isfinite(residuals).all()),
        deficit=deficit,
        sin_angle=angle,
        residual=float(residuals.max()) / largest,
        orthogonality=float(np.abs(V.T @ V - np.eye(found)).max()),
        values_error=float(np.abs(values - along).max()) / largest,
        coordinates_error=_coordinates_error(C, V, coordinates, answer.centred),
    )


def _space(
    V: NDArray[np.float64], product: NDArray[np.float64], reference: PcaReference
) -> tuple[float, float]:
    """Return the share of the variance that the span of V misses, and the sine of its angle."""
    Q, R = np.linalg.qr(V)
    diagonal = np.abs(np.diag(R))
    if diagonal.min() <= 1e-8 * diagonal.max():  # linearly dependent directions
        return 1.0, 1.0
    within = scipy.linalg.solve_triangular(R, (Q.T @ product).T, trans="T", lower=False)
    optimum = float(reference.values.sum())
    deficit = (optimum - float(np.trace(within))) / optimum if optimum > 0 else 0.0
    rest = Q - reference.vectors @ (reference.vectors.T @ Q)
    return deficit, min(1.0, float(scipy.linalg.svdvals(rest)[0]))


def _coordinates_error(
    C: Covariance, V: NDArray[np.float64], coordinates: NDArray[Any], centred: bool
) -> float:
    sample = np.unique(np.linspace(0, C.n - 1, _SAMPLE).astype(np.int64))
    rows = C.rows[sample]
    rows = np.asarray(rows.toarray() if scipy.sparse.issparse(rows) else rows, dtype=np.float64)
    expected = (rows - C.mean if centred else rows) @ V
    error = float(np.abs(np.asarray(coordinates[sample]) - expected).max())
    largest = float(np.abs(expected).max())
    return error / largest if largest > 0 else error


def verdict(measures: PcaMeasures, certified: float | None, k: int) -> tuple[str, str]:
    """Decide whether an answer is right.

    Parameters
    ----------
    certified : float or None
        Residual that the method guarantees.

    Returns
    -------
    status : {"exact", "approximate", "wrong"}
    why : str
        Reason; empty for a right answer.
    """
    captured = 1.0 - measures.deficit
    conditions = {
        f"{measures.found} of {k} components of the right shape": measures.found == k,
        "not finite": measures.finite,
        f"orthogonality {measures.orthogonality:.1e}": measures.orthogonality <= _ORTHOGONALITY,
        f"captures {captured:.2f} of the optimum": captured >= _LEAST_CAPTURED,
        f"variances off by {measures.values_error:.1e} of the largest": (
            measures.values_error <= _VALUES
        ),
        f"coordinates off by {measures.coordinates_error:.1e}": (
            measures.coordinates_error <= _COORDINATES
        ),
    }
    for why, is_met in conditions.items():
        if not is_met:
            return "wrong", why
    if certified is not None and measures.residual > _SLACK * certified:
        return "wrong", f"residual {measures.residual:.1e}, certified {certified:.0e}"
    return ("approximate" if measures.deficit > 1.0 - EXACT else "exact"), ""
