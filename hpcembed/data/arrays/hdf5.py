"""Arrays in HDF5 files; each rank opens the file read-only and reads its rows.

Parallel HDF5 is not needed. Arrays whose elements are in other files (external, virtual, or behind
an external link) are not read: they could name any file, and HDF5 silently returns fill values for
missing files. It returns them for chunks that were never written as well, so an array with such
chunks, usually of a program that was killed, is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.arrays.hdf5_heaps import check_heaps
from hpcembed.data.arrays.stored_array import RowBlocks
from hpcembed.data.file_validation import BLOCK_BYTES, file_size, library_errors
from hpcembed.runtime.errors import InputError

__all__ = ["HDF5_ERRORS", "Hdf5Array", "hdf5_blocks", "open_hdf5"]

#: Errors of h5py for files that are damaged or not in its format.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
#: Soft links behind each other, as many as HDF5 itself follows.
_MOST_LINKS = 16


class Hdf5Array:
    """An array in an HDF5 file, read by rows.

    Attributes
    ----------
    name : str
        File, and path of the array in the file.
    shape : tuple of int
    dtype : numpy.dtype
        ``U1`` represents text of any length.
    feature_names : tuple of str
        Empty unless the file names the columns.
    """

    def __init__(self, path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.name = f"{path}:{key}"
        self.shape = shape
        self.dtype = dtype
        self.feature_names: tuple[str, ...] = ()
        self._path, self._key = path, key

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Read rows first..last-1, flattened to (m, d), in consecutive blocks.

        Raises
        ------
        InputError
            The file is damaged.
        """
        return hdf5_blocks(self, self._path, self._key, first, last, _rows)


def hdf5_blocks(
    array: RowBlocks,
    path: Path,
    key: str,
    first: int,
    last: int,
    take: Callable[[Any, int, int], NDArray[Any]],
) -> Iterator[NDArray[Any]]:
    """Read rows first..last-1 of an array, flattened to (m, d), in consecutive blocks.

    Parameters
    ----------
    array : RowBlocks
        Its shape and type determine the blocks; its name is for messages.
    path, key : Path, str
        File, and path of the stored array in the file.
    take : callable
        ``take(stored, begin, end)`` returns rows begin..end-1 of the stored array.

    Raises
    ------
    InputError
        The file is damaged.
    """
    import h5py

    n_columns = math.prod(array.shape[1:])
    step = max(1, BLOCK_BYTES // max(1, n_columns * array.dtype.itemsize))
    with library_errors(array.name, "HDF5", *HDF5_ERRORS), h5py.File(path, "r") as file:
        stored = file[key]
        for begin in range(first, last, step):
            block = take(stored, begin, min(begin + step, last))
            yield block.reshape(len(block), n_columns)


def _rows(stored: Any, begin: int, end: int) -> NDArray[Any]:
    import h5py

    block: NDArray[Any] = (stored.asstr() if h5py.check_string_dtype(stored.dtype) else stored)[
        begin:end
    ]
    return block.astype(np.str_) if block.dtype == object else block


def open_hdf5(path: Path, key: str) -> Hdf5Array:
    """Open one array of an HDF5 file without reading it.

    Raises
    ------
    InputError
        The file is not an HDF5 file, lacks the array (the message lists its top level), or the
        array has no data.
    """
    import h5py

    file_size(path)
    check_heaps(path)
    name = f"{path}:{key}"
    with library_errors(path, "HDF5", *HDF5_ERRORS), h5py.File(path, "r") as file:
        _check_links(file, path, key)
        array = file.get(key) if key else None
        if not isinstance(array, h5py.Dataset):
            listed = ", ".join(sorted(file)[:20]) or "nothing"
            raise InputError(
                f"{path}: no array {key!r}; at the top it has {listed}: set data.features_key and "
                "data.labels_key"
            )
        if array.external or array.is_virtual:
            raise InputError(f"{name}: its data are in other files: repack it into one")
        if array.shape is None:
            raise InputError(f"{name}: an array without elements")
        if array.size and array.id.get_storage_size() == 0:
            raise InputError(f"{name}: declares {array.shape} but contains no data: write it again")
        _check_chunks(array, name)
        is_text = h5py.check_string_dtype(array.dtype) is not None
        return Hdf5Array(path, key, array.shape, np.dtype("U1") if is_text else array.dtype)


def _check_links(file: Any, path: Path, key: str, followed: int = 0) -> None:
    """Refuse a key that leads into another file, by itself or by the target of a soft link."""
    import h5py

    if followed > _MOST_LINKS:
        raise InputError(f"{path}:{key}: its links lead in a circle: write the file again")
    parts = [part for part in key.split("/") if part not in ("", ".")]
    for i in range(len(parts)):
        link = file.get("/".join(parts[: i + 1]), getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise InputError(
                f"{path}:{key}: is a link to the file {link.filename}: name that file instead, or "
                "repack both into one"
            )
        if isinstance(link, h5py.SoftLink):
            before = [] if link.path.startswith("/") else parts[:i]
            target = "/".join([*before, link.path, *parts[i + 1 :]])
            _check_links(file, path, target, followed + 1)
            return


def _check_chunks(array: Any, name: str) -> None:
    """Refuse an array with chunks that were never written."""
    if array.chunks is None or not array.size:
        return
    grid = [-(-n // chunk) for n, chunk in zip(array.shape, array.chunks, strict=True)]
    expected, written = math.prod(grid), array.id.get_num_chunks()
    if written < expected:
        raise InputError(
            f"{name}: {expected - written} of its {expected} chunks were never written and would "
            "be read as fill values: write the file again"
        )
