"""Rows that stay in their files: read again in every pass, ahead of the arithmetic.

For data beyond memory. A :class:`RowStream` has the same blocks as a
:class:`~hpcembed.data.matrix.DataMatrix`, so every engine that makes passes over the rows accepts
it. The rows of all files are counted as one table, and each rank reads a contiguous range of them.
A thread reads the next pieces while the current one is multiplied. A stream takes the memory of
three pieces of :data:`~hpcembed.data.file_validation.BLOCK_BYTES` (of a Parquet file: whole row
groups) and of one block in the precision of the products.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.arrays.stored_array import RowBlocks, StoredArray, blocks_between, features_of
from hpcembed.data.file_validation import BLOCK_BYTES
from hpcembed.data.formats import FORMATS, format_of_name
from hpcembed.data.tables.parquet import named_columns, open_parquet
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import communicator, ownership_range

__all__ = ["RowStream", "open_rows"]

#: Pieces that are read ahead of the one in use.
_AHEAD = 1

_PARQUET = ".parquet"


def open_rows(
    paths: str | Path | Sequence[str | Path],
    comm: MPI.Intracomm | None = None,
    *,
    key: str = "x",
    columns: Sequence[str] | str | None = None,
) -> RowStream:
    """Open files whose rows are to be streamed.

    Collective on `comm`. Headers are read and compared with the sizes of the files; no rows are
    read.

    Parameters
    ----------
    paths : path or sequence of paths
        NPY, NPZ, HDF5, IDX or Parquet files, whose rows are counted as one table.
    comm : MPI.Comm, optional
        The ranks that share the rows; default: this rank alone.
    key : str
        Name of the array in NPZ archives and HDF5 files.
    columns : sequence of str, or str, optional
        Names of columns of Parquet files; a string is one name. Default: all columns of the first
        file, which must contain numbers.

    Raises
    ------
    InputError
        On all ranks: there are no files or no columns, or files are missing, damaged, of an unknown
        format, do not match each other, or differ between ranks.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "rows.npy")
    ...     np.save(path, np.arange(6.0).reshape(3, 2))
    ...     stream = open_rows(path)
    ...     total = sum(block.sum() for _, block in stream.blocks())
    >>> stream.n_rows, stream.n_features, float(total)
    (3, 2, 15.0)
    """
    comm = communicator(comm)
    with agreement(comm):
        try:
            given = [paths] if isinstance(paths, str | Path) else paths
            listed = [Path(path) for path in given]
        except TypeError as error:
            raise InputError(f"paths must be a path or a sequence of paths: {error}") from error
        if not listed:
            raise InputError("no files to stream: give at least one path")
        names, arrays = named_columns(columns), []
        for path in listed:
            arrays.append(_open(path, key, names))
            # The columns of the first file are selected by name in the other files.
            names = names or getattr(arrays[0], "feature_names", None) or None
        stream = RowStream(arrays, comm)
    _check_same_on_all_ranks(listed, arrays, comm)
    return stream


def _check_same_on_all_ranks(
    paths: Sequence[Path], arrays: Sequence[RowBlocks], comm: MPI.Intracomm
) -> None:
    """Raise an error unless all ranks list the same files, perhaps in other folders. Collective."""
    names = [path.name for path in paths]
    contents = [
        (array.shape, array.dtype.str, getattr(array, "feature_names", None)) for array in arrays
    ]
    mine = names, contents
    first: tuple[list[str], list[Any]] = comm.bcast(mine)
    with agreement(comm):
        if mine != first:
            there = "other contents" if names == first[0] else ", ".join(first[0])
            raise InputError(
                f"{', '.join(map(str, paths))}: rank 0 has {there}: list all files on every rank, "
                "in the same order; each rank then reads its part of the rows"
            )


def _open(path: Path, key: str, columns: Sequence[str] | None) -> RowBlocks:
    if path.suffix.lower() == _PARQUET:
        return open_parquet(path, columns)
    format = FORMATS.get(format_of_name(path.name) or "")
    if format is None or format.open_array is None:
        endings = [ending for one in FORMATS.values() if one.open_array for ending in one.endings]
        listed = ", ".join([*endings, _PARQUET])
        raise InputError(f"{path}: cannot be streamed: give one of {listed}")
    array = format.open_array(path, key)
    if isinstance(array, StoredArray) and array.is_fortran and len(array.shape) > 1:
        raise InputError(
            f"{path}: stored by columns, so its rows cannot be streamed: save a C-ordered array"
        )
    return array


class RowStream:
    """Rows of files, distributed over ranks; created by :func:`open_rows`.

    Attributes
    ----------
    comm : MPI.Comm
    n_rows, n_features, n_local : int
    row_range : tuple of int
        First and one past last global row of this rank.
    stored_type : numpy.dtype
        Type of the rows before they are converted.
    feature_names : tuple of str
    """

    is_sparse = False
    is_streamed = True

    def __init__(self, arrays: Sequence[RowBlocks], comm: MPI.Intracomm) -> None:
        self.comm = comm
        self.n_features, self.stored_type = features_of(arrays)
        self.n_rows = sum(array.shape[0] for array in arrays)
        self.row_range = ownership_range(self.n_rows, comm)
        self.n_local = self.row_range[1] - self.row_range[0]
        self.feature_names: tuple[str, ...] = getattr(arrays[0], "feature_names", ())
        self._arrays = tuple(arrays)

    @property
    def buffer_bytes(self) -> int:
        """Memory of a pass on this rank, without a block in the precision of the products."""
        row = self.n_features * max(array.dtype.itemsize for array in self._arrays)
        pieces = [getattr(array, "largest_piece", 0) for array in self._arrays]
        return (_AHEAD + 2) * max(BLOCK_BYTES, row, *pieces)

    def blocks(
        self, dtype: type[np.floating[Any]] = np.float64, block_bytes: int | None = None
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Read this rank's rows in blocks that fit the cache.

        Not collective. As :meth:`hpcembed.data.matrix.DataMatrix.blocks`.

        Raises
        ------
        InputError
            A file ends too early, or was changed or removed since it was opened.
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

    def _read_ahead(self) -> Iterator[NDArray[Any]]:
        """Pieces of the files, read by a thread that ends with the iteration over the pieces."""
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
                for *_, piece in blocks_between(self._arrays, *self.row_range):
                    put(piece)
                    if stopped.is_set():
                        return
                put(None)
            except BaseException as error:  # raised where the pieces are used
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
