"""Rows and labels that a caller holds in memory, as a table.

The rows may be a numpy array of two or more dimensions (images, windows), a scipy sparse matrix, a
torch tensor, a table of pandas, polars or Arrow, a mapping of columns, a list of texts, or files
opened by :func:`hpcembed.open_rows`. Rows are copied only where their type is not one that the
matrices hold. Tables, and arrays with missing values or text, become raw columns
(:mod:`hpcembed.data.columns`), which are encoded after the split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.arrays.stored_array import row_dtype
from hpcembed.data.labels import LocalLabels, RowLabels, labels_from_array
from hpcembed.data.row_stream import RowStream
from hpcembed.data.row_validation import canonical_csr, check_finite
from hpcembed.data.table import Rows, Table
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.arguments import as_array
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import place_rows

__all__ = ["label_array", "prediction_rows", "rows_of", "table_of"]


def table_of(X: Any, y: Any, comm: MPI.Comm, *, names: tuple[str, str] = ("X", "y")) -> Table:
    """Return the rows and labels of a caller as a table.

    Collective.

    Parameters
    ----------
    X : array-like, sparse matrix, table, texts or RowStream
        This rank's rows.
    y : array-like of shape (n_local,)
        One label for each row of this rank. For a :class:`~hpcembed.data.row_stream.RowStream`, the
        labels of all rows are possible as well.
    names : tuple of str
        Names of both in messages.

    Raises
    ------
    InputError
        On all ranks: rows or labels cannot be used, their numbers differ, or ranks have different
        columns.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> table = table_of([[1.0, 2.0], [3.0, 4.0]], ["fig", "pear"], MPI.COMM_SELF)
    >>> table.rows.dtype.name, table.n_rows, table.labels.values
    ('float64', 2, ('fig', 'pear'))
    """
    rows: Rows = None
    array = np.empty(0)
    columns: tuple[str, ...] = ()
    with agreement(comm):
        array = label_array(y, names[1])
        if isinstance(X, RowStream) and array.size == X.n_rows:
            array = array[slice(*X.row_range)]
        rows, columns = rows_of(X, names[0])
        if array.size != rows.shape[0]:
            raise InputError(
                f"{names[1]}: {array.size} labels for the {rows.shape[0]} rows of {names[0]}: give "
                "one for each row"
            )
    some_have_columns = comm.allreduce(bool(columns), op=MPI.LOR)
    if some_have_columns and isinstance(rows, np.ndarray) and rows.ndim == 2:
        # Rows of another rank have gaps or texts.
        rows, columns = _columns(rows, names[0])
    _check_same_columns(rows, columns, names[0], comm)
    start, n_rows = place_rows(rows.shape[0], comm)
    labels: RowLabels = LocalLabels(np.empty(0, dtype=np.int64), (), names[1])
    with agreement(comm):
        if array.size:
            labels = labels_from_array(array, names[1], start)
    if n_rows == 0:
        raise InputError(f"{names[0]}: zero rows: there is nothing to learn from")
    return Table(rows, labels, start, n_rows, columns, names[0])


def _check_same_columns(rows: Rows, columns: tuple[str, ...], name: str, comm: MPI.Comm) -> None:
    """Raise InputError on all ranks unless they have the same columns and type. Collective."""
    kind = "sparse" if scipy.sparse.issparse(rows) else str(getattr(rows, "dtype", "columns"))
    mine = (rows.shape[1:], kind, columns)
    with agreement(comm):
        if mine != comm.bcast(mine):
            raise InputError(
                f"{name}: {rows.shape[1:]} columns of type {kind}, unlike those of rank 0: give "
                "all ranks the same columns"
            )


def rows_of(X: Any, name: str) -> tuple[Rows, tuple[str, ...]]:
    """Return rows of a type that tables hold, and the names of their columns. Not collective.

    Returns
    -------
    rows : ndarray, csr_array or RawColumns
        Rows of more than two dimensions are flattened. Texts are an object array of shape (n,).
    columns : tuple of str
        Empty for rows without names.

    Raises
    ------
    InputError
        The rows cannot be used; the message names the first wrong row.

    Examples
    --------
    >>> rows_of(np.zeros((5, 4, 4), dtype=np.uint8), "X")[0].shape
    (5, 16)
    """
    if isinstance(X, RowStream):
        return _read(X), X.feature_names
    if scipy.sparse.issparse(X):
        return _sparse(X, name), ()
    if hasattr(X, "detach") and hasattr(X, "cpu"):  # torch
        X = X.detach().cpu().numpy()
    texts = _texts(X)
    if texts is not None:
        return texts, ()
    if _is_table(X):
        return _columns(X, name)
    if isinstance(X, str | Path):
        raise InputError(f"{name}: {str(X)!r} is a name: open files with hpcembed.open_rows")
    array = np.asarray(X)
    if array.ndim == 1 and array.dtype == object and any(isinstance(one, str) for one in array):
        row = next(row for row, one in enumerate(array) if not isinstance(one, str))
        raise InputError(f"{name}: row {row + 1} is not a text: remove or replace it")
    if array.ndim < 2:
        raise InputError(
            f"{name}: shape {array.shape}: give a table of shape (rows, features), or texts"
        )
    array = array.reshape(array.shape[0], math.prod(array.shape[1:]))
    if array.shape[1] == 0:
        raise InputError(f"{name}: rows without features")
    if array.dtype.kind in "OUS":
        return _columns(array, name)
    dtype = row_dtype(array.dtype, name)
    if dtype.kind == "f" and np.isnan(array).any():
        return _columns(array, name)
    rows = np.ascontiguousarray(array, dtype=dtype)
    check_finite(rows, name, 0)
    return rows, ()


def prediction_rows(X: Any) -> Any:
    """Return rows as a deployed model takes them: tensors as arrays, images flattened.

    Not collective. Other rows are unchanged, and the model checks them.

    Examples
    --------
    >>> prediction_rows(np.zeros((5, 4, 4))).shape
    (5, 16)
    """
    if hasattr(X, "detach") and hasattr(X, "cpu"):
        X = X.detach().cpu().numpy()
    if isinstance(X, RowStream):
        return _read(X)
    if isinstance(X, np.ndarray) and X.ndim > 2:
        return X.reshape(X.shape[0], math.prod(X.shape[1:]))
    return X


def _read(stream: RowStream) -> NDArray[Any]:
    """Read this rank's rows of a stream into memory."""
    dtype = row_dtype(stream.stored_type, "rows")
    rows = np.empty((stream.n_local, stream.n_features), dtype=dtype)
    kind = np.float32 if dtype.itemsize <= 4 else np.float64
    for place, block in stream.blocks(kind):
        rows[place : place + len(block)] = block
        check_finite(block, "rows", stream.row_range[0] + place)
    return rows


def _sparse(X: Any, name: str) -> Any:
    if X.dtype.kind not in "biuf":
        raise InputError(f"{name}: entries of type {X.dtype}: use real numbers")
    rows = canonical_csr(X.tocsr().astype(np.float64))
    bad = np.flatnonzero(~np.isfinite(rows.data))
    if bad.size:
        row = int(np.searchsorted(rows.indptr, bad[0], side="right"))
        raise InputError(
            f"{name}: row {row}: an entry is not a finite number: remove or replace such values"
        )
    return rows


def _texts(X: Any) -> NDArray[Any] | None:
    """Return a list, series or array of texts as an array of objects; None for other rows."""
    if isinstance(X, str | bytes | Mapping) or getattr(X, "ndim", 1) != 1 or _is_table(X):
        return None
    try:
        values = list(X)
    except TypeError:
        return None
    if not values or not all(isinstance(value, str) for value in values):
        return None
    texts = np.empty(len(values), dtype=object)
    texts[:] = values
    return texts


def _is_table(X: Any) -> bool:
    """Whether rows have named columns: a mapping, a data frame, an Arrow table, records."""
    if isinstance(X, Mapping) or hasattr(X, "columns") or hasattr(X, "column_names"):
        return True
    if isinstance(X, list | tuple) and X and all(isinstance(row, Mapping) for row in X):
        return True
    return isinstance(X, np.ndarray) and X.dtype.names is not None


def _columns(X: Any, name: str) -> tuple[Rows, tuple[str, ...]]:
    from hpcembed.data.columns import raw_columns_of

    rows = raw_columns_of(X)
    return rows, tuple(rows.names)


_ONE_LABEL = (
    "give one label for each row. Several labels for a row are not supported: compress one model "
    "for each of them"
)


def label_array(y: Any, name: str) -> NDArray[Any]:
    """Return labels as a one-dimensional array of numbers, booleans or text. Not collective.

    Raises
    ------
    InputError
        There are several labels for a row, or a label is missing; the message names the row.

    Examples
    --------
    >>> label_array([True, False], "y").tolist()
    [True, False]
    """
    if hasattr(y, "detach") and hasattr(y, "cpu"):
        y = y.detach().cpu().numpy()
    if type(y).__module__.partition(".")[0] == "pyarrow" and hasattr(y, "to_pylist"):
        y = y.to_pylist()
    if hasattr(y, "to_numpy"):
        y = y.to_numpy()
    listed = y if isinstance(y, list | tuple) else ()
    sizes = [len(one) if isinstance(one, list | tuple | set) else 1 for one in listed]
    if len(set(sizes)) > 1:
        row = next(row for row, size in enumerate(sizes) if size != 1)
        raise InputError(f"{name}: row {row + 1}: {str(y[row])[:40]}: {_ONE_LABEL}")
    array = as_array(name, y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 0:
        raise InputError(f"{name}: a single value: give one label for each row")
    if array.ndim != 1:
        raise InputError(f"{name}: shape {array.shape}: {_ONE_LABEL}")
    if array.dtype != object:
        return array
    for row, value in enumerate(array.tolist()):
        if value is None or value != value:
            raise InputError(f"{name}: row {row + 1}: the label is missing: remove such rows")
    if all(isinstance(value, str) for value in array):
        return array.astype(np.str_)
    are_booleans = [isinstance(value, bool | np.bool_) for value in array]
    if all(are_booleans):
        return array.astype(np.bool_)
    if any(are_booleans):
        raise InputError(f"{name}: labels of mixed types: use booleans or numbers or text")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: labels of mixed types: use numbers or text ({error})") from error
