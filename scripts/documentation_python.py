"""One Python process for all Python blocks of a page, so that names of earlier blocks remain."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

__all__ = ["PythonBlocks"]

#: Reads blocks as lines of JSON, and answers with their output and their traceback. The blocks
#: write to standard error, if not by print, so that nothing else is in the answers.
_LOOP = """
import contextlib, io, json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.argv = [""]
names = {"__name__": "__main__"}
for request in os.fdopen(os.dup(0), "r"):
    output, error = io.StringIO(), ""
    with contextlib.redirect_stdout(output):
        try:
            exec(compile(json.loads(request), "<block>", "exec"), names)
        except BaseException:
            error = traceback.format_exc()
    print(json.dumps([output.getvalue(), error]), file=answers, flush=True)
"""


class PythonBlocks:
    """The Python process of a page.

    Parameters
    ----------
    folder : Path
        Working folder of the process.
    environment : mapping of str to str
    limit : float
        Seconds after which a block is stopped, and the process with it.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], limit: float) -> None:
        self._limit = limit
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def run(self, text: str) -> tuple[str, str]:
        """Run a block and return its output, and its traceback (empty without an error)."""
        assert self._process.stdin
        assert self._process.stdout
        if self._process.poll() is not None:
            return "", "the Python process ended in an earlier block"
        clock = threading.Timer(self._limit, self._process.kill)
        clock.start()
        try:
            self._process.stdin.write(json.dumps(text) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        finally:
            clock.cancel()
        if not answer:
            self._process.wait()
            self._log.seek(0)
            end = f"the Python process ended; limit {self._limit:g} s\n"
            return "", self._log.read()[-2000:] + end
        output, error = json.loads(answer)
        return output, error

    def close(self) -> None:
        """End the process."""
        if self._process.stdin and self._process.poll() is None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()
