"""Logging for parallel jobs: rank 0 logs INFO records, the other ranks warnings and errors only.

Library modules use ``logging.getLogger(__name__)`` and configure nothing. The command line calls
:func:`configure` once. :class:`Progress` reports long steps: a live line on a terminal, a plain
line at intervals in a batch log.
"""

from __future__ import annotations

import logging
import os
import sys
import time

from hpcembed.runtime.printable_text import printable

__all__ = ["Progress", "close_output", "configure", "show"]

logging.getLogger("hpcembed").addHandler(logging.NullHandler())


def configure(rank: int, size: int, *, verbose: bool = False) -> None:
    """Send log records to stderr: INFO from rank 0, WARNING and above from the other ranks."""
    handler = logging.StreamHandler(sys.stderr)
    prefix = f"[rank {rank}/{size}] " if rank else ""
    handler.setFormatter(_PrintableFormatter(f"{prefix}%(message)s"))
    level = logging.WARNING if rank else (logging.DEBUG if verbose else logging.INFO)
    for name in ("hpcembed", "miramns"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def show(text: str, *, is_data: bool = False) -> None:
    """Print a result to stdout, without control characters; a closed pipe is not an error.

    Parameters
    ----------
    is_data : bool
        The text is for programs: it is unchanged unless stdout is a terminal.
    """
    if not is_data or sys.stdout.isatty():
        text = printable(text)
    try:
        print(text, flush=True)
    except OSError:
        close_output()


def close_output() -> None:
    """Discard further output to stdout: Python flushes it again at exit, and fails."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


class Progress:
    """Progress of one long step, shown by one rank.

    On a terminal, a line that is updated in place (rich). Elsewhere, at most one plain line every
    `interval` seconds.

    Parameters
    ----------
    title : str
        Name of the step.
    total : int
        Number of units of work, 0 when it is not known in advance.
    enabled : bool
        True on the rank that shows the progress.
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
        """Set the number of finished units; `note` is shown beside the number."""
        if not self.enabled:
            return
        if self._live:
            self._bar.update(self._task, completed=done, note=note)
        elif time.perf_counter() - self._last >= self.interval:
            self._last = time.perf_counter()
            of_total = f"/{self.total}" if self.total else ""
            elapsed = self._last - self._start
            self._logger.info("%s: %d%s %s (%.0f s)", self.title, done, of_total, note, elapsed)

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._bar.stop()
