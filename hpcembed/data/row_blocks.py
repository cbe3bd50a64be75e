"""Blocks of rows by global index, the same on any number of ranks.

Block b has the rows ``b s`` to ``(b + 1) s - 1`` of the whole data, and belongs to the rank that
has the first of them. Ranks have consecutive rows, so a rank lacks at most the end of its last
block: it receives these rows from the ranks that follow. Calls of BLAS then have the same
arguments, shapes included, whatever the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import scipy.sparse
from mpi4py import MPI

from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import place_rows

__all__ = ["GlobalBlocks", "global_block_rows", "global_blocks"]

#: Blocks of a small data set, so that several ranks have some.
_BLOCKS = 64

#: Rows of a block: limits, and the largest number of entries of a block.
_LEAST_ROWS, _MOST_ROWS, _MOST_ENTRIES = 64, 4096, 2**22

_TAG = 17


def global_block_rows(n_rows: int, n_features: int) -> int:
    """Return the rows of a block, from the shape of the whole data alone.

    Examples
    --------
    >>> global_block_rows(1_000, 64), global_block_rows(50_000, 3072), global_block_rows(10**7, 64)
    (64, 784, 4096)
    """
    most = max(_LEAST_ROWS, min(_MOST_ROWS, _MOST_ENTRIES // max(n_features, 1)))
    wanted = -(-n_rows // _BLOCKS)
    return min(most, max(_LEAST_ROWS, -(-wanted // 8) * 8))


@dataclass(frozen=True)
class GlobalBlocks:
    """The blocks of this rank. Iterating reads its rows, without communication.

    Yields the global index of a block and its rows: a row-major array in double precision, or
    sparse rows; valid until the next block.
    """

    read: Callable[[], Iterable[tuple[int, Any]]]
    start: int
    n_features: int
    step: int
    tail: list[Any] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        first_block = -(-self.start // self.step)
        index, parts = first_block, list[Any]()
        buffer = np.empty((self.step, self.n_features))
        for place, piece in _cut(self.read(), self.start, self.step):
            if place < first_block:
                continue  # belongs to an earlier rank
            if place > index:
                yield index, _joined(parts, buffer)
                parts = []
            index = place
            parts.append(_kept(piece))
        if parts:
            yield index, _joined([*parts, *self.tail], buffer)


def global_blocks(
    comm: MPI.Comm,
    n_local: int,
    n_features: int,
    read: Callable[[], Iterable[tuple[int, Any]]],
) -> GlobalBlocks:
    """Exchange the rows of blocks that cross ranks.

    Collective.

    Parameters
    ----------
    n_local : int
        Rows of this rank, which follow those of the rank before.
    read : callable
        ``read()`` yields the local index of the first row of a part, and its rows, for all parts in
        order: arrays in double precision or sparse rows. It is called once here, and once for
        every iteration.

    Returns
    -------
    GlobalBlocks
    """
    start, n_rows = place_rows(n_local, comm)
    step = global_block_rows(n_rows, n_features)
    head = list[Any]()
    with agreement(comm):  # rows may come from files
        if n_local and start % step:
            for place, piece in _cut(read(), start, step):
                if place > start // step:
                    break
                head.append(_kept(piece))
    # first row of the data, and of the last block that begins here, for every rank
    begins = cast("MPI.Intracomm", comm).allgather((start, n_local))
    request = None
    if head:
        request = comm.isend(head, dest=_owner(begins, start // step * step), tag=_TAG)
    tail = list[Any]()
    last = -(-start // step) * step if n_local else start
    if last < start + n_local:  # this rank has blocks
        last_block = (start + n_local - 1) // step
        for source in range(comm.rank + 1, comm.size):
            first, count = begins[source]
            if count and first % step and first // step == last_block:
                tail += comm.recv(source=source, tag=_TAG)
    if request is not None:
        request.wait()
    return GlobalBlocks(read, start, n_features, step, tail)


def _owner(begins: list[tuple[int, int]], row: int) -> int:
    """Return the rank that has a row."""
    return next(i for i, (first, count) in enumerate(begins) if first <= row < first + count)


def _cut(parts: Iterable[tuple[int, Any]], start: int, step: int) -> Iterator[tuple[int, Any]]:
    """Yield the rows of parts, cut at the limits of blocks, each with the index of its block."""
    for first, rows in parts:
        done, count = 0, rows.shape[0]
        while done < count:
            place = start + first + done
            end = min(count, done + step - place % step)
            yield place // step, rows[done:end]
            done = end


def _kept(piece: Any) -> Any:
    """Return a copy of rows whose memory is used again."""
    return piece.copy() if scipy.sparse.issparse(piece) else np.array(piece, order="C")


def _joined(parts: list[Any], buffer: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    """Return the rows of a block in one matrix."""
    if scipy.sparse.issparse(parts[0]):
        return scipy.sparse.csr_array(scipy.sparse.vstack(parts, format="csr"))
    return np.concatenate(parts, out=buffer[: sum(map(len, parts))])
