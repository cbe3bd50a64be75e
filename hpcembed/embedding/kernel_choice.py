"""A kernel for given rows: its settings checked, gamma found, rows that it cannot take refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource
from hpcembed.operators import KERNELS, Kernel, column_moments, largest_entries
from hpcembed.operators.kernel.sampled_rows import sampled_rows
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import agreement

__all__ = ["Gamma", "KernelChoice", "check_kernel", "check_rows", "choose_kernel"]

Gamma = float | Literal["auto", "scale", "median"] | None

#: Rows whose distances give the median.
_MEDIAN_ROWS = 1000


@dataclass(frozen=True)
class KernelChoice:
    """A kernel, and the point that rows are shifted by before it is evaluated.

    Attributes
    ----------
    kernel : Kernel
    origin : ndarray of shape (d,) or None
        The mean of dense rows, for ``rbf``.
    """

    kernel: Kernel
    origin: NDArray[np.float64] | None


def check_kernel(kernel: Any, gamma: Any, degree: Any, coef0: Any) -> None:
    """Refuse settings that are none. Not collective.

    Raises
    ------
    ConfigError
    """
    if kernel not in KERNELS:
        raise ConfigError(f"kernel = {kernel!r} is not one of {', '.join(KERNELS)}")
    if isinstance(gamma, str) and gamma not in ("auto", "scale", "median"):
        raise ConfigError(f"gamma = {gamma!r} is neither a number nor one of auto, scale, median")
    if not (gamma is None or isinstance(gamma, str) or (_is_number(gamma) and gamma > 0)):
        raise ConfigError(f"gamma must be a positive number, got {gamma!r}")
    if not (_is_number(degree) and degree == int(degree) and 1 <= degree <= 100):
        raise ConfigError(f"degree must be a whole number from 1 to 100, got {degree!r}")
    if not _is_number(coef0):
        raise ConfigError(f"coef0 must be a finite number, got {coef0!r}")


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float | np.integer | np.floating)
    return is_real and not isinstance(value, bool) and math.isfinite(value)


def choose_kernel(
    X: RowSource,
    kernel: Any,
    gamma: Gamma,
    degree: float,
    coef0: float,
    seed: int,
    *,
    shifted: bool = True,
) -> KernelChoice:
    """The kernel with its numbers for these rows, which are looked at. Collective.

    Parameters
    ----------
    gamma : float, {"auto", "scale", "median"} or None
        auto and None: 1 / d. scale: 1 / (d times the variance of all entries). median:
        ``1 / (2 s^2)``, s the median distance between pairs of at most 1,000 rows, seeded.
    shifted : bool
        Whether an origin is wanted.

    Raises
    ------
    InputError
        On all ranks: rows that are not finite or, for the cosine, zero; no spread to scale by.
    """
    with agreement(X.comm):
        check_rows(X, kernel)
    uses_gamma = kernel in ("rbf", "poly")
    origin, value = None, 1.0
    shifted = shifted and kernel == "rbf" and not X.is_sparse
    if shifted or (uses_gamma and gamma == "scale"):
        mean, variances = column_moments(X)
        origin = mean if shifted else None
        n = X.n_rows
        spread = float(variances.mean()) * (n - 1) / n + float(mean.var())
    if uses_gamma:
        value = 1.0 / X.n_features
        if gamma == "scale":
            value = 1.0 / (X.n_features * spread) if spread > 0 else 0.0
        elif gamma == "median":
            value = _median_gamma(X, seed)
        elif isinstance(gamma, int | float | np.integer | np.floating):
            value = float(gamma)
        if not 0 < value < math.inf:
            raise InputError(
                f"gamma = {gamma!r} finds no spread in these rows, most of which are equal: "
                "give gamma as a number"
            )
    return KernelChoice(Kernel(kernel, value, int(degree), float(coef0)), origin)


def check_rows(X: RowSource, kernel: str) -> None:
    """Refuse rows of this rank that a kernel cannot take: one pass. Not collective.

    Raises
    ------
    InputError
        Naming the row.
    """
    for first, block in X.blocks():
        row = X.row_range[0] + first
        if kernel == "cosine":
            sizes = largest_entries(block)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                sizes = np.asarray(abs(block).sum(axis=1)).ravel()
        wrong = np.flatnonzero(~np.isfinite(sizes))
        if wrong.size:
            raise InputError(f"row {row + wrong[0]} is not finite: look for NaN or Inf in the data")
        if kernel == "cosine" and not sizes.all():
            raise InputError(
                f"row {row + int(np.argmin(sizes))} is zero and has no direction: leave such rows "
                "out, or choose another kernel than cosine"
            )


def _median_gamma(X: RowSource, seed: int) -> float:
    """From the median distance of sampled rows; the same on all ranks. Collective."""
    rows = sampled_rows(X, min(_MEDIAN_ROWS, X.n_rows), seed)
    value = 0.0
    if X.comm.rank == 0:
        rows = rows - rows.mean(axis=0) if isinstance(rows, np.ndarray) else rows
        products = rows @ rows.T
        products = products if isinstance(products, np.ndarray) else products.toarray()
        squares = products.diagonal()
        distances = squares[:, None] + squares - 2.0 * products
        median = float(np.median(distances[np.triu_indices(len(distances), 1)]))
        # what is left of the distance of equal rows is rounding
        value = 0.5 / median if median > 1e-12 * float(squares.max(initial=0.0)) else 0.0
    return float(X.comm.bcast(value, root=0))
