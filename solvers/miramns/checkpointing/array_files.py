"""One file per array, in NumPy's NPY format, written and read by all ranks in parallel.

Every rank writes its own rows at their place in the file, and nothing is gathered. A file is
divided into segments: the header, and the rows of each rank that wrote. Each rank computes the
SHA-256 of its segments while it writes them. The digest of the file is the SHA-256 of the digests
of its segments in their order, so no rank has to read the file of the others.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from miramns.errors import CheckpointError

#: Bytes that are converted, hashed and written at a time.
_PANEL_BYTES = 2**23

#: Kinds of numbers that may be in a file: Boolean, integers, real and complex numbers.
KINDS = "biufc"


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Place of an array in its file.

    Attributes
    ----------
    name : str
    dtype : str
        As in the header, for example ``"<f8"``.
    shape : tuple of int
        Global shape.
    counts : tuple of int
        Rows of each rank that writes; empty for an array that rank 0 writes alone.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    counts: tuple[int, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the file."""
        return f"{self.name}.npy"

    def header(self) -> bytes:
        """Return the header of the file."""
        out = io.BytesIO()
        content = {"descr": self.dtype, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(out, content)
        return out.getvalue()

    @property
    def row_bytes(self) -> int:
        """Bytes of an entry of the first axis."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape[1:])

    @property
    def n_bytes(self) -> int:
        """Bytes of the entries."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)

    def first_row(self, rank: int) -> int:
        """Return the first row that a rank writes."""
        return sum(self.counts[:rank])


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a file with its digest."""

    start: int
    length: int
    sha256: str


def layouts(
    comm: MPI.Comm, arrays: Mapping[str, NDArray[Any]], shared: Mapping[str, NDArray[Any]]
) -> list[ArrayLayout]:
    """Return the layouts of distributed and of shared arrays.

    Collective.

    Raises
    ------
    CheckpointError
        On all ranks: names, types or columns differ between ranks, or a type is not a number.
    """
    mine = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    of_ranks = comm.allgather(mine)
    here = {name: (array.dtype.str, array.shape) for name, array in shared.items()}
    of_shared: dict[str, tuple[str, tuple[int, ...]]] = comm.bcast(here)
    found = []
    for name, (dtype, shape) in of_ranks[0].items():
        theirs = [one.get(name, ("", ())) for one in of_ranks]
        if {(one_type, one_shape[1:]) for one_type, one_shape in theirs} != {(dtype, shape[1:])}:
            raise CheckpointError(f"array {name} of a checkpoint differs between ranks: {theirs}")
        if not shape:
            raise CheckpointError(f"array {name} of a checkpoint has no rows to distribute")
        counts = tuple(one_shape[0] for _, one_shape in theirs)
        found.append(ArrayLayout(name, dtype, (sum(counts), *shape[1:]), counts))
    if any(len(one) != len(found) for one in of_ranks):
        raise CheckpointError("the arrays of a checkpoint differ between ranks")
    found += [ArrayLayout(name, *one) for name, one in of_shared.items()]
    for layout in found:
        if np.dtype(layout.dtype).kind not in KINDS:
            raise CheckpointError(f"array {layout.name} has type {layout.dtype}, not numbers")
    if len({layout.name for layout in found}) < len(found):
        raise CheckpointError("an array of a checkpoint is both distributed and shared")
    return found


def create_files(folder: Path, all_layouts: list[ArrayLayout]) -> list[Segment]:
    """Create the files with their headers and full sizes; return the segments of the headers."""
    segments = []
    for layout in all_layouts:
        header = layout.header()
        with (folder / layout.file_name).open("xb") as file:
            file.write(header)
            file.truncate(len(header) + layout.n_bytes)
        segments.append(Segment(0, len(header), hashlib.sha256(header).hexdigest()))
    return segments


def write_rows(folder: Path, layout: ArrayLayout, array: NDArray[Any], first: int) -> Segment:
    """Write the rows from `first` on at their place, down to the disk; return their segment."""
    start = position = len(layout.header()) + first * layout.row_bytes
    digest = hashlib.sha256()
    descriptor = os.open(folder / layout.file_name, os.O_WRONLY | _no_follow())
    try:
        for panel in _panels(array):
            content = _bytes_of(np.ascontiguousarray(panel))
            digest.update(content)
            while content:
                written = os.pwrite(descriptor, content, position)
                content, position = content[written:], position + written
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return Segment(start, position - start, digest.hexdigest())


def read_into(folder: Path, layout: ArrayLayout, first: int, target: NDArray[Any]) -> None:
    """Read the rows from `first` on into an array of any order in memory."""
    with _opened(folder / layout.file_name) as file:
        file.seek(len(layout.header()) + first * layout.row_bytes)
        for panel in _panels(target):
            content = np.empty(panel.shape, dtype=layout.dtype)
            view = _bytes_of(content)
            if file.readinto(view) != len(view):
                raise CheckpointError(f"{folder / layout.file_name}: the file is too short")
            panel[...] = content


def has_digest(path: Path, segment: Segment) -> bool:
    """Return whether a segment of a file is as it was written."""
    digest = hashlib.sha256()
    left = segment.length
    with _opened(path) as file:
        file.seek(segment.start)
        while left and (content := file.read(min(left, _PANEL_BYTES))):
            digest.update(content)
            left -= len(content)
    return not left and digest.hexdigest() == segment.sha256


def combined_digest(segments: list[Segment]) -> str:
    """Return the digest of a file from those of its segments."""
    return hashlib.sha256("".join(one.sha256 for one in segments).encode()).hexdigest()


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """Return the memory of a C-contiguous array."""
    entries: Any = array.reshape(-1).view(np.uint8)
    return memoryview(entries)


def _panels(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    if array.ndim == 0 or not array.size:
        yield array
        return
    rows = max(_PANEL_BYTES // max(array.nbytes // len(array), 1), 1)
    for first in range(0, len(array), rows):
        yield array[first : first + rows]


def _opened(path: Path) -> io.BufferedReader:
    return os.fdopen(os.open(path, os.O_RDONLY | _no_follow()), "rb")


def _no_follow() -> int:
    return getattr(os, "O_NOFOLLOW", 0)
