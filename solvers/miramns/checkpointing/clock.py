"""The time between checkpoints: long enough that they take at most 2 % of the run.

The interval is 60 seconds, or 50 times the seconds of a checkpoint if that is more, so the share of
the writing is at most 1/51. The seconds of a checkpoint follow from its bytes and the rate of the
checkpoints before it. Until one was written a cautious rate is assumed, so that the first one is
not the expensive one. The optimum of Young and Daly, ``sqrt(2 w M)`` for w seconds of writing and M
seconds between failures, depends on M, which nobody has measured for a run. For M of a day it is
longer than the interval here up to w = 70 s; the bound of 2 % holds for every M, and the work lost
to a failure is at most one interval.

References: Young, Comm. ACM 17 (1974). Daly, Future Generation Computer Systems 22 (2006).
"""

from __future__ import annotations

import time

#: Shortest default interval in seconds, and the share of it that the writing may take.
_SHORTEST = 60.0
_SHARE = 0.02

#: Bytes per second assumed before the first checkpoint.
_CAUTIOUS_RATE = 1e8


class CheckpointClock:
    """Decide when the next checkpoint is due.

    Parameters
    ----------
    every : float, optional
        Seconds between checkpoints; 0 for one at each opportunity. Default: chosen from the
        measured seconds of the writing.

    Attributes
    ----------
    n_written : int
        Number of checkpoints written.
    seconds : float
        Time that they took together.

    Examples
    --------
    >>> clock = CheckpointClock()
    >>> clock.interval(10**6)
    60.0
    >>> clock.interval(10**9)
    500.0
    >>> clock.written(10**9, seconds=2.0)
    >>> clock.interval(10**9)
    100.0
    >>> CheckpointClock(every=0).is_due(10**9)
    True
    """

    def __init__(self, every: float | None = None) -> None:
        if every is not None and not every >= 0:
            raise ValueError(f"seconds between checkpoints must not be negative, got {every}")
        self.every = every
        self.n_written = 0
        self.seconds = 0.0
        self._fixed = 0.0
        self._rate = _CAUTIOUS_RATE
        self._since = time.perf_counter()

    def interval(self, size: int = 0) -> float:
        """Return the seconds between checkpoints of `size` bytes."""
        if self.every is not None:
            return self.every
        return max(_SHORTEST, max(self._fixed, size / self._rate) / _SHARE)

    def is_due(self, size: int = 0) -> bool:
        """Return whether the interval has passed since the last checkpoint, or the start."""
        return time.perf_counter() - self._since >= self.interval(size)

    def written(self, size: int, seconds: float) -> None:
        """Record a checkpoint of `size` bytes that took `seconds`."""
        self.n_written += 1
        self.seconds += seconds
        if size >= 2**20:  # small ones measure the delay of the file system alone
            self._rate = size / max(seconds, 1e-9)
        else:
            self._fixed = seconds
        self._since = time.perf_counter()
