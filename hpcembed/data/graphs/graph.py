"""Graphs: edges of a file in, this rank's rows of a symmetric adjacency matrix out.

Every rank brings the edges that it has read, from any node to any node; they travel to the ranks
that own their nodes and are put together there. What a line of a file means is settled by
:class:`GraphOptions`, in this order:

1. lines of the same edge in the same direction: weights added (``sum``), or the largest one kept
   (``once``);
2. both directions: the larger weight (``either``, the default, right for lists of undirected edges
   as well), the mean (``symmetrise``), the sum, or edges that go both ways only (``mutual``, the
   smaller weight);
3. self-loops dropped, or kept once on the diagonal;
4. edges of weight zero are none;
5. all components, or the largest one only. Nodes without edges stay: they have empty rows.

Nodes are numbered in the order of their ids, so the result does not depend on the ranks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.components import component_labels, component_sizes
from hpcembed.data.graphs.exchange import exchange, first_nodes
from hpcembed.data.graphs.numbering import Numbering, new_numbers, values_of
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import agreement

__all__ = [
    "PLAIN",
    "EdgeShare",
    "Graph",
    "GraphNodes",
    "GraphOptions",
    "build_graph",
    "graph_of_rows",
]

_log = logging.getLogger(__name__)

_CHOICES = {
    "directed": ("either", "symmetrise", "sum", "mutual"),
    "duplicates": ("sum", "once"),
    "loops": ("drop", "keep"),
    "components": ("all", "largest"),
    "weights": ("auto", "ignore"),
    "negative": ("refuse", "keep"),
}


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """What the lines of a graph file mean.

    Attributes
    ----------
    directed : {"either", "symmetrise", "sum", "mutual"}
        How the two directions of an edge become one weight.
    duplicates : {"sum", "once"}
    loops : {"drop", "keep"}
    components : {"all", "largest"}
    weights : {"auto", "ignore"}
        auto: those of the file where it has some.
    negative : {"refuse", "keep"}
        Negative weights make no degrees: only the plain adjacency operator takes them.
    """

    directed: Literal["either", "symmetrise", "sum", "mutual"] = "either"
    duplicates: Literal["sum", "once"] = "sum"
    loops: Literal["drop", "keep"] = "drop"
    components: Literal["all", "largest"] = "all"
    weights: Literal["auto", "ignore"] = "auto"
    negative: Literal["refuse", "keep"] = "refuse"

    def check(self) -> None:
        """Refuse what is no option.

        Raises
        ------
        ConfigError
        """
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(f"{name} = {value!r} is not one of {', '.join(choices)}")


#: Options as they are by default.
PLAIN = GraphOptions()


@dataclass(frozen=True, slots=True)
class EdgeShare:
    """The edges that one rank has read.

    Attributes
    ----------
    source, target : ndarray of int64, shape (m,)
        Ids, or node numbers where `n_nodes` is known.
    weight : ndarray of float64, shape (m,), or None
        None on all ranks: every weight is one.
    n_nodes : int or None
        Nodes 0..n_nodes-1; None where ids are to be numbered.
    name : str
        Where they come from.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float64] | None
    n_nodes: int | None
    name: str


@dataclass(frozen=True, slots=True)
class Graph:
    """This rank's nodes and their edges.

    Attributes
    ----------
    comm : MPI.Comm
    n_nodes, start : int
        Nodes on all ranks, and the first one of this rank; divided as PETSc divides rows.
    rows : csr_array of float64, shape (n_local, n_nodes)
        Rows of the symmetric adjacency matrix; columns sorted, none twice.
    node_ids : ndarray of int64, shape (n_local,)
        What the file calls the nodes; ascending over all ranks.
    components : ndarray of int64, shape (n_local,)
        A node of each node's component: its smallest one.
    n_edges, n_loops, n_isolated, n_components : int
        Undirected edges without self-loops, self-loops kept, nodes without edges, components.
    largest : int
        Nodes of the largest component.
    name : str
    """

    comm: MPI.Intracomm
    n_nodes: int
    start: int
    rows: Any
    node_ids: NDArray[np.int64]
    components: NDArray[np.int64]
    n_edges: int
    n_loops: int
    n_isolated: int
    n_components: int
    largest: int
    name: str

    @property
    def n_local(self) -> int:
        """Nodes of this rank."""
        return int(self.rows.shape[0])

    @property
    def stored_bytes(self) -> int:
        """Memory that this rank's rows take."""
        rows = self.rows
        return int(rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes)

    def degrees(self) -> NDArray[np.float64]:
        """Sum of the weights at each local node, a self-loop once. Not collective."""
        return np.asarray(self.rows.sum(axis=1), dtype=np.float64).reshape(-1)

    def describe(self) -> str:
        """The graph in one line. Not collective."""
        loops = f", {self.n_loops:,} self-loops" if self.n_loops else ""
        return (
            f"{self.name}: {self.n_nodes:,} nodes, {self.n_edges:,} edges{loops}, "
            f"{self.n_components:,} components, the largest of {self.largest:,} nodes, "
            f"{self.n_isolated:,} nodes without edges"
        )


@dataclass(frozen=True, slots=True)
class GraphNodes:
    """Some nodes of a graph that this rank has rows of.

    Attributes
    ----------
    graph : Graph
        All of it: also the nodes of other tables.
    numbers : ndarray of int64, shape (n_rows_local,)
        Which nodes the rows belong to.
    labels : ndarray of int64, shape (graph.n_local,)
        Class codes of the graph's nodes of this rank, -1 where there is none.
    """

    graph: Graph
    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]

    def of(self, keep: NDArray[np.bool_]) -> GraphNodes:
        """The nodes of some of the rows. Not collective."""
        return replace(self, numbers=self.numbers[keep])


def build_graph(
    edges: EdgeShare,
    comm: MPI.Intracomm,
    options: GraphOptions = PLAIN,
    *,
    extra_ids: NDArray[np.int64] | None = None,
) -> Graph:
    """Put the edges of all ranks together.

    Collective.

    Parameters
    ----------
    edges : EdgeShare
        This rank's.
    options : GraphOptions
    extra_ids : ndarray of int64, optional
        Further ids that are nodes even where no edge names them; for numbered ids only.

    Raises
    ------
    InputError
        Where there is no node, or weights add up to what is not finite.
    """
    options.check()
    source, target, n = edges.source, edges.target, edges.n_nodes
    numbering = None
    if n is None:
        extra = np.empty(0, np.int64) if extra_ids is None else extra_ids
        numbering = Numbering(comm, [source, target, extra])
        source, target = numbering.numbers(source), numbering.numbers(target)
        n = numbering.n_nodes
    if n == 0:
        raise InputError(f"{edges.name}: no node: there is nothing to embed")
    first = first_nodes(n, comm)
    start, stop = int(first[comm.rank]), int(first[comm.rank + 1])
    node_ids = np.arange(start, stop) if numbering is None else numbering.local_ids()
    rows = _symmetric_rows(source, target, edges.weight, n, comm, options)
    with agreement(comm):
        if not np.isfinite(rows.data).all():
            raise InputError(
                f"{edges.name}: weights of one edge add up beyond 1e308: divide all weights by one "
                "large number"
            )
    graph = _counted(rows, node_ids, n, comm, edges.name)
    if options.components == "largest" and graph.n_components > 1:
        graph = _largest(graph)
    if comm.rank == 0:
        kept = ", the largest component is kept" if options.components == "largest" else ""
        _log.info("%s%s", graph.describe(), kept)
    return graph


def _counted(
    rows: Any, node_ids: NDArray[np.int64], n: int, comm: MPI.Intracomm, name: str
) -> Graph:
    start = int(first_nodes(n, comm)[comm.rank])
    labels = component_labels(comm, rows)
    n_components, _, largest = component_sizes(comm, labels, n)
    own = np.arange(start, start + rows.shape[0])
    row_of = np.repeat(own, np.diff(rows.indptr))
    loops = int(np.count_nonzero(row_of == rows.indices))
    isolated = int(np.count_nonzero(np.diff(rows.indptr) == 0))
    counts = np.array([rows.nnz, loops, isolated], dtype=np.int64)
    comm.Allreduce(MPI.IN_PLACE, counts)
    return Graph(
        comm, n, start, rows, node_ids, labels,
        int(counts[0] - counts[1]) // 2, int(counts[1]), int(counts[2]),
        n_components, largest, name,
    )  # fmt: skip


def _largest(graph: Graph) -> Graph:
    """The largest component alone, its nodes shared out anew. Collective."""
    comm, n, rows = graph.comm, graph.n_nodes, graph.rows
    _, root, _ = component_sizes(comm, graph.components, n)
    keep = graph.components == root
    numbers, n_kept = new_numbers(comm, keep)
    row_of = np.repeat(numbers, np.diff(rows.indptr))
    column_of = values_of(comm, n, numbers, rows.indices)
    kept = row_of >= 0
    i, j, w = _to_owners(comm, n_kept, row_of[kept], column_of[kept], np.asarray(rows.data[kept]))
    first = first_nodes(n_kept, comm)
    owners = np.searchsorted(first, numbers[keep], side="right") - 1
    (node_ids,) = exchange(comm, owners, [graph.node_ids[keep]])
    assert w is not None  # weights went in
    kept_rows = _csr(*_compressed(_keys(i, j, n_kept, comm), w, np.add), n_kept, comm)
    lone = _counted(kept_rows, node_ids, n_kept, comm, graph.name)
    if comm.rank == 0:
        _log.info(
            "%s: %s of %s nodes lie in the largest of %s components",
            graph.name, f"{n_kept:,}", f"{n:,}", f"{graph.n_components:,}",
        )  # fmt: skip
    return lone


def _to_owners(
    comm: MPI.Comm,
    n: int,
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    weight: NDArray[np.float64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64] | None]:
    """Entries (i, j) at the owners of i. Collective."""
    owners = np.searchsorted(first_nodes(n, comm), i, side="right") - 1
    arrays: list[NDArray[Any]] = [i, j] if weight is None else [i, j, weight]
    held = exchange(comm, owners, arrays)
    return held[0], held[1], held[2] if weight is not None else None


def _keys(i: NDArray[np.int64], j: NDArray[np.int64], n: int, comm: MPI.Comm) -> NDArray[np.int64]:
    """One number for each place, in the order of rows and columns."""
    return (i - first_nodes(n, comm)[comm.rank]) * np.int64(n) + j


def _symmetric_rows(
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    weight: NDArray[np.float64] | None,
    n: int,
    comm: MPI.Comm,
    options: GraphOptions,
) -> Any:
    if options.loops == "drop":
        other = source != target
        source, target = source[other], target[other]
        weight = None if weight is None else weight[other]
    if options.weights == "ignore":
        weight = None
    directions = []
    for i, j in ((source, target), (target, source)):
        i, j, w = _to_owners(comm, n, i, j, weight)
        keys = _keys(i, j, n, comm)
        if w is None and options.duplicates == "once":
            keys = np.unique(keys)
        values = np.ones(keys.size) if w is None else w
        directions.append(
            _compressed(keys, values, np.add if options.duplicates == "sum" else np.maximum)
        )
    keys, values = _joined(directions, n, comm, options.directed)
    weighs = values != 0
    return _csr(keys[weighs], values[weighs], n, comm)


def _joined(
    directions: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]],
    n: int,
    comm: MPI.Comm,
    directed: str,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Both directions as one weight at each place. Not collective."""
    keys, values = (np.concatenate(parts) for parts in zip(*directions, strict=True))
    if directed == "mutual":
        there, back = directions
        common = np.isin(keys, np.intersect1d(there[0], back[0], assume_unique=True))
        return _compressed(keys[common], values[common], np.minimum)
    if directed == "either":
        return _compressed(keys, values, np.maximum)
    diagonal = keys // n + first_nodes(n, comm)[comm.rank] == keys % n
    # A self-loop goes there and back at once, and has come with both.
    values *= np.where(diagonal, 0.5, 1.0 if directed == "sum" else 0.5)
    return _compressed(keys, values, np.add)


def _compressed(
    keys: NDArray[np.int64], values: NDArray[np.float64], rule: Any
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Ascending keys, each once, with the values of equal ones put together by a rule."""
    if keys.size == 0:
        return keys, values
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    with np.errstate(over="ignore"):  # refused once it is a graph
        return keys[begins], rule.reduceat(values, begins)


def _csr(keys: NDArray[np.int64], values: NDArray[np.float64], n: int, comm: MPI.Comm) -> Any:
    first = first_nodes(n, comm)
    n_local = int(first[comm.rank + 1] - first[comm.rank])
    indptr = np.searchsorted(keys, np.arange(n_local + 1, dtype=np.int64) * n)
    small = max(n, keys.size) < 2**31
    index = np.int32 if small else np.int64
    return scipy.sparse.csr_array(
        (values, (keys % n).astype(index), indptr.astype(index)), shape=(n_local, n)
    )


def graph_of_rows(rows: Any, comm: MPI.Intracomm, name: str) -> Graph:
    """The graph of an affinity matrix: the mean of it and its transpose, without its diagonal.

    Collective.

    Parameters
    ----------
    rows : csr_array of shape (n_local, n)
        This rank's consecutive rows, as many as it likes.

    Raises
    ------
    InputError
        When the matrix is not square.
    """
    n_local, n = rows.shape
    start = int(comm.exscan(n_local) or 0)
    total = comm.allreduce(n_local)
    if total != n:
        raise InputError(f"{name}: {total} x {n}: affinities of every node to every node needed")
    entries = rows.tocoo()
    edges = EdgeShare(
        entries.row.astype(np.int64) + start,
        entries.col.astype(np.int64),
        np.asarray(entries.data, dtype=np.float64),
        n,
        name,
    )
    return build_graph(edges, comm, GraphOptions(directed="symmetrise", negative="keep"))
