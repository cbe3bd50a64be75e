"""Sizes beyond 2^31: they work with 64-bit indices, and are one clear error with 32-bit ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI
from petsc4py import PETSc

import miramns
from hpcembed import DataMatrix
from hpcembed.operators.sparse_matrix import aij_mat
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.machine.petsc_indices import check_index_range
from hpcembed.runtime.ranks import ownership_range, place_rows

BITS = 8 * np.dtype(PETSc.IntType).itemsize
BEYOND = 2**31 + 10
bits_32 = pytest.mark.skipif(BITS != 32, reason="this PETSc has 64-bit indices")
bits_64 = pytest.mark.skipif(
    BITS != 64, reason="PETSc has 32-bit indices: make setup-source INDICES=64"
)


def long_matrix(n: int, d: int, storage: str = "auto") -> DataMatrix:
    """Rows of ones, whose memory is one number."""
    rows = np.broadcast_to(np.ones(1, np.uint8), (n, d))
    labels = np.broadcast_to(np.zeros(1, np.int64), (n,))
    return DataMatrix(rows, labels, MPI.COMM_SELF, storage=storage)


@bits_32
@pytest.mark.parametrize("sizes", [(BEYOND, 3), (3, BEYOND), (5, 5, BEYOND)])
def test_sizes_beyond_32_bits_are_refused_with_the_remedy(sizes):
    with pytest.raises(InputError, match=r"32-bit indices .*INDICES=64\)$") as raised:
        check_index_range(MPI.COMM_SELF, *sizes)
    assert f"{BEYOND:,}" in str(raised.value)
    check_index_range(MPI.COMM_SELF, 2**31 - 1, 2**31 - 1, 2**31 - 1)


@pytest.mark.mpi
def test_one_rank_with_too_many_entries_is_an_error_on_all(comm):
    entries = 2**63 if comm.rank == comm.size - 1 else 1
    with pytest.raises(InputError, match="entries of a matrix on a rank are too many"):
        check_index_range(comm, 5, 5, entries)


@bits_32
def test_matrices_beyond_32_bits_are_refused():
    X = long_matrix(BEYOND, 1)
    assert X.n_rows == BEYOND
    with pytest.raises(InputError, match="2,147,483,658 rows"):
        _ = X.mat
    rows = scipy.sparse.csr_array(([1.0], [BEYOND - 1], [0, 1]), shape=(1, BEYOND))
    with pytest.raises(InputError, match="2,147,483,658 columns"):
        aij_mat(MPI.COMM_SELF, rows, is_square=False)
    with pytest.raises(miramns.MiramnsError, match="32-bit indices"):
        miramns.eigsh(np.broadcast_to(np.ones(1), (46_341, 46_341)), k=1)


@pytest.mark.slow
def test_shell_operator_with_more_than_2_to_31_entries():
    d = 4096
    n = BEYOND // d + 1
    X = long_matrix(n, d, "shell")
    assert X.n_nonzeros == n * d > 2**31
    x, y = X.mat.createVecs()
    x.set(0.5)
    X.mat.mult(x, y)
    assert y.min()[1] == y.max()[1] == d / 2
    for each in (x, y, X):
        each.destroy()


@bits_64
def test_shell_operator_of_more_than_2_to_31_rows():
    class LastTwice:
        """Twice the last row; no other row is touched, so that no memory is taken for it."""

        def mult(self, _: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
            y.getArray()[-1] = 2 * x.getArray(readonly=1)[-1]

    A = PETSc.Mat().createPython((BEYOND, BEYOND), LastTwice(), comm=PETSc.COMM_SELF)
    A.setUp()
    source, target = np.zeros(BEYOND), np.zeros(BEYOND)
    source[-1] = 3.0
    x, y = (PETSc.Vec().createWithArray(one, comm=PETSc.COMM_SELF) for one in (source, target))
    A.mult(x, y)
    assert A.getOwnershipRange() == (0, BEYOND)
    assert y.getValue(BEYOND - 1) == 6.0
    assert long_matrix(BEYOND, 1).mat.getSize() == (BEYOND, 1)
    for each in (A, x, y):
        each.destroy()


@bits_64
def test_sparse_columns_beyond_32_bits():
    rows = scipy.sparse.csr_array(([1.5], [BEYOND - 1], [0, 1]), shape=(1, BEYOND))
    A = aij_mat(MPI.COMM_SELF, rows, is_square=False)
    assert A.getValue(0, BEYOND - 1) == 1.5
    A.destroy()


@pytest.mark.mpi
def test_row_numbers_beyond_32_bits(comm):
    first, last = ownership_range(BEYOND * comm.size, comm)
    assert (first, last) == (BEYOND * comm.rank, BEYOND * (comm.rank + 1))
    assert place_rows(BEYOND, comm) == (BEYOND * comm.rank, BEYOND * comm.size)
