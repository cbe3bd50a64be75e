"""One job for each output path: the first one owns it, and another one is refused at once.

A job creates a marker file beside its output, ``.NAME.lock``, in one atomic step, and removes it at
its end. The marker names the process. A job that is killed leaves its marker: a later job on the
same machine takes it over, with a message, if that process has ended, and so does a SLURM job that
was requeued. Another machine cannot see the process, so the message states which file to remove.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from mpi4py import MPI

from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import OutputExistsError
from hpcembed.runtime.output.files import output_error

# The lock of stores in miramns.checkpointing.lock describes a process in the same way, and a test
# compares both. They share no code: miramns imports no part of hpcembed, and an import of miramns
# loads PETSc and SLEPc, which commands on finished runs do without.

__all__ = ["marker_of", "owned_output"]

_log = logging.getLogger(__name__)


class _Owner(msgspec.Struct, frozen=True):
    """The process that owns an output; `started` distinguishes processes of the same number."""

    host: str
    process: int
    started: str
    since: str
    job: str = ""
    restarts: int = 0


@contextmanager
def owned_output(comm: MPI.Comm, path: Path | None) -> Iterator[None]:
    """Own an output folder or file during a block.

    Collective at its beginning.

    Parameters
    ----------
    path : Path or None
        None: nothing is owned.

    Raises
    ------
    OutputExistsError
        On all ranks: another job writes to this path.
    OutputError
        On all ranks: the marker cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with owned_output(MPI.COMM_SELF, Path(folder) / "out"):
    ...         os.listdir(folder)
    ['.out.lock']
    """
    marker = None
    made: list[Path] = []
    with agreement(comm):
        if comm.rank == 0 and path is not None:
            marker, made = _take(path)
    try:
        yield
    finally:
        if marker is not None:
            _release(marker, made)


def marker_of(path: Path) -> Path:
    """Return the marker of an output path: beside it, or in it if its folder is not writable."""
    absolute = path.absolute() if path.is_symlink() else path.resolve()
    name = f".{absolute.name}.lock"
    if path.is_dir() and not os.access(absolute.parent, os.W_OK):
        return absolute / name
    return absolute.with_name(name)


def _take(path: Path) -> tuple[Path, list[Path]]:
    """Create the marker; return it and the parent folders that were made for it."""
    marker = marker_of(path)
    made = [folder for folder in marker.parents if not folder.exists()]
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        if not _create(marker):
            _take_over(marker, path)
    except OutputExistsError:
        raise
    except OSError as error:
        raise output_error(path, error) from error
    return marker, made


def _create(marker: Path) -> bool:
    """Create the marker of this process; return False if there is one."""
    try:
        file = marker.open("xb")
    except FileExistsError:
        return False
    with file:
        file.write(msgspec.json.encode(_this_process()))
    return True


def _take_over(marker: Path, path: Path) -> None:
    """Replace the marker of a process that has ended; refuse that of any other process."""
    owner = _read(marker)
    if owner is None or not _has_ended(owner):
        raise _in_use(marker, path, owner)
    # Of several jobs that take over, one renames the marker. A late one may rename the new marker
    # of another job instead: it restores that marker.
    aside = marker.with_name(f"{marker.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        os.rename(marker, aside)
        renamed = _read(aside)
        if renamed != owner:
            with suppress(FileExistsError):
                os.link(aside, marker)
        aside.unlink()
        if renamed != owner:
            raise _in_use(marker, path, renamed)
    if not _create(marker):
        raise _in_use(marker, path, _read(marker))
    _log.warning(
        "%s: taken over from process %d, which started at %s and has ended",
        path, owner.process, owner.since,
    )  # fmt: skip


def _in_use(marker: Path, path: Path, owner: _Owner | None) -> OutputExistsError:
    by = "" if owner is None else f", process {owner.process} on {owner.host.partition(' ')[0]}"
    since = "" if owner is None else f" since {owner.since}"
    return OutputExistsError(
        f"{path}: in use by another job{by}{since}: choose another path, or remove {marker} if "
        "that job has ended"
    )


def _release(marker: Path, made: list[Path]) -> None:
    """Remove the marker if it is that of this process, and the folders that are still empty."""
    owner = _read(marker)
    if owner is None or (owner.host, owner.process) != (_host(), os.getpid()):
        return
    with suppress(OSError):
        marker.unlink()
        for folder in made:
            folder.rmdir()


def _read(marker: Path) -> _Owner | None:
    """Return the owner in a marker; None if there is none or it is not complete."""
    try:
        return msgspec.json.decode(marker.read_bytes(), type=_Owner)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _has_ended(owner: _Owner) -> bool:
    mine = _this_process()
    if owner.host != mine.host:  # SLURM ends a job before it starts it again
        return bool(mine.job) and owner.job == mine.job and mine.restarts > owner.restarts
    started = _start_of(owner.process)
    return started is None or bool(owner.started and started != owner.started)


def _this_process() -> _Owner:
    restarts = os.environ.get("SLURM_RESTART_COUNT", "")
    return _Owner(
        host=_host(),
        process=os.getpid(),
        started=_start_of(os.getpid()) or "",
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        job=os.environ.get("SLURM_JOB_ID", ""),
        restarts=int(restarts) if restarts.isdigit() else 0,
    )


def _host() -> str:
    """Return the name of this machine, with its space of process numbers (of a container)."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()} {space}".strip()


def _start_of(process: int) -> str | None:
    """Return when a process started, in ticks since the boot; None if there is no such process."""
    if not 0 < process < 2**31:  # in a damaged marker
        return None
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie writes no more
    except (OSError, IndexError):
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return ""
