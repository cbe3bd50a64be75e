"""Random graphs with a power law of the degrees, of any size, on any number of ranks.

Edge e joins two nodes that are functions of (seed, e) alone. Node i is drawn with a probability
proportional to ``(i + shift)^(-1 / (exponent - 1))``; the number of nodes of degree x then falls as
``x^-exponent``. The distribution is inverted in closed form, so no rank holds an array of the size
of the graph. `shift` limits the largest expected degree to the square root of the number of edge
ends, beyond which two hubs would be joined more than once. Self-loops and repeated edges are
dropped, so somewhat fewer edges remain than were drawn.

Reference: F. Chung, L. Lu, Connected components in random graphs with given expected degree
sequences, Annals of Combinatorics 6 (2002).
"""

from __future__ import annotations

import math

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.assembly import build_graph
from hpcembed.data.graphs.graph import Graph, GraphOptions, LocalEdges
from hpcembed.runtime.counter_random import row_keys, uniform
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.memory import available_per_rank, check_fits
from hpcembed.runtime.ranks import ownership_range

__all__ = ["power_law_graph"]

_STREAMS = (0x5EED0011, 0x5EED0012)
_BYTES_PER_EDGE = 160
_GOLDEN = 0.6180339887498949
_OPTIONS = GraphOptions(duplicates="once")


def power_law_graph(
    n_nodes: int,
    n_edges: int,
    comm: MPI.Intracomm,
    *,
    exponent: float = 2.5,
    seed: int = 0,
    options: GraphOptions = _OPTIONS,
) -> Graph:
    """Generate a random graph of the Chung-Lu model.

    Collective.

    Parameters
    ----------
    n_nodes, n_edges : int
        Number of nodes, and number of edges drawn.
    comm : MPI.Intracomm
    exponent : float
        Greater than 2.
    seed : int
    options : GraphOptions

    Raises
    ------
    ConfigError
        Too few nodes or edges, or an exponent that is too small.
    MemoryLimitError

    Examples
    --------
    >>> graph = power_law_graph(1000, 3000, MPI.COMM_SELF, seed=1)
    >>> graph.n_nodes, 2500 < graph.n_edges < 3000, graph.degrees().max() > 30
    (1000, True, True)
    """
    if n_nodes < 2 or n_edges < 1 or not exponent > 2:
        raise ConfigError(
            f"power_law: {n_nodes} nodes, {n_edges} edges, exponent {exponent}: at least 2 nodes, "
            "1 edge and an exponent above 2 are needed"
        )
    share = -(-n_edges // comm.size)
    name = f"power_law(n={n_nodes}, m={n_edges}, exponent={exponent:g}, seed={seed})"
    check_fits(share * _BYTES_PER_EDGE, available_per_rank(comm), name, "use more ranks")
    first, last = ownership_range(n_edges, comm)
    shift = _shift(n_nodes, n_edges, 1.0 / (exponent - 1.0))
    source, target = (
        _ends(n_nodes, 1.0 / (exponent - 1.0), shift, seed ^ stream, first, last)
        for stream in _STREAMS
    )
    return build_graph(LocalEdges(source, target, None, n_nodes, name), comm, options)


def _shift(n: int, m: int, power: float) -> float:
    """Return the smallest shift for which no expected degree exceeds the square root of 2 m."""

    def largest(shift: float) -> float:
        total = ((n + shift) ** (1 - power) - shift ** (1 - power)) / (1 - power)
        return 2 * m * (shift + 0.5) ** -power / total

    low, high = 0.0, float(n)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if largest(middle) > math.sqrt(2 * m) else (low, middle)
    return high


def _ends(
    n: int, power: float, shift: float, seed: int, first: int, last: int
) -> NDArray[np.int64]:
    """Return one end of each edge first..last-1. Not collective."""
    chance = uniform(row_keys(seed, np.arange(first, last)))
    low, high = shift ** (1 - power), (n + shift) ** (1 - power)
    rank = (low + chance * (high - low)) ** (1 / (1 - power)) - shift
    place = np.clip(rank.astype(np.int64), 0, n - 1)
    # Spread the hubs over all numbers, so that every rank has its share of the entries.
    return (place * _stride(n)) % n


def _stride(n: int) -> int:
    """Return a step that visits all of n places and moves far each time. Not collective."""
    step = min(max(1, round(_GOLDEN * n)), (2**63 - 1) // n)
    while math.gcd(step, n) != 1:
        step -= 1
    return step
