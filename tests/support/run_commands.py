"""Run several commands of ``hpcembed`` in one MPI job and record the output of each.

Usage: ``mpiexec -n N python run_commands.py COMMANDS.json RESULTS.jsonl``. COMMANDS.json holds a
list of pairs (working folder, words). Collective on the world communicator.

Rank 0 appends a line to RESULTS.jsonl after each command: the exit status (a list where ranks
differ), the standard output and standard error of all ranks, and the names in the folder given by
``--out``. The results of the earlier commands are therefore kept when a command aborts the job; its
own output is in the files ``output-RANK`` and ``error-RANK`` beside RESULTS.jsonl.

The words ``copy FILE FILE`` copy a file between two commands.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from mpi4py import MPI

from hpcembed.cli import main


def flush() -> None:
    """Write the buffers of Python and of the C library."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)


@contextlib.contextmanager
def captured(output: Path, error: Path) -> Iterator[None]:
    """Redirect standard output and error to files, for C libraries as well."""
    flush()
    kept = os.dup(1), os.dup(2)
    try:
        for number, path in ((1, output), (2, error)):
            with path.open("wb") as file:
                os.dup2(file.fileno(), number)
        yield
    finally:
        flush()
        for number, original in zip((1, 2), kept, strict=True):
            os.dup2(original, number)
            os.close(original)


def names_left(words: list[str]) -> list[str]:
    """Return the names in the output folder of a command."""
    if "--out" not in words:
        return []
    out = Path(words[words.index("--out") + 1])
    return sorted(path.name for path in out.iterdir()) if out.is_dir() else []


def run(words: list[str]) -> int:
    """Run one command on all ranks and return its exit status."""
    if words[0] != "copy":
        return main(words)
    if MPI.COMM_WORLD.rank == 0:
        shutil.copy(*words[1:])
    MPI.COMM_WORLD.Barrier()
    return 0


def run_all(commands: list[tuple[str, list[str]]], results: Path) -> None:
    """Run the commands in order and record each result."""
    comm = MPI.COMM_WORLD
    output = results.with_name(f"output-{comm.rank}")
    error = results.with_name(f"error-{comm.rank}")
    for folder, words in commands:
        os.chdir(folder)
        with captured(output, error):
            status = run(words)
        parts = comm.gather((status, output.read_text("utf-8"), error.read_text("utf-8")))
        if parts is None:
            continue
        statuses, outputs, errors = zip(*parts, strict=True)
        same = len(set(statuses)) == 1
        record = {
            "status": status if same else list(statuses),
            "out": "".join(outputs),
            "err": "".join(errors),
            "left": names_left(words),
        }
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    try:
        run_all(json.loads(Path(sys.argv[1]).read_text("utf-8")), Path(sys.argv[2]))
    except BaseException:
        traceback.print_exc()
        MPI.COMM_WORLD.Abort(1)
