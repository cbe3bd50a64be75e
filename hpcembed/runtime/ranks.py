"""MPI manners: who owns what, how ranks agree before one may fail, how rows reach rank 0.

No function has a default communicator. The rule throughout: a condition that one rank sees alone
is first agreed on by all (:func:`agreement`), then all raise or none does, so that nobody waits in
a collective call that another rank never enters.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.errors import HpcembedError, InputError, LaunchError

__all__ = [
    "MAX_MESSAGE_BYTES",
    "agree",
    "agreement",
    "allgather_rows",
    "available_cores",
    "check_launcher",
    "gather_rows",
    "idle_while_root",
    "ownership_range",
    "sum_over_ranks",
    "threads_per_rank",
]

T = TypeVar("T")
Number = TypeVar("Number", bound=np.generic)

#: Largest single message or reduction, in bytes. Longer arrays go in pieces, so counts stay far
#: below the 2^31 elements that MPI-3 calls can express.
MAX_MESSAGE_BYTES = 64 * 2**20

#: What one rank may meet alone while reading or checking; anything else is a defect.
_LOCAL_FAILURES = (HpcembedError, OSError, EOFError, UnicodeError, MemoryError)


def ownership_range(n: int, comm: MPI.Comm) -> tuple[int, int]:
    """First and one-past-last of the `n` rows that this rank owns, as PETSc divides them.

    Not collective.
    """
    share, rest = divmod(n, comm.size)
    start = comm.rank * share + min(comm.rank, rest)
    return start, start + share + (1 if comm.rank < rest else 0)


def agree(comm: MPI.Comm, error: Exception | None) -> None:
    """Raise on every rank if any rank has an error; return on every rank otherwise.

    Collective. The error of the lowest failing rank is raised, with that rank named when there is
    more than one; an error that all ranks share is named without a rank.

    Parameters
    ----------
    comm : MPI.Comm
        The ranks that must agree.
    error : Exception or None
        What this rank met.

    Raises
    ------
    HpcembedError
        The type and text of the first failing rank's error
        (:class:`~hpcembed.runtime.errors.InputError` for an operating-system or decoding error).
    """
    mine = None if error is None else (_public_type(error), _one_line(error))
    reports = comm.allgather(mine)
    failing = [(rank, report) for rank, report in enumerate(reports) if report is not None]
    if not failing:
        return
    rank, (kind, text) = failing[0]
    same_everywhere = len(failing) == comm.size and len({report for _, report in failing}) == 1
    where = "" if same_everywhere or comm.size == 1 else f"[rank {rank}] "
    others = len({report for _, report in failing}) - 1
    more = f" (and {others} other message{'s' * (others > 1)} on other ranks)" if others else ""
    raise kind(f"{where}{text}{more}") from error


@contextmanager
def agreement(comm: MPI.Comm) -> Iterator[None]:
    """Run a rank-local block that may fail; then all ranks raise, or none.

    Collective at the end of the block, which itself must make no collective call. Errors that
    are not the user's to mend (anything but :class:`HpcembedError`, operating-system, decoding
    and memory errors) pass through at once: the entry point aborts the job.
    """
    error: Exception | None = None
    try:
        yield
    except _LOCAL_FAILURES as caught:
        error = caught
    agree(comm, error)


def _public_type(error: Exception) -> type[HpcembedError]:
    return type(error) if isinstance(error, HpcembedError) else InputError


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    return text or type(error).__name__


def sum_over_ranks(comm: MPI.Comm, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum an array over all ranks, in place, in pieces of at most :data:`MAX_MESSAGE_BYTES`.

    Collective: one reduction for arrays below that size.
    """
    if not (values.flags.c_contiguous or values.flags.f_contiguous):
        raise ValueError("sum_over_ranks needs a contiguous array")
    flat = values.reshape(-1, order="A")
    piece = MAX_MESSAGE_BYTES // flat.itemsize
    for first in range(0, max(flat.size, 1), piece):
        comm.Allreduce(MPI.IN_PLACE, flat[first : first + piece])
    return values


def gather_rows(comm: MPI.Comm, rows: NDArray[Number], root: int = 0) -> NDArray[Number] | None:
    """Bring the rows of all ranks to `root`, in rank order.

    Collective. Rows travel in messages of at most :data:`MAX_MESSAGE_BYTES`, straight into their
    place in the result, so arrays beyond 2^31 elements work and `root` needs no second copy.

    Parameters
    ----------
    rows : ndarray of shape (n_local, ...)
        This rank's rows; same trailing shape and dtype on all ranks.

    Returns
    -------
    ndarray of shape (n, ...) on `root`, None elsewhere
    """
    counts = np.array(comm.allgather(rows.shape[0]), dtype=np.int64)
    row_bytes = int(np.prod(rows.shape[1:], dtype=np.int64)) * rows.itemsize
    step = max(1, MAX_MESSAGE_BYTES // max(row_bytes, 1))
    mine = np.ascontiguousarray(rows)
    if comm.rank != root:
        for first in range(0, mine.shape[0], step):
            comm.Send(mine[first : first + step].view(np.uint8).reshape(-1), dest=root, tag=7)
        return None
    gathered = np.empty((int(counts.sum()), *rows.shape[1:]), dtype=rows.dtype)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    for source in range(comm.size):
        place = gathered[offsets[source] : offsets[source + 1]]
        if source == root:
            place[:] = mine
            continue
        for first in range(0, place.shape[0], step):
            comm.Recv(place[first : first + step].view(np.uint8).reshape(-1), source, tag=7)
    return gathered


def allgather_rows(comm: MPI.Comm, rows: NDArray[Number]) -> NDArray[Number]:
    """Bring the rows of all ranks to every rank, in rank order.

    Collective. For arrays that every rank may hold whole, such as components; messages stay below
    :data:`MAX_MESSAGE_BYTES`.

    Returns
    -------
    ndarray of shape (n, ...)
    """
    whole = gather_rows(comm, rows)
    n = comm.allreduce(rows.shape[0])
    if whole is None:
        whole = np.empty((n, *rows.shape[1:]), dtype=rows.dtype)
    flat = whole.view(np.uint8).reshape(-1)
    for first in range(0, flat.size, MAX_MESSAGE_BYTES):
        comm.Bcast(flat[first : first + MAX_MESSAGE_BYTES], root=0)
    return whole


def idle_while_root(comm: MPI.Comm, work: Callable[[], T], root: int = 0) -> T | None:
    """Run `work` on `root` while the other ranks sleep.

    Collective. The others poll a non-blocking barrier with pauses of 20 ms, which leaves their
    cores to the threads of `root`. An error that the user can mend is raised on all ranks.

    Returns
    -------
    What `work` returned on `root`, None elsewhere.
    """
    result: T | None = None
    error: Exception | None = None
    if comm.rank == root:
        try:
            result = work()
        except _LOCAL_FAILURES as caught:
            error = caught
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.02)
    agree(comm, error)
    return result


def check_launcher(comm: MPI.Comm) -> None:
    """Refuse to run as N separate one-rank worlds.

    Not collective. A launcher of another MPI than mpi4py's starts N processes that each believe
    to be alone; the launcher's own variables tell how many there should be.

    Raises
    ------
    LaunchError
        When the launcher says N > 1 and the communicator has one rank.
    """
    if comm.size != 1:
        return
    for variable in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS"):
        launched = os.environ.get(variable, "")
        if launched.isdigit() and int(launched) > 1:
            library = MPI.Get_library_version().split("\n")[0].strip()
            raise LaunchError(
                f"the launcher started {launched} processes ({variable}={launched}) but each one "
                "is alone in its MPI world: mpiexec belongs to another MPI than mpi4py's "
                f"({library}); use the mpiexec of that MPI"
            )


def threads_per_rank(comm: MPI.Comm, requested: int = 0) -> int:
    """BLAS threads that one rank should use: no core of the node left out, none used twice.

    Collective. In order: `requested`, OMP_NUM_THREADS, the cores that the ranks of this node may
    run on, shared evenly.
    """
    if requested > 0:
        return requested
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    cores = set().union(*node.allgather(available_cores()))
    share = max(1, len(cores) // node.size)
    node.Free()
    return share


def available_cores() -> set[int]:
    """Cores that this process may run on. Not collective."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))
