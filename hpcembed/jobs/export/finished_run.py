"""The folder of a finished run: its job, its record, its networks and its arrays.

The files are ``job.toml``, ``run.json``, ``projection.safetensors`` and the networks, for example
``classifier-NAME.safetensors``, where NAME identifies a network of the run (``embedded-64-64``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import safetensors
from numpy.typing import NDArray

from hpcembed.jobs.configuration import JobConfig, load_job
from hpcembed.jobs.report.run_folder import json_bytes
from hpcembed.jobs.report.run_json import ClassifierRecord, RunRecord
from hpcembed.jobs.report.wording import network_name
from hpcembed.runtime.errors import InputError

__all__ = ["FinishedRun", "read_run", "read_tensors"]

#: Beginnings of the names of network files, by task.
_PREFIXES = {"classification": "classifier-", "regression": "regressor-"}
_ENDING = ".safetensors"


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run: its folder, job and record, and the names of its networks."""

    folder: Path
    job: JobConfig
    record: RunRecord
    names: tuple[str, ...]

    def entry(self, network: str) -> ClassifierRecord:
        """Return the record of a network."""
        for one in self.record.classifiers:
            if f"{one.input}-{network_name(one.hidden)}" == network:
                return one
        raise InputError(f"{self.folder / 'run.json'}: has no record of the network {network}")

    def network_file(self, network: str) -> Path:
        """Return the file of a network."""
        return self.folder / f"{_PREFIXES[self.record.dataset.task]}{network}{_ENDING}"

    def serialised(self, name: str) -> str | None:
        """Read the serialised vectoriser or encoding; None without."""
        file = self.folder / name
        if not file.exists():
            return None
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: {getattr(error, 'strerror', None) or error}") from error


def read_run(folder: Path, record: RunRecord | None) -> FinishedRun:
    """Read job and record of a run, and list its networks.

    Parameters
    ----------
    record : RunRecord or None
        Record of a run whose ``run.json`` is not written yet; None: the file is read.

    Raises
    ------
    InputError
        The folder is not that of a finished run.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that hpcembed run wrote")
    file = folder / "run.json"
    try:
        content = file.read_bytes() if record is None else json_bytes(record)
        record = msgspec.json.decode(content, type=RunRecord)
    except FileNotFoundError as error:
        raise InputError(f"{folder}: contains no run.json: not a finished run") from error
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except msgspec.ValidationError as error:
        raise InputError(f"{file}: not the record of a run ({error})") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({' '.join(str(error).split())})") from error
    prefix = _PREFIXES.get(record.dataset.task, "")
    found = (path.name for path in folder.glob(f"{prefix}*{_ENDING}"))
    names = tuple(sorted(name.removeprefix(prefix).removesuffix(_ENDING) for name in found))
    return FinishedRun(folder, load_job(folder / "job.toml"), record, names)


def read_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read the arrays and the texts of a safetensors file.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
