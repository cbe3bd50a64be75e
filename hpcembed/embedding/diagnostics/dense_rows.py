"""Rows of a caller as a dense table of real numbers, on each rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.runtime.agreement import agreement, same_on_all_ranks
from hpcembed.runtime.arguments import as_array
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import communicator, place_rows

__all__ = ["local_rows"]


def local_rows(rows: Any, comm: MPI.Intracomm | None) -> tuple[NDArray[Any], MPI.Intracomm]:
    """Return this rank's rows as a table of real numbers, and their communicator.

    Collective.

    Raises
    ------
    InputError
        On all ranks: sparse rows, no table, or a number that is not finite.
    ConfigError
        On all ranks: types or numbers of columns that differ, or a second communicator.
    """
    if isinstance(rows, DataMatrix):
        if comm is not None and comm != rows.comm:
            raise ConfigError("these rows have a communicator of their own: omit comm")
        comm = rows.comm
    comm = communicator(comm)
    table = np.empty((0, 0))
    with agreement(comm):
        if scipy.sparse.issparse(rows) or (isinstance(rows, DataMatrix) and rows.is_sparse):
            raise InputError("sparse rows: give their projection, which is dense")
        table = rows.dense_rows() if isinstance(rows, DataMatrix) else as_array("rows", rows)
        if table.ndim != 2 or table.shape[1] == 0 or table.dtype.kind not in "fiub":
            raise InputError(
                f"rows of shape {table.shape} and type {table.dtype}: give a table of real numbers"
            )
        if table.dtype.kind == "f" and table.dtype.itemsize not in (4, 8):
            table = table.astype(np.float64)
        table = np.ascontiguousarray(table)
    same_on_all_ranks(comm, columns=table.shape[1], type=table.dtype)
    start, _ = place_rows(len(table), comm)
    with agreement(comm):
        if table.dtype.kind == "f" and not np.isfinite(table).all():
            row = start + int(np.argmin(np.isfinite(table).all(axis=1)))
            raise InputError(f"row {row}: not a finite number: remove the row, or fill it")
    return table, comm
