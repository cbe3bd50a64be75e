"""Ending a solver that takes too long, on all ranks at the same product.

A solver cannot be interrupted from outside without hanging the others, so the operator itself is
what stops it: rank 0 looks at the clock every few products, and all ranks obey it.
"""

from __future__ import annotations

import math
import time

from mpi4py import MPI
from petsc4py import PETSc

from miramns.bench.assembly import shell
from miramns.result import Check

__all__ = ["LimitExceededError", "Watch"]

#: Seconds between two looks at the clock, by estimate.
_PATIENCE = 0.05


class LimitExceededError(Exception):
    """The solver took longer than it was given."""


class Watch:
    """Stops one run after a number of seconds.

    Parameters
    ----------
    seconds : float
        What the run may take; no limit where it is infinite.
    product_seconds : float
        Of one product, the same on all ranks: tells how often to look at the clock.
    """

    def __init__(self, comm: MPI.Comm, seconds: float, product_seconds: float) -> None:
        self.comm = comm
        self.seconds = seconds
        self.expired = False
        self._stride = max(1, min(1000, int(_PATIENCE / max(product_seconds, 1e-9))))
        self._looks = 0
        self._began = time.perf_counter()

    def look(self, *, often: bool = False) -> None:
        """Raise once the time is over. Collective, now and then.

        Parameters
        ----------
        often : bool
            Look at the clock at every call.

        Raises
        ------
        LimitExceededError
            On all ranks.
        """
        self._looks += 1
        if math.isinf(self.seconds) or not (often or self._looks % self._stride == 0):
            return
        late = time.perf_counter() - self._began > self.seconds
        self.expired = bool(self.comm.bcast(late))
        if self.expired:
            raise LimitExceededError(f"more than {self.seconds:g} s")

    def on_check(self, _check: Check) -> None:
        """Look at the clock when MIRAMns examines a subspace."""
        self.look(often=True)

    def watched(self, A: PETSc.Mat, hermitian: bool) -> PETSc.Mat:
        """Wrap `A` so that products look at the clock; to be destroyed by the caller."""
        return shell(self.comm, A.getSize()[0], _Watched(A, self), hermitian=hermitian)


class _Watched:
    """Context of a shell that passes products on."""

    def __init__(self, A: PETSc.Mat, watch: Watch) -> None:
        self.A = A
        self.watch = watch

    def mult(self, _shell: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """Y = A x, unless the time is over. Collective."""
        self.watch.look()
        self.A.mult(x, y)
