"""Training and test tables of raw columns to tables of numbers.

The kinds of columns are determined from the whole table before it is split, medians and levels from
the training rows alone. The choice is logged once, as a table.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from mpi4py import MPI

from hpcembed.data.columns.choices import choice_lines
from hpcembed.data.columns.encoding import ColumnEncoding
from hpcembed.data.columns.fitting import ScannedTable, fit_encoding, scan_table
from hpcembed.data.columns.options import ColumnOptions
from hpcembed.data.columns.raw_columns import RawColumns
from hpcembed.data.table import Table
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.machine.memory import check_fits

__all__ = ["encode_tables", "holds_columns", "scan_training_table"]

_log = logging.getLogger(__name__)


def holds_columns(table: Table) -> bool:
    """Return whether the rows of a table are raw columns."""
    return isinstance(table.rows, RawColumns)


def scan_training_table(table: Table, options: ColumnOptions, comm: MPI.Comm) -> ScannedTable:
    """Determine the kinds of the columns of a table, before it is split. Collective."""
    return scan_table(_columns(table), options, comm, start=table.start, source=table.source)


def encode_tables(
    scanned: ScannedTable, train: Table, test: Table, comm: MPI.Comm, available_bytes: int
) -> tuple[Table, Table, ColumnEncoding]:
    """Replace the raw columns of two tables by rows of numbers.

    Collective.

    Parameters
    ----------
    scanned : ScannedTable
        Kinds of the columns.
    train, test : Table
        Their rows are :class:`~hpcembed.data.columns.raw_columns.RawColumns`, or an array of
        numbers whose columns have names.
    available_bytes : int
        Memory that a rank may use.

    Returns
    -------
    train, test : Table
        Rows of float64; the feature names are those of the encoding.
    encoding : ColumnEncoding

    Raises
    ------
    InputError
        A cell cannot be read.
    MemoryLimitError
        The rows of a rank do not fit.
    """
    encoding = fit_encoding(scanned, _columns(train), comm)
    needed = 8 * encoding.n_features_out * (len(train.rows) + len(test.rows))
    check_fits(
        int(comm.allreduce(needed, op=MPI.MAX)),
        available_bytes,
        f"{train.source}: {encoding.n_features_out} encoded columns",
        "use more ranks, or data.categories = ordinal",
    )
    with agreement(comm):
        tables = [
            replace(
                table,
                rows=encoding.transform(_columns(table), table.start, table.source),
                feature_names=encoding.feature_names_out,
            )
            for table in (train, test)
        ]
    if comm.rank == 0:
        for line in choice_lines(encoding):
            _log.info("%s", line)
    return tables[0], tables[1], encoding


def _columns(table: Table) -> RawColumns:
    """Return the rows of a table as raw columns."""
    rows = table.rows
    if isinstance(rows, RawColumns):
        return rows
    dense = np.asarray(rows, dtype=np.float64)
    columns = tuple(np.ascontiguousarray(column) for column in dense.T)
    return RawColumns(table.feature_names, columns, len(dense))
