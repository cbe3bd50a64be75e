"""The manifest: the last file of a checkpoint, which describes and proves the others.

A checkpoint is taken for whole if its manifest has its own digest, and every file has the declared
size and the digests of its segments. Everything in a manifest is checked before it is used: names
cannot leave the folder, and sizes are compared with those of the files before any allocation.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from miramns.checkpointing.array_files import KINDS, ArrayLayout, Segment, combined_digest
from miramns.errors import CheckpointError, CheckpointMismatchError

#: A value that JSON can hold.
JSON: TypeAlias = Any

FILE_NAME = "manifest.json"
FORMAT = "miramns checkpoint 1"

#: Names of checkpoints and of arrays.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}")

#: Largest manifest that is read.
_LARGEST = 2**28

#: Differences and characters of a value that a message shows.
_SHOWN, _LONGEST = 6, 60


class DamagedError(Exception):
    """A checkpoint is not whole; the text is the reason."""


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """An array with the segments of its file; the first one is the header."""

    layout: ArrayLayout
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Description of a checkpoint.

    Attributes
    ----------
    identity, part : dict
        Identities of the store and of this checkpoint.
    state : JSON value
    n_ranks : int
        Number of ranks that wrote it.
    files : list of ArrayFile
    """

    identity: dict[str, JSON]
    part: dict[str, JSON]
    state: JSON
    n_ranks: int
    files: list[ArrayFile] = field(default_factory=list)

    def encoded(self) -> bytes:
        """Return the content of the file."""
        files = [
            {
                **asdict(one.layout),
                "segments": [[part.start, part.length, part.sha256] for part in one.segments],
                "sha256": combined_digest(one.segments),
            }
            for one in self.files
        ]
        content = {
            "format": FORMAT, "identity": self.identity, "part": self.part, "state": self.state,
            "n_ranks": self.n_ranks, "files": files,
        }  # fmt: skip
        return json.dumps({"manifest": content, "sha256": _digest(content)}).encode()


def checked_name(name: str) -> str:
    """Return a name of a checkpoint or of an array that can be part of a path.

    Raises
    ------
    CheckpointError
        The name contains other characters than letters, digits, ``_``, ``.`` and ``-``.
    """
    if not _NAME.fullmatch(name):
        raise CheckpointError(
            f"{name!r} is no name for a checkpoint: use letters, digits, '_', '.' and '-'"
        )
    return name


def plain(value: JSON, what: str) -> JSON:
    """Return a value as JSON returns it: tuples become lists.

    Raises
    ------
    CheckpointError
        JSON cannot hold the value.
    """
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} of a checkpoint must be a JSON value: {error}") from error


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint and check it, with the sizes of the files.

    Raises
    ------
    DamagedError
        It is missing, changed, or not of this format.
    """
    try:
        _require_kind(folder, stat.S_ISDIR)
        path = folder / FILE_NAME
        if _require_kind(path, stat.S_ISREG) > _LARGEST:
            raise DamagedError(f"{FILE_NAME} is too large")
        whole = json.loads(path.read_bytes())
        content = whole["manifest"]
        if content["format"] != FORMAT:
            raise DamagedError(f"the format is {content['format']!r}, not {FORMAT!r}")
        if whole["sha256"] != _digest(content):
            raise DamagedError(f"{FILE_NAME} has changed")
        manifest = Manifest(
            dict(content["identity"]), dict(content["part"]), content["state"],
            int(content["n_ranks"]), [_array_file(one) for one in content["files"]],
        )  # fmt: skip
        for one in manifest.files:
            _check_size(folder, one)
    except OSError as error:
        name = Path(error.filename).name if error.filename else folder.name
        raise DamagedError(f"{name}: {error.strerror}") from error
    except (
        ArithmeticError, LookupError, TypeError, ValueError, RecursionError, CheckpointError
    ) as error:  # fmt: skip
        raise DamagedError(f"{FILE_NAME} cannot be read: {' '.join(str(error).split())}") from error
    return manifest


def _array_file(entry: dict[str, Any]) -> ArrayFile:
    dtype = np.dtype(entry["dtype"])
    if not isinstance(entry["dtype"], str) or dtype.kind not in KINDS:
        raise DamagedError(f"type {entry['dtype']!r} is not a type of numbers")
    layout = ArrayLayout(
        checked_name(entry["name"]), entry["dtype"], _whole_numbers(entry["shape"]),
        _whole_numbers(entry["counts"]),
    )  # fmt: skip
    segments = [
        Segment(_whole_numbers([start])[0], _whole_numbers([length])[0], str(digest))
        for start, length, digest in entry["segments"]
    ]
    if combined_digest(segments) != entry["sha256"]:
        raise DamagedError(f"the digests of {layout.file_name} contradict each other")
    # the segments cover the file: no byte is unproved
    position = 0
    for segment in segments:
        if segment.start != position:
            raise DamagedError(f"the segments of {layout.file_name} do not cover it")
        position += segment.length
    if position != len(layout.header()) + layout.n_bytes:
        raise DamagedError(f"the segments of {layout.file_name} do not cover it")
    return ArrayFile(layout, segments)


def _whole_numbers(values: list[int]) -> tuple[int, ...]:
    if any(type(value) is not int or value < 0 for value in values):
        raise DamagedError(f"{values} are not whole numbers")
    return tuple(values)


def _check_size(folder: Path, file: ArrayFile) -> None:
    size = _require_kind(folder / file.layout.file_name, stat.S_ISREG)
    expected = len(file.layout.header()) + file.layout.n_bytes
    if size != expected:
        raise DamagedError(f"{file.layout.file_name} has {size} bytes instead of {expected}")


def _require_kind(path: Path, kind: Any) -> int:
    """Return the size of a path that is no link but a file or folder."""
    status = os.lstat(path)
    if not kind(status.st_mode):
        raise DamagedError(f"{path.name} is not a plain file or folder")
    return status.st_size


def _digest(content: JSON) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def require_same(folder: Path, stored: Mapping[str, JSON], given: Mapping[str, JSON]) -> None:
    """Raise an error if two identities differ.

    Raises
    ------
    CheckpointMismatchError
        With the keys that differ, and both values.
    """
    before, now = _flat(stored), _flat(given)
    differences = {
        key: (before.get(key), now.get(key))
        for key in sorted(before.keys() | now.keys())
        if key not in before or key not in now or _shown(before[key]) != _shown(now[key])
    }  # fmt: skip
    if not differences:
        return
    listed = [
        f"{json.dumps(key)[1:-1]} was {_short(old)}, is {_short(new)}"
        for key, (old, new) in differences.items()
    ]
    more = f"; and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    raise CheckpointMismatchError(
        f"{folder}: the checkpoint is of another run: {'; '.join(listed[:_SHOWN])}{more}: use the "
        "same settings and data, choose another folder, or remove this one",
        differences,
    )


def _flat(identity: Mapping[str, JSON], prefix: str = "") -> dict[str, JSON]:
    """Return nested keys joined by dots."""
    flat: dict[str, JSON] = {}
    for key, value in identity.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(value: JSON) -> str:
    return json.dumps(value, sort_keys=True)


def _short(value: JSON) -> str:
    text = "missing" if value is None else _shown(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
