"""Columns of sparse tables: the same numbering and width for training and test rows.

An SVMlight file declares neither whether its feature numbers begin at 0 or 1 nor how many features
there are. As in scikit-learn, numbers begin at 1 if no 0 occurs: here in no file and on no rank.
The number that was found is kept in ``Table.reading``: a model needs it for further files, in which
the feature 0 may be absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import scipy.sparse
from mpi4py import MPI

from hpcembed.data.table import Table
from hpcembed.runtime.errors import InputError

__all__ = ["align_columns"]

_NONE = np.iinfo(np.int64).max


def align_columns(
    tables: Sequence[Table],
    n_features: int,
    comm: MPI.Comm,
    index_base: Literal["auto", 0, 1] = "auto",
) -> tuple[Table, ...]:
    """Number the columns of sparse tables from 0 and make them equally wide.

    Collective. Dense tables are returned unchanged.

    Parameters
    ----------
    tables : sequence of Table
        Training and test rows.
    n_features : int
        Number of columns; 0: the largest number that occurs.
    index_base : {"auto", 0, 1}
        Number of the first feature in files that do not declare it.

    Raises
    ------
    InputError
        A feature number exceeds `n_features` or is below `index_base`, or no feature occurs.
    """
    if not any(scipy.sparse.issparse(table.rows) for table in tables):
        return tuple(tables)
    source = ", ".join(table.source for table in tables)
    base = 0
    width = max(table.rows.shape[1] for table in tables)
    if any(table.has_file_indices for table in tables):
        smallest = min((int(t.rows.indices.min()) for t in tables if t.rows.nnz), default=_NONE)
        largest = max((int(t.rows.indices.max()) for t in tables if t.rows.nnz), default=-1)
        bounds = np.array([-smallest, largest])
        comm.Allreduce(MPI.IN_PLACE, bounds, op=MPI.MAX)
        has_first = bounds[0] >= 0
        if index_base == 1 and has_first:
            raise InputError(
                f"{source}: has a feature 0 where features are numbered from 1, as in the training "
                "file: number them alike, or set data.index_base"
            )
        base = int(not has_first) if index_base == "auto" else index_base
        width = int(bounds[1]) + 1 - base if bounds[1] >= 0 else 0
    if n_features and width > n_features:
        raise InputError(
            f"{source}: {width} features, but data.n_features is {n_features}: raise it, or leave "
            "it out"
        )
    width = n_features or width
    if width == 0:
        raise InputError(f"{source}: no feature occurs in any row: check data.format")
    return tuple(_aligned(table, base, width) for table in tables)


def _aligned(table: Table, base: int, width: int) -> Table:
    reading = dict(table.reading)
    if table.has_file_indices:
        reading["index_base"] = base
    return replace(table, rows=_shift(table.rows, base, width), reading=reading)


def _shift(rows: Any, base: int, width: int) -> Any:
    if base == 0 and rows.shape[1] == width:
        return rows
    indices = rows.indices - base if base else rows.indices
    return scipy.sparse.csr_array(
        (rows.data, indices, rows.indptr), shape=(rows.shape[0], width), copy=False
    )
