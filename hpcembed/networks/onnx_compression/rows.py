"""Rows for the inputs of a model: checked, shaped and converted batch by batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.row_files import read_rows
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range

__all__ = ["Batch", "RowData", "RowSelection", "Rows", "checked_count", "make_rows", "read_labels"]

Array = NDArray[Any]
RowData: TypeAlias = "Array | Mapping[str, Array] | RowSelection | str | os.PathLike[str]"

#: Input whose zeros mark padding of sequences, as in exported transformers.
_MASK = "attention_mask"


@dataclass(frozen=True)
class RowSelection:
    """This rank's rows of a file, with their numbers in the file for messages.

    Attributes
    ----------
    arrays : dict of str to ndarray
    numbers : ndarray of int, shape (n_local,)
    name : str
        Of the file.
    """

    arrays: Mapping[str, Array]
    numbers: NDArray[np.int64]
    name: str


@dataclass(frozen=True)
class Batch:
    """Consecutive rows.

    Attributes
    ----------
    feeds : dict of str to ndarray
        Arrays of the inputs; a model with a fixed batch gets copies of its last row at the end.
    size : int
        Rows that count.
    labels : ndarray or None
    mask : ndarray of bool or None
        Tokens that count, shape (rows, tokens).
    name : str
        For messages.
    """

    feeds: dict[str, Array]
    size: int
    labels: Array | None
    mask: NDArray[np.bool_] | None
    name: str

    def valid(self, array: Array) -> Array:
        """Return a tensor without the rows that fill a fixed batch."""
        total = len(next(iter(self.feeds.values())))
        if total == self.size or array.ndim == 0 or len(array) % total:
            return array
        return array[: len(array) // total * self.size]


@dataclass
class Rows:
    """This rank's rows of all inputs.

    Attributes
    ----------
    name : str
        For messages.
    arrays : dict of str to ndarray
        By inputs, with equal numbers of rows; as given.
    inputs : dict of str to (shape, type)
        Sizes of a row (None: any) and element type of each input.
    labels : ndarray or None
    batch_size : int
    fixed : bool
        The model takes batches of this size only.
    numbers : ndarray of int
        Numbers of the rows, for messages.
    warnings : list of str
    """

    name: str
    arrays: dict[str, Array]
    inputs: dict[str, tuple[tuple[int | None, ...] | None, np.dtype[Any]]]
    labels: Array | None = None
    batch_size: int = 64
    fixed: bool = False
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()))) if self.arrays else 0

    def batches(self, most: int | None = None, size: int | None = None) -> Iterator[Batch]:
        """Yield the rows, or the first of them, in batches.

        Parameters
        ----------
        most : int, optional
            Number of rows after which to end.
        size : int, optional
            Rows of a batch; ignored where the model fixes it.

        Raises
        ------
        InputError
            A value is not finite; the row is named.
        """
        step = self.batch_size if self.fixed or size is None else size
        end = len(self) if most is None else min(most, len(self))
        for start in range(0, end, step):
            yield self.batch(start, min(start + step, end))

    def batch(self, start: int, stop: int) -> Batch:
        """Return the rows from `start` to before `stop`."""
        feeds, mask = {}, None
        for name, array in self.arrays.items():
            shape, dtype = self.inputs[name]
            rows = self._converted(name, np.asarray(array[start:stop]), dtype, start)
            if shape is not None and rows.shape[1:] != shape and None not in shape:
                rows = rows.reshape(len(rows), *(n or 0 for n in shape))
            if name == _MASK and rows.ndim == 2:
                mask = rows != 0
            if self.fixed and len(rows) < self.batch_size:
                rows = np.concatenate([rows, np.repeat(rows[-1:], self.batch_size - len(rows), 0)])
            feeds[name] = np.ascontiguousarray(rows)
        labels = None if self.labels is None else np.asarray(self.labels[start:stop])
        return Batch(
            feeds, stop - start, labels, mask,
            f"{self.name}, rows {self.numbers[start]} to {self.numbers[stop - 1]}",
        )  # fmt: skip

    def _converted(self, name: str, rows: Array, dtype: np.dtype[Any], start: int) -> Array:
        if rows.dtype.kind == "f":
            bad = ~np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
            if bad.any():
                row = self.numbers[start + int(np.argmax(bad))]
                raise InputError(f"{self.name}: row {row} has a value that is not finite ({name})")
        if (
            dtype.kind in "iu"
            and rows.dtype.kind == "f"
            and not np.array_equal(rows, np.rint(rows))
        ):
            raise InputError(f"{self.name}: the input {name} takes integers, not {rows.dtype}")
        return rows.astype(dtype, copy=False)


def make_rows(
    data: RowData,
    network: Network,
    name: str,
    *,
    batch_size: int = 64,
    labels: Any = None,
    comm: MPI.Comm = MPI.COMM_SELF,
) -> Rows:
    """Return rows for the inputs of a network.

    Collective if `data` is a path: each rank takes its share of the rows.

    Parameters
    ----------
    data : array, dict of arrays, or path
        This rank's rows, for models with several inputs by their names.
    name : str
        Name of the rows for messages.
    labels : array or path, optional
        Class numbers.

    Raises
    ------
    InputError
        Rows do not fit to the inputs of the network.
    """
    numbers: NDArray[np.int64] | None = None
    if isinstance(data, (str, os.PathLike)):
        arrays: Mapping[str, Array] = read_rows(data)
        name = f"{name} {data}"
        n = checked_count(arrays, name)
        first, last = ownership_range(n, comm)
        arrays = {key: array[first:last] for key, array in arrays.items()}
        numbers = np.arange(first, last)
        if labels is not None:
            labels = read_labels(labels, name, n)[first:last]
    elif isinstance(data, RowSelection):
        arrays, numbers, name = data.arrays, data.numbers, f"{name} {data.name}"
    elif isinstance(data, Mapping):
        arrays = {key: np.asarray(array) for key, array in data.items()}
    else:
        arrays = {"": np.asarray(data)}
    inputs = {one.name: _input(one) for one in network.inputs}
    if len(inputs) == 1 and len(arrays) == 1:
        arrays = {next(iter(inputs)): next(iter(arrays.values()))}
    if set(arrays) != set(inputs):
        wanted = ", ".join(inputs) or "none"
        given = ", ".join(key or "one array" for key in arrays) or "none"
        raise InputError(f"{name}: the inputs of the model are {wanted}; given: {given}")
    n = checked_count(arrays, name)
    numbers = np.arange(n) if numbers is None else numbers
    rows = Rows(name, dict(arrays), {}, None, batch_size, False, numbers)
    for key, array in arrays.items():
        shape, dtype = inputs[key]
        _check_type(array, dtype, key, rows)
        fixed = None if shape is None or not shape else shape[0]
        if fixed is not None:
            rows.batch_size, rows.fixed = fixed, True
        row_shape = None if shape is None else shape[1:]
        _check_shape(array, row_shape, key, rows)
        rows.inputs[key] = (row_shape, dtype)
    if labels is not None:
        rows.labels = read_labels(labels, name, len(rows))
    return rows


def _input(info: onnx.ValueInfoProto) -> tuple[tuple[int | None, ...] | None, np.dtype[Any]]:
    tensor = info.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if not info.type.HasField("tensor_type") or not tensor.HasField("shape"):
        return None, dtype
    dims = tensor.shape.dim
    return tuple(d.dim_value if d.dim_value > 0 else None for d in dims), dtype


def checked_count(arrays: Mapping[str, Array], name: str) -> int:
    """Return the number of rows of all arrays.

    Raises
    ------
    InputError
        An array has no rows, or their numbers of rows differ.
    """
    for key, array in arrays.items():
        if array.ndim < 1:
            raise InputError(f"{name}: {key or 'the array'} is a single number; rows are needed")
    counts = {key: len(array) for key, array in arrays.items()}
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise InputError(f"{name}: the arrays have different numbers of rows: {text}")
    return next(iter(counts.values()), 0)


def _check_type(array: Array, dtype: np.dtype[Any], key: str, rows: Rows) -> None:
    if array.dtype.kind not in "fiub":
        raise InputError(f"{rows.name}: {array.dtype} is not a type of numbers")
    if array.dtype == np.uint8 and dtype.kind == "f":
        rows.warnings.append(
            f"{rows.name}: bytes are converted to {dtype} without scaling; divide them first if "
            "the model was trained on scaled values"
        )


def _check_shape(array: Array, shape: tuple[int | None, ...] | None, key: str, rows: Rows) -> None:
    if shape is None:
        return
    given = array.shape[1:]
    if len(given) == len(shape) and all(
        n is None or n == m for n, m in zip(shape, given, strict=True)
    ):
        return
    if None not in shape and int(np.prod(given)) == int(np.prod([n or 0 for n in shape])):
        return
    wanted = " x ".join("any" if n is None else str(n) for n in shape) or "single numbers"
    has = " x ".join(map(str, given)) or "single numbers"
    raise InputError(
        f"{rows.name}: rows have {has}, and the input {key} of the model takes {wanted}"
    )


def read_labels(labels: Any, name: str, n: int) -> Array:
    """Return class numbers of `n` rows from an array or a file.

    Raises
    ------
    InputError
        They are not integers, or there are more or fewer than rows.
    """
    if isinstance(labels, (str, os.PathLike)):
        arrays = read_rows(labels)
        if len(arrays) != 1:
            raise InputError(
                f"{labels}: the arrays {', '.join(arrays)}, where one of labels is needed: save it "
                "alone"
            )
        (array,) = arrays.values()
    else:
        array = np.asarray(labels)
    array = array.reshape(-1) if array.size == len(array) else array
    if array.dtype.kind == "f" and np.array_equal(array, np.rint(array)):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise InputError(f"{name}: labels must be class numbers from 0 on, not {array.dtype}")
    if len(array) != n:
        raise InputError(f"{name}: {len(array)} labels for {n} rows")
    return array.astype(np.int64)
