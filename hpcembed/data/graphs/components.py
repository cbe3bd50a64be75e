"""Connected components of a distributed graph.

Every node points at a node of its component with a smaller number; at the end at the smallest one.
A round looks at the neighbours, hooks whole trees on the smallest pointer that one of their nodes
has seen, and shortens the pointers, so that the number of rounds grows with the logarithm of the
diameter in practice.
Reference: Y. Zhang, A. Azad, Z. Hu, FastSV: A distributed-memory connected component algorithm
with fast convergence, SIAM PP 2020.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.exchange import Lookup, exchange, first_nodes
from hpcembed.data.graphs.numbering import values_of

__all__ = ["component_labels", "component_sizes"]


def component_labels(comm: MPI.Comm, rows: Any) -> NDArray[np.int64]:
    """Smallest node of the component of each local node.

    Collective.

    Parameters
    ----------
    rows : csr_array of shape (n_local, n)
        This rank's rows of a symmetric adjacency matrix.

    Returns
    -------
    ndarray of int64, shape (n_local,)
    """
    n_local, n = rows.shape
    first = first_nodes(n, comm)
    start = int(first[comm.rank])
    parents = np.arange(start, start + n_local, dtype=np.int64)
    neighbours = Lookup(comm, first, rows.indices)
    linked = np.flatnonzero(np.diff(rows.indptr))
    while True:
        seen = parents.copy()
        if_linked = neighbours.values(parents)
        if linked.size:
            smallest = np.minimum.reduceat(if_linked, rows.indptr[linked].astype(np.intp))
            seen[linked] = np.minimum(seen[linked], smallest)
        lower = seen < parents
        changed = _hook(comm, first, parents, parents[lower], seen[lower])
        changed |= bool(lower.any())
        np.minimum(parents, seen, out=parents)
        while True:  # until every node points at a root
            jumped = values_of(comm, n, parents, parents)
            moved = bool((jumped < parents).any())
            parents = jumped
            if not comm.allreduce(moved, op=MPI.LOR):
                break
            changed = True
        if not comm.allreduce(changed, op=MPI.LOR):
            return parents


def _hook(
    comm: MPI.Comm,
    first: NDArray[np.int64],
    parents: NDArray[np.int64],
    roots: NDArray[np.int64],
    targets: NDArray[np.int64],
) -> bool:
    """Let roots point at what one of their nodes has seen. Collective."""
    owners = np.searchsorted(first, roots, side="right") - 1
    roots, targets = exchange(comm, owners, [roots, targets])
    before = parents.copy()
    np.minimum.at(parents, roots - first[comm.rank], targets)
    return bool((parents < before).any())


def component_sizes(comm: MPI.Comm, labels: NDArray[np.int64], n: int) -> tuple[int, int, int]:
    """Number of components, a node of the largest one, and its size; ties go to smaller numbers.

    Collective.
    """
    first = first_nodes(n, comm)
    roots, counts = np.unique(labels, return_counts=True)
    owners = np.searchsorted(first, roots, side="right") - 1
    roots, counts = exchange(comm, owners, [roots, counts])
    sizes = np.zeros(labels.size, dtype=np.int64)
    np.add.at(sizes, roots - first[comm.rank], counts)
    number = int(comm.allreduce(int(np.count_nonzero(sizes))))
    best = int(sizes.argmax()) if sizes.size else 0
    mine = (int(sizes[best]), -(best + int(first[comm.rank]))) if sizes.size else (0, 0)
    size, root = max(comm.allgather(mine))
    return number, -root, size
