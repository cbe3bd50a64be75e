"""The identity of a run: version, configuration and data, which must not change while it lasts.

Data are compared by the size, the time and the first and last bytes of each file. With
``--verify-data`` all bytes are compared instead, and the times do not matter.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from mpi4py import MPI

import hpcembed
from hpcembed.data.settings import DataSettings
from hpcembed.runtime.agreement import agreement

if TYPE_CHECKING:
    from hpcembed.jobs.configuration import CommonConfig
    from hpcembed.jobs.job import Job

__all__ = ["data_identity", "described_file", "run_identity"]

#: Sections that do not change stored results.
_FREE = ("resources", "output", "diagnostics")
#: Bytes at both ends of a file that are compared, and files of a folder whose ends are.
_END_BYTES = 1 << 16
_MOST_ENDS = 1000
_BLOCK = 1 << 22


def run_identity(job: Job, config: CommonConfig, *, whole: bool) -> dict[str, Any]:
    """Return version, configuration and data of a job.

    Collective.

    Parameters
    ----------
    config : CommonConfig
        The configuration, whose data have absolute paths; ``resources``, ``output`` and
        ``diagnostics`` may change.
    whole : bool
        Compare all bytes of the data.
    """
    sections = {
        name: section for name, section in msgspec.to_builtins(config).items() if name not in _FREE
    }
    return {
        "version": hpcembed.__version__,
        "configuration": sections,
        "data": data_identity(job.comm, config.data, whole=whole),
    }


def data_identity(comm: MPI.Intracomm, data: DataSettings, *, whole: bool) -> dict[str, Any]:
    """Describe the files of a [data] section with absolute paths.

    Collective.

    Returns
    -------
    dict
        For each file or folder its number of bytes, and a digest of its contents.
    """
    names = dict.fromkeys((*data.train, data.train_labels, *data.test, data.test_labels))
    paths = [Path(name) for name in names if name]
    described: dict[str, Any] = {}
    with agreement(comm):
        for path in paths[comm.rank :: comm.size]:
            if path.exists():
                described[str(path)] = described_file(path, whole=whole)
    of_all = {name: one for part in comm.allgather(described) for name, one in part.items()}
    return {str(path): of_all[str(path)] for path in paths if str(path) in of_all}


def described_file(path: Path, *, whole: bool = False) -> dict[str, Any]:
    """Return bytes and digest of a file, or of all files of a folder."""
    digest, n_bytes, newest = hashlib.sha256(), 0, 0.0
    files = list(_files(path))
    for file in files:
        status = file.stat()
        n_bytes += status.st_size
        newest = max(newest, status.st_mtime)
        digest.update(f"{file.relative_to(path)}\0{status.st_size}\0".encode("utf-8", "replace"))
        if whole:
            _add_contents(digest, file)
            continue
        digest.update(f"{status.st_mtime_ns}\0".encode())
        if len(files) <= _MOST_ENDS:
            _add_ends(digest, file, status.st_size)
    found: dict[str, Any] = {"files": len(files), "bytes": n_bytes}
    if whole:
        return {**found, "contents": digest.hexdigest()}
    modified = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(newest))
    return {**found, "modified": modified, "times_and_ends": digest.hexdigest()}


def _files(path: Path) -> Iterable[Path]:
    """Yield a file, or the files of a folder in a fixed order."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (Path(folder) / name for name in sorted(names))


def _add_ends(digest: Any, file: Path, size: int) -> None:
    with file.open("rb") as content:
        digest.update(content.read(_END_BYTES))
        content.seek(max(_END_BYTES, size - _END_BYTES))
        digest.update(content.read(_END_BYTES))


def _add_contents(digest: Any, file: Path) -> None:
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
