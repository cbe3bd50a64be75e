"""The registry of formats, and the input that a format and a seed determine.

A module that adds a format calls :func:`register` on import and is named in :data:`_MODULES`; a new
kind of file, such as a checkpoint, needs a maker of valid files, a reader, and no more.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.mutations import mutate

__all__ = ["Case", "Files", "Format", "formats", "make_case", "register", "write_files"]

Files = dict[str, bytes]
Rng = np.random.Generator

_MODULES = (
    "array_files", "hdf5_files", "matlab_files", "table_files", "arrow_files", "document_files",
    "graph_files", "image_files", "job_files", "model_files", "onnx_files", "output_files",
    "checkpoint_files",
)  # fmt: skip
_FORMATS: dict[str, Format] = {}


@dataclass(frozen=True)
class Format:
    """A kind of input.

    Attributes
    ----------
    name : str
    valid : callable
        ``valid(rng)``: files by relative path, and the value that `read` returns for them; None
        if the value is not compared.
    read : callable
        ``read(folder)``: calls hpcembed.
    hostile : callable, optional
        ``hostile(rng)``: files whose structure is wrong although their encoding is right.
    reseal : callable, optional
        ``reseal(files)``: files with digests and check sums that fit the mutated contents.
    mutable : callable
        ``mutable(name)``: whether a file is mutated.
    places : tuple of str
        Beginnings of messages that name an argument in place of a file.
    """

    name: str
    valid: Callable[[Rng], tuple[Files, Any]]
    read: Callable[[Path], Any]
    hostile: Callable[[Rng], Files] | None = None
    reseal: Callable[[Files], Files] | None = None
    mutable: Callable[[str], bool] = field(default=lambda name: True)
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One input: its files, and what is known about it.

    Attributes
    ----------
    files : dict of str to bytes
    is_valid : bool
        Whether it must be read, and give `truth`.
    """

    files: Files
    is_valid: bool
    truth: Any = None


def register(format: Format) -> None:
    """Add a format."""
    assert format.name not in _FORMATS, format.name
    _FORMATS[format.name] = format


def formats() -> dict[str, Format]:
    """Return all formats by name."""
    for name in _MODULES:
        import_module(f"fuzzing.{name}")
    return _FORMATS


def make_case(format: Format, seed: int) -> Case:
    """Return the input that a format and a seed determine: one of 12 is valid."""
    rng = np.random.default_rng([zlib.crc32(format.name.encode()), seed])
    choice = rng.random()
    if choice < 1 / 12:
        return Case(*_first(format.valid(rng)))
    if format.hostile is not None and choice < 0.55:
        files = format.hostile(rng)
        if rng.random() < 0.8:
            return Case(files, is_valid=False)
    else:
        files = format.valid(rng)[0]
    names = [name for name in files if format.mutable(name)]
    for _ in range(int(rng.integers(1, 3))):
        name = names[int(rng.integers(len(names)))]
        files[name] = mutate(rng, files[name])
    if format.reseal is not None and rng.random() < 0.7:
        files = format.reseal(files)
    return Case(files, is_valid=False)


def _first(made: tuple[Files, Any]) -> tuple[Files, bool, Any]:
    return made[0], True, made[1]


def write_files(files: Files, folder: Path) -> None:
    """Write the files of an input; a content that begins with ``link:`` becomes a link."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith(b"link:"):
            path.symlink_to(content[5:].decode())
        else:
            path.write_bytes(content)
