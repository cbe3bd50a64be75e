"""Sizes that the indices of this PETSc can count: below 2^31 with 32 bits, PETSc's default."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError

__all__ = ["INDEX_REMEDY", "check_index_range"]

#: How to count more.
INDEX_REMEDY = "a PETSc with 64-bit indices (make setup-source INDICES=64)"


def check_index_range(comm: MPI.Comm, rows: int, columns: int, entries: int = 0) -> None:
    """Raise an error if PETSc cannot count the rows, columns or local entries of a matrix.

    Collective. Without the check, indices of 32 bits would wrap around.

    Parameters
    ----------
    comm : MPI.Comm
    rows, columns : int
        Of the whole matrix.
    entries : int
        Stored entries of this rank.

    Raises
    ------
    InputError
        On all ranks.

    Examples
    --------
    >>> check_index_range(MPI.COMM_SELF, rows=10, columns=3, entries=30)
    """
    most = int(np.iinfo(PETSc.IntType).max)
    bits = 8 * np.dtype(PETSc.IntType).itemsize
    with agreement(comm):
        if max(rows, columns) > most:
            raise InputError(
                f"a matrix of {rows:,} rows and {columns:,} columns is too large for the "
                f"{bits}-bit indices of this PETSc: use {INDEX_REMEDY}"
            )
        if entries > most:
            raise InputError(
                f"{entries:,} entries of a matrix on a rank are too many for the {bits}-bit "
                f"indices of this PETSc: use more ranks, or {INDEX_REMEDY}"
            )
