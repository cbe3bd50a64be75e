"""Rows in NPZ archives: dense arrays, and sparse matrices stored as several arrays.

A sparse matrix has the arrays that ``scipy.sparse.save_npz`` writes (``data``, ``indices``,
``indptr``, ``shape``, ``format``; ``row`` and ``col`` for COO), or the same names with a prefix, as
``x_data``, ``x_indices``, ``x_indptr`` and ``x_shape`` for the matrix ``x``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hpcembed.data.arrays.numpy_files import npz_names, open_npz
from hpcembed.data.arrays.sparse_arrays import Layout, SparseArray, layout_of
from hpcembed.data.arrays.stored_array import RowBlocks
from hpcembed.runtime.errors import InputError

__all__ = ["npz_row_names", "open_npz_rows"]

_SUFFIX = "_data"


def npz_row_names(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays and of the sparse matrices of an archive.

    A matrix that ``save_npz`` wrote has the name ``data``.

    Raises
    ------
    InputError
        The file is not an archive.
    """
    names = npz_names(path)
    ends = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
    return (*names, *(name for name in ends if name not in names and _is_matrix(names, name + "_")))


def open_npz_rows(path: Path, key: str) -> RowBlocks | SparseArray:
    """Open an array or a sparse matrix of an archive by its name.

    Raises
    ------
    InputError
        There is no array of this name, or its parts do not fit together.
    """
    names = npz_names(path)
    if key == "data" and _is_matrix(names, ""):
        return _open_matrix(path, "", names)
    if key not in names and _is_matrix(names, key + "_"):
        return _open_matrix(path, key + "_", names)
    return open_npz(path, key)


def _is_matrix(names: tuple[str, ...], prefix: str) -> bool:
    has_indices = any(
        f"{prefix}{one}" in names and f"{prefix}{other}" in names
        for one, other in (("indices", "indptr"), ("row", "col"))
    )
    return has_indices and f"{prefix}data" in names and f"{prefix}shape" in names


def _open_matrix(path: Path, prefix: str, names: tuple[str, ...]) -> SparseArray:
    name = f"{path}:{prefix}data" if prefix else str(path)
    layout: Layout = "coo" if f"{prefix}row" in names else "csr"
    if f"{prefix}format" in names:
        layout = layout_of(name, _text(path, f"{prefix}format"))
    sizes = open_npz(path, f"{prefix}shape")
    if sizes.shape != (2,) or sizes.dtype.kind not in "iu":
        raise InputError(f"{sizes.name}: a matrix needs two numbers, of its rows and columns")
    n_rows, n_columns = (int(size) for size in np.concatenate([*sizes.blocks(0, 2)]).reshape(-1))
    parts = ("data", "col", "row") if layout == "coo" else ("data", "indices", "indptr")
    data, indices, pointers = (open_npz(path, prefix + part) for part in parts)
    return SparseArray(name, layout, (n_rows, n_columns), data, indices, pointers)


def _text(path: Path, key: str) -> str:
    array = open_npz(path, key)
    with array.open() as stream:
        stream.seek(array.offset)
        raw = stream.read(min(array.dtype.itemsize, 64))
    return raw.replace(b"\0", b"").decode("latin-1")
