"""Seconds of a product, with and without the shell matrix that counts products."""

from __future__ import annotations

import statistics
import time

from mpi4py import MPI
from petsc4py import PETSc

from miramns.agreement import raise_failure
from miramns.products import GuardedProducts, shell_like

#: Batches of products that are timed, and seconds of each.
_BATCHES = 5
_BATCH_SECONDS = 0.01


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


def pass_on_seconds(A: PETSc.Mat) -> float:
    """Return the seconds that the shell matrix of :func:`miramns.slepc` adds to a product.

    Collective on ``A.comm``.
    """
    products = GuardedProducts(A, 0.0)
    shell = shell_like(A, products)
    try:
        added = product_seconds(shell) - product_seconds(A)
        raise_failure(A.getComm().tompi4py())
        return max(0.0, added)
    finally:
        shell.destroy()
        products.destroy()
