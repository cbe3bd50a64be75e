"""What a checkpoint contains: given to the store, written in parallel, and read back."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from miramns.checkpointing.array_files import (
    ArrayLayout,
    Segment,
    create_files,
    has_digest,
    layouts,
    read_into,
    write_rows,
)
from miramns.checkpointing.failures import agreed
from miramns.checkpointing.generations import generations, new_folder, partial_path, publish
from miramns.checkpointing.manifest import JSON, ArrayFile, Manifest, checked_name, plain
from miramns.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Content of a checkpoint.

    Attributes
    ----------
    arrays : mapping of str to ndarray
        Distributed arrays: this rank's rows, in the order of the ranks.
    shared : mapping of str to ndarray
        Arrays that are equal on all ranks; those of rank 0 are written.
    state : JSON value
        That of rank 0 is written. Floating-point numbers are kept to the last bit.
    """

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    shared: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    state: JSON = None


class Saved:
    """A checkpoint that was found whole.

    Attributes
    ----------
    path : Path
    generation : int
    state : JSON value
    n_ranks : int
        Number of ranks that wrote it.
    shapes : dict of str to tuple
        Global shape of every array.
    """

    def __init__(self, comm: MPI.Comm, path: Path, generation: int, manifest: Manifest) -> None:
        self.path = path
        self.generation = generation
        self.state = manifest.state
        self.n_ranks = manifest.n_ranks
        self._layouts = {one.layout.name: one.layout for one in manifest.files}
        self.shapes = {name: layout.shape for name, layout in self._layouts.items()}
        self._comm = comm

    def rows(self, name: str, first: int, last: int) -> NDArray[Any]:
        """Return the rows `first` to `last` - 1 of an array, for this rank. Collective."""
        layout = self._layout(name)
        with agreed(self._comm, self.path, "read the checkpoint"):
            self._check_rows(layout, first, max(first, last), layout.shape[1:])
        array = np.empty((max(last - first, 0), *layout.shape[1:]), dtype=layout.dtype)
        self.read_into(name, first, array)
        return array

    def read_into(self, name: str, first: int, target: NDArray[Any]) -> None:
        """Read the rows from `first` on into an array of this rank, without another copy.

        Collective.
        """
        layout = self._layout(name)
        with agreed(self._comm, self.path, "read the checkpoint"):
            self._check_rows(layout, first, first + len(target), target.shape[1:])
            read_into(self.path, layout, first, target)

    def shared(self, name: str) -> NDArray[Any]:
        """Return a whole array on every rank. Collective."""
        layout = self._layout(name)
        array = np.empty(layout.shape, dtype=layout.dtype)
        with agreed(self._comm, self.path, "read the checkpoint"):
            if self._comm.rank == 0:
                read_into(self.path, layout, 0, array)
        if self._comm.size > 1:
            self._comm.Bcast(array.reshape(-1).view(np.uint8))
        return array

    def _check_rows(self, layout: ArrayLayout, first: int, last: int, row: tuple[int, ...]) -> None:
        """Raise an error for rows that the array does not have, before memory is allocated."""
        if not 0 <= first <= last <= layout.shape[0] or row != layout.shape[1:]:
            raise CheckpointError(
                f"{self.path}: {layout.name} has shape {layout.shape}, not the rows "
                f"{first}..{last} of shape {(last - first, *row)}"
            )

    def _layout(self, name: str) -> ArrayLayout:
        if name not in self._layouts:
            raise CheckpointError(f"{self.path}: no array {name}")
        return self._layouts[name]


def write_snapshot(
    comm: MPI.Comm,
    folder: Path,
    snapshot: Snapshot,
    identity: dict[str, JSON],
    part: Mapping[str, JSON],
) -> tuple[int, int]:
    """Write the next checkpoint into the folder of its name; return its number and its bytes.

    Collective.

    Parameters
    ----------
    identity, part : mapping of str to JSON value
        Identities of the store and of this name.

    Raises
    ------
    CheckpointError
        On all ranks. No trace of the checkpoint remains.
    """
    for name in (*snapshot.arrays, *snapshot.shared):
        checked_name(name)
    found = layouts(comm, snapshot.arrays, snapshot.shared)
    needed = sum(layout.n_bytes for layout in found)
    generation = 0
    try:
        headers: list[Segment] = []
        with agreed(comm, folder, "write a checkpoint", needed):
            if comm.rank == 0:
                state = plain(snapshot.state, "the state")
                manifest = Manifest(identity, plain(dict(part), "the identity"), state, comm.size)
                generation = max(generations(folder), default=0) + 1
                headers = create_files(new_folder(folder, generation), found)
        generation = comm.bcast(generation)
        partial = partial_path(folder, generation)
        with agreed(comm, folder, "write a checkpoint", needed):
            mine = [_write(comm, partial, layout, snapshot) for layout in found]
        of_ranks = comm.gather(mine)
        with agreed(comm, folder, "write a checkpoint", needed):
            if of_ranks is not None:
                for layout, *segments in zip(found, headers, *of_ranks, strict=True):
                    whole = [one for one in segments if one is not None]
                    manifest.files.append(ArrayFile(layout, whole))
                publish(partial, generation, manifest)
    except CheckpointError:
        if comm.rank == 0 and generation:
            shutil.rmtree(partial_path(folder, generation), ignore_errors=True)
        raise
    return generation, needed


def _write(
    comm: MPI.Comm, partial: Path, layout: ArrayLayout, snapshot: Snapshot
) -> Segment | None:
    """Write the part of this rank, if it has one."""
    if layout.counts:
        array = snapshot.arrays[layout.name]
        return write_rows(partial, layout, array, layout.first_row(comm.rank))
    return write_rows(partial, layout, snapshot.shared[layout.name], 0) if comm.rank == 0 else None


def problem_of_files(comm: MPI.Comm, path: Path, manifest: Manifest) -> str:
    """Return why the files of a checkpoint are not as they were written; empty if they are.

    Collective. Each rank verifies a part of the segments.
    """
    pairs = [(one.layout.file_name, part) for one in manifest.files for part in one.segments]
    problem = ""
    for name, segment in pairs[comm.rank :: comm.size]:
        try:
            if not has_digest(path / name, segment):
                problem = f"{name} has changed"
        except OSError as error:
            problem = f"{name}: {error.strerror}"
    return next((one for one in comm.allgather(problem) if one), "")
