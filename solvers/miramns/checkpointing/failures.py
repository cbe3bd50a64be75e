"""Failures of files on one rank, raised on all ranks in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpi4py import MPI

from miramns.agreement import release_frames
from miramns.errors import CheckpointError

#: Errors of a program that meets content of another form.
_OTHER_FORM = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip

#: Errors of the system after which more space helps.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def agreed(comm: MPI.Comm, path: Path, action: str, needed: int = 0) -> Iterator[None]:
    """Run a block that may fail on one rank alone; then raise its error on all ranks.

    Collective at the end of the block. The block itself must make no collective call.

    Parameters
    ----------
    path : Path
        Named in the message.
    action : str
        For example "write the checkpoint".
    needed : int
        Bytes that the block writes.

    Raises
    ------
    CheckpointError
        Of the lowest failing rank.
    """
    error: CheckpointError | None = None
    try:
        yield
    except CheckpointError as caught:
        error = caught
    except OSError as caught:
        error = system_error(path, caught, action, needed)
    if error is not None:
        release_frames(error)
    reports = comm.allgather(None if error is None else (type(error), error.args))
    for rank, report in enumerate(reports):
        if report is None:
            continue
        if error is not None and rank == comm.rank:
            try:
                raise error
            finally:
                del error  # the frame would keep the error, which holds the frame
        kind, (text, *others) = report
        raise kind(text if rank == 0 else f"[rank {rank}] {text}", *others)


@contextmanager
def restoring(path: Path | str) -> Iterator[None]:
    """Run a block that restores a state; raise errors of content of another form in one line.

    The digests of a checkpoint prove that it is whole, not that this program has written it.

    Parameters
    ----------
    path : Path or str
        The checkpoint.

    Raises
    ------
    CheckpointError
    """
    try:
        yield
    except (CheckpointError, MPI.Exception):
        raise
    except _OTHER_FORM as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(
            f"{path}: the checkpoint has another form than this program writes ({reason}): remove "
            "it, or choose another folder"
        ) from error


def system_error(path: Path, error: OSError, action: str, needed: int = 0) -> CheckpointError:
    """Return an error of the operating system as one line with the path and the bytes needed."""
    reason = error.strerror or str(error) or type(error).__name__
    size = f" ({needed} bytes needed)" if needed else ""
    remedy = "choose another folder"
    if error.errno in _FULL:
        remedy = "free space there or choose another folder"
    elif isinstance(error, FileNotFoundError | NotADirectoryError):
        remedy = "the folder must exist, on a file system that all ranks share"
    return CheckpointError(f"{path}: cannot {action}{size}: {reason}; {remedy}")
