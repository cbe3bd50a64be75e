"""Answers of two eigenproblems, or parts of one, as a single answer with its certificate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miramns import EigenResult

__all__ = ["joined", "part", "scaled"]


def part(result: EigenResult, kept: slice) -> EigenResult:
    """Some pairs of an answer. Not collective."""
    residuals, bounds = result.residual_norms[kept], result.residual_tolerances[kept]
    return replace(
        result,
        eigenvalues=result.eigenvalues[kept],
        eigenvectors=result.eigenvectors[:, kept],
        residual_norms=residuals,
        residual_tolerances=bounds,
        error_bounds=result.error_bounds[kept],
        n_converged=int(np.sum(residuals <= bounds)),
    )


def scaled(result: EigenResult, largest: float) -> EigenResult:
    """The answer for the operator over `largest`. Not collective."""
    names = (
        "eigenvalues",
        "residual_norms",
        "residual_tolerances",
        "error_bounds",
        "operator_norm",
    )
    return replace(result, **{name: getattr(result, name) / largest for name in names})


def joined(first: EigenResult, second: EigenResult, *, same_rows: bool) -> EigenResult:
    """Pairs of both, in this order, with the verdict on both. Not collective.

    Parameters
    ----------
    same_rows : bool
        Both are of one operator; of two, the vectors of the second are kept.
    """

    def both(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(first, name), getattr(second, name)])

    vectors = second.eigenvectors
    if same_rows:
        vectors = np.asfortranarray(np.hstack([first.eigenvectors, second.eigenvectors]))
    return replace(
        second,
        eigenvalues=both("eigenvalues"),
        eigenvectors=vectors,
        residual_norms=both("residual_norms"),
        residual_tolerances=both("residual_tolerances"),
        error_bounds=both("error_bounds"),
        orthogonality=max(first.orthogonality, second.orthogonality),
        n_converged=first.n_converged + second.n_converged,
        reason=second.reason if first.converged else first.reason,
        n_matvec=first.n_matvec + second.n_matvec,
        n_certificate_matvec=first.n_certificate_matvec + second.n_certificate_matvec,
        n_reductions=first.n_reductions + second.n_reductions,
        n_restarts=first.n_restarts + second.n_restarts,
        seconds=first.seconds + second.seconds,
        solver=f"{first.solver}; {second.solver}",
    )
