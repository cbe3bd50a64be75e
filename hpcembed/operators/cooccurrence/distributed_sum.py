"""Sums of sparse matrices with contributions of all ranks, distributed by rows.

Each rank owns consecutive rows. A contribution is a matrix with rows of any owner; :func:`deliver`
sends the rows to their owners in rounds of bounded size, and :class:`RunningSum` adds the rows that
arrive. It keeps a list of partial sums and adds two of them as soon as they are of similar size, so
that an entry is copied a logarithmic number of times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.agreement import agreement

__all__ = ["BUFFER_BYTES", "balanced_bounds", "plus_transpose", "sum_contributions"]

#: Default memory of a rank for counts that are not summed yet: a few million pairs.
BUFFER_BYTES = 256 * 2**20

#: Cost of a row in the vectors of a solver, in units of matrix entries.
_ROW_COST = 64

#: Partial sums are added unless the older one is larger by this factor.
_SIZE_RATIO = 2


class RunningSum:
    """A growing sum of sparse matrices of one shape."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._partial: list[Any] = []

    def add(self, rows: Any) -> None:
        """Add a CSR array with sorted rows, which is kept."""
        if not rows.nnz:
            return
        self._partial.append(rows)
        while (
            len(self._partial) > 1 and self._partial[-2].nnz <= _SIZE_RATIO * self._partial[-1].nnz
        ):
            self._add_last_two()

    def total(self) -> Any:
        """Return the sum as a CSR array, and reset it to zero."""
        while len(self._partial) > 1:
            self._add_last_two()
        return self._partial.pop() if self._partial else scipy.sparse.csr_array(self._shape)

    def _add_last_two(self) -> None:
        last = self._partial.pop()
        self._partial[-1] = self._partial[-1] + last


def balanced_bounds(entries: NDArray[np.float64], ranks: int) -> NDArray[np.int64]:
    """Return the first row of each rank, and the end, so that the ranks have similar work.

    Not collective.

    Parameters
    ----------
    entries : ndarray of shape (n,)
        Expected number of entries of each row, the same on all ranks.
    ranks : int

    Examples
    --------
    >>> balanced_bounds(np.array([1000.0, 10.0, 10.0, 10.0]), 2)
    array([0, 1, 4])
    """
    costs = np.concatenate([[0.0], np.cumsum(entries + _ROW_COST)])
    bounds = np.searchsorted(costs, costs[-1] * np.arange(ranks + 1) / ranks)
    bounds[-1] = len(entries)
    return bounds.astype(np.int64)


def sum_contributions(
    comm: MPI.Intracomm, contributions: Iterator[Any], bounds: NDArray[np.int64], most: int
) -> Any:
    """Sum the contributions of all ranks and return this rank's rows.

    Collective.

    Parameters
    ----------
    comm : MPI.Intracomm
    contributions : iterator of csr_array of shape (n, n)
        Contributions of this rank, rows sorted; their number may differ between ranks. The iterator
        must not make collective calls.
    bounds : ndarray of shape (n_ranks + 1,)
        First row of each owner, and the end.
    most : int
        Number of entries that a rank receives in one round.

    Returns
    -------
    csr_array of shape (n_local, n)
    """
    n = int(bounds[-1])
    running = RunningSum((int(bounds[comm.rank + 1] - bounds[comm.rank]), n))
    while True:
        with agreement(comm):  # one rank may run out of memory
            part = next(contributions, None)
        if not comm.allreduce(part is not None, op=MPI.LOR):
            return running.total()
        part = scipy.sparse.csr_array((n, n)) if part is None else part
        for arrived in deliver(comm, part, bounds, most):
            running.add(arrived)


def plus_transpose(comm: MPI.Intracomm, rows: Any, bounds: NDArray[np.int64], most: int) -> Any:
    """Return this rank's rows of ``R + R'``.

    Collective.

    Parameters
    ----------
    rows : csr_array of shape (n_local, n)
        This rank's rows of R.
    comm, bounds, most
        As for :func:`sum_contributions`.
    """
    transposed = rows.T.tocsr()
    n = int(bounds[-1])
    index = np.int32 if n < 2**31 else np.int64
    columns = transposed.indices.astype(index, copy=False)
    columns += index(bounds[comm.rank])
    part = scipy.sparse.csr_array((transposed.data, columns, transposed.indptr), shape=(n, n))
    running = RunningSum(rows.shape)
    running.add(rows)
    for arrived in deliver(comm, part, bounds, most):
        running.add(arrived)
    return running.total()


def deliver(comm: MPI.Intracomm, part: Any, bounds: NDArray[np.int64], most: int) -> Iterator[Any]:
    """Send the rows of a matrix to their owners; yield the rows that arrive here.

    Collective, and to be iterated to its end.

    Parameters
    ----------
    part : csr_array of shape (n, n)
        Any rows, sorted.
    comm, bounds, most
        As for :func:`sum_contributions`.

    Yields
    ------
    csr_array of shape (n_local, n)
    """
    if comm.size == 1:
        yield part
        return
    n = int(bounds[-1])
    share = max(1, most // comm.size)
    cuts = part.indptr[bounds].astype(np.int64)
    rounds = int(comm.allreduce(-(-int(np.diff(cuts).max()) // share), op=MPI.MAX))
    index = np.int32 if n < 2**31 else np.int64
    rows = np.repeat(np.arange(n, dtype=index), np.diff(part.indptr))
    columns = part.indices.astype(index, copy=False)
    first = int(bounds[comm.rank])
    shape = (int(bounds[comm.rank + 1]) - first, n)
    for i in range(rounds):
        begin = np.minimum(cuts[:-1] + i * share, cuts[1:])
        sent = np.minimum(begin + share, cuts[1:]) - begin
        received = np.empty_like(sent)
        comm.Alltoall(sent, received)
        ends = np.cumsum(received)
        arrived = []
        for entries in (rows, columns, part.data):
            arrived.append(np.empty(int(ends[-1]), entries.dtype))
            comm.Alltoallv([entries, (sent, begin)], [arrived[-1], (received, ends - received)])
        for start, end in zip(ends - received, ends, strict=True):
            # Entries of one sender are sorted by row and column: counting the rows is enough.
            own_rows, own_columns, values = (entries[start:end] for entries in arrived)
            lengths = np.bincount(own_rows - first, minlength=shape[0])
            indptr = np.concatenate([[0], np.cumsum(lengths)])
            yield scipy.sparse.csr_array((values.copy(), own_columns.copy(), indptr), shape=shape)
