"""Feature and label arrays, of one or several files, as one table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from hpcembed.data.arrays.stored_array import RowBlocks, blocks_between, features_of
from hpcembed.data.file_validation import BLOCK_BYTES
from hpcembed.data.labels import (
    LabelFile,
    RowLabels,
    check_lengths,
    labels_from_array,
    read_labels,
)
from hpcembed.data.row_validation import check_finite
from hpcembed.data.table import Summary, Table
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range

__all__ = ["ArrayLabels", "ArraySource"]


class ArrayLabels:
    """Labels in arrays, which are counted as one.

    Raises
    ------
    InputError
        An array has several columns.
    """

    def __init__(self, arrays: Sequence[RowBlocks]) -> None:
        for array in arrays:
            if not array.shape or math.prod(array.shape[1:]) != 1:
                raise InputError(
                    f"{array.name}: labels of shape {array.shape}: several labels or targets for "
                    "each row are not supported: train one model for each column, stored as an "
                    "array of its own"
                )
        self.arrays = arrays
        self.name = ", ".join(dict.fromkeys(array.name for array in arrays))
        self.n_labels = sum(array.shape[0] for array in arrays)

    def read(self, first: int, last: int) -> RowLabels:
        """Read labels first..last-1."""
        pieces = [np.empty(0, dtype=self.arrays[0].dtype)]
        pieces += [block.reshape(-1) for *_, block in blocks_between(self.arrays, first, last)]
        return labels_from_array(np.concatenate(pieces), self.name, first)


class ArraySource:
    """Feature arrays, whose rows are counted as one table, and their labels.

    Parameters
    ----------
    features : sequence of RowBlocks
        Same number of features and same type.
    labels : sequence of RowBlocks, LabelFile or None
        One array per feature array, one file for all rows, or no labels.

    Raises
    ------
    InputError
        There are no rows or no features, or the arrays do not match.
    """

    def __init__(
        self, features: Sequence[RowBlocks], labels: Sequence[RowBlocks] | LabelFile | None
    ) -> None:
        self.features = features
        self.n_features, self.dtype = features_of(features)
        self.n_rows = sum(array.shape[0] for array in features)
        self.source = ", ".join(dict.fromkeys(array.name for array in features))
        self.labels = self._matched(labels) if isinstance(labels, Sequence) else labels

    def _matched(self, labels: Sequence[RowBlocks]) -> ArrayLabels:
        matched = ArrayLabels(labels)
        for array, own in zip(self.features, labels, strict=True):
            check_lengths(array.shape[0], own.shape[0], array.name, own.name)
        return matched

    @property
    def summary(self) -> Summary:
        """Shape and type. Not collective."""
        return Summary(self.n_rows, self.n_features, self.dtype)

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs on the rank that needs most. Not collective."""
        share = -(-self.n_rows // comm.size)
        # Column-major rows are gathered before they are transposed.
        copies = 2 if any(getattr(array, "is_fortran", False) for array in self.features) else 1
        return share * (self.n_features * self.dtype.itemsize * copies + 8) + BLOCK_BYTES

    def read(self, comm: MPI.Comm) -> Table:
        """Read this rank's rows. Collective."""
        start, stop = ownership_range(self.n_rows, comm)
        with agreement(comm):
            labels = read_labels(self.labels, start, stop, self.n_rows, self.source)
            rows = np.empty((stop - start, self.n_features), dtype=self.dtype)
            for array, first, place, block in blocks_between(self.features, start, stop):
                rows[place : place + len(block)] = block
                check_finite(rows[place : place + len(block)], array.name, first)
        return Table(rows, labels, start, self.n_rows, (), self.source)
