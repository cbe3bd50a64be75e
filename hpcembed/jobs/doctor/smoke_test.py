"""A small eigenproblem on several ranks: in a job of its own, or in the job that runs now.

Usage: ``mpiexec -n 2 python -m hpcembed.jobs.doctor.smoke_test``. Rank 0 prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcembed.jobs.doctor.child_process import PYTHON, run_words
from hpcembed.jobs.doctor.finding import Finding, found
from hpcembed.jobs.doctor.launchers import find_launcher
from hpcembed.runtime.wording import counted

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["check_in_own_job", "check_in_this_job", "solve_small"]

_LIMIT = 60.0
_TOLERANCE = 1e-6


def solve_small(comm: MPI.Intracomm, n: int = 120, k: int = 4) -> float:
    """Solve for the largest eigenvalues of the 1-D Laplacian; return their largest error.

    Collective.

    Parameters
    ----------
    n, k : int
        Numbers of rows and of eigenvalues.
    """
    from petsc4py import PETSc

    import miramns

    mat = PETSc.Mat().createAIJ((n, n), nnz=3, comm=comm)
    try:
        for row in range(*mat.getOwnershipRange()):
            for column in range(max(0, row - 1), min(n, row + 2)):
                mat.setValue(row, column, 2.0 if row == column else -1.0)
        mat.assemble()
        mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
        result = miramns.solve(mat, k, which="LA")
        values = np.sort(np.real(result.eigenvalues))[::-1][:k]
    finally:
        mat.destroy()
    exact = 2.0 - 2.0 * np.cos(np.pi * np.arange(n, n - k, -1) / (n + 1))
    return float(np.abs(values - exact).max()) if len(values) == k else float("inf")


def check_in_own_job(library: str, ranks: int = 2, limit: float = _LIMIT) -> list[Finding]:
    """Start a job of some ranks with the launcher of an MPI library; return one finding.

    Parameters
    ----------
    library : str
        Version text of the MPI library of mpi4py.
    limit : float
        Seconds after which the job is ended.
    """
    launcher = find_launcher(library)
    if not launcher.path:
        others = f" (of another MPI: {', '.join(launcher.others)})" if launcher.others else ""
        return [found("no-launcher", library=library, others=others)]
    module = "hpcembed.jobs.doctor.smoke_test"
    words = [*launcher.words(ranks), *PYTHON, "-m", "mpi4py", "-m", module]
    command, text = shlex.join(words), counted(ranks, "rank")
    try:
        ended = run_words(words, limit, {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    except OSError as error:
        return [found("smoke-test-failed", ranks=text, error=error, command=command)]
    if ended.status is None:
        seconds = f"{limit:g}"
        return [found("smoke-test-hangs", ranks=text, seconds=seconds, command=command)]
    results = [json.loads(line) for line in ended.out.splitlines() if line.startswith('{"size"')]
    if len(results) == ranks and all(result["size"] == 1 for result in results):
        return [found("separate-worlds", launched=ranks, library=library)]
    if ended.status or len(results) != 1:
        return [found("smoke-test-failed", ranks=text, error=ended.reason, command=command)]
    return [_verdict(results[0], text)]


def check_in_this_job(comm: MPI.Intracomm, on_timeout: Callable[[Finding], None]) -> list[Finding]:
    """Solve on all ranks of this job; return one finding, the same on all ranks.

    Collective.

    Parameters
    ----------
    on_timeout : callable
        Takes the finding of a job that waits for too long, before rank 0 aborts it.
    """
    text = counted(comm.size, "rank")
    command = f"mpiexec -n {comm.size} {sys.executable} -m hpcembed.jobs.doctor.smoke_test"
    hangs = found("smoke-test-hangs", ranks=text, seconds=f"{_LIMIT:g}", command=command)

    def end() -> None:
        on_timeout(hangs)
        comm.Abort(2)

    with _time_limit(_LIMIT, end if comm.rank == 0 else None):
        return [_verdict(_solve(comm), text)]


@contextmanager
def _time_limit(seconds: float, end: Callable[[], None] | None) -> Iterator[None]:
    """Call `end` from another thread if the block takes longer."""
    timer = threading.Timer(seconds, end) if end else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()


def _solve(comm: MPI.Intracomm) -> dict[str, Any]:
    began = time.perf_counter()
    error = solve_small(comm)
    seconds = comm.allreduce(time.perf_counter() - began) / comm.size
    return {"size": comm.size, "error": error, "seconds": seconds}


def _verdict(result: dict[str, Any], ranks: str) -> Finding:
    if not result["error"] <= _TOLERANCE:
        return found("smoke-test-wrong", ranks=ranks, error=f"{result['error']:.1e}")
    return found("smoke-test", ranks=ranks, seconds=f"{result['seconds']:.1f}")


def _main() -> None:
    import petsc4py

    petsc4py.init(["hpcembed", "-no_signal_handler"])
    from mpi4py import MPI

    result = _solve(MPI.COMM_WORLD)
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(result), flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _main()
