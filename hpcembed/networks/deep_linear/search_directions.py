"""Directions of scaled gradient descent, and the step that minimises the loss along them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from hpcembed.networks.deep_linear.problems import Matrix, Problem
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["Directions", "Pair", "best_step", "times_inverse"]

Pair = tuple[Matrix, Matrix]


@dataclass
class Directions:
    """Directions of both factors, and the gradients that they are conjugate to."""

    left: Matrix
    right: Matrix
    gradients: Pair
    decrease: float

    @classmethod
    def next(
        cls, problem: Problem, gradients: Pair, scaled: Pair, last: Directions | None
    ) -> Directions:
        """Return the next directions: steepest descent, or Polak-Ribiere. Collective."""
        decrease = _dot(problem, scaled, gradients)
        left, right = -scaled[0], -scaled[1]
        if last is not None and last.decrease > 0:
            beta = (decrease - _dot(problem, scaled, last.gradients)) / last.decrease
            if beta > 0:
                left += beta * last.left
                right += beta * last.right
                if _dot(problem, (left, right), gradients) >= 0:  # no descent: begin afresh
                    left, right = -scaled[0], -scaled[1]
        return cls(left, right, gradients, decrease)


def _dot(problem: Problem, a: Pair, b: Pair) -> float:
    """Return the inner product of two pairs of factors. Collective."""
    return problem.inner(a[0], b[0]) + float(np.vdot(a[1], b[1]))


def times_inverse(product: Matrix, gram: Matrix) -> Matrix:
    """Return ``product @ inv(gram)``; a relative 1e-14 keeps a singular matrix invertible."""
    damped = gram + 1e-14 * np.trace(gram) * np.eye(len(gram))
    try:
        factor = scipy.linalg.cho_factor(damped, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return product @ np.linalg.pinv(gram, hermitian=True)
    return scipy.linalg.cho_solve(factor, product.T, check_finite=False).T


def best_step(problem: Problem, residual: Matrix, linear: Matrix, square: Matrix) -> float:
    """Return the t that minimises ``||residual + t linear + t^2 square||^2``. Collective."""
    products = np.array([
        np.vdot(square, square), np.vdot(linear, square), np.vdot(linear, linear),
        np.vdot(residual, square), np.vdot(residual, linear),
    ])  # fmt: skip
    ss, ls, ll, rs, rl = sum_over_ranks(problem.comm, products)
    coefficients = np.array([ss, 2 * ls, ll + 2 * rs, 2 * rl, 0.0])
    largest = np.abs(coefficients).max()
    if not np.isfinite(largest) or largest == 0:
        return 0.0
    roots = np.roots(np.polyder(coefficients / largest))
    real = roots.real[np.abs(roots.imag) <= 1e-8 * np.abs(roots)]
    values = np.polyval(coefficients, real)
    return float(real[np.argmin(values)]) if real.size else 0.0
