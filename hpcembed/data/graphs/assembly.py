"""Assembly of the symmetric adjacency matrix from the edges of all ranks.

Each edge is sent to the ranks that own its two ends. There, in this order and as
:class:`~hpcembed.data.graphs.graph.GraphOptions` states,

1. self-loops are dropped, or kept once on the diagonal;
2. repeated edges of the same direction are merged (``duplicates``);
3. the two directions are merged (``directed``);
4. edges of weight zero are removed;
5. all components are kept, or the largest one. Isolated nodes are kept as empty rows.

Nodes are numbered in the order of their ids, so the result does not depend on the number of ranks.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.graphs.components import (
    component_labels,
    component_sizes,
    largest_components,
)
from hpcembed.data.graphs.graph import DEFAULT_OPTIONS, Graph, GraphOptions, LocalEdges
from hpcembed.data.graphs.numbering import Numbering
from hpcembed.data.graphs.owner_exchange import Lookup, exchange, node_owners
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range, place_rows

__all__ = ["build_graph", "graph_of_affinities"]

_log = logging.getLogger(__name__)

#: Entries of this rank's rows: row * n + column, ascending, and their values.
_Entries = tuple[NDArray[np.int64], NDArray[np.float64]]


def build_graph(
    edges: LocalEdges,
    comm: MPI.Intracomm,
    options: GraphOptions = DEFAULT_OPTIONS,
    *,
    extra_ids: NDArray[np.int64] | None = None,
) -> Graph:
    """Assemble a graph from the edges of all ranks.

    Collective.

    Parameters
    ----------
    edges : LocalEdges
        This rank's edges.
    comm : MPI.Intracomm
    options : GraphOptions
    extra_ids : ndarray of int64, optional
        Further ids that are nodes even without edges; only if ids are to be numbered.

    Raises
    ------
    InputError
        A graph without nodes, or weights whose sum is not finite.

    Examples
    --------
    A path through the nodes 10, 20 and 30:

    >>> edges = LocalEdges(np.array([10, 20]), np.array([20, 30]), None, None, "path")
    >>> graph = build_graph(edges, MPI.COMM_SELF)
    >>> graph.node_ids.tolist(), graph.degrees().tolist(), graph.n_components
    ([10, 20, 30], [1.0, 2.0, 1.0], 1)
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
        raise InputError(f"{edges.name}: the graph has no nodes")
    node_ids = np.arange(*ownership_range(n, comm)) if numbering is None else numbering.local_ids()
    rows = _symmetric_rows(source, target, edges.weight, n, comm, options)
    with agreement(comm):
        if not np.isfinite(rows.data).all():
            raise InputError(
                f"{edges.name}: the sum of the weights of one edge exceeds 1e308: divide all "
                "weights by one large number"
            )
    graph = _with_counts(rows, node_ids, comm, edges.name)
    if options.components == "largest" and graph.n_components > 1:
        graph = _largest_component(graph)
    if comm.rank == 0:
        kept = ", the largest component is kept" if options.components == "largest" else ""
        _log.info("%s%s", graph.describe(), kept)
    return graph


def graph_of_affinities(rows: Any, comm: MPI.Intracomm, name: str) -> Graph:
    """Return the graph of an affinity matrix: the mean with its transpose, without the diagonal.

    Collective.

    Parameters
    ----------
    rows : csr_array of shape (n_local, n)
        This rank's consecutive rows, any number of them.
    comm : MPI.Intracomm
    name : str
        For messages.

    Raises
    ------
    InputError
        A matrix that is not square.
    """
    n_local, n = rows.shape
    start, total = place_rows(n_local, comm)
    if total != n:
        raise InputError(f"{name}: {total} x {n}: affinities of every node to every node needed")
    entries = rows.tocoo()
    edges = LocalEdges(
        entries.row.astype(np.int64) + start,
        entries.col.astype(np.int64),
        np.asarray(entries.data, dtype=np.float64),
        n,
        name,
    )
    return build_graph(edges, comm, GraphOptions(directed="symmetrise", negative_weights="keep"))


def _with_counts(rows: Any, node_ids: NDArray[np.int64], comm: MPI.Intracomm, name: str) -> Graph:
    """Add components and counts to the rows of a graph. Collective."""
    n_local, n = rows.shape
    start, _ = ownership_range(n, comm)
    labels = component_labels(comm, rows)
    sizes = component_sizes(comm, labels, n)
    row_of = np.repeat(np.arange(start, start + n_local), np.diff(rows.indptr))
    n_loops = np.count_nonzero(row_of == rows.indices)
    n_isolated = np.count_nonzero(np.diff(rows.indptr) == 0)
    counts = np.array([rows.nnz, n_loops, n_isolated, np.count_nonzero(sizes)], dtype=np.int64)
    comm.Allreduce(MPI.IN_PLACE, counts)
    n_entries, n_loops, n_isolated, n_components = counts.tolist()
    largest = comm.allreduce(int(sizes.max(initial=0)), op=MPI.MAX)
    return Graph(
        comm, n, start, rows, node_ids, labels,
        (n_entries - n_loops) // 2, n_loops, n_isolated, n_components, largest, name,
    )  # fmt: skip


def _largest_component(graph: Graph) -> Graph:
    """Return the largest component, its nodes redistributed over the ranks. Collective."""
    comm, n, rows = graph.comm, graph.n_nodes, graph.rows
    (root,) = largest_components(comm, graph.components, n, 1)
    keep = graph.components == root
    before, n_kept = place_rows(int(np.count_nonzero(keep)), comm)
    numbers = np.where(keep, before + np.cumsum(keep) - 1, -1)
    row_of = np.repeat(numbers, np.diff(rows.indptr))
    column_of = Lookup(comm, n, rows.indices).values(numbers)
    kept = row_of >= 0
    entries = _entries(comm, n_kept, row_of[kept], column_of[kept], rows.data[kept], np.add)
    owners = node_owners(numbers[keep], n_kept, comm)
    (node_ids,) = exchange(comm, owners, [graph.node_ids[keep]])
    largest = _with_counts(_csr(entries, n_kept, comm), node_ids, comm, graph.name)
    if comm.rank == 0:
        _log.info(
            "%s: %s of %s nodes lie in the largest of %s components",
            graph.name, f"{n_kept:,}", f"{n:,}", f"{graph.n_components:,}",
        )  # fmt: skip
    return largest


def _symmetric_rows(
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    weight: NDArray[np.float64] | None,
    n: int,
    comm: MPI.Comm,
    options: GraphOptions,
) -> Any:
    """Return this rank's rows of the adjacency matrix as a CSR array. Collective."""
    if options.weights == "ignore":
        weight = None
    if options.loops == "drop":
        other = source != target
        source, target = source[other], target[other]
        weight = None if weight is None else weight[other]
    merge = np.add if options.duplicates == "sum" else np.maximum
    forward = _entries(comm, n, source, target, weight, merge)
    backward = _entries(comm, n, target, source, weight, merge)
    keys, values = _merged_directions(forward, backward, n, comm, options.directed)
    has_weight = values != 0
    return _csr((keys[has_weight], values[has_weight]), n, comm)


def _entries(
    comm: MPI.Comm,
    n: int,
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    weight: NDArray[np.float64] | None,
    merge: np.ufunc,
) -> _Entries:
    """Send entries (i, j) to the owners of row i; merge repeated ones there. Collective."""
    arrays: list[NDArray[Any]] = [i, j] if weight is None else [i, j, weight]
    i, j, *weights = exchange(comm, node_owners(i, n, comm), arrays)
    keys = (i - ownership_range(n, comm)[0]) * np.int64(n) + j
    if not weights and merge is np.maximum:
        keys = np.unique(keys)
    return _merged(keys, weights[0] if weights else np.ones(keys.size), merge)


def _merged_directions(
    forward: _Entries, backward: _Entries, n: int, comm: MPI.Comm, directed: str
) -> _Entries:
    """Merge the entries of both directions of the edges. Not collective."""
    keys, values = (np.concatenate(parts) for parts in zip(forward, backward, strict=True))
    if directed == "mutual":
        common = np.isin(keys, np.intersect1d(forward[0], backward[0], assume_unique=True))
        return _merged(keys[common], values[common], np.minimum)
    if directed == "either":
        return _merged(keys, values, np.maximum)
    is_diagonal = keys // n + ownership_range(n, comm)[0] == keys % n
    # A self-loop is its own reverse and arrives in both directions.
    values *= np.where(is_diagonal, 0.5, 1.0 if directed == "sum" else 0.5)
    return _merged(keys, values, np.add)


def _merged(keys: NDArray[np.int64], values: NDArray[np.float64], merge: Any) -> _Entries:
    """Sort keys and merge the values of equal ones. Not collective."""
    if keys.size == 0:
        return keys, values
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    with np.errstate(over="ignore"):  # build_graph refuses sums that are not finite
        return keys[begins], merge.reduceat(values, begins)


def _csr(entries: _Entries, n: int, comm: MPI.Comm) -> Any:
    keys, values = entries
    start, stop = ownership_range(n, comm)
    indptr = np.searchsorted(keys, np.arange(stop - start + 1, dtype=np.int64) * n)
    index = np.int32 if max(n, keys.size) < 2**31 else np.int64
    return scipy.sparse.csr_array(
        (values, (keys % n).astype(index), indptr.astype(index)), shape=(stop - start, n)
    )
