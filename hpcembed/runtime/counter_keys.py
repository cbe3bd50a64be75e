"""Random numbers that are functions of (seed, index): any rank can make any row's, in any order.

The generator is splitmix64: the index is spread by an odd constant and mixed. Both steps are
bijections of 64-bit integers, so no two indices share a key.
Reference: G. L. Steele, D. Lea, C. H. Flood, Fast splittable pseudorandom number generators,
OOPSLA 2014; the constants are D. Stafford's variant 13.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["row_keys", "uniform"]

_SPREAD = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def row_keys(seed: int, indices: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """A uniform 64-bit key for every index; distinct indices have distinct keys. Not collective.

    Parameters
    ----------
    seed : int
        Taken modulo 2^64.
    indices : ndarray of integers
    """
    origin = int(_mix(np.array([seed & _MASK], dtype=np.uint64))[0])
    with np.errstate(over="ignore"):
        spread = (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(_SPREAD)
        return _mix(spread + np.uint64(origin))


def uniform(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers in the open interval (0, 1) from the upper 52 bits of keys. Not collective."""
    # With 53 bits the largest one would round to 1.
    return ((keys >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
