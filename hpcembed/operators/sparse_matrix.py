"""A sparse PETSc matrix from the CSR rows of each rank."""

from __future__ import annotations

from typing import Any, cast

from mpi4py import MPI
from petsc4py import PETSc

from hpcembed.runtime.machine.petsc_indices import check_index_range

__all__ = ["aij_mat"]


def aij_mat(
    comm: MPI.Comm, rows: Any, *, is_square: bool = True, is_symmetric: bool = False
) -> PETSc.Mat:
    """Return an AIJ matrix with copies of this rank's rows.

    Collective.

    Parameters
    ----------
    comm : MPI.Comm
    rows : csr_array of shape (n_local, m)
        This rank's consecutive rows.
    is_square : bool
        Divide the columns among the ranks as the rows are divided.
    is_symmetric : bool
        Mark the matrix as symmetric.

    Raises
    ------
    InputError
        More rows, columns or local entries than the indices of PETSc can count.

    Examples
    --------
    >>> import scipy.sparse
    >>> mat = aij_mat(MPI.COMM_SELF, scipy.sparse.csr_array([[0.0, 2.0], [2.0, 0.0]]))
    >>> mat.getSize(), mat.getValue(0, 1)
    ((2, 2), 2.0)
    >>> _ = mat.destroy()
    """
    index = PETSc.IntType
    n_rows = cast("MPI.Intracomm", comm).allreduce(rows.shape[0])
    check_index_range(comm, n_rows, rows.shape[1], rows.nnz)
    csr = (
        rows.indptr.astype(index, copy=False),
        rows.indices.astype(index, copy=False),
        rows.data.astype(PETSc.ScalarType, copy=False),
    )
    n_local, n_columns = rows.shape
    columns = (n_local if is_square else None, n_columns)
    mat = PETSc.Mat().createAIJ(((n_local, None), columns), csr=csr, comm=comm)
    if is_symmetric:
        mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    return mat
