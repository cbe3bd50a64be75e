"""A graph as the table of a job: one row for each labelled node, together with the whole graph.

A row is the uncompressed input of a network: the attributes of its node, smoothed over the graph if
the job requests it, or the node's row of the adjacency matrix if there are no attributes. Without
labels no network is trained; every node then has a row, which is its degree if there are no
attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from mpi4py import MPI

from hpcembed.data.dataset import Dataset, RawTable, Summary, place_rows
from hpcembed.data.files import file_size
from hpcembed.data.graphs.graph import GraphNodes, GraphOptions
from hpcembed.data.graphs.power_law import power_law_graph
from hpcembed.data.graphs.reading import UNLABELLED, LabelledGraph, read_labelled_graph
from hpcembed.data.labels import LocalLabels
from hpcembed.data.settings import DataSettings, GraphSettings
from hpcembed.runtime.errors import ConfigError

__all__ = ["GraphTable", "has_classes", "open_graph"]

#: Class of all nodes of a graph without labels.
_NO_CLASS = "node"

#: ``smooth(graph, rows, steps, kind=...)``
Smooth = Callable[..., Any]


def open_graph(
    config: DataSettings, graph: GraphSettings, data_dir: Path, smooth: Smooth | None
) -> GraphTable:
    """Check the files of a graph. Not collective.

    Raises
    ------
    ConfigError, InputError
        Several files, a file that is missing.
    """
    if len(config.train) > 1 or config.test or config.test_labels:
        raise ConfigError("data.format = graph reads one file, data.train, and data.train_labels")
    files = tuple(data_dir / name for name in (*config.train, config.train_labels) if name)
    for path in files:
        file_size(path)
    return GraphTable(config, graph, files, smooth)


def has_classes(dataset: Dataset) -> bool:
    """Whether the rows of a data set have labels. Not collective."""
    return dataset.train.nodes is None or dataset.train.class_names != (_NO_CLASS,)


class GraphTable:
    """The nodes of a graph as rows.

    Parameters
    ----------
    files : tuple of Path
        The graph, and the file of labels if there is one; none for generated graphs.
    smooth : callable, optional
        :func:`hpcembed.operators.graph.smoothing.smooth`, which lies above this layer.
    """

    def __init__(
        self,
        config: DataSettings,
        graph: GraphSettings,
        files: tuple[Path, ...],
        smooth: Smooth | None,
    ) -> None:
        self.config, self.graph, self.files, self._smooth = config, graph, files, smooth

    @property
    def summary(self) -> Summary:
        """Sizes that are known before reading."""
        if self.files:
            return Summary(None, None, np.dtype(np.float64), is_sparse=True)
        return Summary(self.graph.n_nodes, 1, np.dtype(np.float64))

    def measure(self, comm: MPI.Comm) -> int:
        """Return 0: the readers of graphs check the memory themselves."""
        return 0

    def read(self, comm: MPI.Comm) -> RawTable:
        """Read this rank's rows. Collective."""
        found = self._read(cast(MPI.Intracomm, comm))
        graph = found.graph
        has_labels = bool(found.class_names)
        rows = found.attributes
        if rows is None:
            if self.graph.smoothing:
                raise ConfigError(
                    f"graph.smoothing = {self.graph.smoothing}: {graph.name} has no attributes"
                )
            rows = graph.rows if has_labels else graph.degrees()[:, None]
        elif self.graph.smoothing:
            assert self._smooth is not None  # a job hands it down
            steps, kind = self.graph.smoothing, self.graph.smoothing_operator
            rows = self._smooth(graph, rows, steps, kind=kind)
        known = found.labels >= 0 if has_labels else np.ones(graph.n_local, dtype=bool)
        codes = found.labels[known] if has_labels else np.zeros(graph.n_local, dtype=np.int64)
        names = found.class_names or (_NO_CLASS,)
        numbers = graph.start + np.flatnonzero(known)
        start, n_rows = place_rows(numbers.size, comm)
        return RawTable(
            rows if known.all() else rows[known],
            LocalLabels(codes, names, graph.name),
            start,
            n_rows,
            (),
            graph.name,
            nodes=GraphNodes(graph, numbers, found.labels),
        )

    def _read(self, comm: MPI.Intracomm) -> LabelledGraph:
        graph = self.graph
        options = GraphOptions(
            directed=graph.directed,
            duplicates=graph.duplicates if self.files else "once",
            loops=graph.loops,
            components=graph.components,
            weights=graph.weights,
            negative_weights=graph.negative_weights,
        )
        if self.files:
            return read_labelled_graph(
                self.files[0],
                comm,
                options,
                graph.format,
                labels=self.files[1] if len(self.files) > 1 else None,
                labels_key=self.config.labels_key,
            )
        made = power_law_graph(
            graph.n_nodes,
            graph.n_edges,
            comm,
            exponent=graph.exponent,
            seed=graph.seed,
            options=options,
        )
        return LabelledGraph(made, np.full(made.n_local, UNLABELLED), (), None)
