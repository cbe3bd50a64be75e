"""Eigenvectors of normalised graph operators, computed from connected components without a solver.

For each component C with edges, D^1/2 1_C is an eigenvector of N with eigenvalue 1, and of 2 I - L
with eigenvalue 2. For each isolated node, its unit vector is an eigenvector of 2 I - L with
eigenvalue 2. A Krylov space contains one vector of each eigenspace, so a solver would find these
vectors one after another. A solver that stays orthogonal to them finds the structure inside the
components.

Reference: U. von Luxburg, A tutorial on spectral clustering, Statistics and Computing 17 (2007),
Proposition 4.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.components import largest_components
from hpcembed.data.graphs.graph import Graph
from hpcembed.operators.graph.graph_operators import GraphOperator

__all__ = ["component_eigenvectors"]


def component_eigenvectors(
    graph: Graph, operator: GraphOperator, most: int
) -> tuple[float, NDArray[np.float64]]:
    """Return the dominant eigenvalue of a normalised operator, and eigenvectors of components.

    Collective.

    Parameters
    ----------
    graph : Graph
    operator : GraphOperator
        A normalised operator of this graph, without tau.
    most : int
        Largest number of vectors; the largest components come first.

    Returns
    -------
    theta : float
        2 for 2 I - L, 1 for N.
    vectors : ndarray of shape (n_local, c)
        Orthonormal and nonnegative, largest component first; ``c <= most``.

    Examples
    --------
    An edge and an isolated node:

    >>> from hpcembed.data.graphs.assembly import build_graph
    >>> from hpcembed.data.graphs.graph import LocalEdges
    >>> from hpcembed.operators.graph.graph_operators import graph_operator
    >>> edges = LocalEdges(np.array([0]), np.array([1]), None, 3, "edge")
    >>> graph = build_graph(edges, MPI.COMM_SELF)
    >>> operator = graph_operator(graph, "laplacian")
    >>> theta, vectors = component_eigenvectors(graph, operator, 2)
    >>> theta, vectors.round(3).tolist()
    (2.0, [[0.707, 0.0], [0.707, 0.0], [0.0, 1.0]])
    >>> operator.destroy()
    """
    comm = graph.comm
    isolated = np.diff(graph.rows.indptr) == 0
    counts = ~isolated if operator.kind == "normalized" else np.ones(graph.n_local, dtype=bool)
    roots = largest_components(comm, graph.components[counts], graph.n_nodes, most)
    order = np.argsort(roots)
    places = np.searchsorted(roots[order], graph.components)
    places = np.minimum(places, max(roots.size - 1, 0))
    hit = counts & (roots[order][places] == graph.components) if roots.size else counts & False
    column = order[places[hit]] if roots.size else np.empty(0, np.int64)
    entries = np.where(isolated, 1.0, np.sqrt(operator.degrees))[hit]
    # bincount returns integers on a rank without entries
    squares = np.bincount(column, entries**2, minlength=roots.size).astype(np.float64)
    comm.Allreduce(MPI.IN_PLACE, squares)
    vectors = np.zeros((graph.n_local, roots.size), order="F")
    vectors[np.flatnonzero(hit), column] = entries / np.sqrt(squares)[column]
    return (2.0 if operator.is_laplacian else 1.0), vectors
