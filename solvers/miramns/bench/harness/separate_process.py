"""One run in a process of its own: peak of its resident memory, and whether it ends in time.

The child process prepares the run, prints that it is ready, resets the peak of its resident memory
(``/proc/self/clear_refs``, Linux), runs, and prints an :class:`Outcome` as its last line. The
parent process kills it when it exceeds the time limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from miramns.bench.harness.comparison import EXPECTED_ERRORS, last_line

__all__ = ["Outcome", "environment", "measure_run", "run_separately"]

#: Seconds in which a child process must prepare its run.
_PREPARATION_LIMIT = 900.0

#: Line by which a child process reports that its run begins.
_READY = "ready"

#: Prefixes of the variables by which an MPI launcher marks the processes of a job.
_LAUNCHER = ("OMPI_", "PMIX_", "PMI_", "HYDI_", "HYDRA_", "MPI_LOCAL", "ORTE_", "PRTE_")
_ALLOWED = ("OMPI_ALLOW_", "OMPI_MCA_")


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run in a process of its own.

    Attributes
    ----------
    status : {"ok", "limit", "refused"}
    why : str
    peak_bytes : int or None
        Largest resident memory during the run less that before it; None where it is not known.
    seconds : float or None
        Wall time of the run.
    processor_seconds : float or None
        Processor time of the run, all threads together.
    result : object
        Return value of the run, as JSON represents it.
    """

    status: str
    why: str = ""
    peak_bytes: int | None = None
    seconds: float | None = None
    processor_seconds: float | None = None
    result: Any = None


def environment(threads: int) -> dict[str, str]:
    """Return variables for a child process: its number of threads, and none of an MPI launcher."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_ALLOWED) or not name.startswith(_LAUNCHER)
    }
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return kept | dict.fromkeys(pools, str(threads))


def run_separately(
    command: list[str], order: dict[str, Any], *, threads: int, limit: float = float("inf")
) -> Outcome:
    """Run a child process, and kill it `limit` seconds after its run began.

    Parameters
    ----------
    command : list of str
        Arguments of the Python interpreter that start :func:`measure_run`.
    order : dict
        Description of the run, passed on as one more argument in JSON.
    threads : int
        Threads of the numerical libraries of the child process.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, *command, json.dumps(order)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment(threads),
        )
        assert process.stdout is not None  # a pipe
        try:
            outcome = _outcome_in_time(process.stdout, limit)
            if outcome is None:
                process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if outcome is not None:
            return outcome
        errors.seek(0)
        text = errors.read().strip()
        ended = f"its process ended with status {process.returncode}"
        return Outcome("refused", last_line(text) if text else ended)


def _outcome_in_time(stdout: IO[str], limit: float) -> Outcome | None:
    """Read the outcome of a child process; None if the process ends without one."""
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_forward_lines, args=(stdout, lines), daemon=True).start()
    try:
        while (line := lines.get(timeout=_PREPARATION_LIMIT)) != _READY:
            if not line:
                return None
    except queue.Empty:
        return Outcome("limit", f"not ready after {_PREPARATION_LIMIT:g} s")
    deadline = time.monotonic() + min(limit, threading.TIMEOUT_MAX / 2)
    try:
        while line := lines.get(timeout=max(0.0, deadline - time.monotonic())):
            if line.startswith("{"):
                return Outcome(**json.loads(line))
    except queue.Empty:
        return Outcome("limit", f"more than {limit:g} s")
    return None


def _forward_lines(stream: IO[str], lines: queue.Queue[str]) -> None:
    """Put the lines of a stream into a queue; an empty one marks the end."""
    for line in stream:
        if line.strip():
            lines.put(line.strip())
    lines.put("")


def measure_run(
    prepare: Callable[[dict[str, Any]], Callable[[], Any]],
    expected: tuple[type[Exception], ...] = EXPECTED_ERRORS,
) -> None:
    """Carry out the order of :func:`run_separately`, in the child process.

    Parameters
    ----------
    prepare : callable
        Receives the order and returns the run, a callable without arguments. Its time and memory do
        not count: it loads libraries and reads data.
    expected : tuple of types
        Errors of the run that are reported as ``refused``; others end the process.
    """
    run = prepare(json.loads(sys.argv[-1]))
    print(_READY, flush=True)
    known = _reset_peak()
    before = _memory_status("VmRSS")
    began, processor_began = time.perf_counter(), time.process_time()
    try:
        result = run()
    except expected as error:
        print(json.dumps({"status": "refused", "why": last_line(error)}), flush=True)
        return
    seconds, processor = time.perf_counter() - began, time.process_time() - processor_began
    peak = _memory_status("VmHWM")
    risen = peak - before if known and peak is not None and before is not None else None
    outcome = Outcome("ok", "", risen, seconds, processor, result)
    print(json.dumps(asdict(outcome)), flush=True)


def _memory_status(name: str) -> int | None:
    """Read an amount of memory from ``/proc/self/status`` in bytes; None where there is none."""
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
