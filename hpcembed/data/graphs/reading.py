"""Read a graph, with labels and attributes of its nodes if there are any."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.assembly import build_graph
from hpcembed.data.graphs.formats import GraphFormat, graph_format, read_edges
from hpcembed.data.graphs.graph import DEFAULT_OPTIONS, Graph, GraphOptions
from hpcembed.data.graphs.node_labels import read_label_lines
from hpcembed.data.graphs.node_words import number_words, word_array
from hpcembed.data.graphs.npz_archive import read_archive_attributes, read_archive_labels
from hpcembed.data.graphs.numbering import nodes_of_ids
from hpcembed.data.graphs.owner_exchange import exchange, node_owners
from hpcembed.data.labels import LocalLabels, encode_labels
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError

__all__ = ["UNLABELLED", "LabelledGraph", "read_graph", "read_labelled_graph"]

_log = logging.getLogger(__name__)

#: Class code of a node without a label.
UNLABELLED = -1


@dataclass(frozen=True, slots=True)
class LabelledGraph:
    """A graph with labels and attributes of this rank's nodes.

    Attributes
    ----------
    graph : Graph
    labels : ndarray of int64, shape (n_local,)
        Class code of each node, :data:`UNLABELLED` for nodes without a label.
    class_names : tuple of str
        Empty if no node has a label.
    attributes : csr_array of float64, shape (n_local, d), or None
    """

    graph: Graph
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    attributes: Any


def read_graph(
    path: Path,
    comm: MPI.Intracomm,
    options: GraphOptions = DEFAULT_OPTIONS,
    format: GraphFormat = "auto",
) -> Graph:
    r"""Read a graph; each rank reads a part of the file and holds a part of the nodes.

    Collective.

    Parameters
    ----------
    path : Path
        Edge list, Matrix Market file, or NPZ archive with a sparse matrix; text may be gzipped.
    comm : MPI.Intracomm
    options : GraphOptions
    format : {"auto", "edges", "matrix_market", "npz"}
        auto: by the ending; edges for any unknown one.

    Raises
    ------
    InputError, ConfigError, MemoryLimitError
        On all ranks.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "triangle.txt")
    ...     _ = path.write_text("# from to\n10 20\n20 30\n30 10\n40 40\n")
    ...     graph = read_graph(path, MPI.COMM_SELF)
    >>> graph.n_nodes, graph.n_edges, graph.n_components
    (4, 3, 2)
    >>> graph.rows.toarray()[0]
    array([0., 1., 1., 0.])
    """
    options.check()
    edges = read_edges(Path(path), comm, options, format)
    if edges.words is None:
        return build_graph(edges, comm, options)
    edges, _, words = number_words(edges, word_array([]), comm)
    return words.name_nodes(build_graph(edges, comm, options))


def read_labelled_graph(
    path: Path,
    comm: MPI.Intracomm,
    options: GraphOptions = DEFAULT_OPTIONS,
    format: GraphFormat = "auto",
    *,
    labels: Path | None = None,
    labels_key: str = "labels",
) -> LabelledGraph:
    r"""Read a graph, with labels and attributes of its nodes if there are any.

    Collective.

    Parameters
    ----------
    path, comm, options, format
        As for :func:`read_graph`.
    labels : Path, optional
        Text with a node id and a label in each line. Ids that no edge contains are added as
        isolated nodes; nodes that the file does not list have no label.
    labels_key : str
        Name of the array of labels in an NPZ archive; see
        :mod:`hpcembed.data.graphs.npz_archive`.

    Raises
    ------
    InputError, ConfigError, MemoryLimitError
        On all ranks.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path, labels = Path(folder, "path.txt"), Path(folder, "labels.txt")
    ...     _ = path.write_text("10 20\n20 30\n")
    ...     _ = labels.write_text("30 red\n10 blue\n")
    ...     found = read_labelled_graph(path, MPI.COMM_SELF, labels=labels)
    >>> found.class_names, found.labels
    (('blue', 'red'), array([ 0, -1,  1]))
    """
    options.check()
    path = Path(path)
    edges = read_edges(path, comm, options, format)
    n, has_words, words = edges.n_nodes, edges.words is not None, None
    ids, texts = None, None
    if labels is not None:
        ids, texts = read_label_lines(labels, comm, has_words=has_words)
    if has_words:
        edges, numbers, words = number_words(edges, word_array([]) if ids is None else ids, comm)
        ids = None if ids is None else numbers
    graph = build_graph(edges, comm, options, extra_ids=ids if n is None else None)
    if words is not None:
        graph = words.name_nodes(graph)
    attributes = None
    if graph_format(path, format) == "npz" and n is not None:
        attributes = read_archive_attributes(path, n, graph)
        if ids is None:
            ids, texts = read_archive_labels(path, labels_key, n, comm) or (None, None)
    if ids is None or texts is None:
        return LabelledGraph(graph, np.full(graph.n_local, UNLABELLED), (), attributes)
    codes, names = _codes_of_nodes(graph, ids, texts, options.components, comm)
    return LabelledGraph(graph, codes, names, attributes)


def _codes_of_nodes(
    graph: Graph,
    ids: NDArray[np.int64],
    texts: LocalLabels,
    components: str,
    comm: MPI.Intracomm,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Encode the labels of nodes of the graph; send the codes to their owners. Collective."""
    nodes = nodes_of_ids(comm, graph.node_ids, ids)
    known = nodes >= 0
    n_left, n_kept = comm.allreduce(np.array([np.sum(~known), np.sum(known)]))
    advice = "; set graph.components = all to keep them" if components == "largest" else ""
    left = f"labels of nodes that are not in the graph: {n_left}{advice}"
    if n_kept == 0:
        raise InputError(f"{texts.source}: no label belongs to a node of the graph: {left}")
    if n_left and comm.rank == 0:
        _log.info("%s: %s", texts.source, left)
    try:
        (encoded,) = encode_labels([replace(texts, codes=texts.codes[known])], comm)
    except InputError as error:
        raise InputError(f"{error} ({left})" if n_left else str(error)) from error
    owners = node_owners(nodes[known], graph.n_nodes, comm)
    nodes, codes = exchange(comm, owners, [nodes[known], encoded.codes])
    labels = np.full(graph.n_local, UNLABELLED, dtype=np.int64)
    labels[nodes - graph.start] = codes
    with agreement(comm):
        other = np.flatnonzero(labels[nodes - graph.start] != codes)
        if other.size:
            place = int(nodes[other[0]]) - graph.start
            names = graph.node_names
            node = graph.node_ids[place] if names is None else repr(names[place])
            raise InputError(f"{texts.source}: node {node} has two labels: remove one")
    return labels, encoded.values
