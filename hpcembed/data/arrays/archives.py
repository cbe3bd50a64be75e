"""Files of several arrays as tables: NPZ archives, HDF5 files and MATLAB files.

The arrays of rows, labels and test rows are found by their names
(:mod:`hpcembed.data.arrays.array_names`); rows are dense or sparse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcembed.data.arrays.array_names import ArrayNames, StatedNames, find_arrays, list_names
from hpcembed.data.arrays.array_source import ArraySource
from hpcembed.data.arrays.hdf5_rows import hdf5_row_names, open_hdf5_rows
from hpcembed.data.arrays.matlab import matlab_names, open_matlab_labels, open_matlab_rows
from hpcembed.data.arrays.npz_rows import npz_row_names, open_npz_rows
from hpcembed.data.arrays.sparse_arrays import SparseArray, SparseArraySource
from hpcembed.data.arrays.stored_array import RowBlocks
from hpcembed.data.labels import LabelFile
from hpcembed.runtime.errors import InputError

__all__ = ["HDF5_FILES", "MATLAB_FILES", "NPZ_FILES", "Archive"]

Paths = Sequence[Path]
_Opener = Callable[[Path, str], RowBlocks | SparseArray]


@dataclass(frozen=True, slots=True)
class Archive:
    """A format of files of several arrays.

    Attributes
    ----------
    list_names : callable
        ``list_names(path)``: names of the arrays.
    open_rows : callable
        ``open_rows(path, name, n_labels)``; the number of labels is None if there are none.
    open_labels : callable
        ``open_labels(path, name)``.
    """

    list_names: Callable[[Path], Sequence[str]]
    open_rows: Callable[[Path, str, int | None], RowBlocks | SparseArray]
    open_labels: _Opener

    def names(self, path: Path, stated: StatedNames) -> ArrayNames:
        """Return the names of the arrays of rows and labels; see :func:`find_arrays`."""
        return find_arrays(path, self.list_names(path), stated)

    def open(
        self, paths: Paths, labels: LabelFile | bool | None, stated: StatedNames
    ) -> ArraySource | SparseArraySource:
        """Open files as one table.

        Parameters
        ----------
        labels : LabelFile, bool or None
            True: the labels are in the same files.

        Raises
        ------
        InputError
            An array is missing, or arrays do not match.
        """
        own = self._labels(paths, stated) if labels is True else None
        counts = [array.shape[0] if array.shape else 0 for array in own] if own else []
        if labels is not None and not isinstance(labels, bool) and len(paths) == 1:
            counts = [labels.n_labels]
        arrays = [
            self.open_rows(path, self.names(path, stated).features, counts[i] if counts else None)
            for i, path in enumerate(paths)
        ]
        matched = own if own is not None else None if isinstance(labels, bool) else labels
        dense = [array for array in arrays if not isinstance(array, SparseArray)]
        sparse = [array for array in arrays if isinstance(array, SparseArray)]
        if dense and sparse:
            raise InputError(
                f"{sparse[0].name} is sparse and {dense[0].name} is not: store files of one table "
                "alike"
            )
        if sparse:
            return SparseArraySource(sparse, matched)
        return ArraySource(dense, matched, are_windows=True)

    def _labels(self, paths: Paths, stated: StatedNames) -> list[RowBlocks]:
        arrays = []
        for path in paths:
            name = self.names(path, stated).labels
            if not name:
                wanted = repr(stated.labels) if stated.labels else "of labels of a usual name"
                raise InputError(
                    f"{path}: no array {wanted}; it has {list_names(self.list_names(path))}: set "
                    "data.labels_key, or data.train_labels for labels in a file of their own"
                )
            array = self.open_labels(path, name)
            if isinstance(array, SparseArray):
                raise InputError(f"{array.name}: a sparse matrix: labels are a list of values")
            arrays.append(array)
        return arrays


NPZ_FILES = Archive(npz_row_names, lambda path, key, _: open_npz_rows(path, key), open_npz_rows)
HDF5_FILES = Archive(hdf5_row_names, lambda path, key, _: open_hdf5_rows(path, key), open_hdf5_rows)
MATLAB_FILES = Archive(matlab_names, open_matlab_rows, open_matlab_labels)
