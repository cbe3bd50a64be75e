"""Files of rows: NPY and NPZ (one array for each input), IDX, HDF5."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.arrays.hdf5 import open_hdf5
from hpcembed.data.arrays.idx import open_idx
from hpcembed.data.arrays.numpy_files import npz_names, open_npy, open_npz
from hpcembed.data.arrays.stored_array import RowBlocks
from hpcembed.runtime.errors import InputError

__all__ = ["read_rows"]

#: Name of the array in HDF5 files.
_KEY = "x"


def read_rows(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file; an uncompressed NPY file is mapped, not read.

    Raises
    ------
    InputError
        The file is missing, damaged, or of an unknown format.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "rows.npy")
    ...     np.save(path, np.zeros((3, 2)))
    ...     read_rows(path)["x"].shape
    (3, 2)
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(".npy"):
        stored = open_npy(path)
        if stored.is_fortran or not stored.n_bytes:
            return {_KEY: _whole(stored)}
        return {_KEY: np.load(path, mmap_mode="r", allow_pickle=False)}
    if name.endswith(".npz"):
        names = npz_names(path)
        if not names:
            raise InputError(f"{path}: an archive without arrays: there is nothing to read")
        return {key: _whole(open_npz(path, key)) for key in names}
    if name.endswith((".h5", ".hdf5")):
        return {_KEY: _whole(open_hdf5(path, _KEY))}
    if "idx" in name or name.endswith("-ubyte"):
        return {_KEY: _whole(open_idx(path))}
    raise InputError(f"{path}: unknown format; .npy, .npz, .h5 and IDX files are read")


def _whole(stored: RowBlocks) -> NDArray[Any]:
    shape = stored.shape
    blocks = list(stored.blocks(0, shape[0])) if shape and shape[0] else []
    whole = np.concatenate(blocks) if blocks else np.zeros((0, 1), stored.dtype)
    return whole.reshape(shape).astype(stored.dtype.newbyteorder("="), copy=False)
