"""Node ids of a file, whatever they are, as numbers 0..n-1: the same ones on any number of ranks.

The numbers follow the order of the ids. Ranks share out the ids by splitters from samples, each
keeps a range of them once, sorted, and answers for it; no rank holds all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.exchange import Lookup, exchange, first_nodes

__all__ = ["Numbering", "new_numbers", "nodes_of_ids", "values_of"]

#: Ids that each rank gives for the choice of splitters.
_SAMPLES = 256


class Numbering:
    """The distinct ids of all ranks in ascending order.

    Collective.

    Parameters
    ----------
    comm : MPI.Comm
    ids : sequence of ndarray of int64
        Ids that occur on this rank.

    Attributes
    ----------
    n_nodes : int
        Distinct ids on all ranks.
    """

    def __init__(self, comm: MPI.Comm, ids: Sequence[NDArray[np.int64]]) -> None:
        self._comm = comm
        mine = np.unique(np.concatenate([np.unique(part) for part in ids]))
        sample = mine[np.linspace(0, mine.size - 1, min(_SAMPLES, mine.size)).astype(np.int64)]
        pool = np.sort(np.concatenate(comm.allgather(sample)))
        cuts = (np.arange(1, comm.size) * pool.size) // comm.size
        self._splitters = pool[cuts] if pool.size else np.zeros(comm.size - 1, np.int64)
        (held,) = exchange(comm, self._owners(mine), [mine])
        self._ids = np.unique(held)
        self._start = int(cast(MPI.Intracomm, comm).exscan(self._ids.size) or 0)
        self.n_nodes = int(comm.allreduce(self._ids.size))

    def _owners(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._splitters, ids, side="right").astype(np.int64)

    def numbers(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Node number of each id, all of which must be known. Collective."""
        distinct, places = np.unique(ids, return_inverse=True)
        owners = self._owners(distinct)
        me = np.full(distinct.size, self._comm.rank, dtype=np.int64)
        asked, askers = exchange(self._comm, owners, [distinct, me])
        answers = np.searchsorted(self._ids, asked) + self._start
        # Owners answer in the order they were asked, and `distinct` is sorted by owner already.
        (numbers,) = exchange(self._comm, askers, [answers])
        return np.asarray(numbers[places], dtype=np.int64)

    def local_ids(self) -> NDArray[np.int64]:
        """Ids of the nodes that this rank owns as PETSc divides them. Collective."""
        numbers = np.arange(self._start, self._start + self._ids.size)
        first = first_nodes(self.n_nodes, self._comm)
        owners = np.searchsorted(first, numbers, side="right") - 1
        # By order of the senders, who hold ascending ranges: sorted already.
        return exchange(self._comm, owners, [self._ids])[0]


def nodes_of_ids(
    comm: MPI.Comm, node_ids: NDArray[np.int64], ids: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Node number of each id, -1 for an id that no node has.

    Collective.

    Parameters
    ----------
    node_ids : ndarray of int64, shape (n_local,)
        Ids of this rank's nodes, ascending over all ranks.
    ids : ndarray of int64, shape (m,)
    """
    n_local = int(node_ids.size)
    start = int(cast(MPI.Intracomm, comm).exscan(n_local) or 0)
    # Ranks without nodes come last and own nothing.
    lowest = np.concatenate(comm.allgather(node_ids[:1]))
    owners = np.maximum(np.searchsorted(lowest, ids, side="right") - 1, 0)
    order = np.argsort(owners, kind="stable")
    me = np.full(ids.size, comm.rank, dtype=np.int64)
    asked, askers = exchange(comm, owners, [ids, me])
    places = np.searchsorted(node_ids, asked)
    found = np.zeros(asked.size, dtype=bool)
    inside = places < n_local
    found[inside] = node_ids[places[inside]] == asked[inside]
    (answers,) = exchange(comm, askers, [np.where(found, places + start, -1)])
    nodes = np.empty(ids.size, dtype=np.int64)
    nodes[order] = answers
    return nodes


def new_numbers(comm: MPI.Comm, keep: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """Numbers of the nodes that are kept, -1 for the others, and how many are. Collective."""
    count = int(np.count_nonzero(keep))
    before = int(cast(MPI.Intracomm, comm).exscan(count) or 0)
    numbers = np.where(keep, before + np.cumsum(keep) - 1, -1)
    return numbers.astype(np.int64), int(comm.allreduce(count))


def values_of(
    comm: MPI.Comm, n_nodes: int, local: NDArray[Any], nodes: NDArray[np.int64]
) -> NDArray[Any]:
    """Values of any nodes from their owners, once. Collective."""
    return Lookup(comm, first_nodes(n_nodes, comm), nodes).values(local)
