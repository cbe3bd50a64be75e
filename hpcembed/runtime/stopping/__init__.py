"""Stop a job at a step boundary, after a signal or before a time limit."""

from hpcembed.runtime.stopping.stop import (
    StoppedError,
    continue_with,
    pass_on,
    record_write,
    stop_alone,
    stop_flagged,
    stop_noticed,
    stop_requested,
    stop_together,
    watching,
)

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
