"""Rows in HDF5 files: arrays, sparse matrices and categories in groups, as AnnData stores them.

AnnData (``.h5ad``) has the rows in ``X``, an array or a group with the arrays of a CSR or CSC
matrix; columns of the table ``obs`` hold labels, text as a group with ``categories`` and
``codes``; the index of the table ``var`` names the features.
Reference: https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.arrays.hdf5 import HDF5_ERRORS, Hdf5Array, open_hdf5
from hpcembed.data.arrays.hdf5_heaps import check_heaps
from hpcembed.data.arrays.sparse_arrays import SparseArray, layout_of
from hpcembed.data.arrays.stored_array import RowBlocks
from hpcembed.data.file_validation import BLOCK_BYTES, file_size, library_errors
from hpcembed.runtime.errors import InputError

__all__ = ["CategoryArray", "hdf5_row_names", "open_hdf5_rows"]

_PARTS = ("data", "indices", "indptr")
_CATEGORY_PARTS = ("categories", "codes")
_MOST_NAMES = 10_000


def hdf5_row_names(path: Path) -> tuple[str, ...]:
    """Return the paths of the arrays of a file; matrices and categories in groups count as one.

    Raises
    ------
    InputError
        The file is not an HDF5 file.
    """
    import h5py

    file_size(path)
    check_heaps(path)
    names: list[str] = []
    groups: list[str] = []

    def visit(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Group):
            if _has_parts(item, _PARTS) or _has_parts(item, _CATEGORY_PARTS):
                names.append(name)
                groups.append(name + "/")
        elif not (groups and name.startswith(groups[-1])):
            names.append(name)
        return True if len(names) > _MOST_NAMES else None

    with library_errors(path, "HDF5", *HDF5_ERRORS), h5py.File(path, "r") as file:
        file.visititems(visit)
    return tuple(names)


def open_hdf5_rows(path: Path, key: str) -> RowBlocks | SparseArray:
    """Open an array, a sparse matrix or categories of an HDF5 file by its path.

    Raises
    ------
    InputError
        The file is not an HDF5 file, or nothing in it has this path.
    """
    import h5py

    file_size(path)
    check_heaps(path)
    with library_errors(path, "HDF5", *HDF5_ERRORS), h5py.File(path, "r") as file:
        group = file.get(key) if key else None
        is_matrix = isinstance(group, h5py.Group) and _has_parts(group, _PARTS)
        is_categories = isinstance(group, h5py.Group) and _has_parts(group, _CATEGORY_PARTS)
        shape, layout = _matrix_header(group, f"{path}:{key}") if is_matrix else ((0, 0), "csr")
        variables = _variables(file, key)
    names = _feature_names(path, variables)
    if is_categories:
        categories = open_hdf5(path, f"{key}/categories")
        return CategoryArray(f"{path}:{key}", categories, open_hdf5(path, f"{key}/codes"))
    if is_matrix:
        data, indices, pointers = (open_hdf5(path, f"{key}/{part}") for part in _PARTS)
        return SparseArray(
            f"{path}:{key}", layout_of(f"{path}:{key}", layout), shape, data, indices, pointers,
            names if len(names) == shape[1] else (),
        )  # fmt: skip
    array = open_hdf5(path, key)
    if len(array.shape) == 2 and len(names) == array.shape[1]:
        array.feature_names = names
    return array


def _has_parts(group: Any, parts: tuple[str, ...]) -> bool:
    return all(part in group for part in parts)


def _matrix_header(group: Any, name: str) -> tuple[tuple[int, int], str]:
    """Return shape and layout of a matrix in a group; attributes of old files differ."""
    attributes = group.attrs
    sizes = next(
        (attributes[key] for key in ("shape", "h5sparse_shape") if key in attributes), None
    )
    if sizes is None and "shape" in group:
        sizes = group["shape"][()]
    if sizes is None or np.shape(sizes) != (2,):
        raise InputError(f"{name}: a sparse matrix without a shape of two numbers: write it again")
    text = str(_plain(attributes.get("encoding-type", attributes.get("h5sparse_format", "csr"))))
    return (int(sizes[0]), int(sizes[1])), text.removesuffix("_matrix").removesuffix("_array")


def _plain(value: Any) -> Any:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _variables(file: Any, key: str) -> str:
    """Return the path of the names of the features of an AnnData file, or ""."""
    import h5py

    table = file.get("var")
    if not isinstance(table, h5py.Group) or not (key == "X" or key.startswith("layers/")):
        return ""
    index = str(_plain(table.attrs.get("_index", "_index")))
    return f"var/{index}" if isinstance(table.get(index), h5py.Dataset) else ""


def _feature_names(path: Path, variables: str) -> tuple[str, ...]:
    if not variables:
        return ()
    array = open_hdf5(path, variables)
    if len(array.shape) != 1:
        return ()
    texts = [str(text) for block in array.blocks(0, array.shape[0]) for text in block[:, 0]]
    return tuple(texts) if len(set(texts)) == len(texts) else ()


class CategoryArray:
    """Text labels stored as codes and the names of the categories.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, name: str, categories: Hdf5Array, codes: Hdf5Array) -> None:
        if len(codes.shape) != 1 or len(categories.shape) != 1 or codes.dtype.kind not in "iu":
            raise InputError(f"{name}: categories and codes do not fit together: write it again")
        self.name = name
        self.shape = codes.shape
        self.dtype = np.dtype("U1")
        self._categories, self._codes = categories, codes

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Read the names of rows first..last-1; a missing value is the empty text.

        Raises
        ------
        InputError
            A code beyond the categories.
        """
        n = self._categories.shape[0]
        texts = [str(text) for block in self._categories.blocks(0, n) for text in block[:, 0]]
        table = np.array([*texts, ""])
        for begin in range(first, last, BLOCK_BYTES):
            for codes in self._codes.blocks(begin, min(begin + BLOCK_BYTES, last)):
                if codes.size and not -1 <= codes.min() <= codes.max() < n:
                    raise InputError(f"{self.name}: a code beyond the {n} categories")
                yield table[codes.astype(np.int64)]
