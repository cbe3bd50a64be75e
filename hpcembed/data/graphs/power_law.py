"""Random graphs with power-law degrees, of any size, by any number of ranks.

Edge e joins two nodes that depend on (seed, e) alone. :mod:`miramns.power_law` draws them, and
states the distribution and its reference. The uniform numbers come from
:mod:`hpcembed.runtime.counter_random`: a seed gives the same graph in every release. The benchmark
of eigensolvers draws other numbers from the same distribution. Self-loops and repeated edges are
dropped, so somewhat fewer edges remain than were drawn.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from hpcembed.data.graphs.assembly import build_graph
from hpcembed.data.graphs.graph import Graph, GraphOptions, LocalEdges
from hpcembed.runtime.counter_random import row_keys, uniform
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.machine.memory import available_per_rank, check_fits
from hpcembed.runtime.ranks import ownership_range
from miramns.power_law import power_law_vertices

__all__ = ["power_law_graph"]

_STREAMS = (0x5EED0011, 0x5EED0012)
_BYTES_PER_EDGE = 160
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
    >>> graph.n_nodes, 2500 < graph.n_edges < 3000, bool(graph.degrees().max() > 30)
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
    edges = np.arange(first, last)
    source, target = (
        power_law_vertices(uniform(row_keys(seed ^ stream, edges)), n_nodes, n_edges, exponent)
        for stream in _STREAMS
    )
    return build_graph(LocalEdges(source, target, None, n_nodes, name), comm, options)
