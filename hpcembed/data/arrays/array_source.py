"""Feature and label arrays, of one or several files, as one table.

Arrays of more than two dimensions are flattened to rows: images (n, height, width[, channels]) and
windows of time series (n, times, channels). The table keeps the shape of a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

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

__all__ = ["ArrayLabels", "ArraySource", "matched_labels"]


class _Counted(Protocol):
    """An array or a matrix with a name and a number of rows."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


def matched_labels(features: Sequence[_Counted], labels: Sequence[RowBlocks]) -> ArrayLabels:
    """Return label arrays as one, each compared with the rows of its array.

    Raises
    ------
    InputError
        The labels have several columns, or there are not as many labels as rows.
    """
    matched = ArrayLabels(labels)
    for array, own in zip(features, labels, strict=True):
        check_lengths(array.shape[0], own.shape[0], array.name, own.name)
    return matched


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
    are_windows : bool
        Name the features of arrays (n, times, channels) of floating-point numbers by time and
        channel: ``t0.c0``, ``t0.c1``, ...

    Attributes
    ----------
    row_shape : tuple of int
        Shape of a row before it is flattened; empty for rows of one dimension, or if the arrays
        differ.

    Raises
    ------
    InputError
        There are no rows or no features, or the arrays do not match.
    """

    def __init__(
        self,
        features: Sequence[RowBlocks],
        labels: Sequence[RowBlocks] | LabelFile | None,
        *,
        are_windows: bool = False,
    ) -> None:
        self.features = features
        self.n_features, self.dtype = features_of(features)
        self.n_rows = sum(array.shape[0] for array in features)
        self.source = ", ".join(dict.fromkeys(array.name for array in features))
        self.labels: ArrayLabels | LabelFile | None = (
            matched_labels(features, labels) if isinstance(labels, Sequence) else labels
        )
        shapes = {array.shape[1:] for array in features}
        shape = shapes.pop() if len(shapes) == 1 else ()
        self.row_shape = shape if len(shape) > 1 else ()
        self.feature_names = _names(features, self.row_shape if are_windows else ())

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
        reading: dict[str, Any] = {"row_shape": list(self.row_shape)} if self.row_shape else {}
        names = self.feature_names
        return Table(rows, labels, start, self.n_rows, names, self.source, reading=reading)


def _names(features: Sequence[RowBlocks], row_shape: tuple[int, ...]) -> tuple[str, ...]:
    if len(row_shape) == 2 and features[0].dtype.kind == "f":
        times, channels = row_shape
        return tuple(f"t{t}.c{c}" for t in range(times) for c in range(channels))
    names: tuple[str, ...] = getattr(features[0], "feature_names", ())
    return names
