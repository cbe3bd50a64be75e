"""Types of graphs: edges as read, and the graph distributed by nodes.

"Node" means a node of the graph here, never a compute node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.settings import GraphOptions

__all__ = ["DEFAULT_OPTIONS", "Graph", "GraphNodes", "GraphOptions", "LocalEdges"]


DEFAULT_OPTIONS = GraphOptions()


@dataclass(frozen=True, slots=True)
class LocalEdges:
    """The edges that one rank has read, from any node to any node.

    Attributes
    ----------
    source, target : ndarray of int64, shape (m,)
        Node numbers if `n_nodes` is known, else ids.
    weight : ndarray of float64, shape (m,), or None
        None on all ranks: every weight is one.
    n_nodes : int or None
        The nodes are 0..n_nodes-1; None if ids are to be numbered.
    name : str
        File or generator, for messages.
    words : ndarray of bytes, or None
        Node ids that are words: the distinct ones of this rank, whose indices are in `source` and
        `target`; None on all ranks for numbers.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float64] | None
    n_nodes: int | None
    name: str
    words: NDArray[np.bytes_] | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """This rank's nodes and their edges.

    Attributes
    ----------
    comm : MPI.Intracomm
    n_nodes, start : int
        Number of nodes on all ranks, and the first node of this rank; nodes are divided as PETSc
        divides rows.
    rows : csr_array of float64, shape (n_local, n_nodes)
        Rows of the symmetric adjacency matrix; columns sorted, without duplicates.
    node_ids : ndarray of int64, shape (n_local,)
        Ids of the nodes in the file; ascending over all ranks.
    components : ndarray of int64, shape (n_local,)
        Smallest node of the connected component of each node.
    n_edges, n_loops, n_isolated, n_components : int
        Number of undirected edges without self-loops, of self-loops, of nodes without edges, of
        connected components.
    largest : int
        Number of nodes of the largest component.
    name : str
    node_names : tuple of str, or None
        Names of this rank's nodes if the ids in the file are words, in ascending order over all
        ranks; the ids are then the numbers of the words.
    """

    comm: MPI.Intracomm
    n_nodes: int
    start: int
    rows: Any
    node_ids: NDArray[np.int64]
    components: NDArray[np.int64]
    n_edges: int
    n_loops: int
    n_isolated: int
    n_components: int
    largest: int
    name: str
    node_names: tuple[str, ...] | None = None

    @property
    def n_local(self) -> int:
        """Number of nodes of this rank."""
        return int(self.rows.shape[0])

    @property
    def stored_bytes(self) -> int:
        """Memory of this rank's rows."""
        rows = self.rows
        return int(rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes)

    def degrees(self) -> NDArray[np.float64]:
        """Return the sum of the weights at each local node, self-loops once. Not collective."""
        return np.asarray(self.rows.sum(axis=1), dtype=np.float64).reshape(-1)

    def describe(self) -> str:
        """Return a summary in one line. Not collective."""
        loops = f", {self.n_loops:,} self-loops" if self.n_loops else ""
        return (
            f"{self.name}: {self.n_nodes:,} nodes, {self.n_edges:,} edges{loops}, "
            f"{self.n_components:,} components, the largest of {self.largest:,} nodes, "
            f"{self.n_isolated:,} nodes without edges"
        )


@dataclass(frozen=True, slots=True)
class GraphNodes:
    """The nodes of a graph to which the rows of a table belong.

    Attributes
    ----------
    graph : Graph
        The whole graph, including nodes of other tables.
    numbers : ndarray of int64, shape (n_rows_local,)
        Node of each row.
    labels : ndarray of int64, shape (graph.n_local,)
        Class codes of this rank's nodes of the graph, -1 for nodes without a label.
    """

    graph: Graph
    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]

    def select(self, keep: NDArray[np.bool_]) -> GraphNodes:
        """Return the nodes of a selection of the rows. Not collective."""
        return replace(self, numbers=self.numbers[keep])
