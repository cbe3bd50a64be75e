"""Connected components of a distributed graph.

Method: each node points to a node of its component with a smaller or equal number, at the end to
the smallest one. A round compares the pointers of neighbours, hooks whole trees onto the smallest
pointer that any of their nodes has seen, and shortens the pointers. In practice the number of
rounds grows with the logarithm of the diameter.

Reference: Y. Zhang, A. Azad, Z. Hu, FastSV: A distributed-memory connected component algorithm
with fast convergence, SIAM PP 2020.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.owner_exchange import Lookup, exchange, node_owners
from hpcembed.runtime.ranks import ownership_range

__all__ = ["component_labels", "component_sizes", "largest_components"]


def component_labels(comm: MPI.Comm, rows: Any) -> NDArray[np.int64]:
    """Return the smallest node of the component of each local node.

    Collective.

    Parameters
    ----------
    comm : MPI.Comm
    rows : csr_array of shape (n_local, n)
        This rank's rows of a symmetric adjacency matrix.

    Returns
    -------
    ndarray of int64, shape (n_local,)

    Examples
    --------
    >>> import scipy.sparse
    >>> rows = scipy.sparse.csr_array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    >>> component_labels(MPI.COMM_SELF, rows)
    array([0, 0, 2])
    """
    n = rows.shape[1]
    parents = np.arange(*ownership_range(n, comm), dtype=np.int64)
    neighbours = Lookup(comm, n, rows.indices)
    linked = np.flatnonzero(np.diff(rows.indptr))
    while True:
        seen = parents.copy()
        of_neighbours = neighbours.values(parents)
        if linked.size:
            smallest = np.minimum.reduceat(of_neighbours, rows.indptr[linked].astype(np.intp))
            seen[linked] = np.minimum(seen[linked], smallest)
        lower = seen < parents
        changed = _hook(comm, n, parents, parents[lower], seen[lower])
        changed |= bool(lower.any())
        np.minimum(parents, seen, out=parents)
        while True:  # until every node points to a root
            jumped = Lookup(comm, n, parents).values(parents)
            moved = bool((jumped < parents).any())
            parents = jumped
            if not comm.allreduce(moved, op=MPI.LOR):
                break
            changed = True
        if not comm.allreduce(changed, op=MPI.LOR):
            return parents


def _hook(
    comm: MPI.Comm,
    n: int,
    parents: NDArray[np.int64],
    roots: NDArray[np.int64],
    targets: NDArray[np.int64],
) -> bool:
    """Point roots to the targets that their nodes have seen; return whether one moved here.

    Collective.
    """
    roots, targets = exchange(comm, node_owners(roots, n, comm), [roots, targets])
    before = parents.copy()
    np.minimum.at(parents, roots - ownership_range(n, comm)[0], targets)
    return bool((parents < before).any())


def component_sizes(comm: MPI.Comm, labels: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the size of the component of which each local node is the label; else 0.

    Collective.

    Parameters
    ----------
    comm : MPI.Comm
    labels : ndarray of int64
        From :func:`component_labels`; labels of some of the nodes count these nodes only.
    n : int
        Number of nodes on all ranks.

    Returns
    -------
    ndarray of int64, shape (n_local,)
    """
    start, stop = ownership_range(n, comm)
    roots, counts = np.unique(labels, return_counts=True)
    roots, counts = exchange(comm, node_owners(roots, n, comm), [roots, counts])
    return np.bincount(roots - start, counts, minlength=stop - start).astype(np.int64)


def largest_components(
    comm: MPI.Comm, labels: NDArray[np.int64], n: int, most: int
) -> NDArray[np.int64]:
    """Return the labels of the `most` largest components, largest first; ties by number.

    Collective. Parameters as for :func:`component_sizes`.
    """
    start, _ = ownership_range(n, comm)
    sizes = component_sizes(comm, labels, n)
    own = np.flatnonzero(sizes)
    own = own[np.argsort(-sizes[own], kind="stable")[:most]]
    pairs = np.concatenate(comm.allgather(np.column_stack([-sizes[own], own + start])))
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))][:most, 1]
