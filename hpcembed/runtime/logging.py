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

__all__ = ["Progress", "TimeLeft", "close_output", "configure", "duration", "show"]

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


#: Share of the work that a single record needs for an estimate.
_FIRST_SHARE = 0.05


class TimeLeft:
    """Estimate of the time left in a step, from its speed over the second half of the time so far.

    The first steps are often slower (caches, compilation) or of another size; an average over the
    whole time would keep that error to the end. The time until the first record is not used once
    there is a second one: it contains preparations. A first record of less than a twentieth of the
    work gives no estimate.

    Examples
    --------
    >>> estimate = TimeLeft()
    >>> for second, share in ((0, 0.0), (60, 0.1), (120, 0.5)):
    ...     estimate.add(second, share)
    >>> estimate.seconds()
    75.0
    """

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = [(0.0, 0.0)]

    def add(self, elapsed: float, share: float) -> None:
        """Record the finished share of the work, between 0 and 1, after some seconds."""
        points = self._points
        if share > points[-1][1]:
            points.append((elapsed, share))
        # The first point is the last one before half of the time so far.
        while len(points) > 2 and points[1][0] <= elapsed / 2:
            points.pop(0)

    def seconds(self) -> float | None:
        """Return the seconds left after the last record, or None if the records are too few."""
        points = self._points
        before = points[1] if len(points) > 2 and points[0][1] == 0.0 else points[0]
        (start, first), (now, share) = before, points[-1]
        if share <= first or now <= start or (first == 0.0 and share < _FIRST_SHARE):
            return None
        return max(0.0, (1.0 - share) * (now - start) / (share - first))


def duration(seconds: float) -> str:
    """Write a duration in two digits.

    Examples
    --------
    >>> [duration(seconds) for seconds in (12.3, 200, 9000)]
    ['12 s', '3 min', '2.5 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    """Progress of one long step, shown by one rank.

    On a terminal, a line that is updated in place (rich). Elsewhere, at most one plain line every
    `interval` seconds. Both contain an estimate of the time left where `total` is known.

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
        self._left = TimeLeft()
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
                TextColumn("{task.completed}/{task.total} {task.fields[note]}{task.fields[left]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self.title, total=self.total or None, note="", left="")
            self._bar.start()
        return self

    def update(self, done: int, note: str = "", *, share: float | None = None) -> None:
        """Set the number of finished units; `note` is shown beside the number.

        Parameters
        ----------
        share : float, optional
            Share of the work that is finished, where units differ; default: `done` / `total`.
        """
        if not self.enabled:
            return
        if share is None and self.total:
            share = done / self.total
        if share is not None:
            self._left.add(time.perf_counter() - self._start, share)
        seconds = self._left.seconds()
        left = "" if seconds is None else f", about {duration(seconds)} left"
        if self._live:
            self._bar.update(self._task, completed=done, note=note, left=left)
        elif time.perf_counter() - self._last >= self.interval:
            self._last = time.perf_counter()
            of_total = f"/{self.total}" if self.total else ""
            elapsed = self._last - self._start
            self._logger.info(
                "%s: %d%s %s (%.0f s%s)", self.title, done, of_total, note, elapsed, left
            )

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._bar.stop()
