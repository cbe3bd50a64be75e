"""Sums of blocks that are the same to the last bit on any number of ranks.

Floating-point sums depend on their order, and a reduction over ranks adds the parts of the ranks.
Here the order belongs to the data: blocks with global indices are added in a binary tree whose node
i of level l is the sum of blocks ``i 2^l`` to ``(i + 1) 2^l - 1``. A rank adds the nodes of which
it has all blocks; rank 0 receives the others' nodes in block order and adds the rest.

Memory: one node for each level. Messages: at most two nodes for each level from every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.ranks import MAX_MESSAGE_BYTES

if TYPE_CHECKING:  # functions that communicate need MPI; the others do without it
    from mpi4py import MPI

__all__ = ["BlockOrderedSum"]

Array = NDArray[np.float64]

_TAG = 13


class BlockOrderedSum:
    """Sum of arrays of equal shape, one for each block of a global numbering.

    Parameters
    ----------
    combine : callable, optional
        ``combine(left, right)`` returns the sum of two nodes, and may change both. Default: their
        entries are added.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> total = BlockOrderedSum()
    >>> for index in range(3):
    ...     total.add(index, np.array([1.0 + index]))
    >>> total.on_root(MPI.COMM_SELF)
    array([6.])
    """

    def __init__(self, combine: Callable[[Array, Array], Array] | None = None) -> None:
        self._combine = combine or _added
        # level, index and sum of nodes in block order; no two of them have one parent
        self._nodes: list[tuple[int, int, Array]] = []

    def add(self, index: int, value: Array, level: int = 0) -> None:
        """Add a block, or a node of a higher level.

        Not collective. Indices increase from call to call. `value` may be changed later.
        """
        nodes = self._nodes
        while index % 2 and nodes and nodes[-1][:2] == (level, index - 1):
            value = self._combine(nodes.pop()[2], value)
            level, index = level + 1, index // 2
        nodes.append((level, index, value))

    def on_root(self, comm: MPI.Comm) -> Array | None:
        """Return the sum of the blocks of all ranks on rank 0, None elsewhere.

        Collective. Blocks of a rank precede those of the next one. The nodes are used up.

        Raises
        ------
        ValueError
            No rank has a block.
        """
        mine, self._nodes = self._nodes, []
        if comm.rank:
            _send(comm, mine)
            return None
        self._nodes = mine
        for source in range(1, comm.size):
            for level, index, value in _received(comm, source):
                self.add(index, value, level)
        if not self._nodes:
            raise ValueError("there are no blocks to be added")
        total = self._nodes.pop()[2]
        while self._nodes:
            total = self._combine(self._nodes.pop()[2], total)
        return total


def _added(left: Array, right: Array) -> Array:
    # callers test for values that are not finite
    with np.errstate(over="ignore", invalid="ignore"):
        return np.add(left, right, out=left)


def _send(comm: MPI.Comm, nodes: list[tuple[int, int, Array]]) -> None:
    """Send nodes to rank 0."""
    order: Any = "F" if nodes and nodes[0][2].flags.f_contiguous else "C"
    shape = nodes[0][2].shape if nodes else ()
    comm.send((shape, order, [node[:2] for node in nodes]), dest=0, tag=_TAG)
    for *_, value in nodes:
        for piece in _pieces(np.asarray(value, order=order), order):
            comm.Send(piece, dest=0, tag=_TAG)


def _received(comm: MPI.Comm, source: int) -> Iterator[tuple[int, int, Array]]:
    """Yield the nodes of a rank, one at a time."""
    shape, order, places = comm.recv(source=source, tag=_TAG)
    for level, index in places:
        value: Array = np.empty(shape, order=order)
        for piece in _pieces(value, order):
            comm.Recv(piece, source, tag=_TAG)
        yield level, index, value


def _pieces(value: Array, order: Any) -> Iterator[Array]:
    """Yield the memory of a contiguous array in messages of limited size."""
    flat = value.reshape(-1, order=order)
    step = MAX_MESSAGE_BYTES // flat.itemsize
    for first in range(0, flat.size, step):
        yield flat[first : first + step]
