"""The error of the benchmarks, and work of rank 0 whose outcome all ranks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpi4py import MPI

from miramns import MiramnsError


class BenchError(MiramnsError):
    """A request that the benchmark cannot carry out."""


def on_root_rank(
    comm: MPI.Comm, work: Callable[[], Any], *, deliver: Callable[[Any], Any] | None = None
) -> Any:
    """Call `work` on rank 0 and return its result, or raise its error, on all ranks.

    Collective on `comm`.

    Parameters
    ----------
    work : callable
        Called on rank 0 without arguments.
    deliver : callable, optional
        Sends the result to the other ranks; ``comm.bcast`` by default, or ``comm.scatter``.

    Raises
    ------
    BenchError
        On all ranks, if `work` raises it, ``OSError``, ``ValueError`` or ``EOFError``.
    """
    result: Any = None
    message = ""
    if comm.rank == 0:
        try:
            result = work()
        except (BenchError, OSError, ValueError, EOFError) as error:
            message = str(error) or type(error).__name__
    message = comm.bcast(message)
    if message:
        raise BenchError(message)
    return (deliver or comm.bcast)(result)
