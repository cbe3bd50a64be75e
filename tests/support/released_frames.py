"""Whether the frames of a call that raises an exception are released with the exception.

Frames hold PETSc's objects. They must not stay alive on one rank alone: PETSc waits for this rank.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable


class _Mark:
    """Is held by the frame of :func:`_attempt` alone."""


def _attempt(call: Callable[[], object], marks: list[weakref.ref[_Mark]]) -> None:
    mark = _Mark()
    marks.append(weakref.ref(mark))
    call()


def releases_frames(call: Callable[[], object], errors: type[Exception] = Exception) -> bool:
    """Call a function that raises an error; return whether no frame below this one is alive.

    Cycles of objects count as alive: they are collected at different times on different ranks.
    """
    marks: list[weakref.ref[_Mark]] = []
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        _attempt(call, marks)
    except errors:
        pass
    else:
        raise AssertionError("the call raised no error")
    finally:
        if was_enabled:
            gc.enable()
    return marks[0]() is None
