"""Ranks of a communicator: ownership of rows, sums, gathers, times, compute nodes, launcher.

No function has a default communicator. Errors that may occur on one rank alone are in
:mod:`hpcembed.runtime.agreement`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.errors import ConfigError, LaunchError

if TYPE_CHECKING:  # functions that communicate need MPI; the others do without it
    from mpi4py import MPI

__all__ = [
    "MAX_MESSAGE_BYTES",
    "allgather_rows",
    "check_launcher",
    "communicator",
    "compute_node",
    "gather_rows",
    "ownership_range",
    "place_rows",
    "ranks_on_compute_node",
    "sum_over_ranks",
    "timed",
    "timed_here",
]

Number = TypeVar("Number", bound=np.generic)

#: Largest single message or reduction, in bytes. Longer arrays are sent in pieces, so counts stay
#: far below 2^31 elements, the limit of MPI-3 calls.
MAX_MESSAGE_BYTES = 64 * 2**20


def communicator(comm: MPI.Comm | None) -> MPI.Intracomm:
    """Return the communicator of an argument `comm`; this rank alone for None.

    Raises
    ------
    ConfigError
        If it is not a communicator of mpi4py.
    """
    from mpi4py import MPI

    if comm is None:
        return MPI.COMM_SELF
    if not isinstance(comm, MPI.Comm):
        raise ConfigError(f"comm: a communicator of mpi4py is needed, not {comm!r}")
    return cast("MPI.Intracomm", comm)


def ownership_range(n: int, comm: MPI.Comm) -> tuple[int, int]:
    """Return the first and one past the last of the `n` rows of this rank, as PETSc divides them.

    Not collective.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> ownership_range(10, MPI.COMM_SELF)
    (0, 10)
    """
    share, rest = divmod(n, comm.size)
    start = comm.rank * share + min(comm.rank, rest)
    return start, start + share + (1 if comm.rank < rest else 0)


def place_rows(n_local: int, comm: MPI.Comm) -> tuple[int, int]:
    """Return the global index of this rank's first row, and the number of rows on all ranks.

    Collective.
    """
    before = cast("MPI.Intracomm", comm).exscan(n_local)
    return int(before or 0), int(comm.allreduce(n_local))


def compute_node(comm: MPI.Comm) -> MPI.Intracomm:
    """Return a communicator of the ranks that share this rank's memory; the caller frees it.

    Collective.
    """
    from mpi4py import MPI

    return cast("MPI.Intracomm", comm.Split_type(MPI.COMM_TYPE_SHARED))


def ranks_on_compute_node(comm: MPI.Comm) -> int:
    """Return the number of ranks of `comm` on this rank's compute node. Collective."""
    node = compute_node(comm)
    count = node.size
    node.Free()
    return count


def sum_over_ranks(comm: MPI.Comm, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum an array over all ranks in place, in pieces of at most :data:`MAX_MESSAGE_BYTES`.

    Collective: one reduction for arrays below this size.

    Raises
    ------
    ValueError
        The array is not contiguous.
    """
    from mpi4py import MPI

    if not (values.flags.c_contiguous or values.flags.f_contiguous):
        raise ValueError("sum_over_ranks needs a contiguous array")
    flat = values.reshape(-1, order="A")
    piece = MAX_MESSAGE_BYTES // flat.itemsize
    for first in range(0, max(flat.size, 1), piece):
        comm.Allreduce(MPI.IN_PLACE, flat[first : first + piece])
    return values


def gather_rows(comm: MPI.Comm, rows: NDArray[Number]) -> NDArray[Number] | None:
    """Gather the rows of all ranks on rank 0, in rank order.

    Collective. Rows are received in messages of at most :data:`MAX_MESSAGE_BYTES` directly into the
    result, so arrays beyond 2^31 elements work and rank 0 needs no second copy.

    Parameters
    ----------
    rows : ndarray of shape (n_local, ...)
        This rank's rows; same trailing shape and dtype on all ranks.

    Returns
    -------
    ndarray of shape (n, ...) on rank 0, None elsewhere
    """
    counts = np.array(comm.allgather(rows.shape[0]), dtype=np.int64)
    row_bytes = int(np.prod(rows.shape[1:], dtype=np.int64)) * rows.itemsize
    step = max(1, MAX_MESSAGE_BYTES // max(row_bytes, 1))
    mine = np.ascontiguousarray(rows)
    if comm.rank:
        for first in range(0, mine.shape[0], step):
            comm.Send(mine[first : first + step].view(np.uint8).reshape(-1), dest=0, tag=7)
        return None
    gathered = np.empty((int(counts.sum()), *rows.shape[1:]), dtype=rows.dtype)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    gathered[: offsets[1]] = mine
    for source in range(1, comm.size):
        place = gathered[offsets[source] : offsets[source + 1]]
        for first in range(0, place.shape[0], step):
            comm.Recv(place[first : first + step].view(np.uint8).reshape(-1), source, tag=7)
    return gathered


def allgather_rows(comm: MPI.Comm, rows: NDArray[Number]) -> NDArray[Number]:
    """Gather the rows of all ranks on every rank, in rank order.

    Collective. For arrays that fit on every rank, for example components; messages have at most
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


@contextmanager
def timed(
    comm: MPI.Comm, seconds: dict[str, float], step: str, within: str | None = None
) -> Iterator[None]:
    """Add the wall time of a step on the slowest rank to ``seconds[step]``.

    Collective.

    Parameters
    ----------
    within : str, optional
        An enclosing step, whose time does not include this one.
    """
    from mpi4py import MPI

    comm.Barrier()
    began = time.perf_counter()
    yield
    spent = comm.allreduce(time.perf_counter() - began, op=MPI.MAX)
    seconds[step] = seconds.get(step, 0.0) + spent
    if within is not None:
        seconds[within] = seconds.get(within, 0.0) - spent


@contextmanager
def timed_here(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Add the wall time of a step on this rank to ``seconds[step]``. Not collective."""
    began = time.perf_counter()
    yield
    seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - began


def check_launcher(comm: MPI.Comm) -> None:
    """Raise an error if the launcher started several processes that are separate MPI worlds.

    Not collective. If the launcher and mpi4py use different MPI libraries, each of its N processes
    has a world of one rank. The environment variables of the launcher contain N.

    Raises
    ------
    LaunchError
        The launcher started N > 1 processes, and the communicator has one rank.
    """
    if comm.size != 1:
        return
    for variable in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS"):
        launched = os.environ.get(variable, "")
        if launched.isdigit() and int(launched) > 1:
            from mpi4py import MPI

            library = MPI.Get_library_version().split("\n")[0].strip()
            raise LaunchError(
                f"the launcher started {launched} processes ({variable}={launched}) but each "
                "process is a separate MPI job: mpiexec and mpi4py use different MPI libraries; "
                f"use the mpiexec of the library of mpi4py ({library})"
            )
