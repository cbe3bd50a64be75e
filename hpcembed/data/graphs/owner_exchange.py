"""Values sent between ranks to or from the owners of graph nodes.

Nodes 0..n-1 are divided among the ranks as PETSc divides rows. :func:`exchange` sends entries to
given ranks; :class:`Lookup` fetches values of arbitrary nodes from their owners, any number of
times. Messages stay below :data:`~hpcembed.runtime.ranks.MAX_MESSAGE_BYTES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.ranks import MAX_MESSAGE_BYTES, ownership_range

__all__ = ["Lookup", "exchange", "node_owners"]


def node_owners(nodes: NDArray[np.integer[Any]], n: int, comm: MPI.Comm) -> NDArray[np.int64]:
    """Return the rank that owns each node. Not collective.

    Parameters
    ----------
    nodes : ndarray of int, shape (m,)
    n : int
        Number of nodes on all ranks.
    comm : MPI.Comm
    """
    share, rest = divmod(n, comm.size)
    ranks = np.arange(comm.size, dtype=np.int64)
    first = ranks * share + np.minimum(ranks, rest)
    return np.searchsorted(first, nodes, side="right").astype(np.int64) - 1


def exchange(
    comm: MPI.Comm, owners: NDArray[np.integer[Any]], arrays: Sequence[NDArray[Any]]
) -> list[NDArray[Any]]:
    """Send each entry to a rank.

    Collective.

    Parameters
    ----------
    comm : MPI.Comm
    owners : ndarray of shape (m,)
        Destination of each entry.
    arrays : sequence of ndarray of shape (m,)
        Values of each entry; same types on all ranks.

    Returns
    -------
    list of ndarray
        Values received, by rank of the sender, in the order of its entries.
    """
    if comm.size == 1:
        return [np.asarray(array) for array in arrays]
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=comm.size).astype(np.int64)
    return [_send(comm, np.ascontiguousarray(array[order]), counts) for array in arrays]


def _send(comm: MPI.Comm, sorted_by_rank: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[Any]:
    """Send one array, sorted by destination, in rounds of bounded messages. Collective."""
    coming = np.empty_like(counts)
    comm.Alltoall(counts, coming)
    received = np.empty(int(coming.sum()), dtype=sorted_by_rank.dtype)
    piece = max(1, MAX_MESSAGE_BYTES // (sorted_by_rank.itemsize * comm.size))
    rounds = -(-int(comm.allreduce(int(counts.max()), op=MPI.MAX)) // piece)
    out, into = (np.concatenate([[0], np.cumsum(c)[:-1]]) for c in (counts, coming))
    for done in range(0, rounds * piece, piece):
        now, then = (np.clip(c - done, 0, piece) for c in (counts, coming))
        packed = np.concatenate(
            [sorted_by_rank[f + done : f + done + c] for f, c in zip(out, now, strict=True)]
        )
        arrived = np.empty(int(then.sum()), dtype=received.dtype)
        size = packed.itemsize
        comm.Alltoallv(
            (packed.view(np.uint8), (now * size).tolist(), MPI.BYTE),
            (arrived.view(np.uint8), (then * size).tolist(), MPI.BYTE),
        )
        for part, first, count in zip(
            np.split(arrived, np.cumsum(then)[:-1]), into, then, strict=True
        ):
            received[first + done : first + done + count] = part
    return received


class Lookup:
    """A repeatable request for the values of given nodes.

    Collective.

    Parameters
    ----------
    comm : MPI.Comm
    n : int
        Number of nodes on all ranks.
    nodes : ndarray of int, shape (m,)
        Any nodes, in any order, repeated or not.

    Examples
    --------
    >>> Lookup(MPI.COMM_SELF, 3, np.array([2, 0, 2])).values(np.array([5.0, 6.0, 7.0]))
    array([7., 5., 7.])
    """

    def __init__(self, comm: MPI.Comm, n: int, nodes: NDArray[np.integer[Any]]) -> None:
        self._comm = comm
        self._wanted, self._places = np.unique(nodes, return_inverse=True)
        owners = node_owners(self._wanted, n, comm)
        self._counts = np.bincount(owners, minlength=comm.size).astype(np.int64)
        if comm.size == 1:
            self._requested = self._wanted
            return
        self._coming = np.empty_like(self._counts)
        comm.Alltoall(self._counts, self._coming)
        start, _ = ownership_range(n, comm)
        self._requested = _send(comm, self._wanted, self._counts) - start

    def values(self, local: NDArray[Any]) -> NDArray[Any]:
        """Return the values of the nodes, from the local values of all ranks. Collective.

        Parameters
        ----------
        local : ndarray of shape (n_local,)

        Returns
        -------
        ndarray of shape (m,)
        """
        answers = np.ascontiguousarray(local[self._requested])
        if self._comm.size > 1:
            answers = _send(self._comm, answers, self._coming)
        return answers[self._places]
