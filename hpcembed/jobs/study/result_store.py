"""Result store: the finished trials of a study or search on disk.

Each rank that trains has one file with one line of JSON for each trial. A batch is written and
flushed when it is trained, so a job that is killed leaves at most one incomplete line. Incomplete
lines and lines of other studies are skipped on reading. Files of earlier runs with more ranks are
read as well. A line of a trial with a value that no training gives (an accuracy above 1, a network
without parameters) is an error: its file was edited or damaged.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from mpi4py import MPI

from hpcembed.jobs.job import Job
from hpcembed.jobs.report.run_folder import RunFolder, json_bytes
from hpcembed.jobs.study.trials import TrialResult
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError, OutputError, OutputExistsError
from hpcembed.runtime.output.files import check_free, output_error

__all__ = [
    "append_results",
    "check_folder",
    "load_results",
    "open_folder",
    "read_results",
    "write_mark",
]

FOLDER = "trials"
#: First line of the settings in an output folder.
HEADER = "# Written by hpcembed: the settings of the results in this folder."
#: Numbers that are null in a file where they are NaN.
_SCORES = ("validation_score", "test_score")
_FLOATS = ("train_seconds", "train_loss", *_SCORES, "test_rmse", "test_mae")
#: Names of fields in the files of earlier versions.
_FORMER_NAMES = {"validation_accuracy": "validation_score", "test_accuracy": "test_score"}
_REMEDY = "; remove the line, to train this network again"
#: Keys of a line of a trial.
_KEYS = {
    one.encode_name
    for one in msgspec.structs.fields(TrialResult)
    if one.default is msgspec.NODEFAULT
}


def open_folder(job: Job, mark: str, source: Path | None) -> RunFolder:
    """Open an output folder that is empty or holds an earlier run of the same command.

    Collective. A file of the user that has the name of the mark is not one: the mark of an earlier
    run is empty, begins with :data:`HEADER`, or has the files of finished trials beside it.

    Parameters
    ----------
    mark : str
        File that identifies a folder of the command.
    source : Path or None
        File of the study or search, which is never overwritten; None for a call from Python.

    Raises
    ------
    OutputExistsError
        The folder holds other files.
    """
    with agreement(job.comm):
        if job.comm.rank == 0:
            if not _is_ours(job.out / mark, source):
                RunFolder.create(job.out)
            try:
                (job.out / mark).touch()
            except OSError as error:
                raise OutputExistsError(f"{job.out}: cannot write: {error.strerror}") from error
    return RunFolder(job.out)


def check_folder(job: Job, mark: str, source: Path | None) -> None:
    """Refuse an output folder that :func:`open_folder` refuses; create nothing.

    Collective.

    Raises
    ------
    OutputExistsError
        The folder holds other files.
    """
    with agreement(job.comm):
        if job.comm.rank == 0 and not _is_ours(job.out / mark, source):
            check_free(job.out)


def write_mark(folder: RunFolder, mark: str, settings: str, source: Path | None) -> None:
    """Write the settings of a run into its mark, unless the mark is the file of the user itself."""
    if not _same_file(folder.path / mark, source):
        folder.write_text(mark, f"{HEADER}\n{settings}")


def _is_ours(mark: Path, source: Path | None) -> bool:
    """Return whether an earlier run wrote the mark; refuse a file of the user."""
    try:
        begin = mark.read_bytes()[: len(HEADER)]
    except OSError:
        return False
    if begin in (b"", HEADER.encode()) or (mark.parent / FOLDER).is_dir():
        return True
    own = ", the file of this job" if _same_file(mark, source) else ""
    raise OutputExistsError(
        f"{mark.parent}: contains {mark.name}{own}, which would be overwritten: choose another "
        "folder with --out"
    )


def _same_file(a: Path, b: Path | None) -> bool:
    try:
        return b is not None and a.samefile(b)
    except OSError:
        return False


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
    InputError
        A value is wrong; the message names file and line.
    """
    found: dict[str, TrialResult] = {}
    for path in sorted((folder / FOLDER).glob("rank-*.jsonl")):
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise OutputError(f"{path}: cannot read: {error.strerror or error}") from error
        for number, line in enumerate(lines, 1):
            result = _parse(line, f"{path}, line {number}")
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


def _parse(line: bytes, place: str) -> TrialResult | None:
    """Read the result in a line; None if the line is incomplete or foreign."""
    try:
        content = msgspec.json.decode(line, type=dict)
        for former, name in _FORMER_NAMES.items():
            if former in content:
                content[name] = content.pop(former)
        if not content.keys() >= _KEYS:
            return None
        undefined = {name: math.nan for name in _FLOATS if content.get(name, 0.0) is None}
        result = msgspec.convert(content | undefined, TrialResult)
    except msgspec.ValidationError as error:
        if not line.lstrip().startswith(b"{"):
            return None
        raise InputError(f"{place}: {error}{_REMEDY}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    fault = _fault(result)
    if fault:
        raise InputError(f"{place}: {fault}{_REMEDY}")
    return result


def _fault(result: TrialResult) -> str:
    """Return which value of a result is out of range; empty if there is none."""
    trial, confusion = result.trial, result.confusion
    least = {
        "n_inputs": (trial.n_inputs, 1),
        "seed": (trial.seed, 0),
        "subspace": (trial.subspace, 0),
        "hidden": (min(trial.hidden, default=1), 1),
        "parameters": (result.parameters, 1),
        "best_epoch": (result.best_epoch, 0),
        "confusion": (min((n for row in confusion for n in row), default=0), 0),
    }
    for name, (number, smallest) in least.items():
        if number < smallest:
            return f"{name} must be at least {smallest}, got {number}"
    # R2 has no lower bound; a regression has errors.
    lowest = -sys.float_info.max if math.isfinite(result.test_rmse) else 0.0
    for name in _FLOATS:  # NaN: not known
        value = getattr(result, name)
        low, high = (lowest, 1.0) if name in _SCORES else (0.0, sys.float_info.max)
        if not math.isnan(value) and not low <= value <= high:
            limits = "be a finite number, not negative"
            if name in _SCORES:
                limits = "lie between 0 and 1" if lowest == 0.0 else "be a finite number up to 1"
            return f"{name} must {limits}, got {value}"
    if any(len(row) != len(confusion) for row in confusion):
        return "confusion must be a square matrix"
    return ""
