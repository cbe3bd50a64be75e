"""Random vectors that are functions of (seed, stream, global index) alone.

A counter-based generator (Philox) is placed at the first index that a rank owns, so the vector is
the same however it is distributed. Two uniform streams are combined by Box and Muller, which uses
exactly one number of each per entry.

Reference: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Philox yields four 64-bit words per step of its counter.
_WORDS = 4


def seeded_normal(seed: int, start: int, stop: int, stream: int = 0) -> NDArray[np.float64]:
    """Return the entries `start` to `stop` of an infinite standard normal vector.

    Parameters
    ----------
    seed, stream : int
        Non-negative. Each pair defines one vector.
    start, stop : int
        Global index range.

    Returns
    -------
    ndarray of shape (stop - start,)

    Examples
    --------
    The entries depend on their global index alone, not on the distribution over ranks:

    >>> import numpy as np
    >>> from miramns import seeded_normal
    >>> whole = seeded_normal(0, 0, 10)
    >>> np.array_equal(whole[4:], seeded_normal(0, 4, 10))
    True
    """
    radius = _uniform(seed, 2 * stream, start, stop)
    angle = _uniform(seed, 2 * stream + 1, start, stop)
    # 1 - u lies in (0, 1], so the logarithm is finite.
    return np.asarray(np.sqrt(-2.0 * np.log1p(-radius)) * np.cos(2.0 * np.pi * angle))


def _uniform(seed: int, stream: int, start: int, stop: int) -> NDArray[np.float64]:
    bits = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    bits.advance(start // _WORDS)
    skip = start % _WORDS
    return np.random.Generator(bits).random(skip + stop - start)[skip:]
