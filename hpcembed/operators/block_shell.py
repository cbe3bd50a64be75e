"""Matrix-free operators: symmetric PETSc shell matrices with products for blocks of vectors.

To add an operator, write a module in a folder of ``hpcembed/operators`` with a subclass of
:class:`BlockProducts` that defines ``mult_block``; :func:`block_shell` makes a Mat of it. (An
operator whose entries are stored is a PETSc Mat and needs no such class.) Its plan, with the cost
of each engine, is a module beside it on the rates of :mod:`hpcembed.operators.cost`.
:mod:`hpcembed.operators` lists the other cases: a kernel function, an operator of graphs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

__all__ = ["BlockProducts", "block_shell", "gather_block", "scatter_block_sum"]


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


def gather_block(comm: MPI.Comm, V: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[Any]:
    """Return the rows of all ranks on every rank, ``counts[i]`` of them from rank i. Collective."""
    mine, b = np.ascontiguousarray(V), V.shape[1]
    if comm.size == 1:
        return mine
    whole = np.empty((int(counts.sum()), b), dtype=V.dtype)
    comm.Allgatherv(mine, (whole, (b * counts, b * (np.cumsum(counts) - counts))))
    return whole


def scatter_block_sum(
    comm: MPI.Comm, total: NDArray[np.float64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sum blocks over all ranks; return this rank's rows, ``counts[rank]`` of them. Collective."""
    if comm.size == 1:
        return total
    own = np.empty((int(counts[comm.rank]), total.shape[1]))
    recvcounts = (total.shape[1] * counts).tolist()
    comm.Reduce_scatter(np.ascontiguousarray(total), own, recvcounts=recvcounts)
    return own
