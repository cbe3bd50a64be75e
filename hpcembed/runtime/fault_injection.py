"""Faults on request, at the boundaries of the phases of a job, for tests of its end and restart.

The environment variable ``HPCEMBED_FAULT=RANK:PHASE:KIND`` requests one fault: ``1:solve:kill``
ends rank 1 by SIGKILL when the eigensolver begins. Without the variable, :func:`inject` returns at
once.

====================  ==========================================================================
kind                  fault
====================  ==========================================================================
exception             an exception of the code, on this rank alone
nan                   a NaN in an array of the phase; in a product with the operator for `solve`
kill                  the process ends by SIGKILL
disk_full             from now on, every write of this rank to a file fails (file size limit 0)
slow                  the rank sleeps for :data:`SLEEP` seconds
truncated             the newest checkpoint loses its second half, then the rank ends by SIGKILL
====================  ==========================================================================

If ``HPCEMBED_FAULT_LOG`` names a file, the time of the fault is appended to it.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hpcembed.runtime.errors import ConfigError

if TYPE_CHECKING:
    from mpi4py import MPI
    from petsc4py import PETSc

__all__ = ["KINDS", "PHASES", "Fault", "check_fault", "faulty_products", "inject", "requested"]

VARIABLE = "HPCEMBED_FAULT"
LOG_VARIABLE = "HPCEMBED_FAULT_LOG"

#: Phases in the order of a run.
PHASES = ("read", "operator", "solve", "project", "gather", "train", "export", "checkpoint")
KINDS = ("exception", "nan", "kill", "disk_full", "slow", "truncated")
_WITH_ARRAYS = ("solve", "project", "gather", "train")

#: Seconds of a slow rank.
SLEEP = 3.0

#: Number of faults of this process so far: there is one at most.
_happened = 0


class Fault(NamedTuple):
    """A requested fault."""

    rank: int
    phase: str
    kind: str


def requested() -> Fault | None:
    """Return the fault that the environment requests.

    Raises
    ------
    ConfigError
        The variable has another form.

    Examples
    --------
    >>> os.environ["HPCEMBED_FAULT"] = "1:solve:kill"
    >>> requested()
    Fault(rank=1, phase='solve', kind='kill')
    >>> del os.environ["HPCEMBED_FAULT"]
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    rank, _, rest = text.partition(":")
    phase, _, kind = rest.partition(":")
    if not (rank.isascii() and rank.isdigit()) or phase not in PHASES or kind not in KINDS:
        raise ConfigError(
            f"{VARIABLE}={text}: give RANK:PHASE:KIND, for example 1:solve:kill; phases: "
            f"{', '.join(PHASES)}; kinds: {', '.join(KINDS)}"
        )
    allowed = {"nan": _WITH_ARRAYS, "truncated": ("checkpoint",)}.get(kind, PHASES)
    if phase not in allowed:
        raise ConfigError(f"{VARIABLE}={text}: {kind} is a fault of {', '.join(allowed)} only")
    return Fault(int(rank), phase, kind)


def check_fault(size: int) -> None:
    """Raise an error if the requested fault cannot occur in a job of `size` ranks.

    Raises
    ------
    ConfigError
        The variable is malformed, or its rank does not exist.
    """
    fault = requested()
    if fault is not None and fault.rank >= size:
        raise ConfigError(
            f"{VARIABLE}={os.environ[VARIABLE]}: the job has the ranks 0 to {size - 1}"
        )


def inject(phase: str, comm: MPI.Comm, *arrays: Any, checkpoints: Path | None = None) -> None:
    """Let the requested fault happen if it is one of this phase and rank.

    Parameters
    ----------
    phase : str
        The phase that begins.
    arrays : array or sparse array
        Data of the phase: a NaN is written to the first one.
    checkpoints : Path, optional
        Folder of checkpoints after one was written; `truncated` happens there alone.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> inject("solve", MPI.COMM_SELF)  # nothing is requested
    """
    if VARIABLE not in os.environ:
        return
    fault = requested()
    if fault is None or fault.phase != phase or _happened:
        return
    if (fault.kind == "truncated") != (checkpoints is not None):
        return
    if fault.rank != comm.rank:
        return
    if fault.kind == "nan":
        for array in arrays[:1]:
            _write_nan(array, fault)
    else:
        _note(fault)
        _happen(fault, checkpoints)


def faulty_products(mat: PETSc.Mat) -> PETSc.Mat:
    """Return a matrix with a NaN in its products if this is requested, else `mat` itself.

    Collective. The matrix is not destroyed: the job ends.
    """
    if VARIABLE not in os.environ:
        return mat
    fault = requested()
    if fault is None or fault.phase != "solve" or fault.kind != "nan":
        return mat
    from miramns.products import shell_like

    def multiply(x: PETSc.Vec, y: PETSc.Vec) -> None:
        mat.mult(x, y)
        with y as local:
            if mat.getComm().getRank() == fault.rank and len(local):
                _note(fault)
                local[0] = float("nan")

    return shell_like(mat, multiply)


def _happen(fault: Fault, checkpoints: Path | None) -> None:
    if fault.kind == "exception":
        raise RuntimeError(f"fault requested by {VARIABLE}: {fault.phase} on rank {fault.rank}")
    if fault.kind == "slow":
        time.sleep(SLEEP)
    elif fault.kind == "disk_full":
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    else:
        if checkpoints is not None:
            _truncate_newest(checkpoints)
        os.kill(os.getpid(), signal.SIGKILL)


def _write_nan(array: Any, fault: Fault) -> None:
    """Write a NaN to the first number of this rank, unless it has none or they are integers."""
    values = array.data if hasattr(array, "nnz") else array
    if getattr(values, "size", 0) and values.dtype.kind == "f":
        values.flat[0] = float("nan")
        _note(fault)


def _truncate_newest(folder: Path) -> None:
    """Remove the second half of the largest file of the newest checkpoint."""
    manifests = [path for path in folder.rglob("manifest.json") if path.is_file()]
    newest = max(manifests, key=lambda path: path.stat().st_mtime_ns).parent
    largest = max(newest.iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def _note(fault: Fault) -> None:
    """Count the fault, and append its time to the log."""
    global _happened
    _happened += 1
    path = os.environ.get(LOG_VARIABLE)
    if path and _happened == 1:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{time.time():.3f} {fault.rank} {fault.phase} {fault.kind}\n")
