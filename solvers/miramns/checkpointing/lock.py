"""One process for each store: the first one owns it, and another one is refused at once.

The lock is a file in the store with host, process and job of its owner, made in one atomic step. A
process that is killed leaves its lock. A later one on the same machine takes it over if that
process has ended, and so does a SLURM job that was requeued. Another machine cannot see the
process, so the message has the command that removes the lock.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from miramns.errors import CheckpointError

FILE_NAME = ".lock"

#: Largest lock that is read.
_LARGEST = 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that owns a store; `started` distinguishes processes of the same number."""

    host: str
    process: int
    started: str
    since: str
    job: str
    restarts: int


class Lock:
    """The lock of a folder, held from construction to :meth:`release`.

    Parameters
    ----------
    folder : Path
        Must exist.

    Raises
    ------
    CheckpointError
        Another process owns the folder.
    OSError
        The lock cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._owner = _this_process()
        if not self._create():
            self._take_over(folder)

    def release(self) -> None:
        """Remove the lock if it is still that of this process."""
        if self._owner == _read(self.path):
            with suppress(OSError):  # the folder may have vanished
                self.path.unlink()

    def _create(self) -> bool:
        """Create the lock with its content; return False if there is one."""
        partial = self.path.with_name(f"{FILE_NAME}-{os.getpid()}")
        content = json.dumps(asdict(self._owner)).encode()
        partial.write_bytes(content)
        try:
            os.link(partial, self.path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            try:
                with self.path.open("xb") as file:
                    file.write(content)
            except FileExistsError:
                return False
        finally:
            partial.unlink()
        return True

    def _take_over(self, folder: Path) -> None:
        owner = _read(self.path)
        if owner is None or not _has_ended(owner, self._owner):
            raise self._in_use(folder, owner)
        # Of several processes that take over, one renames the lock. A late one may rename the new
        # lock of another process instead: it restores that lock.
        aside = self.path.with_name(f"{FILE_NAME}-{os.getpid()}-ended")
        with suppress(FileNotFoundError):
            os.rename(self.path, aside)
            renamed = _read(aside)
            if renamed != owner:
                with suppress(FileExistsError):
                    os.link(aside, self.path)
            aside.unlink()
            if renamed != owner:
                raise self._in_use(folder, renamed)
        if not self._create():
            raise self._in_use(folder, _read(self.path))
        _log.warning(
            "%s: taken over from process %d, which started at %s and has ended",
            folder, owner.process, owner.since,
        )  # fmt: skip

    def _in_use(self, folder: Path, owner: Owner | None) -> CheckpointError:
        by = "another process"
        if owner is not None:
            job = f" of job {owner.job}" if owner.job else ""
            host = owner.host.partition(" ")[0]
            by = f"process {owner.process}{job} on {host} since {owner.since}"
        by = json.dumps(by, ensure_ascii=True)[1:-1]
        command = f"rm {shlex.quote(str(self.path))}"
        return CheckpointError(
            f"{folder}: in use by {by}: choose another folder or, if it has ended, run: {command}"
        )


def _read(path: Path) -> Owner | None:
    """Return the owner in a lock; None if there is none or it is not complete."""
    try:
        with path.open("rb") as file:
            return Owner(**json.loads(file.read(_LARGEST)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _has_ended(owner: Owner, mine: Owner) -> bool:
    if owner.host != mine.host:  # SLURM ends a job before it starts it again
        return bool(mine.job) and owner.job == mine.job and mine.restarts > owner.restarts
    started = _start_of(owner.process)
    return started is None or bool(owner.started and started != owner.started)


def _this_process() -> Owner:
    jobs = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
    restarts = os.environ.get("SLURM_RESTART_COUNT", "")
    return Owner(
        host=_host(),
        process=os.getpid(),
        started=_start_of(os.getpid()) or "",
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        job=next((os.environ[name] for name in jobs if os.environ.get(name)), ""),
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
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie writes no more
    except (OSError, IndexError):
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError, TypeError):
        pass
    return ""
