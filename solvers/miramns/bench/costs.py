"""What one product costs, by itself and through the shell that counts it."""

from __future__ import annotations

import statistics
import time

from mpi4py import MPI
from petsc4py import PETSc

from miramns.bench.assembly import shell
from miramns.interop import CountedProducts

__all__ = ["pass_on_seconds", "product_seconds"]

#: Batches of products that are timed, and seconds that each should take.
_BATCHES = 5
_BATCH_SECONDS = 0.01


def product_seconds(A: PETSc.Mat) -> float:
    """Seconds of one product on the slowest rank, median of a few batches. Collective."""
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
    """Seconds that one product takes longer through a shell that counts it. Collective."""
    comm: MPI.Comm = A.getComm().tompi4py()
    operator = shell(comm, A.getSize()[0], CountedProducts(A), hermitian=hermitian)
    try:
        return max(0.0, product_seconds(operator) - product_seconds(A))
    finally:
        operator.destroy()
