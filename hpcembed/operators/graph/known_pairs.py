"""Eigenvectors of normalised operators that a graph in parts has without any search.

Every component C with edges has the eigenvector D^1/2 1_C of N for eigenvalue 1, and so does
2 I - L for 2, for which every node without edges has its unit vector. A Krylov space holds one
vector of such an eigenspace, so a solver would fetch the others one after the other; given these,
it stays orthogonal to them and seeks what tells more than the parts.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.exchange import exchange, first_nodes
from hpcembed.data.graphs.graph import Graph
from hpcembed.operators.graph.graph_operators import GraphOperator

__all__ = ["component_vectors"]


def component_vectors(
    graph: Graph, operator: GraphOperator, most: int
) -> tuple[float, NDArray[np.float64]]:
    """The dominant eigenvalue of a normalised operator without tau, and vectors of components.

    Collective.

    Parameters
    ----------
    most : int
        Of the vectors: those of the largest components.

    Returns
    -------
    theta : float
        2 for 2 I - L, 1 for N.
    vectors : ndarray of shape (n_local, c)
        Orthonormal and positive, largest component first; c is `most` at most.
    """
    comm = graph.comm
    isolated = np.diff(graph.rows.indptr) == 0
    counts = ~isolated if operator.kind == "normalized" else np.ones(graph.n_local, dtype=bool)
    roots = _largest(graph, graph.components[counts], most)
    order = np.argsort(roots)
    places = np.searchsorted(roots[order], graph.components)
    places = np.minimum(places, max(roots.size - 1, 0))
    hit = counts & (roots[order][places] == graph.components) if roots.size else counts & False
    column = order[places[hit]] if roots.size else np.empty(0, np.int64)
    entries = np.where(isolated, 1.0, np.sqrt(operator.degrees))[hit]
    # of a rank without entries bincount makes integers
    squares = np.bincount(column, entries**2, minlength=roots.size).astype(np.float64)
    comm.Allreduce(MPI.IN_PLACE, squares)
    vectors = np.zeros((graph.n_local, roots.size), order="F")
    vectors[np.flatnonzero(hit), column] = entries / np.sqrt(squares)[column]
    return (2.0 if operator.is_laplacian else 1.0), vectors


def _largest(graph: Graph, labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Labels of the largest components, largest first; ties by number. Collective."""
    comm, first = graph.comm, first_nodes(graph.n_nodes, graph.comm)
    roots, counts = np.unique(labels, return_counts=True)
    owners = np.searchsorted(first, roots, side="right") - 1
    roots, counts = exchange(comm, owners, [roots, counts])
    sizes = np.bincount(roots - graph.start, counts, minlength=graph.n_local).astype(np.int64)
    own = np.flatnonzero(sizes)
    own = own[np.argsort(-sizes[own], kind="stable")[:most]]
    pairs = np.concatenate(
        comm.allgather(np.column_stack([-sizes[own], own + graph.start]).astype(np.int64))
    )
    ranked = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))][:most]
    return ranked[:, 1]
