"""Output folder of a run: every file is complete or absent, and no other run's file is overwritten.

Each file is written under a temporary name in its folder and then renamed. Metrics are appended
line by line, so that a job that is killed keeps the lines of its finished epochs. JSON is standard
JSON: NaN and infinity become null. Arrays are written as safetensors, tables as CSV.

Only rank 0 uses a run folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from hpcembed.jobs.report.tables import csv_text
from hpcembed.runtime.errors import OutputError, OutputExistsError
from hpcembed.runtime.output import (
    check_free,
    ordered_safetensors,
    output_error,
    whole_file,
    write_whole,
)

__all__ = ["RunFolder", "json_bytes"]

METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Output folder of one run; made by :meth:`create`.

    File names may contain folders (``"figures/spectrum.png"``), which are made as needed.
    """

    path: Path

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make an empty folder, with its parents.

        Raises
        ------
        OutputExistsError
            `path` is a file, or a folder that is not empty.
        OutputError
            The folder cannot be made.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise OutputExistsError(
                f"{path}: is a file; choose another path or remove it"
            ) from error
        except OSError as error:
            raise output_error(path, error) from error
        check_free(path)
        return cls(path)

    def new_file(self, name: str) -> AbstractContextManager[Path]:
        """Yield a temporary path, and rename it at the end of the block; see :func:`whole_file`."""
        self._check_exists()
        return whole_file(self.path / name)

    def write_text(self, name: str, text: str) -> Path:
        """Write text in UTF-8."""
        return self._write(name, text.encode("utf-8"))

    def write_json(self, name: str, content: object) -> Path:
        """Write indented JSON; see :func:`json_bytes` for the types of `content`."""
        return self._write(name, msgspec.json.format(json_bytes(content), indent=2) + b"\n")

    def append_metric(self, metric: Mapping[str, object]) -> None:
        """Append one line of JSON to ``metrics.jsonl`` and flush it."""
        self._check_exists()
        path = self.path / METRICS
        try:
            with path.open("ab") as file:
                file.write(json_bytes(metric) + b"\n")
        except OSError as error:
            raise output_error(path, error) from error

    def keep_metrics(self, network: str, n_epochs: int) -> None:
        """Remove the lines of later epochs of a network, and an incomplete line, from the metrics.

        They are of a killed run, which continues after epoch `n_epochs`.
        """
        path, kept = self.path / METRICS, list[bytes]()
        try:
            lines = path.read_bytes().splitlines() if path.exists() else []
        except OSError as error:
            raise output_error(path, error) from error
        for line in lines:
            try:
                metric = msgspec.json.decode(line, type=dict)
                is_late = metric["network"] == network and metric["epoch"]["epoch"] > n_epochs
            except (msgspec.DecodeError, KeyError, TypeError):
                continue
            if not is_late:
                kept.append(line + b"\n")
        if len(kept) < len(lines):
            self._write(METRICS, b"".join(kept))

    def write_csv(self, name: str, columns: Mapping[str, Sequence[object] | NDArray[Any]]) -> Path:
        """Write columns of equal length under their names; numbers keep all their digits."""
        try:
            text = csv_text(columns)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return self.write_text(name, text)

    def save_arrays(
        self,
        name: str,
        arrays: Mapping[str, NDArray[Any]],
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        """Write arrays and string metadata to a safetensors file."""
        contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        content = safetensors.numpy.save(contiguous, dict(metadata or {}))
        return self._write(name, ordered_safetensors(content))

    def _write(self, name: str, content: bytes) -> Path:
        self._check_exists()
        write_whole(self.path / name, content)
        return self.path / name

    def _check_exists(self) -> None:
        """Refuse to make the folder again: it would lack the files that were written before."""
        if not self.path.is_dir():
            raise OutputError(
                f"{self.path}: the output folder was removed during the run; its results are "
                "lost: run again"
            )


def json_bytes(content: object) -> bytes:
    """Serialise to compact JSON in UTF-8; keys keep their order.

    Parameters
    ----------
    content : object
        msgspec structs, dataclasses, mappings, sequences, sets, numpy values and paths, nested as
        needed. NaN and infinity become null.

    Raises
    ------
    TypeError
        A value has no JSON form.
    """
    return msgspec.json.encode(content, enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
