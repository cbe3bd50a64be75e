"""Distributed matrices from the entries of each rank's rows, and operators with products in Python.

Rows are distributed as PETSc does by default. Random entries are functions of (seed, index), so a
matrix is the same on any number of ranks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse import coo_matrix, csr_matrix
from scipy.special import ndtr

from miramns import seeded_normal


def own_rows(comm: MPI.Comm, n: int) -> tuple[int, int]:
    """Return the ownership range of this rank: its first row, and one more than its last.

    Not collective.
    """
    share, rest = divmod(n, comm.size)
    first = comm.rank * share + min(comm.rank, rest)
    return first, first + share + (comm.rank < rest)


def seeded_uniform(seed: int, stream: int, start: int, stop: int) -> NDArray[np.float64]:
    """Return entries ``start`` to ``stop`` of an infinite vector uniform in [0, 1)."""
    uniform = ndtr(seeded_normal(seed, start, stop, stream))
    return np.asarray(np.minimum(uniform, np.nextafter(1.0, 0.0)), dtype=np.float64)


def aij_from_entries(
    comm: MPI.Comm,
    shape: tuple[int, int],
    rows: NDArray[Any],
    columns: NDArray[Any],
    values: NDArray[np.float64],
    *,
    hermitian: bool = False,
) -> PETSc.Mat:
    """Assemble a sparse matrix from entries; entries at the same place are added.

    Collective on `comm`.

    Parameters
    ----------
    shape : (int, int)
        Global shape.
    rows, columns : ndarray of shape (n_entries,)
        Global indices; the rows belong to this rank.
    values : ndarray of shape (n_entries,)
    hermitian : bool
        Whether to mark the matrix as Hermitian.
    """
    first, last = own_rows(comm, shape[0])
    local = coo_matrix((values, (rows - first, columns)), shape=(last - first, shape[1]))
    return aij_from_rows(comm, shape, local.tocsr(), hermitian=hermitian)


def aij_from_rows(
    comm: MPI.Comm, shape: tuple[int, int], local: csr_matrix, *, hermitian: bool = False
) -> PETSc.Mat:
    """Assemble a sparse matrix from this rank's rows. Collective on `comm`."""
    integer = PETSc.IntType
    csr = (local.indptr.astype(integer), local.indices.astype(integer), local.data)
    A = PETSc.Mat().createAIJ(shape, csr=csr, comm=comm)
    A.assemble()
    if hermitian:
        A.setOption(PETSc.Mat.Option.SYMMETRIC, True)
        A.setOption(PETSc.Mat.Option.HERMITIAN, True)
    return A


def shell(comm: MPI.Comm, n: int, context: object, *, hermitian: bool) -> PETSc.Mat:
    """Create a square operator whose products `context` computes. Collective on `comm`."""
    A = PETSc.Mat().createPython((n, n), context, comm=comm)
    A.setUp()
    if hermitian:
        A.setOption(PETSc.Mat.Option.HERMITIAN, True)
    return A
