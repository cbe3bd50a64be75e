"""Coordinates of new nodes of a graph from their affinities to the nodes of the graph.

Nystroem: where N u = theta u, the entry of an eigenvector at any node is the mean of the entries at
its neighbours over theta. With a row w of affinities, coordinates are ``(w B + offset) * scale``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.graph import Graph
from hpcembed.data.graphs.owner_exchange import Lookup
from hpcembed.operators.graph.graph_operators import GraphOperator, GraphOperatorKind

__all__ = ["NodeExtension"]

#: Coordinates are multiples of 1/theta; below this share of the largest theta they are zero.
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True, slots=True)
class NodeExtension:
    """Map from affinities of new nodes to their coordinates.

    Attributes
    ----------
    kind : str
        The operator.
    n_nodes : int
    tau : float
    base : ndarray of shape (n_local, k)
        B: this rank's rows.
    offset : ndarray of shape (k,)
    """

    kind: GraphOperatorKind
    n_nodes: int
    tau: float
    base: NDArray[np.float64]
    offset: NDArray[np.float64]

    @classmethod
    def from_eigenpairs(
        cls,
        operator: GraphOperator,
        theta: NDArray[np.float64],
        vectors: NDArray[np.float64],
        graph: Graph,
    ) -> NodeExtension:
        """Return the map for eigenpairs of ``operator.mat``. Collective."""
        theta = theta - 1.0 if operator.is_laplacian else theta
        largest = float(np.max(np.abs(theta), initial=0.0))
        known = np.abs(theta) > _NEGLIGIBLE * largest
        inverse = np.where(known, 1.0 / np.where(known, theta, 1.0), 0.0)
        is_plain = operator.kind in ("adjacency", "modularity")
        base = (1.0 if is_plain else operator.roots[:, None]) * vectors * inverse
        offset = base.sum(axis=0) * (operator.tau / graph.n_nodes)
        if operator.kind == "modularity" and operator.total > 0:
            offset = -(operator.degrees @ base) / operator.total
        graph.comm.Allreduce(MPI.IN_PLACE, offset)
        return cls(operator.kind, graph.n_nodes, operator.tau, base, offset)

    def place(self, affinities: Any, comm: MPI.Intracomm) -> NDArray[np.float64]:
        """Return the coordinates of this rank's new nodes.

        Collective on the ranks of the graph.

        Parameters
        ----------
        affinities : csr_array of shape (m, n_nodes)

        Returns
        -------
        ndarray of shape (m, k)
            Zero for a node without affinities, unless tau is set.
        """
        used, places = np.unique(affinities.indices, return_inverse=True)
        lookup = Lookup(comm, self.n_nodes, used)
        base = np.column_stack([lookup.values(column) for column in self.base.T])
        near = scipy.sparse.csr_array(
            (affinities.data, places.reshape(-1), affinities.indptr),
            shape=(affinities.shape[0], used.size),
        )
        degrees = np.asarray(near.sum(axis=1)).reshape(-1) + self.tau
        placed = near @ base
        if self.kind == "modularity":
            return placed + np.outer(degrees, self.offset)
        if self.kind == "adjacency":
            return placed
        power = 1.0 if self.kind == "random_walk" else 0.5
        scale = np.zeros_like(degrees)
        np.divide(1.0, degrees**power, out=scale, where=degrees > 0)
        return (placed + self.offset) * scale[:, None]
