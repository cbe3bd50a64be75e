"""Random nodes of graphs with power-law degrees.

Graph node i of n is drawn with a probability proportional to
``(i + shift) ** (-1 / (exponent - 1))``. If both ends of every edge are drawn so, the number of
nodes of degree x falls as ``x ** -exponent``. The distribution is inverted in closed form, so
nothing of the size of the graph is stored. The shift limits the largest expected degree to the
square root of the number of ends: two nodes of larger degrees would be joined more than once.

The benchmark of eigensolvers and the graphs of hpcembed share this module, which needs numpy only.

Reference: Chung, Lu, "Connected components in random graphs with given expected degree sequences",
Annals of Combinatorics 6 (2002).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0.6180339887498949


def power_law_vertices(
    uniform: NDArray[np.float64], n: int, n_edges: int, exponent: float
) -> NDArray[np.int64]:
    """Map uniform random numbers to graph nodes; independent numbers give independent nodes.

    Parameters
    ----------
    uniform : ndarray
        Numbers between 0 and 1.
    n, n_edges : int
        Nodes and edges of the whole graph.
    exponent : float
        More than 2.

    Returns
    -------
    ndarray of the same shape
        Nodes from 0 to n - 1. Those of large degree are spread evenly over this range, so that
        every rank of a distributed graph has its share of the edges.

    Examples
    --------
    >>> power_law_vertices(np.array([0.0, 0.01, 0.5]), 1000, 5000, 2.5)
    array([  0,   0, 953])
    """
    power = 1.0 / (exponent - 1.0)
    shift = _shift(n, n_edges, power)
    low, high = shift ** (1 - power), (n + shift) ** (1 - power)
    rank = (low + uniform * (high - low)) ** (1 / (1 - power)) - shift
    place = np.clip(rank.astype(np.int64), 0, n - 1)
    return np.asarray((place * _stride(n)) % n)


def _shift(n: int, m: int, power: float) -> float:
    """Return the smallest shift with which no expected degree exceeds the square root of 2 m."""

    def largest(shift: float) -> float:
        total = ((n + shift) ** (1 - power) - shift ** (1 - power)) / (1 - power)
        return 2 * m * (shift + 0.5) ** -power / total

    low, high = 0.0, float(n)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if largest(middle) > math.sqrt(2 * m) else (low, middle)
    return high


def _stride(n: int) -> int:
    """Return a step that visits all of n places, each far from the one before."""
    step = min(max(1, round(_GOLDEN * n)), (2**63 - 1) // n)
    while math.gcd(step, n) != 1:
        step -= 1
    return step
