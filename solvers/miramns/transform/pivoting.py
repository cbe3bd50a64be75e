"""Sparse LU factorisation with pivoting, by SuperLU from scipy, as a preconditioner of PETSc.

PETSc's own factorisation does not pivot, so a zero on the diagonal ends it. Every rank factorises
the whole matrix.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from mpi4py import MPI
from petsc4py import PETSc
from scipy.sparse.linalg import SuperLU, splu

from miramns.errors import MiramnsError


class PivotedFactorization:
    """Context of a PC of type "python" that solves with an assembled sparse matrix."""

    def __init__(self) -> None:
        self._factors: SuperLU | None = None

    def setUp(self, pc: PETSc.PC) -> None:
        """Factorise the matrix of the PC. Collective."""
        matrix = pc.getOperators()[1]
        comm: MPI.Comm = matrix.getComm().tompi4py()
        pointers, columns, entries = matrix.getValuesCSR()
        n = matrix.getSize()[1]
        local = scipy.sparse.csr_array((entries, columns, pointers), (len(pointers) - 1, n))
        whole = scipy.sparse.csc_array(scipy.sparse.vstack(comm.allgather(local)))
        self._counts = comm.allgather(local.shape[0])
        try:
            self._factors = splu(whole)
        except RuntimeError as error:
            raise MiramnsError(f"the shifted matrix cannot be factorised: {error}") from error

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Solve for the right-hand side x. Collective."""
        assert self._factors is not None  # set up before
        comm: MPI.Comm = pc.getComm().tompi4py()
        whole = np.empty(sum(self._counts))
        comm.Allgatherv(np.ascontiguousarray(x.getArray(readonly=1)), (whole, self._counts))
        first, last = x.getOwnershipRange()
        y.setArray(self._factors.solve(whole)[first:last])
