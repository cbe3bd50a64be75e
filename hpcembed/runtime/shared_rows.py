"""Rows of all ranks, stored once per compute node in memory that its ranks share.

Each rank of a study trains networks on all rows. The rows are in an MPI-3 shared-memory window.
Each rank writes its rows to their position, and compute nodes exchange missing rows in messages of
at most :data:`~hpcembed.runtime.ranks.MAX_MESSAGE_BYTES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.ranks import MAX_MESSAGE_BYTES, compute_node

__all__ = ["SharedRows"]


class SharedRows:
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
        Read only; valid until :meth:`destroy`.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> shared = SharedRows(MPI.COMM_WORLD, np.array([[1.0, 2.0]]))
    >>> shared.array.shape == (MPI.COMM_WORLD.size, 2)
    True
    >>> shared.destroy()
    """

    def __init__(self, comm: MPI.Intracomm, rows: NDArray[Any]) -> None:
        counts = np.array(comm.allgather(rows.shape[0]), dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        shape = (int(offsets[-1]), *rows.shape[1:])
        size = int(np.prod(shape, dtype=np.int64)) * rows.itemsize
        node: Any = compute_node(comm)
        self._window = MPI.Win.Allocate_shared(max(size, 1) if node.rank == 0 else 0, 1, comm=node)
        memory: Any = self._window.Shared_query(0)[0]
        array: NDArray[Any] = np.ndarray(shape, dtype=rows.dtype, buffer=memory)
        self._window.Lock_all()
        array[offsets[comm.rank] : offsets[comm.rank + 1]] = rows
        self._window.Sync()
        node.Barrier()
        leaders = comm.Split(0 if node.rank == 0 else MPI.UNDEFINED, comm.rank)
        # The leader that holds the rows of each rank: only ranks of one compute node share it.
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
        """Free the memory; the array must not be used afterwards. Collective."""
        del self.array
        self._window.Unlock_all()
        self._window.Free()
        self._node.Free()
