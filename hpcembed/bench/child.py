"""One fit in a process of its own: how far the resident memory rises, and whether it ends in time.

The child makes the table again, fits a small one first so that libraries are loaded and threads
started, says that it is ready, forgets its peak so far (``/proc/self/clear_refs``, Linux), and
fits.
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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

__all__ = ["Outcome", "main", "run_apart"]

#: Seconds that a child may take to make its table.
_LOADING = 900.0

#: What a child says when its time begins.
_READY = "ready"

#: Variables by which a launcher tells its processes that they belong to a job.
_LAUNCHER = ("OMPI_", "PMIX_", "PMI_", "HYDI_", "HYDRA_", "MPI_LOCAL", "ORTE_", "PRTE_")
_ALLOWED = ("OMPI_ALLOW_", "OMPI_MCA_")


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes
    ----------
    status : {"ok", "limit", "refused"}
    why : str
    peak_bytes : int or None
    """

    status: str
    why: str = ""
    peak_bytes: int | None = None


def environment(threads: int) -> dict[str, str]:
    """Variables for a child: its number of threads, and no sign of a launcher."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_ALLOWED) or not name.startswith(_LAUNCHER)
    }
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return kept | dict.fromkeys(pools, str(threads))


def run_apart(order: dict[str, Any], limit: float) -> Outcome:
    """Fit in a process of its own, which is ended after `limit` seconds of fitting.

    Parameters
    ----------
    order : dict
        ``data``, ``data_dir``, ``method``, ``k``, ``threads``, ``seed``.
    """
    starter = "from hpcembed.bench.child import main; main()"
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", starter, json.dumps(order)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment(order["threads"]),
        )
        try:
            outcome = _followed(process, limit)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None  # a pipe, as asked for
            process.stdout.close()
        if outcome is not None:
            return outcome
        errors.seek(0)
        ended = f"its process ended with status {process.returncode}"
        return Outcome("refused", _last_line(errors.read()) or ended)


def _followed(process: subprocess.Popen[str], limit: float) -> Outcome | None:
    """What a child says; None where it ends without a word."""
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        while (line := lines.get(timeout=_LOADING)) != _READY:
            if not line:
                process.wait()
                return None
    except queue.Empty:
        return Outcome("limit", f"not ready after {_LOADING:g} s")
    deadline = time.monotonic() + limit
    try:
        while line := lines.get(timeout=max(0.0, deadline - time.monotonic())):
            if line.startswith("{"):
                return Outcome(**json.loads(line))
    except queue.Empty:
        return Outcome("limit", f"more than {limit:g} s")
    process.wait()
    return None


def _read(stream: IO[str], lines: queue.Queue[str]) -> None:
    """Pass lines on; an empty one is the end."""
    for line in stream:
        if line.strip():
            lines.put(line.strip())
    lines.put("")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else ""


def _status(name: str) -> int | None:
    """A number of kB in /proc/self/status, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return None


def _forget_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def main() -> None:
    """Carry out one order; the last line printed is the outcome."""
    import petsc4py
    import slepc4py

    words = ["hpcembed", "-no_signal_handler"]
    petsc4py.init(words)
    slepc4py.init(words)
    from hpcembed.bench.data_sets import load, parse
    from hpcembed.bench.methods import METHODS, Task
    from hpcembed.bench.running import EXPECTED, last_words, set_threads, small_rows

    order = json.loads(sys.argv[1])
    method = next(one for one in METHODS if one.name == order["method"])
    rows = load(parse(order["data"]), Path(order["data_dir"]), order["seed"])
    fit = method.load()
    with contextlib.suppress(*EXPECTED):
        fit(Task(small_rows(rows), 3, order["threads"], order["seed"]))
    set_threads(order["threads"])  # also of what was loaded only then
    print(_READY, flush=True)
    known = _forget_peak()
    before = _status("VmRSS")
    try:
        fitted = fit(Task(rows, order["k"], order["threads"], order["seed"]))
    except EXPECTED as error:
        print(json.dumps({"status": "refused", "why": last_words(error)}), flush=True)
        return
    peak = _status("VmHWM")
    risen = peak - before if known and peak is not None and before is not None else None
    del fitted
    print(json.dumps({"status": "ok", "peak_bytes": risen}), flush=True)
