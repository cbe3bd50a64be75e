"""Graphs of rows of features or affinities, for :class:`~hpcembed.embedding.SpectralEmbedding`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.data.graphs.assembly import graph_of_affinities
from hpcembed.data.graphs.graph import Graph
from hpcembed.data.graphs.owner_exchange import Lookup
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import place_rows

__all__ = ["OwnRows", "affinity_graph", "neighbour_affinities", "rbf_affinities"]

#: Share of the squared entries of a matrix that may be asymmetric by rounding.
_ASYMMETRY = 1e-12


@dataclass(frozen=True, slots=True)
class OwnRows:
    """Nodes of the caller on this rank, which may differ from PETSc's distribution.

    Attributes
    ----------
    start, n_local : int
    """

    start: int
    n_local: int

    def values_of(self, graph: Graph, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return rows of the caller's nodes from those of the graph's. Collective.

        Parameters
        ----------
        values : ndarray of shape (graph.n_local, k)
        """
        comm = graph.comm
        same = (self.start, self.n_local) == (graph.start, graph.n_local)
        if comm.allreduce(same, op=MPI.LAND):
            return values
        nodes = np.arange(self.start, self.start + self.n_local)
        lookup = Lookup(comm, graph.n_nodes, nodes)
        return np.column_stack([lookup.values(column) for column in values.T])


def affinity_graph(X: Any, comm: MPI.Intracomm) -> tuple[Graph, OwnRows]:
    """Return the graph of this rank's rows of an affinity matrix, or of a PETSc Mat.

    Collective.

    Raises
    ------
    InputError
        A matrix that is not square, or not finite.
    """
    with agreement(comm):
        if isinstance(X, PETSc.Mat):
            first, last = X.getOwnershipRange()
            indptr, indices, data = X.getValuesCSR()
            shape = (last - first, X.getSize()[1])
            rows = scipy.sparse.csr_array((np.real(data), indices, indptr), shape=shape)
        else:
            rows = scipy.sparse.csr_array(X)
        if not np.isfinite(rows.data).all():
            raise InputError("the affinity matrix has values that are not finite: remove them")
    graph = graph_of_affinities(rows, comm, "affinity matrix")
    _warn_of_asymmetry(rows, graph, comm)
    return graph, OwnRows(place_rows(rows.shape[0], comm)[0], rows.shape[0])


def _warn_of_asymmetry(rows: Any, graph: Graph, comm: MPI.Intracomm) -> None:
    """Warn where the mean with the transpose has a smaller norm. Collective."""
    off = rows.tocoo()
    start = int(comm.exscan(rows.shape[0]) or 0)
    off = off.data[off.row + start != off.col].astype(np.float64)
    # scaled, so that no square overflows or vanishes
    largest = comm.allreduce(float(np.max(np.abs(off), initial=0.0)), op=MPI.MAX) or 1.0
    squares = np.array([np.sum((off / largest) ** 2), np.sum((graph.rows.data / largest) ** 2)])
    comm.Allreduce(MPI.IN_PLACE, squares)
    if squares[0] - squares[1] > _ASYMMETRY * squares[0] and comm.rank == 0:
        warnings.warn(
            "the affinity matrix is not symmetric: its mean with its transpose is used",
            UserWarning,
            stacklevel=4,
        )


def neighbour_affinities(X: NDArray[Any], n_neighbors: int, n_jobs: int | None) -> Any:
    """Return 1 for a row and its neighbours, itself included; the mean of both directions."""
    from sklearn.neighbors import kneighbors_graph

    near = kneighbors_graph(X, n_neighbors, include_self=True, n_jobs=n_jobs)
    return scipy.sparse.csr_array(0.5 * (near + near.T))


def rbf_affinities(X: Any, gamma: float) -> NDArray[np.float64]:
    """Return ``exp(-gamma ||x - y||^2)`` of all pairs of rows."""
    from sklearn.metrics.pairwise import rbf_kernel

    return np.asarray(rbf_kernel(X, gamma=gamma))
