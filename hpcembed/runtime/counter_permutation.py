"""Permutations that need no memory: where an index goes is a function of (seed, n, index).

Any rank can tell the place of any of its rows in an order of the rows of all ranks, without a
message and without the order. A Feistel network permutes the smallest square of a power of two
that holds n; an index that lands beyond n goes through it again until it does not.

References: M. Luby, C. Rackoff, How to construct pseudorandom permutations from pseudorandom
functions, SIAM J. Comput. 17 (1988); J. Black, P. Rogaway, Ciphers with arbitrary finite domains,
CT-RSA 2002. The round functions are those of :mod:`hpcembed.runtime.counter_keys`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.counter_keys import row_keys

__all__ = ["permuted"]

#: Four make a pseudorandom permutation of a large set; small ones mix better with more.
_ROUNDS = 8
#: Indices that are permuted at once, to stay in the cache.
_BLOCK = 1 << 16


def permuted(seed: int, n: int, indices: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Places of some of the indices 0, ..., n - 1 in a pseudorandom order of all of them.

    Not collective.

    Parameters
    ----------
    seed : int
        Taken modulo 2^64; decides the order together with `n`.
    indices : ndarray of integers, shape (m,)
        Each from 0 to n - 1.

    Returns
    -------
    ndarray of int64, shape (m,)
        From 0 to n - 1; those of all n indices are all different.
    """
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < n:
        raise ValueError(f"indices must lie between 0 and {n - 1}")
    half = max(1, -(-(n - 1).bit_length() // 2))
    keys = row_keys(seed, np.arange(_ROUNDS)).tolist()
    places = indices.astype(np.uint64)
    for first in range(0, places.size, _BLOCK):
        block = places[first : first + _BLOCK]
        left = np.arange(block.size)
        while left.size:  # more than a quarter of the square is below n: few turns
            block[left] = _network(block[left], keys, half)
            left = left[block[left] >= np.uint64(n)]
    return places.astype(np.int64)


def _network(numbers: NDArray[np.uint64], keys: list[int], half: int) -> NDArray[np.uint64]:
    width, mask = np.uint64(half), np.uint64((1 << half) - 1)
    high, low = numbers >> width, numbers & mask
    for key in keys:
        high, low = low, high ^ (row_keys(key, low) & mask)
    return (high << width) | low
