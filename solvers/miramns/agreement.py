"""Agreement of ranks on arguments and on failures, so that no rank waits for another.

Every rank must take part in every reduction. So arguments that differ between ranks are refused on
all of them, and an exception on one rank ends the solve on all: a product that raises an exception
gives NaN, which the next reduction spreads, and the test of this reduction then asks for its cause.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.errors import MiramnsError, OperatorError

#: :data:`miramns.result.Monitor`, without its module.
_Monitor: TypeAlias = Callable[[Any], None]

#: Longest text of an exception that other ranks show.
_LONGEST = 400

#: The exception of this rank's last product, until all ranks know of it.
_failures: list[BaseException] = []


def same_on_all_ranks(comm: MPI.Comm, **arguments: Any) -> None:
    """Raise an error on all ranks if an argument differs between them.

    Collective. Functions are compared by name.

    Raises
    ------
    MiramnsError
        With the name of the argument and its values.
    """
    if comm.size == 1:
        return
    of_ranks = comm.allgather([_comparable(value) for value in arguments.values()])
    for name, values in zip(arguments, zip(*of_ranks, strict=True), strict=True):
        if any(not _equal(value, values[0]) for value in values):
            texts = ", ".join(dict.fromkeys(map(repr, values)))
            raise MiramnsError(
                f"{name} differs between ranks: {texts}: give all ranks the same value"
            )


def _comparable(value: Any) -> Any:
    """Return a value that can be sent to other ranks and compared there."""
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | range):
        return tuple(map(_comparable, value))
    # what is neither None nor a number nor a text is refused later, on all ranks
    return value if isinstance(value, str | float | int | tuple | None) else repr(value)


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b) or (a != a and b != b)  # NaN is refused later, on all ranks


def held_failure(A: PETSc.Mat, error: Exception, product: NDArray[np.float64]) -> bool:
    """Keep the exception of a product for :func:`raise_failure`, and fill the product with NaN.

    Returns False, and keeps nothing, on one rank: the exception can be raised at once.
    """
    if A.getComm().getSize() == 1:
        return False
    keep_failure(error, product, np.nan)
    return True


def keep_failure(error: Exception, product: NDArray[np.float64], fill: float) -> None:
    """Keep the exception of a product for :func:`raise_failure`, and fill the product.

    Its traceback becomes text, see :func:`release_frames`.
    """
    # newer bindings of PETSc wrap the exception of a product
    is_wrapped = isinstance(error, PETSc.Error | SystemError) and error.__cause__ is not None
    cause: BaseException = error.__cause__ if is_wrapped else error  # type: ignore[assignment]
    _failures.append(without_frames(cause, "In the product:"))
    product[:] = fill


def release_frames(error: BaseException) -> None:
    """Remove the tracebacks of an exception and of the exceptions that led to it.

    Frames hold PETSc's objects, also those of their callers. If a variable in a frame keeps the
    exception, they form a cycle that is collected later. These objects, alive on one rank alone,
    keep a communicator whose loss on other ranks makes the next collective call, or the exit of the
    program, hang.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            waiting += [part for part in (one.__cause__, one.__context__) if part is not None]


def without_frames(error: BaseException, title: str) -> BaseException:
    """Return an exception that holds no frames; their text becomes a note."""
    where = "".join([f"{title}\n", *traceback.format_tb(error.__traceback__)])
    release_frames(error)
    if hasattr(error, "add_note"):  # Python 3.11
        error.add_note(where)
    error.__cause__ = error.__context__ = None
    return error


def forget_failures() -> None:
    """Forget exceptions of earlier solves."""
    _failures.clear()


def raise_failure(comm: MPI.Comm) -> None:
    """Raise the exception of a product on the rank that had it, and an error on other ranks.

    Collective. Returns if no product raised an exception.

    Raises
    ------
    OperatorError
        On ranks without an exception of their own.
    """
    first = _failures[:1]
    _failures.clear()
    _raise_together(comm, first, "a product with the operator", OperatorError)


def _raise_together(
    comm: MPI.Comm, errors: list[BaseException], what: str, kind: type[MiramnsError]
) -> None:
    """Raise the error in the list of this rank, if there is one, else that of another rank."""
    texts = comm.allgather(one_line(errors[0]) if errors else None)
    if errors:
        # no variable keeps the error: it would keep the frames of its traceback, and their objects
        raise errors.pop()
    for rank, text in enumerate(texts):
        if text is not None:
            raise kind(f"[rank {rank}] {what} raised {text}")


def one_line(error: BaseException) -> str:
    """Return the type and the text of an error, as one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "an error without a text"
    return f"{type(error).__name__}: {text[:_LONGEST]}"


class AgreedMonitor:
    """A monitor for all ranks; an exception on one rank is raised on all of them."""

    def __init__(self, comm: MPI.Comm, monitor: _Monitor | None) -> None:
        self._comm, self._monitor = comm, monitor

    def __call__(self, record: Any) -> None:
        """Call the monitor of this rank, if it has one. Collective."""
        errors: list[BaseException] = []
        try:
            if self._monitor is not None:
                self._monitor(record)
        except Exception as error:
            errors.append(without_frames(error, "In the monitor:"))
        _raise_together(self._comm, errors, "the monitor", MiramnsError)


def agreed_monitor(comm: MPI.Comm, monitor: _Monitor | None) -> _Monitor | None:
    """Return a monitor whose exceptions all ranks raise; None if no rank has one. Collective."""
    if comm.size == 1 or not comm.allreduce(monitor is not None, op=MPI.LOR):
        return monitor
    return AgreedMonitor(comm, monitor)
