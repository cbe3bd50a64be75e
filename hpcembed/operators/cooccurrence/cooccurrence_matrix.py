"""A square sparse matrix over terms or features, distributed by rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.operators.sparse_matrix import aij_mat
from hpcembed.runtime.ranks import allgather_rows

__all__ = ["CooccurrenceMatrix"]


@dataclass(frozen=True, slots=True)
class CooccurrenceMatrix:
    """This rank's rows of a co-occurrence matrix, or of its mutual information.

    Attributes
    ----------
    rows : csr_array of shape (n_local, n)
        float64, columns sorted, without duplicates.
    row_range : tuple of int
        First and one-past-last global row of this rank.
    comm : MPI.Intracomm
    symmetric : bool
        Whether the matrix equals its transpose to the last bit.
    """

    rows: Any
    row_range: tuple[int, int]
    comm: MPI.Intracomm
    symmetric: bool

    @property
    def n_terms(self) -> int:
        """Number of rows on all ranks."""
        return int(self.rows.shape[1])

    @property
    def n_nonzeros(self) -> int:
        """Number of stored entries on all ranks. Collective."""
        return int(self.comm.allreduce(self.rows.nnz))

    def row_sums(self) -> NDArray[np.float64]:
        """Return the sum of each row, shape (n,), on every rank.

        Collective. The sums do not depend on the number of ranks.
        """
        return allgather_rows(self.comm, self.rows @ np.ones(self.n_terms))

    def create_mat(self) -> PETSc.Mat:
        """Return a PETSc AIJ matrix with the same distribution of rows; the caller destroys it.

        Collective.

        Raises
        ------
        InputError
            More entries on a rank than the indices of PETSc can count.
        """
        return aij_mat(self.comm, self.rows, is_symmetric=self.symmetric)
