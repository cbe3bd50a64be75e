"""Conversion of numpy and scipy matrices to PETSc, for the time of one call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
from mpi4py import MPI
from petsc4py import PETSc

from miramns.agreement import same_on_all_ranks
from miramns.errors import MiramnsError
from miramns.products import shell_like

#: PETSc.Mat, dense array, sparse array or matrix, or an object with ``shape`` and ``matvec``.
MatrixLike: TypeAlias = Any


@contextmanager
def as_petsc(A: MatrixLike, comm: MPI.Comm | None, name: str = "A") -> Iterator[PETSc.Mat]:
    """Convert a square matrix to PETSc for the time of the context.

    Collective on `comm`, or on the communicator of a PETSc matrix.

    Parameters
    ----------
    A : PETSc.Mat, ndarray, sparse or LinearOperator
        With a communicator, this rank's rows of all columns: shape (n_local, n).
    name : str
        For error messages.

    Raises
    ------
    MiramnsError
        On all ranks, if `A` is not square, is complex, or cannot be distributed.
    """
    if isinstance(A, PETSc.Mat):
        rows, columns = A.getSize()
        if rows != columns:
            raise MiramnsError(f"{name} must be square, got {rows} x {columns}")
        yield A
        return
    world = MPI.COMM_SELF if comm is None else comm
    matrix = _converted(A, world, name)
    try:
        yield matrix
    finally:
        matrix.destroy()


def _converted(A: MatrixLike, comm: MPI.Comm, name: str) -> PETSc.Mat:
    has_products = hasattr(A, "matvec") and not scipy.sparse.issparse(A)
    if not has_products and not scipy.sparse.issparse(A):
        A = np.asarray(A)
    kind = "sparse" if scipy.sparse.issparse(A) else "LinearOperator" if has_products else "dense"
    same_on_all_ranks(comm, **{f"the kind of {name}": kind})
    problem = _problem(A, comm, has_products)
    problems = [text for text in comm.allgather(problem) if text]
    if problems:
        raise MiramnsError(f"{name} {problems[0]}")
    n_local, n = A.shape
    sizes = ((n_local, n), (n_local, n))
    if has_products:
        empty = PETSc.Mat().create(comm=comm)
        empty.setSizes(sizes)
        shell = shell_like(
            empty, lambda x, y: y.setArray(np.ravel(A.matvec(x.getArray(readonly=1).copy())))
        )
        empty.destroy()
        return shell
    if scipy.sparse.issparse(A):
        rows = scipy.sparse.csr_array(A)
        rows.sum_duplicates()
        indices = (rows.indptr.astype(PETSc.IntType), rows.indices.astype(PETSc.IntType))
        csr = (*indices, rows.data.astype(np.float64))
        matrix = PETSc.Mat().createAIJ(sizes, csr=csr, comm=comm)
    else:
        local = np.asfortranarray(A, dtype=np.float64)
        matrix = PETSc.Mat().createDense(sizes, array=local, comm=comm)
    matrix.assemble()
    return matrix


def _problem(A: MatrixLike, comm: MPI.Comm, has_products: bool) -> str:
    """Return an error message about this rank's rows, or an empty string. Collective."""
    shape: tuple[int, ...] = getattr(A, "shape", ())
    n_rows = comm.allreduce(shape[0] if len(shape) == 2 else 0)
    if len(shape) != 2 or n_rows != shape[1]:
        return f"must be square, got shape {shape}" + (
            f" with {n_rows} rows on all ranks" if comm.size > 1 else ""
        )
    most = int(np.iinfo(PETSc.IntType).max)
    if max(shape[1], 0 if has_products else A.size) > most:
        bits = 8 * np.dtype(PETSc.IntType).itemsize
        return (
            f"has {shape[1]:,} columns: too many, or too many entries on a rank, for the {bits}-bit"
            " indices of this PETSc: use more ranks, or a PETSc with 64-bit indices"
        )
    # a LinearOperator may have no type
    if np.dtype(getattr(A, "dtype", None) or np.float64).kind not in "fiub":
        return f"must be real, got {A.dtype}"
    if has_products and comm.size > 1:
        return "is a LinearOperator, which works on one rank only: use a PETSc.Mat in parallel"
    return ""
