"""Logging for parallel jobs: rank 0 speaks, the others only when something is wrong.

Library modules use ``logging.getLogger(__name__)`` and configure nothing. The command line calls
:func:`configure` once. :class:`Progress` reports long work: a live line on a terminal, a plain
line now and then in a batch log.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from types import TracebackType

__all__ = ["Progress", "configure", "show"]

logging.getLogger("hpcembed").addHandler(logging.NullHandler())


def configure(rank: int, size: int, *, verbose: bool = False) -> None:
    """Send log records to stderr: INFO from rank 0, WARNING and above from the others.

    Not collective.
    """
    handler = logging.StreamHandler(sys.stderr)
    prefix = f"[rank {rank}/{size}] " if rank else ""
    handler.setFormatter(logging.Formatter(f"{prefix}%(message)s"))
    level = logging.WARNING if rank else (logging.DEBUG if verbose else logging.INFO)
    for name in ("hpcembed", "miramns"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def show(text: str) -> None:
    """Print a result to stdout; a reader who has gone away is no failure of the run.

    Not collective.
    """
    try:
        print(text, flush=True)
    except OSError:
        # Python would try again at its end, and fail.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


class Progress:
    """Progress of one long step, shown by one rank.

    On a terminal a line that is rewritten in place (rich); elsewhere one plain line at the start,
    at most one every `interval` seconds, and one at the end. Not collective.

    Parameters
    ----------
    title : str
        What is being done.
    total : int
        Number of steps, 0 when it is not known beforehand.
    enabled : bool
        False on every rank but the one that speaks.
    interval : float
        Seconds between plain lines.
    """

    def __init__(
        self, title: str, total: int = 0, *, enabled: bool = True, interval: float = 15.0
    ) -> None:
        self.title = title
        self.total = total
        self.enabled = enabled
        self.interval = interval
        self._logger = logging.getLogger("hpcembed.progress")
        self._live = enabled and sys.stderr.isatty()

    def __enter__(self) -> Progress:
        self._start = self._last = time.perf_counter()
        self._done = 0
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} {task.fields[note]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self.title, total=self.total or None, note="")
            self._bar.start()
        return self

    def update(self, done: int, note: str = "") -> None:
        """Say that `done` steps are finished; `note` is shown beside the count."""
        self._done = done
        if not self.enabled:
            return
        if self._live:
            self._bar.update(self._task, completed=done, note=note)
        elif time.perf_counter() - self._last >= self.interval:
            self._last = time.perf_counter()
            of_total = f"/{self.total}" if self.total else ""
            elapsed = self._last - self._start
            self._logger.info("%s: %d%s %s (%.0f s)", self.title, done, of_total, note, elapsed)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._bar.stop()
