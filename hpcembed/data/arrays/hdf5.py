"""Arrays in HDF5 files; each rank opens the file for itself, read-only, and reads its rows.

Reading needs no parallel HDF5. Arrays whose elements lie in other files (external or virtual) are
refused: they could name any file, and missing ones read as fill values without a word.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.files import BLOCK_BYTES, file_size
from hpcembed.runtime.errors import InputError

__all__ = ["Hdf5Array", "holds_array", "open_hdf5"]


class Hdf5Array:
    """An array in an HDF5 file, by rows.

    Attributes
    ----------
    name : str
        File and path of the array in it.
    shape : tuple of int
    dtype : numpy.dtype
        Text of any length appears as ``U1``.
    """

    def __init__(self, path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.name = f"{path}:{key}"
        self.shape = shape
        self.dtype = dtype
        self._path, self._key = path, key

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Rows first..last-1, flattened to (m, d), in consecutive blocks. Not collective.

        Raises
        ------
        InputError
            When the file is damaged.
        """
        import h5py

        n_columns = math.prod(self.shape[1:])
        step = max(1, BLOCK_BYTES // max(1, n_columns * self.dtype.itemsize))
        with _named_errors(self.name), h5py.File(self._path, "r") as file:
            array = file[self._key]
            stored = array.asstr() if h5py.check_string_dtype(array.dtype) else array
            for begin in range(first, last, step):
                block = stored[begin : min(begin + step, last)]
                if block.dtype == object:
                    block = block.astype(np.str_)
                yield block.reshape(len(block), n_columns)


def open_hdf5(path: Path, key: str) -> Hdf5Array:
    """Look at one array of an HDF5 file without reading it. Not collective.

    Raises
    ------
    InputError
        When it is no HDF5 file, lacks the array (those at the top are listed), or holds no data.
    """
    import h5py

    file_size(path)
    name = f"{path}:{key}"
    with _named_errors(path), h5py.File(path, "r") as file:
        array = file.get(key) if key else None
        if not isinstance(array, h5py.Dataset):
            listed = ", ".join(sorted(file)[:20]) or "nothing"
            raise InputError(
                f"{path}: no array {key!r}; at the top it has {listed}: set data.features_key and "
                "data.labels_key"
            )
        if array.external or array.is_virtual:
            raise InputError(f"{name}: its data lie in other files: repack it into one")
        if array.shape is None:
            raise InputError(f"{name}: an array without elements")
        if array.size and array.id.get_storage_size() == 0:
            raise InputError(f"{name}: declares {array.shape} but holds no data: write it again")
        is_text = h5py.check_string_dtype(array.dtype) is not None
        return Hdf5Array(path, key, array.shape, np.dtype("U1") if is_text else array.dtype)


def holds_array(path: Path, key: str) -> bool:
    """Whether an HDF5 file has something of this name. Not collective.

    Raises
    ------
    InputError
        When it is no HDF5 file.
    """
    import h5py

    file_size(path)
    with _named_errors(path), h5py.File(path, "r") as file:
        return bool(key) and key in file


@contextmanager
def _named_errors(name: object) -> Iterator[None]:
    """Errors of the HDF5 library as errors of the file."""
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: cannot be read as HDF5: {reason}") from error
