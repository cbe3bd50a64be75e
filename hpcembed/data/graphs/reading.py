"""From a file to a graph: which reader its name or the caller asks for, labels and attributes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.arrays.numpy_files import npz_names, open_npz
from hpcembed.data.graphs.edge_list import read_edge_list
from hpcembed.data.graphs.exchange import exchange, first_nodes
from hpcembed.data.graphs.graph import PLAIN, EdgeShare, Graph, GraphOptions, build_graph
from hpcembed.data.graphs.matrix_files import read_edge_arrays, read_edge_matrix, read_sparse_rows
from hpcembed.data.graphs.node_labels import read_label_lines
from hpcembed.data.graphs.numbering import nodes_of_ids
from hpcembed.data.labels import LocalLabels, encode_labels, labels_from_array
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import agreement, ownership_range

__all__ = ["GraphFormat", "LabelledGraph", "read_graph", "read_labelled_graph"]

_log = logging.getLogger(__name__)

GraphFormat = Literal["auto", "edges", "matrix_market", "npz"]

#: Code of a node without a label.
UNLABELLED = -1

_READERS = {
    "edges": read_edge_list,
    "matrix_market": read_edge_matrix,
    "npz": read_edge_arrays,
}


@dataclass(frozen=True, slots=True)
class LabelledGraph:
    """A graph, what is known of its nodes, and the names of the classes.

    Attributes
    ----------
    labels : ndarray of int64, shape (n_local,)
        Class code of each node, -1 where it has none.
    class_names : tuple of str
    attributes : csr_array of float64, shape (n_local, d), or None
    """

    graph: Graph
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    attributes: Any


def read_graph(
    path: Path,
    comm: MPI.Intracomm,
    options: GraphOptions = PLAIN,
    format: GraphFormat = "auto",
) -> Graph:
    """Read a graph; each rank reads its part and holds its nodes.

    Collective.

    Parameters
    ----------
    path : Path
        Edge list, Matrix Market file, or NPZ archive with a sparse matrix; text may be gzipped.
    options : GraphOptions
    format : {"auto", "edges", "matrix_market", "npz"}
        auto: by the ending; edges for any other.

    Raises
    ------
    InputError, ConfigError, MemoryLimitError
        On all ranks.
    """
    options.check()
    return build_graph(_read_edges(Path(path), comm, options, format), comm, options)


def read_labelled_graph(
    path: Path,
    comm: MPI.Intracomm,
    options: GraphOptions = PLAIN,
    format: GraphFormat = "auto",
    *,
    labels: Path | None = None,
    labels_key: str = "labels",
) -> LabelledGraph:
    """Read a graph with labels and attributes of its nodes, where there are some.

    Collective.

    Parameters
    ----------
    labels : Path, optional
        Text with a node id and a label in each line. Nodes that it names and no edge does are
        nodes without edges; nodes that it does not name have no label.
    labels_key : str
        NPZ: array with the label of every node, codes of ``class_names`` where there are some;
        attributes are ``attr_data``, ``attr_indices``,
        ``attr_indptr``, ``attr_shape``.

    Raises
    ------
    InputError, ConfigError, MemoryLimitError
        On all ranks.
    """
    options.check()
    path = Path(path)
    kind = _kind(path, format)
    ids, texts = read_label_lines(labels, comm) if labels is not None else (None, None)
    edges = _read_edges(path, comm, options, kind)
    graph = build_graph(edges, comm, options, extra_ids=ids if edges.n_nodes is None else None)
    attributes = None
    if kind == "npz":
        own_labels, attributes = _of_archive(path, labels_key, edges.n_nodes or 0, graph, comm)
        if ids is None and own_labels is not None:
            ids, texts = own_labels
    if ids is None or texts is None:
        return LabelledGraph(graph, np.full(graph.n_local, UNLABELLED), (), attributes)
    codes, names = _codes_of_nodes(graph, ids, texts, options.components, comm)
    return LabelledGraph(graph, codes, names, attributes)


def _kind(path: Path, format: str) -> str:
    if format != "auto":
        if format not in _READERS:
            raise ConfigError(f"format = {format!r} is not one of auto, {', '.join(_READERS)}")
        return format
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    return {".npz": "npz", ".mtx": "matrix_market", ".mm": "matrix_market"}.get(ending, "edges")


def _read_edges(path: Path, comm: MPI.Comm, options: GraphOptions, format: str) -> EdgeShare:
    return _READERS[_kind(path, format)](path, comm, options)


def _of_archive(
    path: Path, labels_key: str, n: int, graph: Graph, comm: MPI.Intracomm
) -> tuple[tuple[NDArray[np.int64], LocalLabels] | None, Any]:
    """Labels by node of the file, and attributes of this rank's nodes. Collective."""
    names: tuple[str, ...] = ()
    found: tuple[NDArray[np.int64], LocalLabels] | None = None
    start, stop = ownership_range(n, comm)
    with agreement(comm):
        names = npz_names(path)
        if labels_key in names:
            array = open_npz(path, labels_key)
            if array.shape != (n,):
                raise InputError(f"{array.name}: shape {array.shape} for {n} nodes")
            pieces = [block.reshape(-1) for block in array.blocks(start, stop)]
            values = np.concatenate([np.empty(0, array.dtype), *pieces])
            values = _named(path, names, values)
            found = np.arange(start, stop), labels_from_array(values, array.name, start)
    if "attr_indptr" not in names:
        return found, None
    rows = read_sparse_rows(path, "attr_", comm)
    total = comm.allreduce(rows.shape[0])
    if total != n:
        raise InputError(f"{path}: attributes of {total} nodes where the graph has {n}")
    return found, _rows_of_nodes(rows, start, graph)


def _named(path: Path, names: tuple[str, ...], codes: NDArray[Any]) -> NDArray[Any]:
    """Names of the classes in place of codes, where the archive has ``class_names``."""
    if "class_names" not in names or codes.dtype.kind not in "iu":
        return codes
    array = open_npz(path, "class_names")
    if not array.shape:
        raise InputError(f"{array.name}: shape {array.shape}: a list of names needed")
    words = [block.reshape(-1) for block in array.blocks(0, array.shape[0])]
    listed = np.concatenate([np.empty(0, array.dtype), *words])
    if codes.size and not 0 <= codes.min() <= codes.max() < listed.size:
        raise InputError(f"{path}: a label beyond the {listed.size} class_names")
    return listed[codes]


def _rows_of_nodes(rows: Any, start: int, graph: Graph) -> Any:
    """Rows of the file at the ranks that hold their nodes. Collective."""
    import scipy.sparse

    comm = graph.comm
    ids = np.arange(start, start + rows.shape[0])
    nodes = nodes_of_ids(comm, graph.node_ids, ids)
    per_entry = np.repeat(nodes, np.diff(rows.indptr))
    kept = per_entry >= 0
    first = first_nodes(graph.n_nodes, comm)
    owners = np.searchsorted(first, per_entry[kept], side="right") - 1
    columns = rows.indices[kept].astype(np.int64)
    i, j, w = exchange(comm, owners, [per_entry[kept], columns, rows.data[kept]])
    shape = (graph.n_local, rows.shape[1])
    return scipy.sparse.csr_array((w, (i - graph.start, j)), shape=shape)


def _codes_of_nodes(
    graph: Graph,
    ids: NDArray[np.int64],
    texts: LocalLabels,
    components: str,
    comm: MPI.Intracomm,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class codes at the ranks that hold the nodes; classes are those of nodes. Collective."""
    nodes = nodes_of_ids(comm, graph.node_ids, ids)
    known = nodes >= 0
    n_left, n_kept = comm.allreduce(np.array([np.sum(~known), np.sum(known)]))
    advice = "; set graph.components = all to keep them" if components == "largest" else ""
    left = f"labels of nodes that the graph lacks: {n_left}{advice}"
    if n_kept == 0:
        raise InputError(f"{texts.source}: no label is of a node of the graph: {left}")
    if n_left and comm.rank == 0:
        _log.info("%s: %s", texts.source, left)
    try:
        (codes,), names = encode_labels(replace(texts, codes=texts.codes[known]), [], comm)
    except InputError as error:
        raise InputError(f"{error} ({left})" if n_left else str(error)) from error
    owners = np.searchsorted(first_nodes(graph.n_nodes, comm), nodes[known], side="right") - 1
    nodes, codes = exchange(comm, owners, [nodes[known], codes])
    labels = np.full(graph.n_local, UNLABELLED, dtype=np.int64)
    labels[nodes - graph.start] = codes
    with agreement(comm):
        other = np.flatnonzero(labels[nodes - graph.start] != codes)
        if other.size:
            node = int(graph.node_ids[nodes[other[0]] - graph.start])
            raise InputError(f"{texts.source}: node {node} has two labels: leave one")
    return labels, names
