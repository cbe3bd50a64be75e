"""Cost of products: their number, and their seconds with and without the shell that counts them."""

from __future__ import annotations

import statistics
import time

from mpi4py import MPI
from petsc4py import PETSc

from miramns.bench.problems.distributed_matrices import shell
from miramns.bench.time_limit import TimeLimit

__all__ = ["CountedProducts", "pass_on_seconds", "product_seconds"]

#: Batches of products that are timed, and seconds of each.
_BATCHES = 5
_BATCH_SECONDS = 0.01


class CountedProducts:
    """Context of a shell that counts the products with `A`, under a time limit if there is one."""

    def __init__(self, A: PETSc.Mat, limit: TimeLimit | None = None) -> None:
        self.A = A
        self.limit = limit
        self.count = 0

    def mult(self, _shell: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Compute y = A x. Collective."""
        self.count += 1
        if self.limit:
            self.limit.enforce()
        self.A.mult(x, y)

    def shell(self, *, hermitian: bool) -> PETSc.Mat:
        """Create the shell, which the caller destroys. Collective."""
        comm = self.A.getComm().tompi4py()
        return shell(comm, self.A.getSize()[0], self, hermitian=hermitian)


def product_seconds(A: PETSc.Mat) -> float:
    """Return the seconds of one product on the slowest rank, the median of a few batches.

    Collective on ``A.comm``.
    """
    comm: MPI.Comm = A.getComm().tompi4py()
    x, y = A.createVecs()
    x.set(1.0)
    A.mult(x, y)
    began = time.perf_counter()
    A.mult(x, y)
    once = max(float(comm.allreduce(time.perf_counter() - began, op=MPI.MAX)), 1e-7)
    count = max(1, min(1000, round(_BATCH_SECONDS / once)))
    seconds = []
    for _ in range(_BATCHES):
        comm.Barrier()
        began = time.perf_counter()
        for _ in range(count):
            A.mult(x, y)
        seconds.append((time.perf_counter() - began) / count)
    x.destroy()
    y.destroy()
    return float(comm.allreduce(statistics.median(seconds), op=MPI.MAX))


def pass_on_seconds(A: PETSc.Mat, hermitian: bool) -> float:
    """Return the seconds that the shell that counts products adds to one of them.

    Collective on ``A.comm``.
    """
    operator = CountedProducts(A).shell(hermitian=hermitian)
    try:
        return max(0.0, product_seconds(operator) - product_seconds(A))
    finally:
        operator.destroy()
