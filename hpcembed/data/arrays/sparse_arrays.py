"""Sparse rows stored as arrays: CSR, CSC or COO in NPZ archives, HDF5 groups and MATLAB files.

CSR is read by rows: each rank reads its pointers and its entries. CSC and COO list the entries in
another order, so each rank reads all entries in bounded blocks and keeps those of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.arrays.array_source import ArrayLabels, matched_labels
from hpcembed.data.arrays.stored_array import RowBlocks
from hpcembed.data.file_validation import BLOCK_BYTES
from hpcembed.data.labels import LabelFile, read_labels
from hpcembed.data.table import Summary, Table
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range

__all__ = ["Layout", "SparseArray", "SparseArraySource", "layout_of"]

Layout = Literal["csr", "csc", "coo"]
#: Value and two indices of 8 bytes, as read, joined and compressed.
_BYTES_PER_ENTRY = 3 * 24


def layout_of(name: str, text: str) -> Layout:
    """Return the layout with this name.

    Raises
    ------
    InputError
        Another layout, such as ``bsr`` or ``dia``.
    """
    for layout in get_args(Layout):
        if text == layout:
            return cast(Layout, layout)
    raise InputError(f"{name}: sparse layout {text[:20]!r}: save it as csr, csc or coo")


@dataclass(frozen=True, slots=True)
class SparseArray:
    """A sparse matrix whose parts are arrays in a file.

    Attributes
    ----------
    name : str
        File, or file and array, for messages.
    layout : {"csr", "csc", "coo"}
    shape : tuple of int
        Rows and columns.
    data : RowBlocks
        Values.
    indices : RowBlocks
        Column numbers of CSR and COO, row numbers of CSC.
    pointers : RowBlocks
        Beginning of each row of CSR or of each column of CSC; row numbers of COO.
    feature_names : tuple of str
        Empty if the file has none.
    """

    name: str
    layout: Layout
    shape: tuple[int, int]
    data: RowBlocks
    indices: RowBlocks
    pointers: RowBlocks
    feature_names: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise InputError unless the parts fit together; only headers are read."""
        if min(self.shape) < 1:
            raise InputError(f"{self.name}: {self.shape[0]} x {self.shape[1]}: nothing to read")
        n = {"csr": self.shape[0] + 1, "csc": self.shape[1] + 1, "coo": self.n_entries}[self.layout]
        if (
            len(self.data.shape) != 1
            or self.indices.shape != self.data.shape
            or self.pointers.shape != (n,)
        ):
            raise InputError(
                f"{self.name}: its arrays of values and indices do not fit the shape {self.shape} "
                f"as {self.layout}: save it again"
            )
        if self.data.dtype.kind not in "biuf":
            raise InputError(f"{self.data.name}: values of type {self.data.dtype}: use numbers")
        for part in (self.indices, self.pointers):
            if part.dtype.kind not in "iu":
                raise InputError(f"{part.name}: of type {part.dtype}: save it as integers")

    @property
    def n_entries(self) -> int:
        """Number of stored entries."""
        return self.data.shape[0] if self.data.shape else 0

    def rows(self, start: int, stop: int) -> Any:
        """Read rows start..stop-1 as csr_array of float64.

        Raises
        ------
        InputError
            An index out of range, pointers that do not ascend, or a value that is not finite.
        """
        pieces = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
        pieces += self._own_entries(start, stop)
        i, j, values = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        return scipy.sparse.csr_array((values, (i, j)), shape=(stop - start, self.shape[1]))

    def _own_entries(
        self, start: int, stop: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
        first, last = 0, self.n_entries
        pointers = np.empty(0, np.int64)
        if self.layout == "csr":
            pointers = self._ascending(start, stop)
            first, last = int(pointers[0]), int(pointers[-1])
        elif self.layout == "csc":
            pointers = self._ascending(0, self.shape[1])
        blocks = zip(_pieces(self.data, first, last), _pieces(self.indices, first, last),
                     strict=True)  # fmt: skip
        others = _pieces(self.pointers, first, last) if self.layout == "coo" else None
        done = first
        for data, indices in blocks:
            if others is not None:
                i, j = next(others).astype(np.int64), indices.astype(np.int64)
            else:
                places = np.arange(done, done + data.size)
                major = np.searchsorted(pointers, places, side="right") - 1
                i, j = major, indices.astype(np.int64)
                i, j = (i + start, j) if self.layout == "csr" else (j, i)
            self._check_block(i, j, data, done)
            own = (i >= start) & (i < stop)
            yield i[own] - start, j[own], data[own].astype(np.float64)
            done += data.size

    def _ascending(self, first: int, last: int) -> NDArray[np.int64]:
        """Read pointers first..last; check that they ascend within the entries."""
        parts = list(_pieces(self.pointers, first, last + 1))
        pointers = np.concatenate(parts).astype(np.int64)
        if pointers[0] < 0 or (np.diff(pointers) < 0).any() or pointers[-1] > self.n_entries:
            raise InputError(f"{self.pointers.name} does not ascend within the data: save it again")
        return pointers

    def _check_block(
        self, i: NDArray[np.int64], j: NDArray[np.int64], data: NDArray[Any], done: int
    ) -> None:
        for kind, index, limit in (("row", i, self.shape[0]), ("column", j, self.shape[1])):
            if index.size and not 0 <= index.min() <= index.max() < limit:
                raise InputError(
                    f"{self.name}: a {kind} number beyond the shape {self.shape}: save it again"
                )
        bad = np.flatnonzero(~np.isfinite(data))
        if bad.size:
            row, column = i[bad[0]] + 1, j[bad[0]] + 1
            raise InputError(
                f"{self.name}: row {row}, column {column}: {data[bad[0]]} is not a finite number: "
                "remove or replace such values"
            )


def _pieces(array: RowBlocks, first: int, last: int) -> Iterator[NDArray[Any]]:
    """Read entries in blocks of the same number of entries for every type."""
    step = BLOCK_BYTES // 8
    for begin in range(first, last, step):
        blocks = [block.reshape(-1) for block in array.blocks(begin, min(begin + step, last))]
        yield blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


class SparseArraySource:
    """Sparse matrices in files, whose rows are counted as one table, and their labels.

    Parameters
    ----------
    features : sequence of SparseArray
    labels : sequence of RowBlocks, LabelFile or None
        As for :class:`~hpcembed.data.arrays.array_source.ArraySource`.

    Raises
    ------
    InputError
        A matrix is damaged, or matrices or labels do not match.
    """

    def __init__(
        self, features: Sequence[SparseArray], labels: Sequence[RowBlocks] | LabelFile | None
    ) -> None:
        self.features = features
        for array in features:
            array.check()
            if array.shape[1] != features[0].shape[1]:
                raise InputError(
                    f"{array.name}: {array.shape[1]} features, unlike {features[0].name}, which "
                    f"has {features[0].shape[1]}: files of one table need the same columns"
                )
        self.n_rows = sum(array.shape[0] for array in features)
        self.source = ", ".join(dict.fromkeys(array.name for array in features))
        self.labels: ArrayLabels | LabelFile | None = (
            matched_labels(features, labels) if isinstance(labels, Sequence) else labels
        )

    @property
    def summary(self) -> Summary:
        """Shape and number of entries. Not collective."""
        nnz = sum(array.n_entries for array in self.features)
        width = self.features[0].shape[1]
        return Summary(self.n_rows, width, np.dtype(np.float64), is_sparse=True, nnz=nnz)

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes for a rank with an equal share of the entries. Not collective."""
        nnz = sum(array.n_entries for array in self.features)
        pointers = sum(array.shape[1] for array in self.features if array.layout == "csc")
        share = -(-nnz // comm.size) * _BYTES_PER_ENTRY
        return share + 16 * (-(-self.n_rows // comm.size) + pointers) + 8 * BLOCK_BYTES

    def read(self, comm: MPI.Comm) -> Table:
        """Read this rank's rows. Collective."""
        start, stop = ownership_range(self.n_rows, comm)
        with agreement(comm):
            labels = read_labels(self.labels, start, stop, self.n_rows, self.source)
            parts, begin = [], 0
            for array in self.features:
                end = begin + array.shape[0]
                first, last = max(start, begin) - begin, min(stop, end) - begin
                if first < last:
                    parts.append(array.rows(first, last))
                begin = end
            width = self.features[0].shape[1]
            rows = scipy.sparse.csr_array((0, width), dtype=np.float64)
            if parts:
                rows = scipy.sparse.csr_array(scipy.sparse.vstack(parts, format="csr"))
        names = self.features[0].feature_names
        return Table(rows, labels, start, self.n_rows, names, self.source)
