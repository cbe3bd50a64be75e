"""Requests to stop: signals and a time limit, agreed by all ranks at the next step boundary.

The command line watches for requests (:func:`watching`). TERM, INT, USR1, USR2 and HUP set a flag;
the next step boundary of the job tests it. There are two tests:

* :func:`stop_requested`, collective: a reduction, where all ranks take the same steps. A signal to
  one rank stops all of them at the same step.
* :func:`stop_noticed`, not collective: where ranks work on their own. A rank with a request sends
  one message to every other rank, which each of them finds at its next boundary.

Without :func:`watching`, as in calls from Python, both return False and do not communicate.

The time limit acts like a signal, early enough for one more step and for writing a checkpoint: the
longest of the last steps and the slowest write so far are measured.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from hpcembed.runtime.errors import HpcembedError

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = [
    "StoppedError",
    "continue_with",
    "pass_on",
    "record_write",
    "stop_alone",
    "stop_flagged",
    "stop_noticed",
    "stop_requested",
    "stop_together",
    "watching",
]

#: Exit status of a job that stopped with its work stored.
EXIT_STATUS = 85
#: Signals that stop a job.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
#: Seconds after which a launcher that ends a job kills the ranks that it has sent TERM, and more.
_LAUNCHER_SECONDS = 1.5
#: Code of the time limit, above every number of a signal.
_TIME_LIMIT = 1 << 16
_TAG = 85
#: Share of the time limit, and seconds, that are kept for the end of the job: the smaller one.
_RESERVE_SHARE, _RESERVE_SECONDS = 0.05, 60.0
#: Writes of a checkpoint that the reserve holds, and steps whose longest one it holds: an earlier
#: step, such as the reading of the data, is no measure of the next one.
_WRITES, _STEPS = 2.0, 8


class StoppedError(HpcembedError):
    """The job stopped at a step boundary; its work is stored, and the message states how to go on.

    Examples
    --------
    >>> StoppedError("stopped by SIGTERM").exit_status
    85
    """

    exit_status = EXIT_STATUS
    label = ""
    names_rank = False


class _Watch:
    """Requests of one job on one rank."""

    def __init__(self, comm: MPI.Intracomm, deadline: float | None, limit: float) -> None:
        self.rank, self.size = comm.rank, comm.size
        # Messages of this object never meet those of the job.
        self._comm: Any = comm.Dup() if comm.size > 1 else None
        self._deadline, self._reserve = deadline, min(_RESERVE_SHARE * limit, _RESERVE_SECONDS)
        self._code, self._interrupts = 0, 0
        self._steps = deque[float](maxlen=_STEPS)
        self._last, self._slowest_write = time.monotonic(), 0.0
        self._sent: list[Any] = []
        self._received = 0
        self.command = ""
        self._is_closed = False

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Note a signal; raise KeyboardInterrupt at the second SIGINT."""
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
        if not self._code and self.rank == 0:
            again = "; press Ctrl-C again to end at once" if number == signal.SIGINT else ""
            name = signal.Signals(number).name
            line = f"hpcembed: {name}: the job stops at the end of its step{again}\n"
            if number == signal.SIGTERM and self.size > 1:
                # no lock is taken, as by Thread.start: a signal may interrupt anything
                _thread.start_new_thread(self._show_later, (line,))
            else:
                self._show(line)
        self._code = self._code or number

    def _show_later(self, line: str) -> None:
        """Show a line unless the process ends soon, as after an error of another rank."""
        time.sleep(_LAUNCHER_SECONDS)
        if not self._is_closed:
            self._show(line)

    def _show(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, line.encode())

    def step(self) -> None:
        """Record the time since the last step boundary."""
        now = time.monotonic()
        self._steps.append(now - self._last)
        self._last = now

    def record_write(self, seconds: float) -> None:
        """Record the seconds of writing a checkpoint."""
        self._slowest_write = max(self._slowest_write, seconds)

    def own(self) -> int:
        """Return the request of this rank: number of a signal, time limit, or 0."""
        if not self._code and self._deadline is not None:
            step = max(self._steps, default=0.0)
            needed = self._reserve + step + _WRITES * self._slowest_write
            if time.time() + needed >= self._deadline:
                self._code = _TIME_LIMIT
        return self._code

    def agreed(self, comm: MPI.Comm) -> int:
        """Return the request of any rank of a communicator. Collective."""
        self.step()
        own = self.own()
        code = int(comm.allreduce(own, op=_maximum())) if comm.size > 1 else own
        self._code = max(code, own)
        return self._code

    def noticed(self) -> int:
        """Return the request of this rank or one that it was sent; send its own to the others."""
        own = self.own()
        if self._comm is None:
            return own
        if own and not self._sent:
            others = [rank for rank in range(self.size) if rank != self.rank]
            self._sent = [self._comm.isend(own, dest=rank, tag=_TAG) for rank in others]
        while self._comm.iprobe(tag=_TAG):
            self._receive()
        return self._code

    def _receive(self) -> None:
        self._code = max(self._code, int(self._comm.recv(tag=_TAG)))
        self._received += 1

    def close(self) -> None:
        """Receive the messages that are under way. Collective."""
        self._is_closed = True
        if self._comm is None:
            return
        senders = self._comm.allreduce(int(bool(self._sent)))
        while self._received < senders - int(bool(self._sent)):
            self._receive()
        for request in self._sent:
            request.wait()
        self._comm.Free()


def _maximum() -> Any:
    from mpi4py import MPI

    return MPI.MAX


_watch: _Watch | None = None


@contextlib.contextmanager
def watching(
    comm: MPI.Intracomm, deadline: float | None = None, limit: float = 0.0
) -> Iterator[None]:
    """Stop the job in the block after a signal or before a deadline.

    Collective. Signal handlers are installed in the main thread only, and restored at the end.

    Parameters
    ----------
    deadline : float, optional
        In seconds since the epoch, the same on all ranks.
    limit : float
        Seconds from the start of the job to the deadline; a part is kept for the end of the job.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> with watching(MPI.COMM_SELF):
    ...     signal.raise_signal(signal.SIGUSR1)
    ...     stop_together(MPI.COMM_SELF, "after step 3")
    Traceback (most recent call last):
    hpcembed.runtime.stopping.stop.StoppedError: stopped by SIGUSR1 after step 3
    """
    global _watch
    before, former = _watch, dict[signal.Signals, Any]()
    _watch = watch = _Watch(comm, deadline, limit)
    if threading.current_thread() is threading.main_thread():
        former = {number: signal.signal(number, watch.handle) for number in SIGNALS}
    try:
        yield
        watch.close()
    except HpcembedError as error:
        if error.names_rank is False:  # all ranks raise it
            watch.close()
        raise
    finally:
        _watch = before
        for number, handler in former.items():
            signal.signal(number, handler)


def continue_with(command: str) -> None:
    """Set the command that a message of a stopped job gives."""
    if _watch is not None:
        _watch.command = command


def record_write(seconds: float) -> None:
    """Record the seconds of writing a checkpoint, which the time limit allows for."""
    if _watch is not None:
        _watch.record_write(seconds)


def stop_requested(comm: MPI.Comm) -> bool:
    """Return whether any rank has a request to stop, the same on all ranks.

    Collective.
    """
    return _watch is not None and bool(_watch.agreed(comm))


def stop_flagged() -> bool:
    """Return whether this rank has a request of its own to stop.

    Not collective: for a step boundary where the ranks then agree.
    """
    if _watch is None:
        return False
    _watch.step()
    return bool(_watch.own())


def stop_noticed() -> bool:
    """Return whether this rank has a request to stop, or was sent one. Not collective."""
    if _watch is None:
        return False
    _watch.step()
    return bool(_watch.noticed())


def pass_on() -> None:
    """Send a request of this rank to the others, while it waits for them. Not collective."""
    if _watch is not None:
        _watch.noticed()


def stop_together(comm: MPI.Comm, where: str = "") -> None:
    """Raise StoppedError on all ranks if any of them has a request to stop.

    Collective.

    Parameters
    ----------
    where : str
        Place in the job, for the message: "after the projection".
    """
    if stop_requested(comm):
        raise _stopped(where)


def stop_alone(where: str = "") -> None:
    """Raise StoppedError if this rank has a request to stop. Not collective; see stop_noticed."""
    if stop_noticed():
        raise _stopped(where)


def _stopped(where: str) -> StoppedError:
    assert _watch is not None  # it has a request
    code = _watch.own()
    cause = "the time limit" if code >= _TIME_LIMIT else signal.Signals(code).name
    text = " ".join(filter(None, (f"stopped by {cause}", where)))
    return StoppedError(f"{text}; go on with: {_watch.command}" if _watch.command else text)
