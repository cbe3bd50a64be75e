"""Arbitrary node ids of a file to numbers 0..n-1, the same on any number of ranks.

The numbers follow the order of the ids. Splitters taken from samples divide the ids among the
ranks; each rank stores its range of distinct ids, sorted, and answers requests for them, so that no
rank holds all ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.owner_exchange import exchange, node_owners
from hpcembed.runtime.ranks import place_rows

__all__ = ["Numbering", "nodes_of_ids"]

#: Ids that each rank contributes to the choice of splitters.
_SAMPLES = 256


class Numbering:
    """The distinct ids of all ranks in ascending order.

    Collective.

    Parameters
    ----------
    comm : MPI.Comm
    ids : sequence of ndarray of int64, or of bytes
        Ids that occur on this rank; of the same type on all ranks.

    Attributes
    ----------
    n_nodes : int
        Number of distinct ids on all ranks.

    Examples
    --------
    >>> numbering = Numbering(MPI.COMM_SELF, [np.array([70, 30]), np.array([50, 70])])
    >>> numbering.n_nodes, numbering.numbers(np.array([50, 70, 30])).tolist()
    (3, [1, 2, 0])
    """

    def __init__(self, comm: MPI.Comm, ids: Sequence[NDArray[Any]]) -> None:
        self._comm = comm
        mine = np.unique(np.concatenate([np.unique(part) for part in ids]))
        sample = mine[np.linspace(0, mine.size - 1, min(_SAMPLES, mine.size)).astype(np.int64)]
        pool = np.sort(np.concatenate(comm.allgather(sample)))
        cuts = (np.arange(1, comm.size) * pool.size) // comm.size
        self._splitters = pool[cuts] if pool.size else np.zeros(comm.size - 1, mine.dtype)
        (held,) = exchange(comm, self._owners(mine), [mine])
        self._ids = np.unique(held)
        self._start, self.n_nodes = place_rows(self._ids.size, comm)

    def _owners(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        return np.searchsorted(self._splitters, ids, side="right").astype(np.int64)

    def numbers(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """Return the node number of each id; all ids must be known. Collective."""

        def number(requested: NDArray[Any]) -> NDArray[np.int64]:
            return np.searchsorted(self._ids, requested) + self._start

        distinct, places = np.unique(ids, return_inverse=True)
        return _answers(self._comm, self._owners(distinct), distinct, number)[places]

    def local_ids(self) -> NDArray[Any]:
        """Return the ids of the nodes that this rank owns as PETSc divides them. Collective."""
        numbers = np.arange(self._start, self._start + self._ids.size)
        # The senders hold ascending ranges, so the ids arrive sorted.
        return exchange(self._comm, node_owners(numbers, self.n_nodes, self._comm), [self._ids])[0]


def nodes_of_ids(
    comm: MPI.Comm, node_ids: NDArray[np.int64], ids: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the node number of each id, -1 for an id without a node.

    Collective.

    Parameters
    ----------
    comm : MPI.Comm
    node_ids : ndarray of int64, shape (n_local,)
        Ids of this rank's nodes, ascending over all ranks.
    ids : ndarray of int64, shape (m,)
    """
    start, _ = place_rows(node_ids.size, comm)

    def number(requested: NDArray[np.int64]) -> NDArray[np.int64]:
        places = np.searchsorted(node_ids, requested)
        found = np.zeros(requested.size, dtype=bool)
        inside = places < node_ids.size
        found[inside] = node_ids[places[inside]] == requested[inside]
        return np.where(found, places + start, -1)

    # Ranks without nodes come last and own no id.
    lowest = np.concatenate(comm.allgather(node_ids[:1]))
    owners = np.maximum(np.searchsorted(lowest, ids, side="right") - 1, 0)
    return _answers(comm, owners, ids, number)


def _answers(
    comm: MPI.Comm,
    owners: NDArray[np.integer[Any]],
    requests: NDArray[Any],
    answer: Callable[[NDArray[Any]], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Send requests to their owners and return the answers in the order of the requests.

    Collective.
    """
    order = np.argsort(owners, kind="stable")
    me = np.full(requests.size, comm.rank, dtype=np.int64)
    requested, senders = exchange(comm, owners, [requests, me])
    # Owners answer in the order of arrival, and answers arrive by rank of the owner.
    received = exchange(comm, senders, [answer(requested)])[0]
    answers = np.empty(requests.size, dtype=np.int64)
    answers[order] = received
    return answers
