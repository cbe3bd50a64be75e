"""Memory that a rank may allocate, checked before it is allocated.

The limit is the smallest of the free memory of the compute node and what its control groups and
SLURM leave, each divided by the number of ranks on the compute node, what the limits of the process
leave (:mod:`hpcembed.runtime.machine.memory_limits`), and the user's own limit.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hpcembed.runtime.errors import MemoryLimitError
from hpcembed.runtime.machine.memory_limits import (
    cgroup_left,
    process_left,
    resident_bytes,
    slurm_limit,
)

if TYPE_CHECKING:  # functions that communicate need MPI; the others do without it
    from mpi4py import MPI

__all__ = [
    "available_here",
    "available_per_rank",
    "check_fits",
    "format_bytes",
    "is_memory_error",
    "memory_error",
    "peak_bytes",
]


def format_bytes(count: float) -> str:
    """Return a number of bytes as text with a unit.

    Examples
    --------
    >>> format_bytes(3 * 2**30)
    '3.0 GiB'
    """
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} PiB"


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_per_rank(comm: MPI.Comm, limit_bytes: int = 0) -> int:
    """Return the bytes that a rank may still allocate: the minimum over all ranks.

    Collective: one reduction.

    Parameters
    ----------
    limit_bytes : int
        The user's own limit per rank, 0 for none.
    """
    from mpi4py import MPI

    from hpcembed.runtime.ranks import ranks_on_compute_node

    ranks = ranks_on_compute_node(comm)
    share = min(_available_on_compute_node() // ranks, _left_to_process(ranks))
    if limit_bytes:
        share = min(share, limit_bytes)
    return int(comm.allreduce(share, op=MPI.MIN))


def available_here() -> int:
    """Return the bytes that this process may still allocate. Not collective."""
    return min(_available_on_compute_node(), _left_to_process(1))


def check_fits(needed_bytes: int, available_bytes: int, name: str, remedy: str) -> None:
    """Raise an error if a step needs more memory than is available.

    Raises
    ------
    MemoryLimitError
        The message contains the `name` of the step, both sizes and the `remedy`.
    """
    if needed_bytes > available_bytes:
        raise MemoryLimitError(
            f"{name} needs {format_bytes(needed_bytes)} per rank, "
            f"{format_bytes(available_bytes)} are available: {remedy}"
        )


def memory_error(error: BaseException, place: object = "") -> MemoryLimitError:
    """Return the error of an allocation that failed as one line with sizes and a remedy.

    Parameters
    ----------
    error : Exception
        A `MemoryError`, or the error of a library that :func:`is_memory_error` recognises.
    place : object
        The file that is read, if there is one.

    Examples
    --------
    >>> text = str(memory_error(MemoryError("Unable to allocate 8.0 TiB"), "rows.npy"))
    >>> text.startswith("rows.npy: out of memory: Unable to allocate 8.0 TiB; the process uses")
    True
    """
    if isinstance(error, MemoryLimitError):
        return error
    reason = " ".join(str(error).split())
    reason = f": {reason[:300]}" if reason else ""
    where = f"{place}: " if str(place) else ""
    return MemoryLimitError(
        f"{where}out of memory{reason}; the process uses {format_bytes(peak_bytes())} at most: use "
        "more ranks or compute nodes, fewer rows, or a smaller n_components"
    )


def is_memory_error(error: BaseException) -> bool:
    """Return whether an exception of Python, torch or PETSc reports a failed allocation."""
    if isinstance(error, MemoryError):
        return True
    petsc_out_of_memory = 55  # PETSC_ERR_MEM
    if getattr(error, "ierr", None) == petsc_out_of_memory:
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "out of memory" in text
    )


def _available_on_compute_node() -> int:
    free, left = _meminfo_available(), cgroup_left()
    return free if left is None else min(free, left)


def _left_to_process(ranks: int) -> int:
    """Return the bytes that the limits of SLURM and of the process leave to one of some ranks."""
    left = process_left()
    candidates = [sys.maxsize if left is None else left]
    slurm = slurm_limit()
    if slurm is not None:
        candidates.append(max(0, slurm // ranks - resident_bytes()))
    return min(candidates)


def _meminfo_available() -> int:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
