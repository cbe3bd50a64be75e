"""In which precision rows go to a network.

Networks compute in float32, and what they are fed is standardised in double on the way. Rows may
therefore travel as float32 only where that loses nothing a network could learn from: not a spread
below the rounding of a far larger mean, not values outside float32's range. Such rows travel as
they are, in double, at twice the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["network_type"]

#: Mean over deviation up to which rounding to float32 stays below a thousandth of the deviation.
_LARGEST_OFFSET = 1e4
#: What double itself leaves of a constant column: no spread, but rounding.
_ROUNDING = 1e-14
#: Deviations that squares and outliers keep within float32's range.
_SMALLEST, _LARGEST = 1e-30, 1e30


def network_type(
    mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> type[np.floating[Any]]:
    """float32 where it holds columns of this mean and deviation, else float64. Not collective."""
    offset = np.abs(mean)
    varies = deviation > _ROUNDING * offset
    loses = varies & ((offset > _LARGEST_OFFSET * deviation) | (deviation < _SMALLEST))
    overflows = max(np.max(offset, initial=0.0), np.max(deviation, initial=0.0)) > _LARGEST
    return np.float64 if overflows or loses.any() else np.float32
