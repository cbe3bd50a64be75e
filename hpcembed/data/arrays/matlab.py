"""MATLAB files: version 7.3, which is HDF5 with transposed arrays, and the classic versions.

In a file of version 7.3 each rank reads its own rows. A classic file cannot be read by rows: every
rank reads a whole variable once, with :func:`scipy.io.loadmat`, and keeps its own rows. Text labels
are char arrays (a row of characters for each label) or cell arrays of text. Images are often stored
with the number of the image as the last index: an array whose last size is the number of labels,
and whose first one is not, is read so.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.io
import scipy.sparse
from numpy.typing import NDArray

from hpcembed.data.arrays.hdf5 import HDF5_ERRORS, hdf5_blocks, open_hdf5
from hpcembed.data.arrays.hdf5_heaps import check_heaps
from hpcembed.data.arrays.matlab_sizes import check_sizes
from hpcembed.data.arrays.sparse_arrays import SparseArray
from hpcembed.data.arrays.stored_array import RowBlocks
from hpcembed.data.file_validation import check_declared_size, file_size, library_errors
from hpcembed.runtime.errors import InputError

__all__ = ["MemoryArray", "matlab_names", "open_matlab_labels", "open_matlab_rows"]

#: Errors of scipy for files that are damaged or not in the format.
_ERRORS = (
    OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, EOFError,
    AttributeError, NameError, MemoryError, OverflowError, zlib.error, scipy.io.matlab.MatReadError,
)  # fmt: skip
_TYPES = {
    "double": "f8", "single": "f4", "logical": "u1",
    **{f"{sign}int{8 * size}": f"{kind}{size}" for sign, kind in (("", "i"), ("u", "u"))
       for size in (1, 2, 4, 8)},
}  # fmt: skip
#: Values, row numbers and pointers of a sparse matrix of version 7.3.
_PARTS_73 = ("data", "ir", "jc")


class MemoryArray:
    """An array in memory, read by rows."""

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self.name, self.shape, self.dtype = name, array.shape, array.dtype
        self._array = array

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Return rows first..last-1, flattened to (m, d)."""
        if first < last:
            yield self._array[first:last].reshape(last - first, math.prod(self.shape[1:]))


class _ClassicArray:
    """A variable of a classic file, which is read when the first rows are needed."""

    def __init__(
        self, path: Path, key: str, shape: tuple[int, ...], kind: str, *, samples_last: bool
    ) -> None:
        self.name = f"{path}:{key}"
        self.shape = (shape[-1], *shape[:-1]) if samples_last else shape
        self.dtype = np.dtype(_TYPES[kind])
        self._path, self._key, self._samples_last = path, key, samples_last

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Read rows first..last-1, flattened to (m, d).

        Raises
        ------
        InputError
            The file is damaged.
        """
        if first >= last:
            return
        array = _load(self._path, self._key)
        if self._samples_last:
            array = np.moveaxis(array, -1, 0)
        if np.iscomplexobj(array):
            raise InputError(f"{self.name}: complex numbers: store real and imaginary parts")
        if array.shape != self.shape:
            raise InputError(f"{self.name}: its contents differ from its header: copy it again")
        # Whole numbers are packed in a smaller type than that of the variable.
        yield array[first:last].astype(self.dtype).reshape(last - first, -1)


class _TransposedArray:
    """An array of a file of version 7.3: stored with its sizes in reverse order."""

    def __init__(
        self, path: Path, key: str, shape: tuple[int, ...], dtype: Any, *, samples_last: bool
    ) -> None:
        self.name = f"{path}:{key}"
        self.shape = (shape[-1], *shape[:-1]) if samples_last else shape
        self.dtype = np.dtype(dtype)
        self._path, self._key, self._samples_last = path, key, samples_last

    def blocks(self, first: int, last: int) -> Iterator[NDArray[Any]]:
        """Read rows first..last-1, flattened to (m, d), in consecutive blocks.

        Raises
        ------
        InputError
            The file is damaged.
        """
        return hdf5_blocks(self, self._path, self._key, first, last, self._take)

    def _take(self, stored: Any, begin: int, end: int) -> NDArray[Any]:
        if self._samples_last:
            return np.moveaxis(stored[begin:end].T, -1, 0)
        block: NDArray[Any] = stored[..., begin:end].T
        return block


def matlab_names(path: Path) -> tuple[str, ...]:
    """Return the names of the variables of a file.

    Raises
    ------
    InputError
        The file is not a MATLAB file.
    """
    return tuple(_variables(path))


def open_matlab_rows(path: Path, key: str, n_labels: int | None = None) -> RowBlocks | SparseArray:
    """Open a numeric array or a sparse matrix.

    Parameters
    ----------
    n_labels : int, optional
        Number of labels: decides whether the first or the last index counts the rows.

    Raises
    ------
    InputError
        There is no such variable, or it holds no numbers.
    """
    shape, kind = _variable(path, key)
    if kind == "sparse":
        return _open_sparse(path, key, shape)
    if kind not in _TYPES:
        raise InputError(f"{path}:{key}: rows of the MATLAB class {kind}: store numbers")
    if 0 in shape:
        raise InputError(f"{path}:{key}: shape {shape}: there is nothing to read")
    last = len(shape) > 2 and n_labels == shape[-1] != shape[0]
    if is_version_73(path):
        stored = open_hdf5(path, key)
        return _TransposedArray(path, key, shape, stored.dtype, samples_last=last)
    check_declared_size(f"{path}:{key}", math.prod(shape), file_size(path), is_compressed=True)
    return _ClassicArray(path, key, shape, kind, samples_last=last)


def open_matlab_labels(path: Path, key: str) -> RowBlocks:
    """Open labels: a row or a column of numbers, a char array, or a cell array of text.

    Raises
    ------
    InputError
        There is no such variable, or it holds neither numbers nor text.
    """
    shape, kind = _variable(path, key)
    name = f"{path}:{key}"
    if kind not in (*_TYPES, "char", "cell"):
        raise InputError(f"{name}: labels of the MATLAB class {kind}: store numbers or text")
    check_declared_size(name, math.prod(shape), file_size(path), is_compressed=True)
    if is_version_73(path):
        array = _labels_73(path, key, kind)
    else:
        array = _load(path, key)
        if kind == "cell":
            array = np.array([_cell_text(name, one) for one in array.ravel()])
    if kind in _TYPES and array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)
    return MemoryArray(name, array)


def is_version_73(path: Path) -> bool:
    """Return whether a file is of version 7.3, which is HDF5."""
    import h5py

    file_size(path)
    if not h5py.is_hdf5(path):
        return False
    check_heaps(path)
    return True


def _variables(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and MATLAB class of each variable."""
    if not is_version_73(path):
        check_sizes(path)
        with library_errors(path, "a MATLAB file", *_ERRORS):
            listed = scipy.io.whosmat(path, appendmat=False)
        return {name: (tuple(shape), kind) for name, shape, kind in listed}
    import h5py

    found: dict[str, tuple[tuple[int, ...], str]] = {}
    with library_errors(path, "HDF5", *HDF5_ERRORS), h5py.File(path, "r") as file:
        for name, item in file.items():
            if name.startswith("#") or item is None:  # none: a link that leads nowhere
                continue
            kind = item.attrs.get("MATLAB_class", b"double")
            kind = kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)
            if isinstance(item, h5py.Dataset):
                found[name] = (item.shape or ())[::-1], kind
            elif "MATLAB_sparse" in item.attrs and "jc" in item:
                pointers, n_rows = item["jc"], np.asarray(item.attrs["MATLAB_sparse"])
                is_number = (
                    n_rows.size == 1 and n_rows.dtype.kind in "iu" and int(n_rows.max()) >= 0
                )
                if not is_number or len(pointers.shape) != 1 or not pointers.shape[0]:
                    raise InputError(f"{path}:{name}: a damaged sparse matrix: save it again")
                found[name] = (int(n_rows), pointers.shape[0] - 1), "sparse"
            else:
                found[name] = (), kind
    return found


def _variable(path: Path, key: str) -> tuple[tuple[int, ...], str]:
    found = _variables(path)
    if key not in found:
        listed = ", ".join(sorted(found)[:20]) or "nothing"
        raise InputError(
            f"{path}: no variable {key!r}; it has {listed}: set data.features_key and "
            "data.labels_key"
        )
    return found[key]


def _load(path: Path, key: str) -> Any:
    with library_errors(f"{path}:{key}", "a MATLAB file", *_ERRORS):
        content = scipy.io.loadmat(
            path, variable_names=[key], chars_as_strings=True, appendmat=False
        )
        return content[key]


def _open_sparse(path: Path, key: str, shape: Sequence[int]) -> SparseArray:
    name, size = f"{path}:{key}", (int(shape[0]), int(shape[1]))
    layout: Literal["csc"] = "csc"
    if is_version_73(path):
        if _variable_has_entries(path, key):
            data, indices, pointers = (open_hdf5(path, f"{key}/{part}") for part in _PARTS_73)
            return SparseArray(name, layout, size, data, indices, pointers)
        matrix = scipy.sparse.csc_array(size)
    else:
        matrix = scipy.sparse.csc_array(_load(path, key))
    stored = (matrix.data, matrix.indices, matrix.indptr)
    in_memory = [MemoryArray(name, part) for part in stored]
    return SparseArray(name, layout, size, in_memory[0], in_memory[1], in_memory[2])


def _variable_has_entries(path: Path, key: str) -> bool:
    import h5py

    with library_errors(path, "HDF5", *HDF5_ERRORS), h5py.File(path, "r") as file:
        return "data" in file[key]


def _labels_73(path: Path, key: str, kind: str) -> NDArray[Any]:
    import h5py

    name = f"{path}:{key}"
    open_hdf5(path, key)  # its checks
    with library_errors(name, "HDF5", *HDF5_ERRORS), h5py.File(path, "r") as file:
        stored = np.asarray(file[key][()]).T
        if kind == "cell":
            return np.array([_cell_73(file, one, name) for one in stored.ravel()])
        if kind == "char":
            if stored.dtype.kind not in "iu":
                raise InputError(f"{name}: characters of type {stored.dtype}: save it again")
            return np.array([_characters(row.ravel()).rstrip() for row in np.atleast_1d(stored)])
        return np.asarray(stored)


def _cell_73(file: Any, reference: Any, name: str) -> str:
    import h5py

    cell = file[reference]
    if not isinstance(cell, h5py.Dataset) or cell.shape is None or cell.external or cell.is_virtual:
        raise InputError(f"{name}: a cell that holds no text: store numbers or text")
    size = math.prod(cell.shape)
    check_declared_size(name, size, file.id.get_filesize(), is_compressed=True)
    return _characters(np.asarray(cell[()]).T.ravel())


def _characters(codes: NDArray[Any]) -> str:
    # An empty text is stored as its two sizes, of another type.
    return "".join(map(chr, codes.tolist())) if codes.dtype == np.uint16 else ""


def _cell_text(name: str, cell: Any) -> str:
    value = np.asarray(cell)
    if value.dtype.kind != "U" or value.size > 1:
        raise InputError(f"{name}: a cell that holds no text: store numbers or text")
    return str(value.reshape(-1)[0]) if value.size else ""
