"""Rows that stay in their files: read again in every pass, ahead of the arithmetic.

For data beyond memory. A :class:`RowStream` gives the same blocks as a
:class:`~hpcembed.data.matrix.DataMatrix`, so every engine that works by passes over the rows works
on it. Each rank reads its own part: a contiguous range of the rows of all files together. A thread
reads the next pieces while the last one is multiplied; of a rank's memory the stream takes three
pieces of :data:`~hpcembed.data.files.BLOCK_BYTES` (a row group of a Parquet file, which is read
whole) and one block in the precision of the products.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.arrays.hdf5 import open_hdf5
from hpcembed.data.arrays.numpy_files import open_npy, open_npz
from hpcembed.data.arrays.stored_array import RowBlocks, StoredArray, overlaps, row_dtype
from hpcembed.data.files import BLOCK_BYTES
from hpcembed.data.tables.parquet import named_columns, open_parquet
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import agreement, ownership_range

__all__ = ["RowStream", "open_rows"]

#: Pieces that are read ahead of the one in use.
_AHEAD = 1

_HDF5 = (".h5", ".hdf5", ".hdf")
_SUFFIXES = (".npy", ".npz", ".parquet", *_HDF5)


def open_rows(
    paths: str | Path | Sequence[str | Path],
    comm: MPI.Intracomm | None = None,
    *,
    key: str = "x",
    columns: Sequence[str] | str | None = None,
) -> RowStream:
    """Open files whose rows are to be streamed.

    Collective on `comm`. Headers are read, and compared with the files' sizes; no rows.

    Parameters
    ----------
    paths : path or sequence of paths
        NPY, NPZ, HDF5 or Parquet files, whose rows follow one another.
    comm : MPI.Comm, optional
        The ranks that share the rows; default: this one alone.
    key : str
        Array in NPZ archives and HDF5 files.
    columns : sequence of str, or str, optional
        Of Parquet files, by name; a string is one name. Default: all of the first file, which must
        be numbers.

    Raises
    ------
    InputError
        On all ranks: no files or no columns; files that are missing, damaged, of another kind, or
        do not fit together.
    """
    comm = MPI.COMM_SELF if comm is None else comm
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    with agreement(comm):
        if not listed:
            raise InputError("no files to stream: give at least one path")
        names, arrays = named_columns(columns), []
        for path in listed:
            arrays.append(_open(Path(path), key, names))
            # the columns of the first file, by name, in those that follow
            names = names or getattr(arrays[0], "feature_names", None) or None
        stream = RowStream(arrays, comm)
    return stream


def _open(path: Path, key: str, columns: Sequence[str] | None) -> RowBlocks:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array: RowBlocks = open_npy(path)
    elif suffix == ".npz":
        array = open_npz(path, key)
    elif suffix in _HDF5:
        array = open_hdf5(path, key)
    elif suffix == ".parquet":
        array = open_parquet(path, columns)
    else:
        raise InputError(f"{path}: cannot be streamed: give one of {', '.join(_SUFFIXES)}")
    if isinstance(array, StoredArray) and array.is_fortran and len(array.shape) > 1:
        raise InputError(
            f"{path}: stored by columns, so its rows cannot be streamed: save a C-ordered array"
        )
    return array


class RowStream:
    """Rows of files, distributed over ranks; made by :func:`open_rows`.

    Attributes
    ----------
    comm : MPI.Comm
    n_rows, n_features, n_local : int
    row_range : tuple of int
        Global rows of this rank.
    stored_type : numpy.dtype
        Type in which rows are handed over before they are converted.
    feature_names : tuple of str
    """

    is_sparse = False
    is_streamed = True

    def __init__(self, arrays: Sequence[RowBlocks], comm: MPI.Intracomm) -> None:
        head = arrays[0]
        kinds: dict[tuple[int, np.dtype[Any]], RowBlocks] = {}
        for array in arrays:
            if len(array.shape) < 2 or math.prod(array.shape) == 0:
                raise InputError(f"{array.name}: shape {array.shape}: rows x features needed")
            kind = (math.prod(array.shape[1:]), row_dtype(array.dtype, array.name))
            if kinds.setdefault(kind, array) is not head:
                raise InputError(
                    f"{array.name}: {kind[0]} features of type {kind[1]}, unlike {head.name}: "
                    "files of one table need the same columns and type"
                )
        self.comm = comm
        self.n_features, self.stored_type = next(iter(kinds))
        self.n_rows = sum(array.shape[0] for array in arrays)
        self.row_range = ownership_range(self.n_rows, comm)
        self.n_local = self.row_range[1] - self.row_range[0]
        self.feature_names: tuple[str, ...] = getattr(head, "feature_names", ())
        self._arrays = tuple(arrays)

    @property
    def buffer_bytes(self) -> int:
        """Memory that a pass takes on this rank, beside a block in the products' precision."""
        row = self.n_features * max(array.dtype.itemsize for array in self._arrays)
        pieces = [getattr(array, "largest_piece", 0) for array in self._arrays]
        return (_AHEAD + 2) * max(BLOCK_BYTES, row, *pieces)

    def blocks(
        self, dtype: type[np.floating[Any]] = np.float64, block_bytes: int | None = None
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Give this rank's rows in blocks that fit the cache, from the files.

        Not collective. As :meth:`hpcembed.data.matrix.DataMatrix.blocks`.

        Raises
        ------
        InputError
            A file that ends too early, or was changed or removed meanwhile.
        """
        size = np.dtype(dtype).itemsize * self.n_features
        step = max(16, (block_bytes or BLOCK_BYTES // 4) // size)
        buffer: NDArray[Any] | None = None
        place = 0
        for piece in self._read_ahead():
            for first in range(0, len(piece), step):
                rows = piece[first : first + step]
                if rows.dtype != dtype or not rows.flags.aligned:
                    if buffer is None:
                        buffer = np.empty((step, self.n_features), dtype=dtype)
                    buffer[: len(rows)] = rows
                    rows = buffer[: len(rows)]
                yield place, rows
                place += len(rows)

    def _pieces(self) -> Iterator[NDArray[Any]]:
        for array, first, last, _ in overlaps(self._arrays, *self.row_range):
            yield from array.blocks(first, last)

    def _read_ahead(self) -> Iterator[NDArray[Any]]:
        """The pieces, read by a thread; it ends when the reader of the pieces does."""
        ready: queue.Queue[NDArray[Any] | BaseException | None] = queue.Queue(maxsize=_AHEAD)
        stopped = threading.Event()

        def put(item: NDArray[Any] | BaseException | None) -> None:
            while not stopped.is_set():
                try:
                    return ready.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def read() -> None:
            try:
                for piece in self._pieces():
                    put(piece)
                    if stopped.is_set():
                        return
                put(None)
            except BaseException as error:  # handed over: raised where the pieces are used
                put(error)

        thread = threading.Thread(target=read, name="read-ahead", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            thread.join()
