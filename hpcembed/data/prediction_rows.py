"""Rows that a trained network is to judge: one file, with labels where it has some.

The readers are those of the training data. Labels are looked for where the format keeps them: a
column of that name, an array of that name, the file that was named; none is no error.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import scipy.sparse
from mpi4py import MPI

from hpcembed.data.arrays.hdf5 import holds_array, open_hdf5
from hpcembed.data.arrays.idx import open_idx
from hpcembed.data.arrays.numpy_files import npz_names, open_npy, open_npz
from hpcembed.data.arrays.stored_array import ArrayTable, RowBlocks
from hpcembed.data.dataset import RawTable, Source
from hpcembed.data.formats import format_of, open_source
from hpcembed.data.labels import LocalLabels
from hpcembed.data.settings import DataSettings
from hpcembed.data.tables.csv_header import read_header
from hpcembed.data.tables.csv_table import CsvTable
from hpcembed.data.tables.matrix_market import MatrixMarketTable
from hpcembed.data.tables.matrix_market_header import read_matrix_header
from hpcembed.data.tables.sparse_columns import align_columns
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.memory import available_per_rank, check_fits
from hpcembed.runtime.ranks import agreement

__all__ = ["NewRows", "read_new_rows"]


@dataclass(frozen=True, slots=True)
class NewRows:
    """This rank's consecutive share of the rows.

    Attributes
    ----------
    table : RawTable
        Where there are no labels, each is the empty text.
    has_labels : bool
    """

    table: RawTable
    has_labels: bool


@dataclass
class _NoLabels:
    """Stands for a file of labels that is not there."""

    n_labels: int
    name: str = "no labels"

    def read(self, first: int, last: int) -> LocalLabels:
        """Empty labels for rows first..last-1. Not collective."""
        return LocalLabels(np.zeros(last - first, dtype=np.int64), ("",), self.name)


def read_new_rows(
    config: DataSettings, path: Path, labels: Path | None, n_features: int, comm: MPI.Comm
) -> NewRows:
    """Read the rows of one file; each rank takes a consecutive share.

    Collective.

    Parameters
    ----------
    config : DataSettings
        Format and names of columns and arrays; its files are not looked at.
    labels : Path, optional
        For formats that keep labels in a file of their own.
    n_features : int
        Width that is expected. A file with named columns may have more of them.

    Raises
    ------
    InputError
        A file that cannot be used, or of another width: one line, on all ranks.
    ConfigError
        A format that is not known.
    MemoryLimitError
        A rank's share does not fit.
    """
    with agreement(comm):
        source, has_labels, has_names = _open(config, path, labels)
        width = source.summary.n_features
        if width is not None and not has_names:
            _check_width(path, width, n_features)
    needed = source.measure(comm)
    check_fits(needed, available_per_rank(comm), f"reading {path}", "use more ranks or nodes")
    table = source.read(comm)
    if scipy.sparse.issparse(table.rows):
        (table,) = align_columns([table], 0, comm)
        table = dataclasses.replace(table, has_file_indices=False)
        if table.rows.shape[1] > n_features:
            _check_width(path, table.rows.shape[1], n_features)
        (table,) = align_columns([table], n_features, comm)
    return NewRows(table, has_labels)


def _check_width(path: Path, width: int, expected: int) -> None:
    if width != expected:
        raise InputError(f"{path}: {width} features where the model takes {expected}")


def _open(config: DataSettings, path: Path, labels: Path | None) -> tuple[Source, bool, bool]:
    """The file, whether it has labels, whether its columns have names."""
    config = msgspec.structs.replace(config, train=(str(path),), train_labels="")
    kind = format_of(config)
    if labels is not None or kind in ("svmlight", "cifar10"):
        return open_source(kind, (path,), labels, config), True, False
    if kind == "csv":
        names = read_header(path, None, config.delimiter).names
        label = config.label_column if config.label_column in names else None
        return CsvTable((path,), label, config.delimiter), label is not None, True
    if kind == "matrix_market":
        n_rows = read_matrix_header(path).n_rows
        return MatrixMarketTable(path, _NoLabels(n_rows)), False, False
    if kind == "npz" and config.labels_key in npz_names(path):
        return open_source(kind, (path,), None, config), True, False
    if kind == "hdf5" and holds_array(path, config.labels_key):
        return open_source(kind, (path,), None, config), True, False
    return _unlabelled(kind, path, config), False, False


def _unlabelled(kind: str, path: Path, config: DataSettings) -> ArrayTable:
    array: RowBlocks
    if kind == "npz":
        array = open_npz(path, config.features_key)
    elif kind == "hdf5":
        array = open_hdf5(path, config.features_key)
    elif kind == "idx":
        array = open_idx(path)
    elif kind == "npy":
        array = open_npy(path)
    else:
        raise ConfigError(f"data.format = {kind}: name a format that {path} may have")
    return ArrayTable([array], _NoLabels(array.shape[0] if array.shape else 0))
