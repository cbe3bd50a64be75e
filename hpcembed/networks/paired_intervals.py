"""Paired differences of accuracies over seeds, with Student-t intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

__all__ = ["Difference", "paired"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of paired differences with the ends of its interval; 0.01 is one point."""

    mean: float
    low: float
    high: float

    def within(self, margin: float) -> bool:
        """Whether the lower end of the interval is above ``-margin``."""
        return self.low > -margin


def paired(
    values: Sequence[float], baseline: Sequence[float], confidence: float = 0.95
) -> Difference | None:
    """Compute the mean difference of pairs and its Student-t interval.

    Returns
    -------
    Difference or None
        None for fewer than two pairs and for values that are not finite.

    Raises
    ------
    ValueError
        If the sequences have different lengths.

    Examples
    --------
    >>> found = paired([0.90, 0.92, 0.91], [0.91, 0.92, 0.93])
    >>> f"{found.mean:.3f} in [{found.low:.3f}, {found.high:.3f}]"
    '-0.010 in [-0.035, 0.015]'
    """
    if len(values) != len(baseline):
        raise ValueError(f"{len(values)} values and {len(baseline)} of the baseline: give pairs")
    difference = np.asarray(values, dtype=float) - np.asarray(baseline, dtype=float)
    n = difference.size
    if n < 2 or not np.isfinite(difference).all():
        return None
    mean = float(difference.mean())
    quantile = float(special.stdtrit(n - 1, 0.5 + 0.5 * confidence))
    half = quantile * float(difference.std(ddof=1)) / math.sqrt(n)
    return Difference(mean, mean - half, mean + half)
