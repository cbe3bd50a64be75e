"""Reading of a table for a trial, as a job reads it, and as plain values to compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI

from hpcembed.data.columns.raw_columns import RawColumns
from hpcembed.data.dataset import make_dataset
from hpcembed.data.labels import LocalLabels
from hpcembed.data.reading import describe_dataset, read_tables
from hpcembed.data.settings import DataSettings
from hpcembed.data.table import Table

__all__ = ["job_reader", "plain_table", "read_as_job"]


def read_as_job(folder: Path, **keys: Any) -> Any:
    """Read files as ``hpcembed run`` does: headers, rows, then split and scaling."""
    config = DataSettings(**{"test_fraction": 0.4, **keys})
    describe_dataset(config, folder, MPI.COMM_SELF)
    tables = read_tables(config, folder, MPI.COMM_SELF)
    found = plain_table(tables[0])
    make_dataset(tables, config, MPI.COMM_SELF, available_bytes=2**28)
    return found


def job_reader(**keys: Any) -> Callable[[Path], Any]:
    """Return a reader of files with these keys of the section [data]."""
    return lambda folder: read_as_job(folder, **keys)


def plain_table(table: Table) -> tuple[Any, list[Any]]:
    """Return rows as an array and labels as a list."""
    rows, labels = table.rows, table.labels
    if not isinstance(rows, RawColumns) and math.prod(rows.shape) > 10**6:
        return None, []  # too large to compare
    if isinstance(rows, RawColumns):
        values: Any = rows.names
    else:
        dense = rows.toarray() if scipy.sparse.issparse(rows) else rows
        assert dense.dtype == object or np.isfinite(dense).all()
        values = dense.tolist() if dense.dtype == object else np.asarray(dense, dtype=np.float64)
    if isinstance(labels, LocalLabels):
        return values, [labels.values[code] for code in labels.codes]
    return values, labels.values.tolist()
