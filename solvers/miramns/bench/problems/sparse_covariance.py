"""Matrix-free sample covariance of sparse random rows, like those of documents.

The columns of X are words: the frequency of the j-th falls as a power of j. The covariance X'X / n
is not centred and not assembled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.bench.problems.distributed_matrices import (
    aij_from_entries,
    own_rows,
    seeded_uniform,
    shell,
)

__all__ = ["sparse_covariance"]


def sparse_covariance(
    comm: MPI.Comm, rows: int, columns: int, per_row: int, decay: float, seed: int
) -> PETSc.Mat:
    """Create the shell X'X / rows of a sparse random matrix X.

    Collective on `comm`.

    Parameters
    ----------
    rows, columns : int
        Shape of X, whose rows are distributed.
    per_row : int
        Entries drawn per row, uniform in [0, 1); entries at the same place are added.
    decay : float
        The j-th column is drawn with a probability proportional to ``(j + 10) ** -decay``.
    """
    first, last = own_rows(comm, rows)
    start, stop = first * per_row, last * per_row
    limits = np.cumsum((np.arange(columns) + 10.0) ** -decay)
    drawn = np.searchsorted(limits, seeded_uniform(seed, 0, start, stop) * limits[-1])
    X = aij_from_entries(
        comm,
        (rows, columns),
        np.repeat(np.arange(first, last), per_row),
        # frequent columns are spread, so that every rank holds some of them
        _spread(np.minimum(drawn, columns - 1), columns),
        seeded_uniform(seed, 1, start, stop),
    )
    return shell(comm, columns, _Covariance(X, 1.0 / rows), hermitian=True)


def _spread(column: NDArray[Any], columns: int) -> NDArray[Any]:
    """Permute indices by multiplication with a number that is coprime to `columns`."""
    factor = int(columns * 0.618) | 1
    while np.gcd(factor, columns) != 1:
        factor += 2
    return (column * factor) % columns


class _Covariance:
    """Context of a shell: A = scale X'X, by two products with X."""

    def __init__(self, X: PETSc.Mat, scale: float) -> None:
        self.X = X
        self.scale = scale
        self.work = X.createVecLeft()

    def mult(self, _shell: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Compute y = A x. Collective."""
        self.X.mult(x, self.work)
        self.work.scale(self.scale)
        self.X.multTranspose(self.work, y)

    def destroy(self, _shell: PETSc.Mat) -> None:
        """Destroy X and the work vector together with the shell. Collective."""
        self.work.destroy()
        self.X.destroy()
