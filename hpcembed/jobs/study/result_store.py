"""Result store: the finished trials of a study or search on disk.

Each rank that trains has one file with one line of JSON for each trial. A batch is written and
flushed when it is trained, so a job that is killed leaves at most one incomplete line. Incomplete
lines and lines of other studies are skipped on reading. Files of earlier runs with more ranks are
read as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
from mpi4py import MPI

from hpcembed.jobs.job import Job
from hpcembed.jobs.report.run_folder import RunFolder, json_bytes
from hpcembed.jobs.study.trials import TrialResult
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import OutputError, OutputExistsError
from hpcembed.runtime.output import output_error

__all__ = ["append_results", "load_results", "open_folder", "read_results"]

FOLDER = "trials"
#: Numbers that are null in a file where they are NaN.
_FLOATS = (
    *("train_seconds", "train_loss", "validation_score", "test_score"),
    *("test_rmse", "test_mae"),
)
#: Names of fields in the files of earlier versions.
_FORMER_NAMES = {"validation_accuracy": "validation_score", "test_accuracy": "test_score"}


def open_folder(job: Job, mark: str) -> RunFolder:
    """Open an output folder that is empty or holds an earlier run of the same command.

    Collective.

    Parameters
    ----------
    mark : str
        File that identifies a folder of the command.

    Raises
    ------
    OutputExistsError
        The folder holds other files.
    """
    with agreement(job.comm):
        if job.comm.rank == 0:
            if not (job.out / mark).is_file():
                RunFolder.create(job.out)
            try:
                (job.out / mark).touch()
            except OSError as error:
                raise OutputExistsError(f"{job.out}: cannot write: {error.strerror}") from error
    return RunFolder(job.out)


def load_results(comm: MPI.Intracomm, folder: Path) -> dict[str, TrialResult]:
    """Read every finished trial on rank 0 and broadcast them, by their digests.

    Collective.

    Raises
    ------
    OutputError
        A file cannot be read.
    """
    finished: dict[str, TrialResult] = {}
    with agreement(comm):
        if comm.rank == 0:
            finished = read_results(folder)
    return comm.bcast(finished)


def read_results(folder: Path) -> dict[str, TrialResult]:
    """Read every finished trial, by its digest.

    Raises
    ------
    OutputError
        A file cannot be read.
    """
    found: dict[str, TrialResult] = {}
    for path in sorted((folder / FOLDER).glob("rank-*.jsonl")):
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise OutputError(f"{path}: cannot read: {error.strerror or error}") from error
        for line in lines:
            result = _parse(line)
            if result is not None:
                found[result.digest] = result
    return found


def append_results(folder: Path, rank: int, results: Sequence[TrialResult]) -> None:
    """Append finished trials to the file of a rank.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    path = folder / FOLDER / f"rank-{rank}.jsonl"
    text = b"".join(json_bytes(result) + b"\n" for result in results)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            # Start a new line after an incomplete one of a killed run.
            file.seek(0, 2)
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    text = b"\n" + text
            file.write(text)
    except OSError as error:
        raise output_error(path, error) from error


def _parse(line: bytes) -> TrialResult | None:
    """Read the result in a line; None if the line is incomplete or foreign."""
    try:
        content = msgspec.json.decode(line, type=dict)
        for former, name in _FORMER_NAMES.items():
            if former in content:
                content[name] = content.pop(former)
        undefined = {name: math.nan for name in _FLOATS if content.get(name, 0.0) is None}
        return msgspec.convert(content | undefined, TrialResult)
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError):
        return None
