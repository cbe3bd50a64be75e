"""Table: this rank's rows of a data set and their labels; Source: an opened table.

A reader opens files as a :class:`Source`: the headers are read, the rows are not. Its method
``read`` returns the rows of this rank as a :class:`Table`. The labels of a table are those of the
file until :func:`hpcembed.data.dataset.make_dataset` encodes them over all ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.labels import LocalLabels, RowLabels
from hpcembed.runtime.ranks import place_rows

if TYPE_CHECKING:  # a table holds the nodes of a graph, but does not use them
    from hpcembed.data.graphs.graph import GraphNodes

__all__ = ["Rows", "Source", "Summary", "Table"]

#: ndarray (n_local, d), or scipy.sparse.csr_array (n_local, d) of float64. For documents before
#: vectorisation: ndarray (n_local,) of str objects. Before columns of a table are encoded:
#: hpcembed.data.columns.RawColumns.
Rows = Any


@dataclass(frozen=True, slots=True)
class Table:
    """This rank's consecutive share of a table, not scaled.

    Attributes
    ----------
    rows : ndarray or scipy.sparse.csr_array of shape (n_local, d)
        Dense rows are C-contiguous, of type uint8, float32 or float64; sparse rows float64.
    labels : LocalLabels or LocalTargets
        As the file contains them. In a data set: class codes and names that are the same on any
        number of ranks, or the targets of a regression.
    start : int
        Global index of the first local row.
    n_rows : int
        Rows on all ranks.
    feature_names : tuple of str
        Empty if the format has none.
    source : str
        Name of the file or files, for messages.
    has_file_indices : bool
        Columns of sparse rows are numbered as in the file, from 0 or from 1.
    nodes : GraphNodes, optional
        If rows are nodes of a graph: the graph and the numbers of the nodes. Their labels are
        encoded; -1 marks a node without a label.
    reading : mapping
        Facts of the file that the reading of further files needs: keys of
        :class:`~hpcembed.data.settings.DataSettings` with the value that was found, and
        ``row_shape``, the shape of a row before it was flattened.
    row_names : tuple of str
        Names of the local rows, such as file names; empty if the format has none.
    """

    rows: Rows
    labels: RowLabels
    start: int
    n_rows: int
    feature_names: tuple[str, ...]
    source: str
    has_file_indices: bool = False
    nodes: GraphNodes | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    row_names: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The label of each code, as text; empty for targets."""
        return self.labels.values if isinstance(self.labels, LocalLabels) else ()

    @property
    def label_array(self) -> NDArray[np.int64] | NDArray[np.float64]:
        """Class codes, or targets, of this rank's rows."""
        labels = self.labels
        return labels.codes if isinstance(labels, LocalLabels) else labels.values

    def select(self, keep: NDArray[np.bool_], comm: MPI.Comm) -> Table:
        """Return a table of the rows that are marked in `keep`. Collective."""
        start, n_rows = place_rows(int(np.count_nonzero(keep)), comm)
        return replace(
            self,
            rows=self.rows[keep],
            labels=self.labels.select(keep),
            start=start,
            n_rows=n_rows,
            nodes=None if self.nodes is None else self.nodes.select(keep),
            row_names=tuple(compress(self.row_names, keep)),
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """Contents of the header of one table.

    Attributes
    ----------
    n_rows, n_features : int or None
        None if they are unknown before the file is read.
    dtype : numpy.dtype
        Type of the rows in memory.
    is_sparse : bool
    nnz : int or None
        Stored entries, for sparse formats that declare them.
    is_estimate : bool
        The number of rows is extrapolated from the beginning of a text file.
    """

    n_rows: int | None
    n_features: int | None
    dtype: np.dtype[Any]
    is_sparse: bool = False
    nnz: int | None = None
    is_estimate: bool = False


class Source(Protocol):
    """An opened table: its header is read, its rows are not."""

    @property
    def summary(self) -> Summary:
        """Contents of the header. Not collective."""

    def measure(self, comm: MPI.Comm) -> int:
        """Return the bytes that reading needs on the rank that needs most. Collective."""

    def read(self, comm: MPI.Comm) -> Table:
        """Read this rank's rows; :meth:`measure` must be called first. Collective."""
