"""One run in a process of its own: peak of its resident memory, and whether it ends in time.

The child process prepares the run, reports that it is ready, resets the peak of its resident memory
(``/proc/self/clear_refs``, Linux), and runs. The parent process kills it at the time limit.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from miramns.bench.harness.comparison import EXPECTED_ERRORS, last_line

#: Seconds in which a child process must prepare its run.
_PREPARATION_LIMIT = 900.0

#: Prefixes of the variables by which an MPI launcher marks the processes of a job.
_LAUNCHER = ("OMPI_", "PMIX_", "PMI_", "HYDI_", "HYDRA_", "MPI_LOCAL", "ORTE_", "PRTE_")
#: Prefixes of the variables among them that a user sets; mpiexec sets other OMPI_MCA variables.
_USER = ("OMPI_ALLOW_", "OMPI_MCA_btl", "OMPI_MCA_mpi", "OMPI_MCA_rmaps")

Prepare = Callable[[dict[str, Any]], Callable[[], Any]]


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run in a process of its own.

    Attributes
    ----------
    status : {"ok", "limit", "refused"}
    why : str
    peak_bytes : int or None
        Largest resident memory during the run less that before it; None if it is not known.
    seconds, processor_seconds : float
        Wall time of the run, and processor time of all its threads together.
    result : object
        Return value of the run.
    """

    status: str
    why: str = ""
    peak_bytes: int | None = None
    seconds: float = math.nan
    processor_seconds: float = math.nan
    result: Any = None


def run_separately(
    prepare: Prepare,
    order: dict[str, Any],
    *,
    threads: int,
    limit: float = math.inf,
    expected: tuple[type[Exception], ...] = EXPECTED_ERRORS,
) -> Outcome:
    """Run in a child process, which is killed `limit` seconds after the run began.

    Parameters
    ----------
    prepare : callable
        Function of a module that receives the order and returns the run, a callable without
        arguments. It loads libraries and reads data; its time and memory do not count.
    order : dict
        Description of the run.
    threads : int
        Threads of the numerical libraries of the child process.
    expected : tuple of types
        Errors that are reported as ``refused``. Another error prints its traceback and ends the
        child process.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(prepare, order, expected, sender), daemon=True)
    with _environment(child_environment(threads)):
        process.start()
    sender.close()  # the child process has its own copy, whose end raises EOFError here
    try:
        if not receiver.poll(_PREPARATION_LIMIT):
            return Outcome("limit", f"not ready after {_PREPARATION_LIMIT:g} s")
        ready: Outcome = receiver.recv()
        if ready.status != "ok":
            return ready
        if not receiver.poll(None if math.isinf(limit) else limit):
            return Outcome("limit", f"more than {limit:g} s")
        outcome: Outcome = receiver.recv()
        return outcome
    except EOFError:
        process.join()
        return Outcome("refused", f"its process ended with status {process.exitcode}")
    finally:
        process.kill()
        process.join()
        receiver.close()


def child_environment(threads: int) -> dict[str, str]:
    """Return variables for a child process: its number of threads, and none of an MPI launcher."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_USER) or not name.startswith(_LAUNCHER)
    }
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return kept | dict.fromkeys(pools, str(threads))


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Replace all variables of the environment for a while."""
    saved = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)


def _run(
    prepare: Prepare, order: dict[str, Any], expected: tuple[type[Exception], ...], to: Connection
) -> None:
    """Prepare and run, in the child process; send an outcome of each."""
    try:
        run = prepare(order)
        to.send(Outcome("ok"))
        to.send(measured(run))
    except expected as error:
        to.send(Outcome("refused", last_line(error)))


def measured(run: Callable[[], Any]) -> Outcome:
    """Run in this process, and measure its time and the peak of the resident memory."""
    known = _reset_peak()
    before = _memory_status("VmRSS")
    began, processor_began = time.perf_counter(), time.process_time()
    result = run()
    seconds, processor = time.perf_counter() - began, time.process_time() - processor_began
    peak = _memory_status("VmHWM")
    risen = peak - before if known and peak is not None and before is not None else None
    return Outcome("ok", "", risen, seconds, processor, result)


def _memory_status(name: str) -> int | None:
    """Read an amount of memory from ``/proc/self/status`` in bytes; None if there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return None


def _reset_peak() -> bool:
    """Reset the peak of the resident memory; False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
