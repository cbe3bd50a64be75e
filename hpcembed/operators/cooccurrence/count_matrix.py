"""Rows of a square sparse matrix, summed up from parts that arise on other ranks.

Each rank owns consecutive rows. Parts are matrices with rows of any owner; :func:`deliver` sends
them to the owners in rounds of bounded size, and :class:`Runs` adds up what arrives. A run is
merged with the next once it is not much larger, so that an entry is copied a logarithmic number of
times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import agreement, allgather_rows

__all__ = ["Runs", "TermRows", "balanced_bounds", "deliver", "plus_transpose"]

#: Entries of a row that weigh as much as the row itself takes in a solver's vectors.
_ROW_COST = 64

#: How much larger a run has to be than the next one to stay apart.
_APART = 2

#: Row, column and value of an entry that travels.
ENTRY_BYTES = 16


@dataclass(frozen=True, slots=True)
class TermRows:
    """A square sparse matrix over terms, this rank's rows of it.

    Attributes
    ----------
    rows : csr_array of shape (n_local, n)
        float64, columns sorted, no entry twice.
    row_range : tuple of int
        Global rows of this rank.
    comm : MPI.Intracomm
    symmetric : bool
        Equal to its transpose, to the last bit.
    """

    rows: Any
    row_range: tuple[int, int]
    comm: MPI.Intracomm
    symmetric: bool

    @property
    def n_terms(self) -> int:
        """Rows on all ranks."""
        return int(self.rows.shape[1])

    @property
    def n_nonzeros(self) -> int:
        """Entries on all ranks. Collective."""
        return int(self.comm.allreduce(self.rows.nnz))

    def row_sums(self) -> NDArray[np.float64]:
        """Sum of every row, shape (n,), on every rank; the same for any number of ranks.

        Collective.
        """
        return allgather_rows(self.comm, self.rows @ np.ones(self.n_terms))

    def create_mat(self) -> PETSc.Mat:
        """The matrix as PETSc AIJ, rows distributed as they are here. Collective.

        Raises
        ------
        InputError
            When a rank has more entries than PETSc's indices can count.
        """
        most = np.iinfo(PETSc.IntType).max
        with agreement(self.comm):
            if self.rows.nnz > most:
                raise InputError(
                    f"{self.rows.nnz} entries on one rank are more than PETSc's indices count: "
                    "use more ranks, or a PETSc with 64-bit indices"
                )
        n, n_local = self.n_terms, self.rows.shape[0]
        csr = (
            self.rows.indptr.astype(PETSc.IntType),
            self.rows.indices.astype(PETSc.IntType),
            self.rows.data.astype(PETSc.ScalarType, copy=False),
        )
        mat = PETSc.Mat().createAIJ(((n_local, n), (n_local, n)), csr=csr, comm=self.comm)
        if self.symmetric:
            mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
        return mat


class Runs:
    """A growing sum of sparse matrices of one shape."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._runs: list[Any] = []

    def add(self, run: Any) -> None:
        """Add a CSR array with sorted rows; it is kept."""
        if not run.nnz:
            return
        self._runs.append(run)
        while len(self._runs) > 1 and self._runs[-2].nnz <= _APART * self._runs[-1].nnz:
            self._merge()

    def total(self) -> Any:
        """The sum, as a CSR array; nothing is left here."""
        while len(self._runs) > 1:
            self._merge()
        return self._runs.pop() if self._runs else scipy.sparse.csr_array(self._shape)

    def _merge(self) -> None:
        last = self._runs.pop()
        self._runs[-1] = self._runs[-1] + last


def balanced_bounds(entries: NDArray[np.float64], ranks: int) -> NDArray[np.int64]:
    """First rows of all ranks, and the end: about as many entries on each. Not collective.

    Parameters
    ----------
    entries : ndarray of shape (n,)
        Expected entries of every row, the same on all ranks.
    """
    costs = np.concatenate([[0.0], np.cumsum(entries + _ROW_COST)])
    bounds = np.searchsorted(costs, costs[-1] * np.arange(ranks + 1) / ranks)
    bounds[-1] = len(entries)
    return bounds.astype(np.int64)


def deliver(comm: MPI.Intracomm, part: Any, bounds: NDArray[np.int64], most: int) -> Iterator[Any]:
    """Send the rows of a matrix to their owners; give what arrives here.

    Collective, to the end.

    Parameters
    ----------
    part : csr_array of shape (n, n)
        Any rows, sorted.
    bounds : ndarray of shape (n_ranks + 1,)
        First rows of the owners.
    most : int
        Entries that a rank receives in one round.

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
    rows = np.repeat(np.arange(n, dtype=np.int32), np.diff(part.indptr))
    columns = part.indices.astype(np.int32, copy=False)
    first = int(bounds[comm.rank])
    shape = (int(bounds[comm.rank + 1]) - first, n)
    for i in range(rounds):
        begin = np.minimum(cuts[:-1] + i * share, cuts[1:])
        sent = np.minimum(begin + share, cuts[1:]) - begin
        received = np.empty_like(sent)
        comm.Alltoall(sent, received)
        ends = np.cumsum(received)
        there = (sent, begin), (received, ends - received)
        arrived = [
            _exchanged(comm, entries, int(ends[-1]), there)
            for entries in (rows, columns, part.data)
        ]
        for start, end in zip(ends - received, ends, strict=True):
            # of one sender: sorted by row and column, so the rows need only be counted
            own_rows, own_columns, values = (entries[start:end] for entries in arrived)
            lengths = np.bincount(own_rows - first, minlength=shape[0])
            places = np.concatenate([[0], np.cumsum(lengths)])
            yield scipy.sparse.csr_array((values.copy(), own_columns.copy(), places), shape=shape)


def _exchanged(comm: MPI.Intracomm, entries: NDArray[Any], size: int, there: Any) -> NDArray[Any]:
    sent, received = there
    arrived = np.empty(size, entries.dtype)
    comm.Alltoallv([entries, sent], [arrived, received])
    return arrived


def plus_transpose(
    comm: MPI.Intracomm, rows: Any, bounds: NDArray[np.int64], most: int, *, keep: bool = True
) -> Any:
    """``R + R'`` of the distributed R, or R' alone: this rank's rows.

    Collective.

    Parameters
    ----------
    rows : csr_array of shape (n_local, n)
        This rank's rows of R.
    bounds, most
        As for :func:`deliver`.
    keep : bool
        False for R' alone.
    """
    turned = rows.T.tocsr()
    columns = turned.indices.astype(np.int32, copy=False)
    columns += np.int32(bounds[comm.rank])
    n = int(bounds[-1])
    part = scipy.sparse.csr_array((turned.data, columns, turned.indptr), shape=(n, n))
    runs = Runs(rows.shape)
    if keep:
        runs.add(rows)
    for arrived in deliver(comm, part, bounds, most):
        runs.add(arrived)
    return runs.total()
