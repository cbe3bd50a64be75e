"""Counter-based random numbers and permutations: functions of (seed, index).

Any rank can compute the number or the position of any row, in any order and without communication.

Keys come from splitmix64: the index is multiplied by an odd constant and mixed. Both steps are
bijections of 64-bit integers, so distinct indices have distinct keys. Permutations are Feistel
networks on the smallest square of a power of two that holds n indices. An index that maps beyond n
goes through the network again until it maps below n (cycle walking).

References: G. L. Steele, D. Lea, C. H. Flood, Fast splittable pseudorandom number generators,
OOPSLA 2014 (constants: D. Stafford's variant 13); M. Luby, C. Rackoff, How to construct
pseudorandom permutations from pseudorandom functions, SIAM J. Comput. 17 (1988); J. Black,
P. Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["permuted", "row_keys", "uniform"]

_SPREAD = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
#: Four rounds make a pseudorandom permutation of a large set; small sets mix better with more.
_ROUNDS = 8
#: Indices that are permuted at once, so that they stay in the cache.
_BLOCK = 1 << 16


def row_keys(seed: int, indices: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Return a uniform 64-bit key for every index; distinct indices have distinct keys.

    Parameters
    ----------
    seed : int
        Taken modulo 2^64.
    indices : ndarray of integers

    Returns
    -------
    ndarray of uint64, the shape of `indices`
    """
    origin = int(_mix(np.array([seed & _MASK], dtype=np.uint64))[0])
    with np.errstate(over="ignore"):
        spread = (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(_SPREAD)
        return _mix(spread + np.uint64(origin))


def uniform(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return numbers in the open interval (0, 1) from the upper 52 bits of keys.

    Examples
    --------
    Every rank computes the numbers of its own rows:

    >>> import numpy as np
    >>> whole = uniform(row_keys(7, np.arange(6)))
    >>> bool((uniform(row_keys(7, np.arange(4, 6))) == whole[4:]).all())
    True
    """
    # With 53 bits the largest number would round to 1.
    return ((keys >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def permuted(seed: int, n: int, indices: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return the positions of some of the indices 0, ..., n - 1 in a pseudorandom order.

    Parameters
    ----------
    seed : int
        Taken modulo 2^64. The order depends on `seed` and `n` only.
    indices : ndarray of integers, shape (m,)
        Each from 0 to n - 1.

    Returns
    -------
    ndarray of int64, shape (m,)
        Positions from 0 to n - 1, distinct for distinct indices.

    Raises
    ------
    ValueError
        An index is not between 0 and n - 1.

    Examples
    --------
    >>> import numpy as np
    >>> sorted(permuted(7, 5, np.arange(5)).tolist())
    [0, 1, 2, 3, 4]
    """
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < n:
        raise ValueError(f"indices must lie between 0 and {n - 1}")
    half = max(1, -(-(n - 1).bit_length() // 2))
    keys = row_keys(seed, np.arange(_ROUNDS)).tolist()
    places = indices.astype(np.uint64)
    for first in range(0, places.size, _BLOCK):
        block = places[first : first + _BLOCK]
        left = np.arange(block.size)
        while left.size:  # more than a quarter of the square is below n: few iterations
            block[left] = _feistel(block[left], keys, half)
            left = left[block[left] >= np.uint64(n)]
    return places.astype(np.int64)


def _feistel(numbers: NDArray[np.uint64], keys: list[int], half: int) -> NDArray[np.uint64]:
    width, mask = np.uint64(half), np.uint64((1 << half) - 1)
    high, low = numbers >> width, numbers & mask
    for key in keys:
        high, low = low, high ^ (row_keys(key, low) & mask)
    return (high << width) | low


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
