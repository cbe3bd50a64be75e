"""Graph files: the meaning of their lines, and the messages for invalid ones."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from mpi4py import MPI

from hpcembed.data.graphs.graph import GraphOptions
from hpcembed.data.graphs.power_law import power_law_graph
from hpcembed.data.graphs.reading import read_graph, read_labelled_graph
from hpcembed.runtime.errors import ConfigError, InputError

ALONE = MPI.COMM_SELF


def read(folder, text, name="g.txt", **options):
    (folder / name).write_bytes(text.encode())
    return read_graph(folder / name, ALONE, GraphOptions(**options))


def test_ids_with_gaps_beyond_32_bits_are_numbered_in_their_order(tmp_path):
    graph = read(tmp_path, f"7 3\n{2**40} 3\n{2**63 - 1} 7\n")
    assert graph.node_ids.tolist() == [3, 7, 2**40, 2**63 - 1]
    dense = graph.rows.toarray()
    np.testing.assert_array_equal(dense, [[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]])
    assert (graph.n_nodes, graph.n_edges, graph.n_components) == (4, 3, 1)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("# a comment\n% another\n0 1\n\n1\t2\n", (1, 1)),
        ("from to\n0 1\n# inside\n1 2\n", (1, 1)),
        ("0, 1, 2.5\n1 ,2,0.5\n", (2.5, 0.5)),
        ("a,b,w\r\n0,1,2.5\r\n1,2,0.5\r\n", (2.5, 0.5)),
        ("0 1 3 1084\n  1   2 4  1085\n", (3, 4)),
        ("0 1 3\n1 2 4", (3, 4)),
        (" 0\t, 1 ,2.5 \t\r\n\n  1,2\t,0.5", (2.5, 0.5)),
    ],
)
def test_separators_comments_headers_and_weights(tmp_path, text, weights):
    graph = read(tmp_path, text)
    assert graph.rows.toarray()[[0, 1], [1, 2]].tolist() == list(weights)
    assert graph.n_edges == 2
    plain = read(tmp_path, text, weights="ignore")
    np.testing.assert_array_equal(plain.rows.data, 1)
    (tmp_path / "g.txt.gz").write_bytes(gzip.compress(text.encode()))
    packed = read_graph(tmp_path / "g.txt.gz", ALONE)
    np.testing.assert_array_equal(packed.rows.toarray(), graph.rows.toarray())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n1 x\n", r"g.txt: line 2: node id 'x' is not a whole number"),
        ("0 1\n# c\n\n1 2.5\n", r"g.txt: line 4: node id '2.5'"),
        ("0 1\n-1 2\n", r"g.txt: line 2: node id '-1'"),
        ("-1 -2\n", r"g.txt: line 1: node id '-1'"),
        ("0 9223372036854775808\n", r"g.txt: line 1: node id '92"),
        ("+1 2\n", r"g.txt: line 1: node id '\+1' is not a whole number"),
        ("1 2,5\n2 3,5\n", r"line 1: node id '1 2' .*: .* decimals with points"),
        ("1,2\n2,3 4\n", r"line 2: node id '3 4'"),
        ("1,2\n2 3\n", r"line 2: 1 columns where the first line of data has 2 between commas"),
        ("1 2\n2,3\n", r"line 2: 1 columns where the first line of data has 2 between blanks"),
        ("0 1\n2\n", r"line 2: 1 columns where the first line of data has 2"),
        ("0 1 2\n2 3\n", r"line 2: 2 columns where the first line of data has 3"),
        ("0 1 0.5\n1 2 nan\n", r"line 2: weight 'nan': not a finite number"),
        ("0 1 0.5\n1 2 heavy\n", r"line 2: weight 'heavy': not a number"),
        ("0 1 0.5\n1 2 -3\n", r"line 2: weight '-3': negative"),
        ("0 1\r1 2\r", r"near line 1: lines that end in a carriage return alone"),
        ("5\n", r"line 1: one column where two node ids are needed"),
        ("# nothing\n", r"no line with two node ids"),
        ("a b\n1 d\n", r"line 2: node id 'd'"),
        ("34 78\n1 2 0.5\n", r"line 1: '34 78' may be counts of nodes .* has more columns: set "),
        ("3 4\n1 2\n2 3\n3 1\n1 1\n", r"line 1: '3 4' may be counts .*, for 4 lines follow: set"),
        ("% c\n3 3 2\n1 2 1\n2 3 1\n", r"line 2: '3 3 2' may be counts .* graph.header = none"),
        ("0 1 1082040961\n1 2 1082155839\n", r"from 1082040961 to 1082155839, which may be times"),
        ("0 1 20240131\n1 2 20240201\n", r"may be times: set graph.weights = ignore, or"),
        ("ann,bob\n,carl\n", r"line 2: node id '' is empty"),
        ("ann,bob\n" + "x" * 256 + ",bob\n", r"line 2: node id 'x{40}' is longer than 255 bytes"),
    ],
)
def test_bad_lines_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_negative_weights_are_kept_on_request(tmp_path):
    graph = read(tmp_path, "0 1 -2\n", negative_weights="keep")
    assert graph.rows.toarray().tolist() == [[0, -2], [-2, 0]]


DOUBLE = "0 1 2\n0 1 3\n1 0 4\n1 2 1\n2 2 6\n3 0 0\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {(0, 1): 5, (1, 2): 1}),
        ({"duplicates": "once"}, {(0, 1): 4, (1, 2): 1}),
        ({"directed": "sum"}, {(0, 1): 9, (1, 2): 1}),
        ({"directed": "symmetrise", "loops": "keep"}, {(0, 1): 4.5, (1, 2): 0.5, (2, 2): 6}),
        ({"directed": "sum", "loops": "keep"}, {(0, 1): 9, (1, 2): 1, (2, 2): 6}),
        ({"directed": "mutual", "loops": "keep"}, {(0, 1): 4, (2, 2): 6}),
        ({"directed": "mutual", "duplicates": "once"}, {(0, 1): 3}),
    ],
)
def test_duplicates_directions_and_loops(tmp_path, options, expected):
    graph = read(tmp_path, DOUBLE, **options)
    dense = np.zeros((4, 4))
    for (i, j), weight in expected.items():
        dense[i, j] = dense[j, i] = weight
    np.testing.assert_array_equal(graph.rows.toarray(), dense)
    assert graph.rows.nnz == np.count_nonzero(dense)  # a weight of zero is no edge
    assert graph.n_loops == np.count_nonzero(dense.diagonal())
    assert graph.n_isolated == np.sum(~dense.any(axis=1))


def test_infinite_sums_of_weights_are_refused(tmp_path):
    text = "0 1 1e308\n0 1 1e308\n"
    with pytest.raises(
        InputError, match=r"g.txt: the sum of the weights of one edge exceeds 1e308"
    ):
        read(tmp_path, text)
    assert read(tmp_path, text, duplicates="once").rows.data.tolist() == [1e308, 1e308]


def test_the_largest_component_is_kept_and_logged(tmp_path, caplog):
    text = "9 8\n1 2\n2 3\n5 5\n"
    with caplog.at_level(logging.INFO, logger="hpcembed"):
        graph = read(tmp_path, text, components="largest")
    assert graph.node_ids.tolist() == [1, 2, 3]
    assert graph.rows.toarray().tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    assert "3 of 6 nodes lie in the largest of 3 components" in caplog.text
    every = read(tmp_path, text)
    assert (every.n_components, every.largest, every.n_isolated) == (3, 3, 1)
    assert every.components.tolist() == [0, 0, 0, 3, 4, 4]
    assert "6 nodes, 3 edges, 3 components, the largest of 3 nodes" in every.describe()


def matrix():
    dense = np.zeros((5, 5))
    dense[0, 1], dense[3, 1], dense[1, 3], dense[4, 4] = 2, 3, 1, 7
    return dense


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "adj", "coordinate", "array", "pattern"])
def test_matrices(tmp_path, kind):
    dense = matrix()
    if kind in ("csr", "csc", "coo"):
        path = tmp_path / "g.npz"
        scipy.sparse.save_npz(path, scipy.sparse.csr_matrix(dense).asformat(kind))
    elif kind == "adj":
        path, rows = tmp_path / "g.npz", scipy.sparse.csr_array(dense)
        np.savez(path, adj_data=rows.data, adj_indices=rows.indices, adj_indptr=rows.indptr,
                 adj_shape=rows.shape)  # fmt: skip
    else:
        path = tmp_path / "g.mtx"
        content = dense if kind == "array" else scipy.sparse.coo_matrix(dense)
        scipy.io.mmwrite(path, content, field="pattern" if kind == "pattern" else None)
    graph = read_graph(path, ALONE)
    expected = np.maximum(dense, dense.T) - np.diag(dense.diagonal())
    np.testing.assert_array_equal(graph.rows.toarray(), expected > 0 if kind == "pattern" else
                                  expected)  # fmt: skip
    assert graph.n_nodes == 5
    assert graph.n_isolated == 2


def test_a_symmetric_file_stands_for_both_triangles(tmp_path):
    path = tmp_path / "g.mtx"
    path.write_text("%%MatrixMarket matrix coordinate real symmetric\n3 3 2\n2 1 4\n3 3 1\n")
    graph = read_graph(path, ALONE, GraphOptions(directed="mutual", loops="keep"))
    assert graph.rows.toarray().tolist() == [[0, 4, 0], [4, 0, 0], [0, 0, 1]]


def test_bad_matrices(tmp_path):
    path = tmp_path / "g.mtx"
    path.write_text("%%MatrixMarket matrix coordinate real general\n2 3 1\n1 1 1\n")
    with pytest.raises(InputError, match="2 x 3: a graph has as many rows"):
        read_graph(path, ALONE)
    path.write_text("%%MatrixMarket matrix coordinate real general\n2 2 2\n1 2 1\n1 3 1\n")
    with pytest.raises(InputError, match="line 4: '1 3 1': index 3 is not one of 1 to 2"):
        read_graph(path, ALONE)
    path.write_text("%%MatrixMarket matrix coordinate real general\n2 2 2\n1 2 1.00000\n")
    with pytest.raises(InputError, match="1 entries where its header declares 2"):
        read_graph(path, ALONE)
    path.write_text("%%MatrixMarket matrix coordinate real general\n2 2 1\n1 2 -1\n")
    with pytest.raises(InputError, match="negative weight"):
        read_graph(path, ALONE)
    archive = tmp_path / "g.npz"
    np.savez(archive, data=[1.0], indices=[5], indptr=[0, 1, 1], shape=[2, 2])
    with pytest.raises(InputError, match="column number beyond the shape"):
        read_graph(archive, ALONE)
    np.savez(archive, data=[1.0], indices=[1], indptr=[0, 2, 1], shape=[2, 2])
    with pytest.raises(InputError, match="does not ascend"):
        read_graph(archive, ALONE)
    np.savez(archive, x=[1.0])
    with pytest.raises(InputError, match="no array 'data'; it has x: save the matrix with scipy"):
        read_graph(archive, ALONE)


CSR = {"data": [1.0], "indices": [1], "indptr": [0, 1, 1], "shape": [2, 2]}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"shape": 2}, r"g.npz:adj_shape: shape \(\): two numbers"),
        ({"shape": [0, 0]}, "adj_shape: 0 x 0: the matrix is empty"),
        ({"shape": [2.5, 2]}, "adj_shape: 2.5 at index 0 is not a whole number"),
        (
            {"indices": [0.5]},
            "adj_indices: 0.5 at index 0 is not a whole number: save it as integers",
        ),
        ({"indices": [np.inf]}, "a column number beyond the shape"),
        ({"indices": [np.nan]}, "adj_indices: nan at index 0"),
        ({"indices": ["1"]}, "adj_indices: of type <U1"),
        ({"indptr": [0, 0.5, 1]}, "adj_indptr: 0.5 at index 1"),
        ({"indptr": 3}, "do not fit"),
        ({"data": 1.0}, r"adj_data: shape \(\): a list of values"),
        ({"data": [-1.0]}, "set graph.negative_weights = keep"),
    ],
)
def test_bad_archives(tmp_path, arrays, message):
    archive = tmp_path / "g.npz"
    np.savez(archive, **{f"adj_{name}": value for name, value in (CSR | arrays).items()})
    with pytest.raises(InputError, match=message):
        read_graph(archive, ALONE)


def test_archives_of_labels_and_attributes(tmp_path):
    archive = tmp_path / "g.npz"
    adjacency = {f"adj_{name}": np.asarray(value, float) for name, value in CSR.items()}
    attributes = {f"attr_{name}": value for name, value in CSR.items()}
    np.savez(archive, labels=[1, 0], class_names=["a", "b"], **adjacency, **attributes)
    found = read_labelled_graph(archive, ALONE)
    assert found.graph.rows.toarray().tolist() == [[0, 1], [1, 0]]
    assert found.class_names == ("a", "b")
    adjacency.pop("adj_indices")
    np.savez(archive, **adjacency)
    with pytest.raises(InputError, match=r"no array 'adj_indices'; it has adj_data, .* CSR matrix"):
        read_graph(archive, ALONE)
    adjacency["adj_indices"] = np.array([1])
    np.savez(archive, labels=[1, 0], class_names="a", **adjacency)
    with pytest.raises(InputError, match=r"g.npz:class_names: shape \(\): a list of names"):
        read_labelled_graph(archive, ALONE)
    np.savez(archive, **adjacency, **(attributes | {"attr_data": [np.nan]}))
    with pytest.raises(InputError, match=r"attr_data: a value .* remove such attributes"):
        read_labelled_graph(archive, ALONE)


def test_unknown_options_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="loops = 'twice' is not one of drop, keep"):
        read(tmp_path, "0 1\n", loops="twice")
    with pytest.raises(ConfigError, match="format = 'gml'"):
        read_graph(tmp_path / "g.txt", ALONE, format="gml")
    with pytest.raises(InputError, match="no such file"):
        read_graph(tmp_path / "missing.txt", ALONE)


def test_labels_of_nodes(tmp_path):
    (tmp_path / "g.txt").write_text("10 20\n20 30\n")
    labels = tmp_path / "labels.txt"
    labels.write_text("node label\n30 red\n99 blue\n10 blue\n")
    found = read_labelled_graph(tmp_path / "g.txt", ALONE, labels=labels)
    assert found.graph.node_ids.tolist() == [10, 20, 30, 99]
    assert found.class_names == ("blue", "red")
    assert found.labels.tolist() == [0, -1, 1, 0]
    assert found.attributes is None
    largest = GraphOptions(components="largest")
    found = read_labelled_graph(tmp_path / "g.txt", ALONE, largest, labels=labels)
    assert found.labels.tolist() == [0, -1, 1]
    labels.write_text("10 red\n30 blue\n99 green\n")
    found = read_labelled_graph(tmp_path / "g.txt", ALONE, largest, labels=labels)
    assert found.class_names == ("blue", "red")
    assert found.labels.tolist() == [1, -1, 0]
    labels.write_text("10 red\n99 green\n")
    with pytest.raises(
        InputError, match=r"class only \(red\).*not in the graph: 1; .*components = all"
    ):
        read_labelled_graph(tmp_path / "g.txt", ALONE, largest, labels=labels)
    labels.write_text("98 red\n99 green\n")
    with pytest.raises(
        InputError, match=r"no label belongs to a node of the graph: labels of .*: 2"
    ):
        read_labelled_graph(tmp_path / "g.txt", ALONE, largest, labels=labels)
    labels.write_text("10 red\n10 blue\n")
    with pytest.raises(InputError, match="node 10 has two labels"):
        read_labelled_graph(tmp_path / "g.txt", ALONE, labels=labels)
    labels.write_text("10 red\nx blue\n")
    with pytest.raises(InputError, match="line 2: node id 'x'"):
        read_labelled_graph(tmp_path / "g.txt", ALONE, labels=labels)


def test_bad_lines_of_labels_are_named(tmp_path, caplog):
    (tmp_path / "g.txt").write_text("10 20\n20 30\n")
    labels = tmp_path / "labels.txt"
    for text, message in [
        ("# c\n10 a\n\n20 nan\n", "labels.txt: line 4: the label is not a finite number"),
        ("10,a\n20,\n", "labels.txt: line 2: the label is empty"),
        ("10 a\n+20 b\n", r"labels.txt: line 2: node id '\+20'"),
    ]:
        labels.write_text(text)
        with pytest.raises(InputError, match=message):
            read_labelled_graph(tmp_path / "g.txt", ALONE, labels=labels)
    with caplog.at_level(logging.INFO, "hpcembed.data.graphs.node_labels"):
        labels.write_text("10,new york\n20,los angeles\n")
        found = read_labelled_graph(tmp_path / "g.txt", ALONE, labels=labels)
        assert found.class_names == ("los angeles", "new york")
        assert "labels.txt" not in caplog.text  # nothing is logged for this file
        labels.write_text("x a\n10 b\n20 new york\n30 new delhi\n")
        found = read_labelled_graph(tmp_path / "g.txt", ALONE, labels=labels)
    assert found.class_names == ("b", "new")
    assert "line 3: 'new' is the label, further columns are ignored" in caplog.text
    assert caplog.text.count("are ignored") == 1
    assert "the first line, 'x a', is read as a header" in caplog.text


def test_power_law_degrees():
    graph = power_law_graph(20_000, 100_000, ALONE, exponent=2.5, seed=3)
    degrees = np.sort(graph.degrees())[::-1]
    assert 98_000 < graph.n_edges < 100_000
    # the expected degree of rank r falls as r^(-1 / 1.5): a factor 10 in rank is 4.64 in degree
    assert degrees[200:220].mean() / degrees[2000:2200].mean() == pytest.approx(4.64, rel=0.15)
    assert degrees[0] < 1.5 * np.sqrt(200_000)
    assert (graph.rows != graph.rows.T).nnz == 0
    other = power_law_graph(20_000, 100_000, ALONE, exponent=2.5, seed=4)
    assert (graph.rows != other.rows).nnz > 100_000
    for arguments in [(1, 5), (5, 0)]:
        with pytest.raises(ConfigError, match="at least 2 nodes"):
            power_law_graph(*arguments, ALONE)
    with pytest.raises(ConfigError, match="exponent"):
        power_law_graph(5, 5, ALONE, exponent=2.0)


def test_real_graphs(data_dir):
    folder = data_dir / "graphs"
    wiki = read_graph(folder / "wiki-Vote.txt", ALONE)
    assert (wiki.n_nodes, wiki.n_edges, wiki.largest) == (7115, 100_762, 7066)
    facebook = read_graph(folder / "facebook_combined.txt", ALONE)
    assert (facebook.n_nodes, facebook.n_edges, facebook.n_components) == (4039, 88_234, 1)
    cora = read_labelled_graph(folder / "cora.npz", ALONE)
    assert (cora.graph.n_nodes, cora.graph.n_edges, cora.graph.n_components) == (2708, 5278, 78)
    assert cora.attributes.shape == (2708, 1433)
    assert cora.attributes.nnz == 49_216
    assert np.bincount(cora.labels).tolist() == [298, 418, 818, 426, 217, 180, 351]
    labels = folder / "email-Eu-core-department-labels.txt"
    email = read_labelled_graph(folder / "email-Eu-core.txt", ALONE, labels=labels)
    assert (email.graph.n_nodes, email.graph.largest, len(email.class_names)) == (1005, 986, 42)
    assert (email.labels >= 0).all()


# ----------------------------------------------------------------------------- words, counts, times


@pytest.mark.parametrize(
    ("text", "options", "nodes", "edges"),
    [
        ("3 4\n1 2\n2 3\n3 1\n1 1\n", {"header": "counts"}, 3, 3),
        ("3 4\n1 2\n2 3\n3 1\n1 1\n", {"header": "none"}, 4, 4),
        ("9 4\n1 2 0.5\n2 3 0.5\n", {"header": "counts"}, 3, 2),
        ("n1 n2\nn2 n3\n", {"header": "names"}, 2, 1),
        ("1 2\n2 3\n", {"ids": "words"}, 3, 2),
        ("0 1 1082040961\n1 2 1082155839\n", {"weights": "ignore"}, 3, 2),
        ("0 1 20240131\n1 2 20240131\n", {}, 3, 2),
    ],
)
def test_keys_that_answer(tmp_path, text, options, nodes, edges):
    graph = read(tmp_path, text, **options)
    assert (graph.n_nodes, graph.n_edges) == (nodes, edges)


def test_times_as_weights_on_request(tmp_path):
    graph = read(tmp_path, "0 1 1082040961\n1 2 1082155839\n", weights="use")
    assert graph.rows.toarray()[0, 1] == 1082040961


@pytest.mark.parametrize(
    ("text", "names", "edges"),
    [
        ("ann bob\nbob carl\n", ["ann", "bob", "carl"], 2),
        ("ann bob\n", ["ann", "bob"], 1),
        ("source target\nann bob\nbob carl\n", ["ann", "bob", "carl"], 2),
        ("ann bob 2.5\nbob 7 1\n", ["7", "ann", "bob"], 2),
        ("# names\nZoë,New York\nÅsa , Zoë\nNew York,Åsa\n", ["New York", "Zoë", "Åsa"], 3),
        ("à b\nb c\n", ["b", "c", "à"], 2),
    ],
)
def test_node_ids_that_are_words(tmp_path, text, names, edges):
    graph = read(tmp_path, text)
    assert list(graph.node_names) == names  # in the order of their UTF-8 bytes
    assert graph.node_ids.tolist() == list(range(len(names)))
    assert graph.n_edges == edges
    assert read(tmp_path, "0 1\n").node_names is None


def test_labels_of_words(tmp_path, comm):
    (tmp_path / "g.txt").write_text("ann bob\nbob carl\n")
    (tmp_path / "l.txt").write_text("carl,réd\nann,blue\ndora,blue\n", encoding="utf-8")
    found = read_labelled_graph(tmp_path / "g.txt", ALONE, labels=tmp_path / "l.txt")
    assert found.graph.node_names == ("ann", "bob", "carl", "dora")
    assert found.class_names == ("blue", "réd")
    assert found.labels.tolist() == [0, -1, 1, 0]
    (tmp_path / "l.txt").write_text("node label\ncarl red\nann blue\ncarl blue\n")
    with pytest.raises(InputError, match="node 'carl' has two labels"):
        read_labelled_graph(tmp_path / "g.txt", ALONE, labels=tmp_path / "l.txt")
