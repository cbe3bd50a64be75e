"""The formats of graphs: one table of names and readers, and the choice by the file's ending."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mpi4py import MPI

from hpcembed.data.graphs.edge_list import read_edge_list
from hpcembed.data.graphs.graph import GraphOptions, LocalEdges
from hpcembed.data.graphs.matrix_market import read_matrix_market
from hpcembed.data.graphs.npz_archive import read_archive_edges
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.arguments import check_choice
from hpcembed.runtime.errors import InputError

__all__ = ["EDGE_READERS", "GraphFormat", "graph_format", "read_edges"]

GraphFormat = Literal["auto", "edges", "matrix_market", "npz"]

#: Formats and their readers, each from a file to the edges of this rank.
EDGE_READERS: Mapping[str, Callable[[Path, MPI.Comm, GraphOptions], LocalEdges]] = {
    "edges": read_edge_list,
    "matrix_market": lambda path, comm, _: read_matrix_market(path, comm),
    "npz": lambda path, comm, _: read_archive_edges(path, comm),
}

_ENDINGS = {".npz": "npz", ".mtx": "matrix_market", ".mm": "matrix_market"}


def graph_format(path: Path, format: str = "auto") -> str:
    """Return the format of a file; auto: by the ending, edges for any unknown one.

    Raises
    ------
    ConfigError
        A format that does not exist.

    Examples
    --------
    >>> graph_format(Path("karate.mtx.gz")), graph_format(Path("karate.txt"))
    ('matrix_market', 'edges')
    """
    if format == "auto":
        return _ENDINGS.get(Path(path.name.lower().removesuffix(".gz")).suffix, "edges")
    check_choice("format", format, ("auto", *EDGE_READERS))
    return format


def read_edges(
    path: Path, comm: MPI.Comm, options: GraphOptions, format: str = "auto"
) -> LocalEdges:
    """Read this rank's edges of a file.

    Collective.

    Raises
    ------
    InputError, ConfigError, MemoryLimitError
        On all ranks.
    """
    edges = EDGE_READERS[graph_format(path, format)](path, comm, options)
    if options.weights == "ignore":
        return replace(edges, weight=None)
    if edges.weight is not None and options.negative_weights == "refuse":
        with agreement(comm):
            if (edges.weight < 0).any():
                raise InputError(
                    f"{edges.name}: a negative weight ({edges.weight.min():g}) defines no "
                    "degrees; set graph.negative_weights = keep for the plain adjacency"
                )
    return edges
