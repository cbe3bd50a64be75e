"""Scaling and precision of the inputs of networks, from the statistics of their columns.

Scaling a projection: principal components have standard deviations that decay over orders of
magnitude. Unscaled, a network learns the trailing ones slowly; each divided by its own deviation,
it fits their noise. Dividing by the square root of the deviation lies between.

Precision: networks compute in float32, and standardise their inputs in double precision. Rows
therefore travel as float32 only where that loses nothing a network could learn from: neither a
spread below the rounding of a far larger mean, nor values outside the range of float32. Other rows
travel in double, at twice the memory.

Rows are read in blocks and never copied as a whole. This module does not import PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "InputScaling",
    "block_moments",
    "blocks_of",
    "fit_scaling",
    "network_type",
    "scaling_kind",
    "scaling_of",
]

#: Bytes of one block of rows in double precision while statistics are taken or rows converted.
BLOCK_BYTES = 1 << 25
#: Columns whose deviation is below this share of the largest are rounding errors, not inputs.
CONSTANT = 1e-12
#: Mean over deviation up to which a float32 subtraction loses no digit that training could see.
LARGE_OFFSET = 100.0

#: Mean over deviation up to which rounding to float32 stays below a thousandth of the deviation.
_LARGEST_OFFSET = 1e4
#: Deviation over mean of a constant column in double precision: rounding errors alone.
_ROUNDING = 1e-14
#: Deviations whose squares and outliers float32 holds.
_SMALLEST, _LARGEST = 1e-30, 1e30


@dataclass(frozen=True, slots=True)
class InputScaling:
    """The network computes with ``(x - shift) * scale``; both of shape (d,), float64."""

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def is_identity(self) -> bool:
        """Whether the scaling is the identity."""
        return not self.shift.any() and bool((self.scale == 1.0).all())


def fit_scaling(
    inputs: NDArray[np.generic], kind: Literal["none", "global", "standard", "sqrt"]
) -> InputScaling:
    """Return shift and scale of each column, from training rows.

    A column that is constant there gets the scale 0: a network cannot learn from it, so a different
    value later must not reach it.

    Parameters
    ----------
    inputs : ndarray of shape (n, d)
    kind : {'none', 'global', 'standard', 'sqrt'}
        ``global``: one mean and one deviation for all columns; each its own mean where those lie
        far apart. ``standard``: each column by its own. ``sqrt``: each column centred and divided
        by the square root of its deviation, then all by one factor that makes the mean variance 1.

    Examples
    --------
    >>> fit_scaling(np.array([[1.0, 5.0], [3.0, 5.0]]), "standard")
    InputScaling(shift=array([2., 5.]), scale=array([1., 0.]))
    """
    d = inputs.shape[1]
    if kind == "none":
        return InputScaling(np.zeros(d), np.ones(d))
    n, mean, squares = block_moments((block for _, block in blocks_of(inputs)), d)
    return scaling_of(mean, np.sqrt(squares / max(n, 1)), kind)


def scaling_of(
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
    kind: Literal["global", "standard", "sqrt"],
) -> InputScaling:
    """Return shift and scale as :func:`fit_scaling`, from the statistics of the columns."""
    if kind == "global":
        centre = float(mean.mean())
        spread = float(np.sqrt(np.mean(deviation**2 + (mean - centre) ** 2)))
        within = float(np.sqrt(np.mean(deviation**2)))
        if 0 < within * LARGE_OFFSET < spread:
            # Offsets between the columns would drown the differences between the rows.
            return InputScaling(mean, np.full(mean.size, 1.0 / within))
        scale = np.full(mean.size, 1.0 / spread if spread > 0 else 1.0)
        return InputScaling(np.full(mean.size, centre), scale)
    varies = deviation > CONSTANT * max(float(deviation.max()), float(np.abs(mean).max()))
    power = 1.0 if kind == "standard" else 0.5
    scale = np.zeros(mean.size)
    scale[varies] = deviation[varies] ** -power
    if varies.any():
        scale /= np.sqrt(np.mean((scale * deviation)[varies] ** 2))
    return InputScaling(mean, scale)


def blocks_of(inputs: NDArray[np.generic]) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """Yield blocks of rows, each with the number of its first row."""
    step = max(1, BLOCK_BYTES // (8 * inputs.shape[1]))
    for first in range(0, inputs.shape[0], step):
        yield first, inputs[first : first + step]


def block_moments(
    blocks: Iterable[NDArray[np.generic]], d: int
) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Return the number of rows, the mean of each column, and the sum of squared distances from it.

    Blocks are merged by Chan, Golub, LeVeque (1979), which does not cancel when the mean is large.
    """
    mean, squares, n = np.zeros(d), np.zeros(d), 0
    for rows in blocks:
        block = rows.astype(np.float64)
        m = block.shape[0]
        block_mean = block.mean(axis=0)
        gap = block_mean - mean
        block -= block_mean
        squares += np.einsum("ij,ij->j", block, block) + gap**2 * (n * m / (n + m))
        mean += gap * (m / (n + m))
        n += m
    return n, mean, squares


def network_type(
    mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> type[np.floating[Any]]:
    """Return float32 where it holds columns of this mean and deviation, else float64.

    Parameters
    ----------
    mean, deviation : ndarray of shape (d,)

    Examples
    --------
    >>> network_type(np.array([0.5]), np.array([0.1])).__name__
    'float32'
    >>> network_type(np.array([1e8]), np.array([0.1])).__name__
    'float64'
    """
    offset = np.abs(mean)
    varies = deviation > _ROUNDING * offset
    loses = varies & ((offset > _LARGEST_OFFSET * deviation) | (deviation < _SMALLEST))
    overflows = max(np.max(offset, initial=0.0), np.max(deviation, initial=0.0)) > _LARGEST
    return np.float64 if overflows or loses.any() else np.float32


def scaling_kind(
    setting: Literal["auto", "none", "standard", "sqrt"], input_name: Literal["full", "embedded"]
) -> Literal["none", "global", "standard", "sqrt"]:
    """Return the kind of scaling for a value of the key ``input_scaling`` of a recipe.

    Examples
    --------
    >>> scaling_kind("auto", "embedded"), scaling_kind("auto", "full"), scaling_kind("none", "full")
    ('sqrt', 'global', 'none')
    """
    if setting == "auto":
        return "sqrt" if input_name == "embedded" else "global"
    return setting
