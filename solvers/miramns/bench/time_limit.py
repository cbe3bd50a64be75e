"""Time limit of a solver, which ends it on all ranks at the same product.

A solver cannot be interrupted from outside without blocking the other ranks, so its operator ends
it: every few products rank 0 reads the clock, and all ranks follow its decision.
"""

from __future__ import annotations

import math
import time

from mpi4py import MPI
from petsc4py import PETSc

from miramns.products import shell_like

#: Estimated seconds between two readings of the clock.
_INTERVAL_SECONDS = 0.05


class LimitExceededError(RuntimeError):
    """The run exceeded its time limit."""


class TimeLimit:
    """Time limit of one run, which begins now.

    Parameters
    ----------
    comm : MPI.Comm
    seconds : float
        Infinite for a run without a limit.
    product_seconds : float
        Seconds of one product, the same on all ranks; determines how often the clock is read.
    """

    def __init__(self, comm: MPI.Comm, seconds: float, product_seconds: float) -> None:
        self.comm = comm
        self.seconds = seconds
        self.exceeded = False
        self._stride = max(1, min(1000, int(_INTERVAL_SECONDS / max(product_seconds, 1e-9))))
        self._calls = 0
        self._began = time.perf_counter()

    def enforce(self, *, now: bool = False) -> None:
        """Raise an error once the limit is exceeded. Collective at every few calls.

        Parameters
        ----------
        now : bool
            Read the clock at this call.

        Raises
        ------
        LimitExceededError
            On all ranks.
        """
        self._calls += 1
        if math.isinf(self.seconds) or not (now or self._calls % self._stride == 0):
            return
        self.exceeded = bool(self.comm.bcast(time.perf_counter() - self._began > self.seconds))
        if self.exceeded:
            raise LimitExceededError(self.reason)

    def limited(self, A: PETSc.Mat) -> PETSc.Mat:
        """Create a shell matrix whose products with A end at the limit. The caller destroys it."""

        def apply(x: PETSc.Vec, y: PETSc.Vec) -> None:
            self.enforce()
            A.mult(x, y)

        return shell_like(A, apply)

    def monitor(self, _record: object) -> None:
        """Read the clock at a checkpoint of MIRAMns."""
        self.enforce(now=True)

    @property
    def reason(self) -> str:
        """Message of the error."""
        return f"more than {self.seconds:g} s"
