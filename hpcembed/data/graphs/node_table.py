"""A graph as the table of a job: one row for each node, together with the whole graph.

A row is the uncompressed input of a network: the attributes of its node, or the node's row of the
adjacency matrix if there are no attributes. Without labels no network is trained; a row is then the
degree of its node if there are no attributes.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import numpy as np
from mpi4py import MPI

from hpcembed.data.file_validation import file_size
from hpcembed.data.graphs.graph import GraphNodes
from hpcembed.data.graphs.power_law import power_law_graph
from hpcembed.data.graphs.reading import UNLABELLED, LabelledGraph, read_labelled_graph
from hpcembed.data.labels import LocalLabels
from hpcembed.data.settings import DataSettings, GraphSettings
from hpcembed.data.table import Summary, Table
from hpcembed.runtime.errors import ConfigError

__all__ = ["GraphSource", "open_graph"]

#: Class of all nodes of a graph without labels.
_NO_CLASS = "node"


def open_graph(config: DataSettings, graph: GraphSettings, data_dir: Path) -> GraphSource:
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
    return GraphSource(config, graph, files)


class GraphSource:
    """The nodes of a graph as rows.

    Parameters
    ----------
    files : tuple of Path
        The graph, and the file of labels if there is one; none for generated graphs.
    """

    def __init__(self, config: DataSettings, graph: GraphSettings, files: tuple[Path, ...]) -> None:
        self.config, self.graph, self.files = config, graph, files

    @property
    def summary(self) -> Summary:
        """Sizes that are known before reading."""
        if self.files:
            return Summary(None, None, np.dtype(np.float64), is_sparse=True)
        return Summary(self.graph.n_nodes, 1, np.dtype(np.float64))

    def measure(self, comm: MPI.Comm) -> int:
        """Return 0: the readers of graphs check the memory themselves."""
        return 0

    def read(self, comm: MPI.Comm) -> Table:
        """Read the rows of this rank's nodes; the code of a node without a label is -1.

        Collective.
        """
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
        codes = found.labels if has_labels else np.zeros(graph.n_local, dtype=np.int64)
        labels = LocalLabels(codes, found.class_names or (_NO_CLASS,), graph.name)
        numbers = graph.start + np.arange(graph.n_local)
        return Table(
            rows,
            labels,
            graph.start,
            graph.n_nodes,
            (),
            graph.name,
            nodes=GraphNodes(graph, numbers, found.labels),
        )

    def _read(self, comm: MPI.Intracomm) -> LabelledGraph:
        graph = self.graph
        if self.files:
            return read_labelled_graph(
                self.files[0],
                comm,
                graph,
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
            options=msgspec.structs.replace(graph, duplicates="once"),
        )
        return LabelledGraph(made, np.full(made.n_local, UNLABELLED), (), None)
