"""The folder that a run leaves: every file whole or absent, never written over by another run.

Each file is written beside its place under a temporary name and renamed. Metrics are appended line
by line as they come, so that a job that is killed leaves what it had. JSON is standard JSON: a
value that is NaN or infinite becomes null. Arrays go to safetensors, tables to CSV.

Used by rank 0 alone.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from hpcembed.runtime.errors import OutputError, OutputExistsError
from hpcembed.runtime.output import check_free, output_error

__all__ = ["OutputError", "RunFolder"]

METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """An output folder that belongs to one run; made by :meth:`create`.

    Names may contain folders (``"figures/spectrum.png"``), which are made as needed.
    """

    path: Path

    @staticmethod
    def check_free(path: Path) -> None:
        """Refuse a path that holds something, without making anything.

        Not collective.

        Raises
        ------
        OutputExistsError
            It exists and holds something, or is a file.
        OutputError
            It cannot be looked into.
        """
        check_free(path)

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make the folder, with its parents.

        Not collective.

        Raises
        ------
        OutputExistsError
            It exists and holds something, or is a file.
        OutputError
            It cannot be made.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise OutputExistsError(f"{path}: is a file; choose another --out") from error
        except OSError as error:
            raise output_error(path, error) from error
        cls.check_free(path)
        return cls(path)

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """Give a temporary path; what the block wrote there becomes the file `name`.

        Not collective. When the block fails nothing is left; errors of the operating system
        become :class:`OutputError`.
        """
        final = self.path / name
        partial = final.with_name(f".partial-{final.name}")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            os.replace(partial, final)
        except OSError as error:
            raise output_error(final, error) from error
        finally:
            # Without the folder, or on a file system that went away, there is nothing to remove.
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> Path:
        """Write UTF-8 text. Not collective."""
        return self._write(name, text.encode("utf-8"))

    def write_json(self, name: str, content: object) -> Path:
        """Write indented JSON; dataclasses, numpy values and paths are understood.

        Not collective. Keys keep their order.
        """
        return self._write(name, (_json_text(content, indent=2) + "\n").encode("utf-8"))

    def append_metric(self, metric: Mapping[str, object]) -> None:
        """Append one line of JSON to ``metrics.jsonl`` and flush it. Not collective."""
        path = self.path / METRICS
        try:
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(_json_text(metric, indent=None) + "\n")
        except OSError as error:
            raise output_error(path, error) from error

    def write_csv(self, name: str, columns: Mapping[str, Sequence[object] | NDArray[Any]]) -> Path:
        """Write columns of equal length under their names; numbers keep all their digits.

        Not collective.
        """
        lists = [c.tolist() if isinstance(c, np.ndarray) else list(c) for c in columns.values()]
        if len({len(column) for column in lists}) > 1:
            lengths = {key: len(column) for key, column in zip(columns, lists, strict=True)}
            raise ValueError(f"{name}: columns of different lengths: {lengths}")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*lists, strict=True))
        return self._write(name, text.getvalue().encode("utf-8"))

    def save_arrays(
        self,
        name: str,
        arrays: Mapping[str, NDArray[Any]],
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        """Write arrays and a description of strings to a safetensors file. Not collective."""
        contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        return self._write(name, safetensors.numpy.save(contiguous, dict(metadata or {})))

    def _write(self, name: str, content: bytes) -> Path:
        with self.new_file(name) as partial, partial.open("wb") as file:
            file.write(content)
        return self.path / name


def _json_text(content: object, indent: int | None) -> str:
    return json.dumps(_plain(content), indent=indent, allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Turn `value` into what JSON has: dict, list, str, int, float, bool, None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Not asdict: that copies every array and tuple on the way.
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(content) for key, content in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(content) for content in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
