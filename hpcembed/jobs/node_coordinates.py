"""The file ``nodes.csv`` of a graph: id or name, class, and spectral coordinates of every node."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import Embedding
from hpcembed.runtime.ranks import gather_rows

__all__ = ["NODES_FILE", "NodeCoordinates", "gather_nodes"]

_log = logging.getLogger(__name__)

NODES_FILE = "nodes.csv"
#: Numbers in the largest file.
_MOST_NUMBERS = 20_000_000


@dataclass(frozen=True, slots=True)
class NodeCoordinates:
    """All nodes of a graph, in ascending order of their ids or names.

    Attributes
    ----------
    names : sequence
        Ids of the nodes in the file: integers, or words.
    codes : ndarray of int64, shape (n,)
        Class of each node, -1 without a label.
    coordinates : ndarray of shape (n, k)
    """

    names: Sequence[Any]
    codes: NDArray[np.int64]
    coordinates: NDArray[np.float64]

    def columns(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the columns of the file; without a class if there is at most one.

        Examples
        --------
        >>> nodes = NodeCoordinates(["ann", "bob"], np.array([1, -1]), np.array([[0.5], [2.0]]))
        >>> nodes.columns(("red", "blue"))["class"]
        ['blue', '']
        """
        columns: dict[str, Any] = {"node": self.names}
        if len(class_names) > 1:
            columns["class"] = [class_names[code] if code >= 0 else "" for code in self.codes]
        for j, values in enumerate(self.coordinates.T, 1):
            columns[f"coordinate{j}"] = values
        return columns


def gather_nodes(embedding: Embedding, train: DataMatrix) -> NodeCoordinates | None:
    """Gather the spectral coordinates of all nodes, with a label or without.

    Collective.

    Parameters
    ----------
    embedding : Embedding
        Fitted.
    train : DataMatrix
        Its rows are nodes.

    Returns
    -------
    NodeCoordinates or None
        None on ranks other than 0, for other data and other embeddings, and for graphs whose file
        would have more than 20 million numbers.
    """
    own: NDArray[np.float64] | None = getattr(embedding, "node_coordinates_", None)
    if own is None or train.nodes is None:
        return None
    comm, graph = train.comm, train.nodes.graph
    if graph.n_nodes * own.shape[1] > _MOST_NUMBERS:
        if comm.rank == 0:
            _log.info("%s is not written: more than %s numbers", NODES_FILE, f"{_MOST_NUMBERS:,}")
        return None
    coordinates, codes = gather_rows(comm, own), gather_rows(comm, train.nodes.labels)
    ids = gather_rows(comm, graph.node_ids)
    words = comm.gather(graph.node_names)
    if coordinates is None or codes is None or ids is None or words is None:
        return None
    names: Sequence[Any] = ids.tolist()
    if graph.node_names is not None:
        names = [name for part in words for name in part or ()]
    return NodeCoordinates(names, codes, coordinates)
