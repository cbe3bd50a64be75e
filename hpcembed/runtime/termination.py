"""Exit status of a command that all ranks run, after success and after every kind of error.

An :class:`~hpcembed.runtime.errors.HpcembedError` that all ranks have is printed once and ends all
of them with its exit status; any other error ends the whole job at once, with the traceback of its
rank.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hpcembed.runtime.errors import HpcembedError
from hpcembed.runtime.logging import close_output
from hpcembed.runtime.machine.memory import is_memory_error, memory_error
from hpcembed.runtime.printable_text import printable
from hpcembed.runtime.stopping import StoppedError

if TYPE_CHECKING:  # functions that communicate need MPI; the others do without it
    from mpi4py import MPI

__all__ = ["exit_status"]

#: Seconds that a rank with an error waits for the other ranks to report the same one.
_PATIENCE = 5.0

#: Exit status after Ctrl-C, as in shells.
_INTERRUPTED = 130

#: Variable with the path of a file that takes the place of the exit status of a stopped job.
_STOP_FILE = "HPCEMBED_STOP_FILE"


def exit_status(comm: MPI.Comm, command: Callable[[], int]) -> int:
    """Run a command on all ranks and return its exit status; abort the job after a defect.

    Collective.

    Parameters
    ----------
    command : callable
        Returns the exit status of a success.

    Returns
    -------
    int
        The same on all ranks.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> exit_status(MPI.COMM_SELF, lambda: 0)
    0
    """
    try:
        status = command()
        sys.stdout.flush()
        return status
    except HpcembedError as error:
        return _end_together(comm, error)
    except BrokenPipeError:
        # The reader of standard output, for example head, has ended.
        close_output()
        return 0
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else 2
    except KeyboardInterrupt:
        if comm.size > 1:  # the signal may not have reached all ranks
            _abort(comm, "hpcembed: interrupted" if comm.rank == 0 else "", _INTERRUPTED)
        else:
            print("hpcembed: interrupted", file=sys.stderr, flush=True)
        return _INTERRUPTED
    except Exception as error:
        if is_memory_error(error):  # of one rank alone, or at different places
            line = memory_error(error)
            where = f"[rank {comm.rank}] " if comm.size > 1 else ""
            _abort(comm, f"hpcembed: error: {where}{line}", line.exit_status)
            return line.exit_status
        _abort(comm, f"[rank {comm.rank}/{comm.size}] {traceback.format_exc()}", 1)
        return 1
    except BaseException:  # of any kind: the other ranks must not wait for this one
        _abort(comm, f"[rank {comm.rank}/{comm.size}] {traceback.format_exc()}", 1)
        return 1


def _end_together(comm: MPI.Comm, error: HpcembedError) -> int:
    """Print an error once if all ranks have it; abort the job if this rank alone has it."""
    everybody = comm.Ibarrier()
    deadline = time.monotonic() + _PATIENCE
    while not everybody.Test():
        if time.monotonic() > deadline:
            _abort(comm, f"hpcembed: {error.label}[rank {comm.rank}] {error}", error.exit_status)
        time.sleep(0.01)
    if comm.rank == 0:
        sys.stdout.flush()
        print(printable(f"hpcembed: {error.label}{error}"), file=sys.stderr, flush=True)
    if isinstance(error, StoppedError) and os.environ.get(_STOP_FILE):
        return _reported_stop(comm, error)
    return error.exit_status


def _reported_stop(comm: MPI.Comm, error: StoppedError) -> int:
    """Write the stop into a file on rank 0, and return 0: srun may hide another status."""
    if comm.rank == 0:
        try:
            Path(os.environ[_STOP_FILE]).write_text(f"{error}\n")
        except OSError:
            return error.exit_status
    return 0


def _abort(comm: MPI.Comm, message: str, status: int) -> None:
    sys.stdout.flush()
    if message:
        print(printable(message), file=sys.stderr, flush=True)
    comm.Abort(status)
