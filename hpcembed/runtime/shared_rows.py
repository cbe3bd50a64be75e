"""Rows of all ranks in memory that the ranks of a node share: once per node, not once per rank.

Networks of a study are trained by every rank, each on all rows. The memory is an MPI-3 window;
each rank writes its rows straight into their place, and nodes exchange what they lack in messages
of at most :data:`~hpcembed.runtime.ranks.MAX_MESSAGE_BYTES`.
"""

from __future__ import annotations

import typing
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.ranks import MAX_MESSAGE_BYTES

__all__ = ["NodeRows"]


class NodeRows:
    """The rows of all ranks, in rank order, as one array on every rank.

    Collective.

    Parameters
    ----------
    comm : MPI.Intracomm
    rows : ndarray of shape (n_local, ...)
        This rank's rows; same trailing shape and dtype on all ranks.

    Attributes
    ----------
    array : ndarray of shape (n, ...)
        To be read only, until :meth:`destroy`.
    """

    def __init__(self, comm: MPI.Intracomm, rows: NDArray[Any]) -> None:
        counts = np.array(comm.allgather(rows.shape[0]), dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        shape = (int(offsets[-1]), *rows.shape[1:])
        size = int(np.prod(shape, dtype=np.int64)) * rows.itemsize
        node: Any = node_of(comm)
        self._window = MPI.Win.Allocate_shared(max(size, 1) if node.rank == 0 else 0, 1, comm=node)
        memory: Any = self._window.Shared_query(0)[0]
        array: NDArray[Any] = np.ndarray(shape, dtype=rows.dtype, buffer=memory)
        self._window.Lock_all()
        array[offsets[comm.rank] : offsets[comm.rank + 1]] = rows
        self._window.Sync()
        node.Barrier()
        leaders = comm.Split(0 if node.rank == 0 else MPI.UNDEFINED, comm.rank)
        # Which leader has the rows of which rank: ranks of a node know their own leader.
        leader_of = comm.allgather(node.bcast(leaders.rank if node.rank == 0 else None))
        if node.rank == 0:
            for rank, leader in enumerate(leader_of):
                part = array[offsets[rank] : offsets[rank + 1]].view(np.uint8).reshape(-1)
                for first in range(0, part.size if leaders.size > 1 else 0, MAX_MESSAGE_BYTES):
                    leaders.Bcast(part[first : first + MAX_MESSAGE_BYTES], root=leader)
            leaders.Free()
        self._window.Sync()
        node.Barrier()
        self._window.Sync()
        self._node = node
        self.array = array

    def destroy(self) -> None:
        """Free the memory; nobody may use the array any more. Collective."""
        del self.array
        self._window.Unlock_all()
        self._window.Free()
        self._node.Free()


def node_of(comm: MPI.Intracomm) -> MPI.Intracomm:
    """Ranks that share this rank's memory. Collective."""
    return typing.cast(MPI.Intracomm, comm.Split_type(MPI.COMM_TYPE_SHARED))
