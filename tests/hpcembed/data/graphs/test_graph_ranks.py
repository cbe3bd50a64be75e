"""Graphs on several ranks: the same graph as on one, errors on all ranks, more ranks than nodes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from mpi4py import MPI

from hpcembed.data.graphs.assembly import build_graph
from hpcembed.data.graphs.components import component_sizes, largest_components
from hpcembed.data.graphs.graph import GraphOptions, LocalEdges
from hpcembed.data.graphs.numbering import nodes_of_ids
from hpcembed.data.graphs.owner_exchange import Lookup, exchange
from hpcembed.data.graphs.power_law import power_law_graph
from hpcembed.data.graphs.reading import read_graph, read_labelled_graph
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import allgather_rows, ownership_range

pytestmark = pytest.mark.mpi


def check_share(graph, whole):
    """Compare this rank's part of a graph with the graph read on one rank."""
    start, stop = ownership_range(whole.n_nodes, graph.comm)
    assert (graph.start, graph.n_local, graph.n_nodes) == (start, stop - start, whole.n_nodes)
    part = whole.rows[start:stop]
    np.testing.assert_array_equal(graph.rows.indptr, part.indptr)
    np.testing.assert_array_equal(graph.rows.indices, part.indices)
    np.testing.assert_array_equal(graph.rows.data, part.data)
    np.testing.assert_array_equal(graph.node_ids, whole.node_ids[start:stop])
    np.testing.assert_array_equal(graph.components, whole.components[start:stop])
    for name in ("n_edges", "n_loops", "n_isolated", "n_components", "largest"):
        assert getattr(graph, name) == getattr(whole, name), name


def write(folder, comm, kind, n, m, seed):
    """Write a weighted graph with loops, duplicates and several components."""
    path = folder / {"edges": "g.txt", "matrix_market": "g.mtx", "npz": "g.npz"}[kind]
    if comm.rank == 0:
        rng = np.random.default_rng(seed)
        i, j = rng.integers(0, n, (2, m))
        w = rng.integers(1, 5, m) / 2
        ids = np.sort(rng.choice(2**40, n, replace=False))
        if kind == "edges":
            lines = [f"{ids[a]} {ids[b]} {c}\n" for a, b, c in zip(i, j, w, strict=True)]
            path.write_text("# made\n" + "# between\n".join(lines))
        else:
            matrix = scipy.sparse.coo_matrix((w, (i, j)), shape=(n, n))
            if kind == "npz":
                scipy.sparse.save_npz(path, matrix.tocsr())
            else:
                scipy.io.mmwrite(path, matrix)
    comm.Barrier()
    return path


@pytest.mark.parametrize("kind", ["edges", "matrix_market", "npz"])
@pytest.mark.parametrize(("n", "m"), [(2, 1), (40, 30), (300, 900)])
def test_same_graph_on_any_number_of_ranks(comm, shared_tmp, kind, n, m):
    path = write(shared_tmp, comm, kind, n, m, seed=n)
    for options in (
        GraphOptions(),
        GraphOptions(directed="sum", loops="keep", components="largest"),
        GraphOptions(directed="mutual", duplicates="once", loops="keep"),
    ):
        whole = read_graph(path, MPI.COMM_SELF, options)
        check_share(read_graph(path, comm, options), whole)


def test_errors_reach_all_ranks(comm, shared_tmp):
    path = shared_tmp / "bad.txt"
    if comm.rank == 0:
        path.write_text("0 1\n" * 500 + "1 two\n" + "2 3\n" * 20)
    comm.Barrier()
    with pytest.raises(InputError, match=r"line 501: node id 'two'"):
        read_graph(path, comm)
    with pytest.raises(InputError, match="no such file"):
        read_graph(shared_tmp / "none.npz", comm)


def test_components_of_long_paths_and_of_random_graphs(comm):
    rng = np.random.default_rng(0)
    for n, m in [(1000, 999), (500, 200), (3, 0)]:
        order = rng.permutation(n)
        if m == n - 1:  # a path through all nodes in random order
            i, j = order[:-1], order[1:]
        else:
            i, j = rng.integers(0, n, (2, m))
        first, last = ownership_range(m, comm)
        share = LocalEdges(i[first:last], j[first:last], None, n, "random")
        graph = build_graph(share, comm)
        count, labels = scipy.sparse.csgraph.connected_components(
            scipy.sparse.coo_array((np.ones(m), (i, j)), shape=(n, n)), directed=False
        )
        smallest = np.array([np.flatnonzero(labels == c)[0] for c in range(count)])
        np.testing.assert_array_equal(
            graph.components, smallest[labels][graph.start : graph.start + graph.n_local]
        )
        assert (graph.n_components, graph.largest) == (count, np.bincount(labels).max())


def test_largest_components_and_their_order(comm):
    labels = np.array([0, 0, 2, 3, 3, 5, 5, 5, 8, 9])
    start, stop = ownership_range(10, comm)
    sizes = allgather_rows(comm, component_sizes(comm, labels[start:stop], 10))
    np.testing.assert_array_equal(sizes, [2, 0, 1, 2, 0, 3, 0, 0, 1, 1])
    for most in (1, 4, 20):
        found = largest_components(comm, labels[start:stop], 10, most)
        np.testing.assert_array_equal(found, [5, 0, 3, 2, 8, 9][:most])


def test_power_law_graph_does_not_depend_on_the_ranks(comm):
    whole = power_law_graph(3000, 9000, MPI.COMM_SELF, seed=7)
    check_share(power_law_graph(3000, 9000, comm, seed=7), whole)
    check_share(power_law_graph(2, 3, comm), power_law_graph(2, 3, MPI.COMM_SELF))


def test_labels_and_attributes_go_to_their_nodes(comm, shared_tmp):
    n, d = 23, 4
    rng = np.random.default_rng(1)
    path, labels = shared_tmp / "labelled.npz", shared_tmp / "labels.txt"
    i, j = np.arange(15), np.arange(1, 16)  # a path; nodes 16 to 22 have no edge
    words = scipy.sparse.random_array((n, d), density=0.5, rng=rng, format="csr")
    classes = rng.integers(0, 3, n)
    if comm.rank == 0:
        rows = scipy.sparse.csr_array((np.ones(15), (i, j)), shape=(n, n))
        np.savez(
            path, labels=classes, adj_data=rows.data, adj_indices=rows.indices,
            adj_indptr=rows.indptr, adj_shape=rows.shape, attr_data=words.data,
            attr_indices=words.indices, attr_indptr=words.indptr, attr_shape=words.shape,
        )  # fmt: skip
        labels.write_text("".join(f"{node} c{classes[node]}\n" for node in rng.permutation(n)))
    comm.Barrier()
    for components, kept in (("all", n), ("largest", 16)):
        options = GraphOptions(components=components)
        found = read_labelled_graph(path, comm, options)
        mine = slice(found.graph.start, found.graph.start + found.graph.n_local)
        assert found.graph.n_nodes == kept
        np.testing.assert_array_equal(found.labels, classes[:kept][mine])
        np.testing.assert_array_equal(found.attributes.toarray(), words.toarray()[:kept][mine])
        assert found.class_names == ("0", "1", "2")
        by_file = read_labelled_graph(path, comm, options, labels=labels)
        np.testing.assert_array_equal(by_file.labels, found.labels)
        assert by_file.class_names == ("c0", "c1", "c2")


def test_the_largest_id_is_a_node_like_others(comm):
    ids = np.array([1, 5, 2**63 - 1])
    for n in (3, 2, 0):  # and ranks without nodes
        start, stop = ownership_range(n, comm)
        found = nodes_of_ids(comm, ids[3 - n :][start:stop], ids[::-1])
        np.testing.assert_array_equal(found, [*range(n - 1, -1, -1), *[-1] * (3 - n)])


def test_exchange_and_lookup_in_small_pieces(comm, monkeypatch):
    monkeypatch.setattr("hpcembed.data.graphs.owner_exchange.MAX_MESSAGE_BYTES", 64)
    rng = np.random.default_rng(comm.rank)
    owners = rng.integers(0, comm.size, 50 + 10 * comm.rank)
    numbers = rng.integers(0, 1000, owners.size)
    got, doubled = exchange(comm, owners, [numbers, 2.0 * numbers])
    np.testing.assert_array_equal(doubled, 2.0 * got)
    sent = comm.allgather((owners, numbers))
    np.testing.assert_array_equal(
        got, np.concatenate([values[to == comm.rank] for to, values in sent])
    )
    n = 37
    start, stop = ownership_range(n, comm)
    wanted = rng.integers(0, n, 90)
    lookup = Lookup(comm, n, wanted)
    np.testing.assert_array_equal(lookup.values(np.arange(start, stop) ** 2), wanted**2)
    ids = np.arange(start, stop, dtype=np.int64) * 3
    asked = rng.integers(0, 3 * n + 9, 40)
    expected = np.where((asked % 3 == 0) & (asked < 3 * n), asked // 3, -1)
    np.testing.assert_array_equal(nodes_of_ids(comm, ids, asked), expected)


def test_real_graph_on_ranks(comm, data_dir):
    path = data_dir / "graphs" / "wiki-Vote.txt"
    graph = read_graph(path, comm, GraphOptions(components="largest"))
    assert (graph.n_nodes, graph.n_edges, graph.n_components) == (7066, 100_736, 1)
    ids = allgather_rows(comm, graph.node_ids)
    assert (np.diff(ids) > 0).all()


@pytest.mark.parametrize("components", ["all", "largest"])
@pytest.mark.parametrize("n_edges", [1, 400])
def test_words_are_numbered_alike_on_any_number_of_ranks(shared_tmp, comm, components, n_edges):
    path, labels = shared_tmp / "g.txt", shared_tmp / "l.txt"
    if comm.rank == 0:
        rng = np.random.default_rng(4)
        words = [f"{'abcé'[i % 4] * (1 + i % 7)}-{i}" for i in range(150)]
        pairs = rng.integers(0, 120, (n_edges, 2))
        lines = [f"{words[i]} {words[j]} 0.5\n" for i, j in pairs]
        path.write_text("".join(lines), encoding="utf-8")
        named = [words[i] for i in {*pairs.ravel().tolist(), 140, 149}]
        text = "".join(f"{word} {'xyz'[len(word) % 3]}\n" for word in named)
        labels.write_text("node label\n" + text + "only-here y\nhere-too x\n", encoding="utf-8")
    comm.Barrier()
    options = GraphOptions(components=components)
    whole = read_labelled_graph(path, MPI.COMM_SELF, options, labels=labels)
    found = read_labelled_graph(path, comm, options, labels=labels)
    check_share(found.graph, whole.graph)
    start, stop = ownership_range(whole.graph.n_nodes, comm)
    assert found.graph.node_names == whole.graph.node_names[start:stop]
    names = whole.graph.node_names
    assert sorted(names, key=lambda name: name.encode()) == list(names)
    assert ("only-here" in names) == (components == "all")
    np.testing.assert_array_equal(found.labels, whole.labels[start:stop])


def test_a_bad_word_is_named_on_all_ranks(shared_tmp, comm):
    path = shared_tmp / "g.txt"
    if comm.rank == 0:
        path.write_bytes(b"ann bob\n" * 50 + b"ann \xff\xfe\n" + b"ann bob\n" * 50)
    comm.Barrier()
    with pytest.raises(InputError, match=r"line 51: node id .* is not UTF-8 text"):
        read_graph(path, comm)


def test_counts_and_times_are_noticed_on_all_ranks(shared_tmp, comm):
    path = shared_tmp / "g.txt"
    if comm.rank == 0:
        path.write_text("40 30\n" + "".join(f"{i} {i + 1}\n" for i in range(30)))
    comm.Barrier()
    with pytest.raises(InputError, match=r"line 1: '40 30' may be counts .* 30 lines follow"):
        read_graph(path, comm)
    comm.Barrier()
    if comm.rank == 0:
        path.write_text("".join(f"{i} {i + 1} {10**9 + i}\n" for i in range(30)))
    comm.Barrier()
    with pytest.raises(InputError, match="from 1000000000 to 1000000029, which may be times"):
        read_graph(path, comm)
