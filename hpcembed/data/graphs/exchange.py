"""Numbers that travel between ranks by the node they belong to.

Nodes are numbered 0..n-1 and divided among the ranks as PETSc divides rows. :func:`exchange` sends
entries to the rank that owns their node; :class:`Lookup` fetches values of arbitrary nodes from
their owners, as often as needed for one request. Messages stay below
:data:`~hpcembed.runtime.ranks.MAX_MESSAGE_BYTES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.ranks import MAX_MESSAGE_BYTES

__all__ = ["Lookup", "exchange", "first_nodes"]


def first_nodes(n: int, comm: MPI.Comm) -> NDArray[np.int64]:
    """First node of every rank, and `n` at the end, shape (size + 1,). Not collective."""
    share, rest = divmod(n, comm.size)
    ranks = np.arange(comm.size + 1, dtype=np.int64)
    return ranks * share + np.minimum(ranks, rest)


def exchange(
    comm: MPI.Comm, owners: NDArray[np.integer[Any]], arrays: Sequence[NDArray[Any]]
) -> list[NDArray[Any]]:
    """Send every entry to the rank that is to have it.

    Collective.

    Parameters
    ----------
    owners : ndarray of shape (m,)
        Rank of each entry.
    arrays : sequence of ndarray of shape (m,)
        What is sent of each entry; same types on all ranks.

    Returns
    -------
    list of ndarray
        What this rank was sent; in order of the senders, and of the entries of each.
    """
    if comm.size == 1:
        return [np.asarray(array) for array in arrays]
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=comm.size).astype(np.int64)
    return [_send(comm, np.ascontiguousarray(array[order]), counts) for array in arrays]


def _send(comm: MPI.Comm, sorted_by_rank: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[Any]:
    """One array, already sorted by the rank that is to have it. Collective."""
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
    """A standing request for the values of some nodes.

    Collective.

    Parameters
    ----------
    comm : MPI.Comm
    first : ndarray of shape (size + 1,)
        See :func:`first_nodes`.
    nodes : ndarray of int64, shape (m,)
        Any nodes, any number of times.
    """

    def __init__(
        self, comm: MPI.Comm, first: NDArray[np.int64], nodes: NDArray[np.integer[Any]]
    ) -> None:
        self._comm = comm
        self._wanted, self._places = np.unique(nodes, return_inverse=True)
        owners = np.searchsorted(first, self._wanted, side="right") - 1
        self._counts = np.bincount(owners, minlength=comm.size).astype(np.int64)
        if comm.size == 1:
            self._asked = self._wanted
            return
        self._coming = np.empty_like(self._counts)
        comm.Alltoall(self._counts, self._coming)
        self._asked = _send(comm, self._wanted, self._counts) - first[comm.rank]

    def values(self, local: NDArray[Any]) -> NDArray[Any]:
        """Values of the nodes, from those of each rank's own. Collective.

        Parameters
        ----------
        local : ndarray of shape (n_local,)

        Returns
        -------
        ndarray of shape (m,)
        """
        answers = np.ascontiguousarray(local[self._asked])
        if self._comm.size > 1:
            answers = _send(self._comm, answers, self._coming)
        return answers[self._places]
