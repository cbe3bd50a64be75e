"""Prediction input: the rows of one file, with labels if the file has them.

The readers are the same as for the training data. Labels are optional: a column or an array of the
configured name, or the file that the caller names.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import scipy.sparse
from mpi4py import MPI

from hpcembed.data.columns.encoding import ColumnEncoding
from hpcembed.data.formats import open_input
from hpcembed.data.settings import DataSettings
from hpcembed.data.table import Table
from hpcembed.data.tables.arrow_table import ArrowSource
from hpcembed.data.tables.csv_table import CsvSource
from hpcembed.data.tables.sparse_columns import align_columns
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.machine.memory import available_per_rank, check_fits

__all__ = ["read_prediction_input"]

_log = logging.getLogger(__name__)


def read_prediction_input(
    config: DataSettings,
    path: Path,
    labels: Path | None,
    n_features: int,
    comm: MPI.Comm,
    *,
    row_shape: Sequence[int] = (),
    names: Sequence[str] = (),
    encoding: ColumnEncoding | None = None,
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
    names : sequence of str, optional
        Names of the features of the model. Of a file with named columns these are read alone, in
        this order, so the other columns may hold anything.
    encoding : ColumnEncoding, optional
        Encoding of a model that takes raw columns; `names` are then those of the raw columns.

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
        if isinstance(source, CsvSource | ArrowSource):
            source.takes_numbers_only = encoding is None
            if names:
                _take(source, names, path, comm)
        elif encoding is not None:
            raise InputError(
                f"{path}: the model takes columns with names: give a CSV or Parquet file"
            )
        elif width is not None and not getattr(source, "feature_names", ()):
            # Columns with names are selected by name later.
            _check_width(path, width, n_features)
    needed = source.measure(comm)
    check_fits(
        needed, available_per_rank(comm), f"reading {path}", "use more ranks or compute nodes"
    )
    if encoding is not None and isinstance(source, CsvSource):
        # Numbers that are not written plainly are read as texts, in the style of the training data.
        texts = [
            one.name
            for one in encoding.columns
            if (one.kind, one.style) != ("number", "plain") or one.unit == "%"
        ]
        return source.read_columns(comm, texts), has_labels
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


def _take(
    source: CsvSource | ArrowSource, names: Sequence[str], path: Path, comm: MPI.Comm
) -> None:
    """Restrict a source to the columns of a model."""
    found = source.feature_names
    if tuple(names) == found:
        return
    missing = [name for name in names if name not in found]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InputError(f"{path}: lacks columns of the model: {', '.join(missing[:5])}{more}")
    repeated = [name for name in names if found.count(name) > 1]
    if repeated:
        raise InputError(f"{path}: {found.count(repeated[0])} columns are named {repeated[0]!r}")
    known = set(names)
    surplus = [name for name in found if name not in known]
    if surplus and comm.rank == 0:
        _log.info("%s: columns that the model does not use: %s", path, ", ".join(surplus[:10]))
    source.take(names)


def _check_width(path: Path, width: int, expected: int) -> None:
    if width != expected:
        raise InputError(f"{path}: {width} features where the model takes {expected}")
