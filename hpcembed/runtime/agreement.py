"""Agreement of ranks on errors and settings, before a step that all ranks take together.

An error that may occur on one rank alone is first agreed on (:func:`agreement`): then all ranks
raise it or none does. So no rank waits in a collective call that another rank never enters.

An error that is raised on several ranks holds no frames of the rank that had it. Frames hold those
of their callers, and with them PETSc's objects; if these stay alive on one rank alone, PETSc waits
for this rank when the others destroy them. :mod:`miramns.agreement` does the same for products of
operators; this module cannot import it, because the installation for predictions has no miramns.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

from hpcembed.runtime.errors import ConfigError, HpcembedError, InputError
from hpcembed.runtime.machine.memory import is_memory_error, memory_error
from hpcembed.runtime.stopping import pass_on

if TYPE_CHECKING:  # functions that communicate need MPI; the others do without it
    from mpi4py import MPI

__all__ = ["agree", "agreement", "idle_while_root", "on_rank", "same_on_all_ranks"]

T = TypeVar("T")

#: Errors that may occur on one rank alone while it reads or checks; any other one is a defect.
_LOCAL_FAILURES = (HpcembedError, OSError, EOFError, UnicodeError, MemoryError)


@contextmanager
def agreement(comm: MPI.Comm) -> Iterator[None]:
    """Run a block that may fail on one rank alone; then raise its error on all ranks.

    Collective at the end of the block. The block itself must make no collective call. Only
    :class:`HpcembedError` and errors of the operating system, of decoding and of memory are agreed
    on. Other exceptions are defects: they propagate at once, and the entry point aborts the job.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> with agreement(MPI.COMM_SELF):
    ...     raise InputError("row 3: not a number")
    Traceback (most recent call last):
    hpcembed.runtime.errors.InputError: row 3: not a number
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        if not _is_local(caught):
            raise
        error = caught
    agree(comm, error)


def agree(comm: MPI.Comm, error: Exception | None) -> None:
    """Raise an error on every rank if any rank has one.

    Collective. The error of the lowest failing rank is raised, with the number of this rank unless
    there is one rank only or all ranks have the same error.

    Parameters
    ----------
    comm : MPI.Comm
        The ranks that must agree.
    error : Exception or None
        The error of this rank.

    Raises
    ------
    HpcembedError
        Type and text of the error of the lowest failing rank
        (:class:`~hpcembed.runtime.errors.InputError` for errors of the operating system or of
        decoding). On several ranks its traceback begins here.
    """
    mine = None
    if error is not None:
        if is_memory_error(error):
            error = memory_error(error)
        mine = type(error) if isinstance(error, HpcembedError) else InputError, _one_line(error)
        if comm.size > 1:
            _release_frames(error)
    reports = comm.allgather(mine)
    failing = [(rank, report) for rank, report in enumerate(reports) if report is not None]
    if not failing:
        return
    rank, (kind, text) = failing[0]
    same_everywhere = len(failing) == comm.size and len({report for _, report in failing}) == 1
    alone = comm.size > 1 and not same_everywhere and kind.names_rank
    where = f"[rank {rank}] " if alone else ""
    others = len({report for _, report in failing}) - 1 if kind.names_rank else 0
    more = f" (and {others} other message{'s' * (others > 1)} on other ranks)" if others else ""
    message = f"{where}{text}{more}"
    if error is not None and type(error) is kind and str(error) == message:
        if comm.size == 1:
            raise error  # without a second traceback
        # Frames of the callers may have a variable for `error`: raised, it would hold them.
        raise _copy(error) from None
    raise kind(message) from error


def _release_frames(error: BaseException) -> None:
    """Remove the tracebacks of an error and of the errors that led to it."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            waiting += [part for part in (one.__cause__, one.__context__) if part is not None]


def _copy(error: Exception) -> Exception:
    """Return an error of the same type, with the same arguments and attributes."""
    copied: Exception = type(error).__new__(type(error), *error.args)
    copied.__dict__.update(error.__dict__)
    return copied


def same_on_all_ranks(comm: MPI.Comm, **settings: object) -> None:
    """Refuse settings that differ between ranks.

    Collective.

    Raises
    ------
    ConfigError
        A setting differs; the message contains its values.
    """
    of_all: list[dict[str, str]] = comm.allgather({key: repr(settings[key]) for key in settings})
    for name in settings:
        values = sorted({of_rank[name] for of_rank in of_all})
        if len(values) > 1:
            raise ConfigError(
                f"{name} differs between ranks: {', '.join(values)}: give all ranks the same value"
            )


def on_rank(comm: MPI.Comm, root: int, compute: Callable[[], T]) -> T:
    """Compute on one rank, and return the result or raise the exception on all ranks.

    Collective. Ranks wait in the broadcast; :func:`idle_while_root` is for long work. On several
    ranks the traceback of the exception becomes a note.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> on_rank(MPI.COMM_SELF, 0, lambda: 2 + 3)
    5
    """
    result: T | None = None
    failure: Exception | None = None
    if comm.rank == root:
        try:
            result = compute()
        except Exception as caught:  # raised below, on all ranks
            failure = caught
            if comm.size > 1:
                if hasattr(failure, "add_note"):  # Python 3.11
                    where = traceback.format_tb(failure.__traceback__)
                    failure.add_note("".join([f"On rank {root}:\n", *where]))
                _release_frames(failure)
    result, failure = comm.bcast((result, failure), root)
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # the frame would keep the error, which holds the frame
    return cast(T, result)


def idle_while_root(comm: MPI.Comm, work: Callable[[], T]) -> T | None:
    """Run `work` on rank 0 while the other ranks sleep.

    Collective. The other ranks test a non-blocking barrier every 20 ms, so their cores are free for
    the threads of rank 0. An error that the user can correct is raised on all ranks.

    Returns
    -------
    object or None
        Result of `work` on rank 0, None elsewhere.
    """
    result: T | None = None
    error: Exception | None = None
    if comm.rank == 0:
        try:
            result = work()
        except Exception as caught:
            if not _is_local(caught):
                raise
            error = caught
    request = comm.Ibarrier()
    while not request.Test():
        pass_on()
        time.sleep(0.02)
    agree(comm, error)
    return result


def _is_local(error: Exception) -> bool:
    """Return whether an error is no defect; libraries have their own errors of memory."""
    return isinstance(error, _LOCAL_FAILURES) or is_memory_error(error)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    return text or type(error).__name__
