"""Tables as they come out of a file: rows, labels and where they stand in the whole.

A reader gives each rank a consecutive share of the rows (:class:`RawTable`, labels still in the
file's own words). Encoding the labels over all ranks makes it a :class:`Table`; two of them and
the scaling of the training rows are a :class:`Dataset`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.graph import GraphNodes
from hpcembed.data.labels import LocalLabels
from hpcembed.data.text.vectoriser import Vectoriser

__all__ = [
    "Dataset",
    "Description",
    "RawTable",
    "Rows",
    "Scaling",
    "Source",
    "Summary",
    "Table",
    "place_rows",
]

#: ndarray (n_local, d), or scipy.sparse.csr_array (n_local, d) of float64; documents that have no
#: vocabulary yet: ndarray (n_local,) of str objects.
Rows = Any


@dataclass(frozen=True, slots=True)
class Table:
    """This rank's consecutive share of a table, as read, not scaled.

    Attributes
    ----------
    rows : ndarray or scipy.sparse.csr_array of shape (n_local, d)
        Dense rows are C-contiguous, of type uint8, float32 or float64; sparse ones float64.
    labels : ndarray of int64, shape (n_local,)
        Codes 0..n_classes-1, the same on any number of ranks.
    start : int
        Global index of the first local row.
    n_rows : int
        Rows on all ranks.
    class_names : tuple of str
        The label behind each code, as text.
    feature_names : tuple of str
        Empty when the format has none.
    nodes : GraphNodes, optional
        Where rows are nodes of a graph: the graph, and which nodes they are.
    """

    rows: Rows
    labels: NDArray[np.int64]
    start: int
    n_rows: int
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    nodes: GraphNodes | None = None


@dataclass(frozen=True, slots=True)
class Scaling:
    """Per feature: scaled = (x - shift) * factor, learned from the training rows only.

    Attributes
    ----------
    shift, factor : ndarray of float64, shape (d,)
    kind : str
        none, divide, minmax or standard.
    """

    shift: NDArray[np.float64]
    factor: NDArray[np.float64]
    kind: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training and test table, which share features and classes, and the scaling.

    ``vectoriser`` makes rows of new texts; None for other data.
    """

    name: str
    train: Table
    test: Table
    scaling: Scaling
    files: tuple[str, ...]
    vectoriser: Vectoriser | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What the headers of a data set say, before anything large is read.

    Attributes
    ----------
    n_rows : tuple of (int or None)
        Training and test rows; None where only reading the file would tell.
    n_features : int or None
    dtype : str
        Type of the rows in memory.
    stored_bytes : int
        Size of the files on disk.
    is_sparse : bool
    nnz : int or None
        Stored entries of all rows (sparse formats that declare it).
    is_estimate : bool
        True when the numbers of rows are extrapolated from the beginning of a text file.
    """

    name: str
    format: str
    n_rows: tuple[int | None, int | None]
    n_features: int | None
    dtype: str
    stored_bytes: int
    is_sparse: bool
    nnz: int | None
    is_estimate: bool
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What the header of one table says (see :class:`Description`)."""

    n_rows: int | None
    n_features: int | None
    dtype: np.dtype[Any]
    is_sparse: bool = False
    nnz: int | None = None
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class RawTable:
    """This rank's consecutive share of a table with its labels still as the file writes them.

    Attributes
    ----------
    source : str
        Name of the file or files, for messages.
    has_file_indices : bool
        Columns of sparse rows are numbered as in the file, whether that counts from 0 or 1.
    """

    rows: Rows
    labels: LocalLabels
    start: int
    n_rows: int
    feature_names: tuple[str, ...]
    source: str
    has_file_indices: bool = False
    nodes: GraphNodes | None = None


def place_rows(n_local: int, comm: MPI.Comm) -> tuple[int, int]:
    """Global index of this rank's first row, and the number of rows on all ranks. Collective."""
    before = cast(MPI.Intracomm, comm).exscan(n_local)
    return int(before or 0), int(comm.allreduce(n_local))


class Source(Protocol):
    """An opened table: its header is known, its rows are not read yet."""

    @property
    def summary(self) -> Summary:
        """What the header says. Not collective."""

    def measure(self, comm: MPI.Comm) -> int:
        """Bytes that reading will need on the rank that needs most. Collective."""

    def read(self, comm: MPI.Comm) -> RawTable:
        """This rank's rows; call :meth:`measure` first. Collective."""
