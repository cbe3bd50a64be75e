"""Symmetric PETSc shell matrices whose products are made for blocks of vectors."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

__all__ = ["BlockProducts", "block_shell"]


class BlockProducts:
    """Base of the contexts of shell matrices.

    Subclasses define :meth:`mult_block`; MIRAMns' block variant calls it, other solvers call
    :meth:`mult`. A context must not hold its matrix: petsc4py's garbage collector would then
    destroy PETSc objects on some ranks only.

    Attributes
    ----------
    comm : MPI.Comm
    layout : tuple
        Local and global size of the matrix; None leaves the local size to PETSc.
    """

    comm: MPI.Comm
    layout: tuple[int | None, int]

    def mult(self, _mat: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Compute ``y = A x``. Collective."""
        product = np.empty((x.getLocalSize(), 1))
        self.mult_block(np.array(x.getArray(readonly=1))[:, None], product)
        with y as local:
            local[:] = product[:, 0]

    def mult_block(self, V: NDArray[np.float64], product: NDArray[np.float64]) -> None:
        """Compute ``product = A V``, this rank's rows of both. Collective."""
        raise NotImplementedError


def block_shell(products: BlockProducts) -> PETSc.Mat:
    """Return the symmetric shell matrix with these products. Collective."""
    mat = PETSc.Mat().createPython((products.layout,) * 2, products, comm=products.comm)
    mat.setUp()
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    return mat
