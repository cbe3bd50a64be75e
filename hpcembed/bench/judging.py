"""Whether an answer is right, and how good it is: the same measures for every method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from hpcembed.bench.truth import Covariance, Reference

__all__ = ["EXACT", "Answer", "Measured", "measure", "verdict"]

#: Share of the optimal variance from which components count as exact.
EXACT = 0.9999999

#: What no PCA may miss, approximate or not: orthonormal directions that hold at least half of the
#: optimum, variances that are about those along them, coordinates that belong to them.
_ORTHOGONALITY = 1e-3
_LEAST_CAPTURED = 0.5
_VALUES = 0.05
_COORDINATES = 1e-3

#: By how much a residual may exceed what a method says it certifies.
_SLACK = 2.0

_SAMPLE = 64
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Answer:
    """What a method hands back.

    Attributes
    ----------
    components : ndarray of shape (k, d)
    variances : ndarray of shape (k,), or None where the method tells none
    coordinates : ndarray of shape (n, k)
        Of the fitted rows.
    certified : float or None
        Residual relative to the largest eigenvalue that the method guarantees.
    centred : bool
        False where coordinates are those of rows as they are.
    detail : str
    """

    components: NDArray[Any]
    variances: NDArray[Any] | None
    coordinates: NDArray[Any]
    certified: float | None = None
    centred: bool = True
    detail: str = ""


@dataclass(frozen=True)
class Measured:
    """An answer, measured in double.

    Attributes
    ----------
    found : int
    finite : bool
    deficit : float
        One minus the share of the optimal variance that is captured.
    sin_angle : float
    residual : float
    orthogonality : float
    values_error : float
        Of the variances claimed, against those along the components, over the largest eigenvalue.
    coordinates_error : float
        Largest error of some rows' coordinates over the largest coordinate.
    """

    found: int
    finite: bool
    deficit: float = np.inf
    sin_angle: float = np.inf
    residual: float = np.inf
    orthogonality: float = np.inf
    values_error: float = np.inf
    coordinates_error: float = np.inf


def measure(C: Covariance, answer: Answer, reference: Reference) -> Measured:
    """Compute what can be said of an answer. One pass over the rows."""
    V = np.asarray(answer.components, dtype=np.float64).T
    k = len(reference.values)
    found = V.shape[1] if V.ndim == 2 and V.shape[0] == C.d else 0
    given = answer.variances
    claimed = None if given is None else np.asarray(given, dtype=np.float64)
    shapes = answer.coordinates.shape == (C.n, found) and (claimed is None or len(claimed) == found)
    if found != k or not shapes:
        return Measured(found if found != k else 0, True)
    if not (np.isfinite(V).all() and (claimed is None or np.isfinite(claimed).all())):
        return Measured(found, False)
    product = C.times(V)
    lengths = np.maximum(np.sum(V * V, axis=0), _TINY)
    along = np.sum(V * product, axis=0) / lengths
    values = along if claimed is None else claimed
    largest = max(float(reference.values[0]), _TINY)
    residuals = np.linalg.norm(product - V * values, axis=0) / np.sqrt(lengths)
    deficit, angle = _space(V, product, reference)
    return Measured(
        found=found,
        finite=bool(np.isfinite(residuals).all()),
        deficit=deficit,
        sin_angle=angle,
        residual=float(residuals.max()) / largest,
        orthogonality=float(np.abs(V.T @ V - np.eye(found)).max()),
        values_error=float(np.abs(values - along).max()) / largest,
        coordinates_error=_coordinates_error(C, V, answer),
    )


def _space(
    V: NDArray[np.float64], product: NDArray[np.float64], reference: Reference
) -> tuple[float, float]:
    """Share of the variance that the span of V misses, and its angle to the optimum."""
    Q, R = np.linalg.qr(V)
    diagonal = np.abs(np.diag(R))
    if diagonal.min() <= 1e-8 * diagonal.max():  # directions that depend span less than k
        return 1.0, 1.0
    within = scipy.linalg.solve_triangular(R, (Q.T @ product).T, trans="T", lower=False)
    optimum = float(reference.values.sum())
    deficit = (optimum - float(np.trace(within))) / optimum if optimum > 0 else 0.0
    rest = Q - reference.vectors @ (reference.vectors.T @ Q)
    return deficit, min(1.0, float(scipy.linalg.svdvals(rest)[0]))


def _coordinates_error(C: Covariance, V: NDArray[np.float64], answer: Answer) -> float:
    sample = np.unique(np.linspace(0, C.n - 1, _SAMPLE).astype(np.int64))
    rows = C.rows[sample]
    rows = np.asarray(rows.toarray() if scipy.sparse.issparse(rows) else rows, dtype=np.float64)
    expected = (rows - C.mean if answer.centred else rows) @ V
    error = float(np.abs(np.asarray(answer.coordinates[sample]) - expected).max())
    largest = float(np.abs(expected).max())
    return error / largest if largest > 0 else error


def verdict(measured: Measured, answer: Answer, k: int) -> tuple[str, str]:
    """Judge an answer.

    Returns
    -------
    status : {"exact", "approximate", "wrong"}
    why : str
        Nothing where all is well.
    """
    if measured.found != k:
        return "wrong", f"{measured.found} of {k} components of the right shape"
    if not measured.finite:
        return "wrong", "not finite"
    if not measured.orthogonality <= _ORTHOGONALITY:
        return "wrong", f"orthogonality {measured.orthogonality:.1e}"
    if not 1.0 - measured.deficit >= _LEAST_CAPTURED:
        return "wrong", f"captures {1.0 - measured.deficit:.2f} of the optimum"
    if not measured.values_error <= _VALUES:
        return "wrong", f"variances off by {measured.values_error:.1e} of the largest"
    if not measured.coordinates_error <= _COORDINATES:
        return "wrong", f"coordinates off by {measured.coordinates_error:.1e}"
    certified = answer.certified
    if certified is not None and measured.residual > _SLACK * certified:
        return "wrong", f"residual {measured.residual:.1e}, certified {certified:.0e}"
    if measured.deficit > 1.0 - EXACT:
        return "approximate", ""
    return "exact", ""
