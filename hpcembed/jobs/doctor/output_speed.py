"""Speed at which synchronised data reach the output folder, and its free space."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from hpcembed.jobs.doctor.finding import Finding, found
from hpcembed.runtime.machine.memory import format_bytes

__all__ = ["check_output", "write_rate"]

_PIECE = 2**20
#: Pieces of the file, and seconds after which no further piece is written.
_PIECES = 16
_LIMIT = 3.0

#: Bytes per second below which the files of a run take minutes.
_SLOW = 10e6
#: Free space below which a run may fill the file system.
_LITTLE = 2**30


def write_rate(folder: Path, pieces: int = _PIECES) -> float:
    """Return the bytes per second of a file whose pieces are written and synchronised in turn.

    Parameters
    ----------
    folder : Path
        Existing folder; the file in it is removed.
    pieces : int
        Largest number of pieces of 1 MiB.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    content = os.urandom(_PIECE)  # some file systems compress
    written = 0
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".hpcembed-doctor-") as file:
        began = time.perf_counter()
        while written < pieces and time.perf_counter() - began < _LIMIT:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            written += 1
        return written * _PIECE / (time.perf_counter() - began)


def check_output(out: Path) -> list[Finding]:
    """Return findings about the folder in which an output folder is or would be created."""
    folder = out.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        rate = write_rate(folder)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return [found("output-not-writable", folder=folder, error=error.strerror or error)]
    words = {"folder": folder, "free": format_bytes(free), "rate": format_bytes(rate)}
    findings = []
    if free < _LITTLE:
        findings.append(found("output-full", **words))
    findings.append(found("output-slow" if rate < _SLOW else "output", **words))
    return findings
