"""One input: read it, and name the promise that is broken, if any.

The promises: the right value for a valid file; for any other one a value, or an error of hpcembed
of one line that names the file. No other exception, no write outside of the output folder, no
process started, no pickle, no control character in the message.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.formats import Case, Format, write_files
from hpcembed.runtime.errors import HpcembedError
from hpcembed.runtime.printable_text import one_line

__all__ = ["Outcome", "run_trial"]

#: Events of the interpreter that no reader may cause.
_FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "pickle.find_class", "socket.connect")
_OWN_MODULES = ("hpcembed", "numpy", "scipy", "collections", "miramns", "pathlib")
_WRITES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")


@dataclass(frozen=True)
class Outcome:
    """Result of one input.

    Attributes
    ----------
    verdict : str
        ``read``, ``refused``, or the broken promise: ``traceback``, ``over-allocation``,
        ``message``, ``wrong value``, ``outside``. A campaign adds ``hang`` and ``crash``.
    text : str
        The message, or the traceback.
    seconds : float
    """

    verdict: str
    text: str
    seconds: float

    @property
    def is_finding(self) -> bool:
        """Whether a promise is broken."""
        return self.verdict not in ("read", "refused")


class _Watch:
    """Events of the interpreter during a trial; there is one hook for the process."""

    def __init__(self) -> None:
        self.allowed: str | None = None
        self.events: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event == "pickle.find_class" and str(arguments[0]).startswith(_OWN_MODULES):
            return  # messages between ranks
        if event in _FORBIDDEN:
            self.events.append(f"{event} {str(arguments)[:200]}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            name, mode, flags = os.fsdecode(arguments[0]), str(arguments[1]), int(arguments[2] or 0)
            writes = any(sign in mode for sign in "wax+") or flags & (os.O_WRONLY | os.O_RDWR)
            if (writes and not self._is_inside(name)) or name.endswith("outside/secret.txt"):
                self.events.append(f"open {name} {mode}")
        elif event in _WRITES and not self._is_inside(_whole_path(arguments)):
            self.events.append(f"{event} {arguments[0]}")

    def _is_inside(self, name: str) -> bool:
        return os.path.realpath(name).startswith(str(self.allowed)) or name == os.devnull


def _whole_path(arguments: tuple[Any, ...]) -> str:
    """Return the path of an event; one that is relative to an open folder ends with it."""
    name, folder = str(arguments[0]), arguments[-1]
    if os.path.isabs(name) or not isinstance(folder, int) or folder < 0:
        return name
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)


_watch: _Watch | None = None


def run_trial(format: Format, case: Case, folder: Path) -> Outcome:
    """Write an input to ``folder/case``, read it, and judge the result.

    The reader may write to ``folder/case/out``.
    """
    global _watch
    _watch = _watch or _Watch()
    root = folder / "case"
    shutil.rmtree(root, ignore_errors=True)
    (root / "out").mkdir(parents=True)
    try:
        write_files(case.files, root)
    except (OSError, ValueError):  # a name that no file can have
        return Outcome("refused", "the file system refuses a name", 0.0)
    start = time.process_time()
    _watch.events, _watch.allowed = [], os.path.realpath(root / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        try:
            value, error = format.read(root), None
        except HpcembedError as caught:
            value, error = None, caught
        except BaseException as caught:
            _watch.allowed = None
            verdict = "over-allocation" if isinstance(caught, MemoryError) else "traceback"
            return Outcome(verdict, traceback.format_exc(), time.process_time() - start)
        finally:
            _watch.allowed = None
    seconds = time.process_time() - start
    if _watch.events:
        return Outcome("outside", "; ".join(_watch.events[:5]), seconds)
    if error is not None:
        return _judge_message(error, format, case, root, seconds)
    if case.is_valid and case.truth is not None and not _equal(value, case.truth):
        return Outcome("wrong value", f"{value!r} is not {case.truth!r}"[:2000], seconds)
    return Outcome("read", "", seconds)


def _judge_message(
    error: HpcembedError, format: Format, case: Case, root: Path, seconds: float
) -> Outcome:
    text = str(error)
    if case.is_valid:
        return Outcome("wrong value", f"a valid file is refused: {text}", seconds)
    if "out of memory" in text or "allocate" in text:
        return Outcome("over-allocation", text, seconds)
    names = {str(root), "data.", *(Path(name).name for name in case.files)}
    names_file = any(name in text for name in names) or text.startswith(format.places or ("\0",))
    if len(text) < 10 or one_line(text) != text or not names_file or len(text) > 3000:
        return Outcome("message", repr(text)[:3000], seconds)
    return Outcome("refused", text, seconds)


def _equal(found: Any, truth: Any) -> bool:
    if isinstance(truth, tuple | list):
        same_kind = isinstance(found, tuple | list) and len(found) == len(truth)
        return same_kind and all(map(_equal, found, truth))
    if isinstance(truth, dict):
        same_keys = isinstance(found, dict) and found.keys() == truth.keys()
        return same_keys and all(_equal(found[key], truth[key]) for key in truth)
    if isinstance(truth, np.ndarray):
        return np.shape(found) == truth.shape and bool(np.array_equal(found, truth))
    if isinstance(found, np.ndarray):
        return False
    return bool(found == truth)
