"""Data of a figure of a graph: some nodes and edges at their two leading coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.graphs.graph import GraphNodes
from hpcembed.data.graphs.owner_exchange import Lookup
from hpcembed.runtime.counter_random import row_keys, uniform
from hpcembed.runtime.ranks import gather_rows

__all__ = ["GraphDrawing", "draw_from"]

#: Most nodes and edges of a figure; more are indistinguishable.
_MOST_NODES = 20_000
_MOST_EDGES = 20_000


@dataclass(frozen=True, slots=True)
class GraphDrawing:
    """Nodes and edges of a figure.

    Attributes
    ----------
    axes : tuple of int
        Numbers of both spectral coordinates, from 1.
    positions : ndarray of shape (m, 2)
    classes : ndarray of int64, shape (m,)
        Class code of each node, -1 for nodes without a label.
    edges : ndarray of shape (e, 4)
        Both ends: x, y, x, y.
    n_nodes, n_edges : int
        Nodes and edges of the whole graph.
    """

    axes: tuple[int, int]
    positions: NDArray[np.float64]
    classes: NDArray[np.int64]
    edges: NDArray[np.float64]
    n_nodes: int
    n_edges: int


def draw_from(
    nodes: GraphNodes, coordinates: NDArray[np.float64], skipped: int = 0
) -> GraphDrawing | None:
    """Return the data of the figure on rank 0; the same on any number of ranks.

    Collective.

    Parameters
    ----------
    coordinates : ndarray of shape (graph.n_local, k)
        Coordinates of this rank's nodes.
    skipped : int
        Number of leading coordinates that only separate components, which would draw a cross. The
        next two are drawn, if there are two.

    Returns
    -------
    GraphDrawing or None
        None on other ranks, and for a single coordinate.
    """
    graph = nodes.graph
    if coordinates.shape[1] < 2:
        return None
    begin = skipped if skipped + 2 <= coordinates.shape[1] else 0
    leading = np.ascontiguousarray(coordinates[:, begin : begin + 2])
    own = np.arange(graph.start, graph.start + graph.n_local)
    shown = _some(own, graph.n_nodes, _MOST_NODES)
    rows = np.repeat(np.arange(graph.n_local), np.diff(graph.rows.indptr))
    columns = graph.rows.indices.astype(np.int64)
    above = rows + graph.start < columns
    rows, columns = rows[above], columns[above]
    places = (rows + graph.start) * graph.n_nodes + columns
    kept = _some(places, graph.n_edges, _MOST_EDGES)
    rows, columns = rows[kept], columns[kept]
    lookup = Lookup(graph.comm, graph.n_nodes, columns)
    ends = [lookup.values(column) for column in leading.T]
    segments = np.column_stack([leading[rows], *ends])
    parts = [
        gather_rows(graph.comm, part) for part in (leading[shown], nodes.labels[shown], segments)
    ]
    if parts[0] is None or parts[1] is None or parts[2] is None:
        return None
    classes = parts[1].astype(np.int64)
    axes = (begin + 1, begin + 2)
    return GraphDrawing(axes, parts[0], classes, parts[2], graph.n_nodes, graph.n_edges)


def _some(numbers: NDArray[np.int64], total: int, most: int) -> NDArray[np.bool_]:
    """Return a mask of about `most` of `total` items, chosen by their numbers alone."""
    return uniform(row_keys(1, numbers)) * total <= most
