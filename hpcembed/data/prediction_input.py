"""Prediction input: the rows of one file, with labels if the file has them.

The readers are the same as for the training data. Labels are optional: a column or an array of the
configured name, or the file that the caller names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import scipy.sparse
from mpi4py import MPI

from hpcembed.data.formats import open_input
from hpcembed.data.settings import DataSettings
from hpcembed.data.table import Table
from hpcembed.data.tables.csv_table import CsvSource
from hpcembed.data.tables.sparse_columns import align_columns
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.memory import available_per_rank, check_fits

__all__ = ["read_prediction_input"]


def read_prediction_input(
    config: DataSettings,
    path: Path,
    labels: Path | None,
    n_features: int,
    comm: MPI.Comm,
    row_shape: Sequence[int] = (),
) -> tuple[Table, bool]:
    r"""Read the rows of one file; each rank reads a consecutive share.

    Collective.

    Parameters
    ----------
    config : DataSettings
        Format and names of columns and arrays; its files are ignored.
    path : Path
    labels : Path, optional
        For formats that keep labels in a file of their own.
    n_features : int
        Number of features of the model. A file with named columns may have more columns.
    comm : MPI.Comm
    row_shape : sequence of int
        Shape of a training row before it was flattened, if it had several dimensions. Rows of the
        file that have several dimensions must have this shape.

    Returns
    -------
    table : Table
    has_labels : bool
        If False, the label of every row is the empty text.

    Raises
    ------
    InputError
        The file cannot be used or has another number of features: one line, on all ranks.
    ConfigError
        The format is unknown.
    MemoryLimitError
        A rank's share does not fit.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from mpi4py import MPI
    >>> from hpcembed.data.settings import DataSettings
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "new.csv")
    ...     _ = path.write_text("height,width\n1,2\n3,4\n")
    ...     table, has_labels = read_prediction_input(
    ...         DataSettings(), path, None, 2, MPI.COMM_SELF
    ...     )
    >>> table.rows.shape, has_labels
    ((2, 2), False)
    """
    with agreement(comm):
        source, has_labels = open_input(path, labels, config)
        _check_shape(path, getattr(source, "row_shape", ()), row_shape)
        width = source.summary.n_features
        # Columns with names are selected by name later.
        has_names = isinstance(source, CsvSource) or bool(getattr(source, "feature_names", ()))
        if width is not None and not has_names:
            _check_width(path, width, n_features)
    needed = source.measure(comm)
    check_fits(
        needed, available_per_rank(comm), f"reading {path}", "use more ranks or compute nodes"
    )
    table = source.read(comm)
    if scipy.sparse.issparse(table.rows):
        (table,) = align_columns([table], 0, comm, config.index_base)
        table = dataclasses.replace(table, has_file_indices=False)
        if not table.feature_names:
            if table.rows.shape[1] > n_features:
                _check_width(path, table.rows.shape[1], n_features)
            (table,) = align_columns([table], n_features, comm)
    return table, has_labels


def _check_shape(path: Path, found: Sequence[int], expected: Sequence[int]) -> None:
    if found and expected and tuple(found) != tuple(expected):
        shown, wanted = (" x ".join(map(str, shape)) for shape in (found, expected))
        raise InputError(f"{path}: rows of shape {shown} where the model takes {wanted}")


def _check_width(path: Path, width: int, expected: int) -> None:
    if width != expected:
        raise InputError(f"{path}: {width} features where the model takes {expected}")
