"""The table of reductions: neighbours, classes, bytes, frontier."""

import numpy as np
import pytest

from hpcembed.networks.retrieval import (
    RetrievalRecord,
    class_precision,
    fit_reduction,
    retrieval_table,
)
from hpcembed.networks.retrieval.neighbours import without_query
from hpcembed.networks.retrieval.retrieval_table import _with_frontier
from hpcembed.runtime.errors import ConfigError, InputError


@pytest.fixture(scope="module")
def data():
    """Return rows in clusters, and the clusters."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 300)
    rows = 2 * rng.standard_normal((6, 20))[labels] + rng.standard_normal((300, 20))
    return rows * 0.9 ** np.arange(20), labels


def neighbours(rows, reduced_rows, reduced_queries, queries, k):
    """Return the k best other rows by a loop over queries, in double precision."""
    found = []
    for query, z in zip(queries, reduced_queries, strict=True):
        norms = np.linalg.norm(reduced_rows, axis=1) * np.linalg.norm(z)
        cosines = reduced_rows @ z / norms
        cosines[query] = -np.inf
        found.append(np.argsort(-cosines)[:k])
    return found


@pytest.mark.parametrize("storage", ["float32", "int8", "float8"])
@pytest.mark.parametrize("whiten", [False, True])
def test_records_are_those_of_a_loop_over_queries(data, storage, whiten):
    rows, labels = data
    table = retrieval_table(
        rows, [6], storages=[storage], whiten=[whiten], labels=labels, n_neighbors=7, n_queries=40
    )
    queries = np.sort(np.random.default_rng(0).permutation(300)[:40])
    reduction = fit_reduction(rows, 6, whiten=whiten)
    z = reduction.transform(rows)
    stored = z if storage == "float32" else reduction.decode(reduction.codes(rows, storage))
    exact = neighbours(rows, rows, rows[queries], queries, 7)
    found = neighbours(rows, stored, z[queries], queries, 7)
    hits = [len(set(a) & set(b)) / 7 for a, b in zip(exact, found, strict=True)]
    same = [
        np.mean(labels[one] == labels[query]) for one, query in zip(found, queries, strict=True)
    ]
    (record,) = table.records
    assert record.recall == pytest.approx(np.mean(hits), abs=0.008)
    assert record.class_precision == pytest.approx(np.mean(same), abs=0.008)
    assert (record.k, record.storage, record.whiten) == (6, storage, whiten)
    assert record.bytes_per_row == (24 if storage == "float32" else 6)
    assert record.on_frontier
    assert (table.n_rows, table.n_queries, table.n_neighbors) == (300, 40, 7)


def test_the_whole_embeddings_have_recall_one_and_more_coordinates_keep_more(data):
    rows, labels = data
    table = retrieval_table(rows - rows.mean(axis=0), [3, 8, 20], labels=labels, n_queries=1000)
    assert table.n_queries == 300
    assert (table.whole.recall, table.whole.bytes_per_row, table.whole.k) == (1.0, 80, 20)
    assert 0.5 < table.whole.class_precision <= 1.0
    float32 = [one.recall for one in table.records if one.storage == "float32"]
    assert float32 == sorted(float32)
    assert float32[-1] > 0.999
    again = retrieval_table(rows - rows.mean(axis=0), [3, 8, 20], labels=labels, n_queries=1000)
    assert again == table


def test_markdown_has_a_line_for_each_record(data):
    rows, labels = data
    table = retrieval_table(rows, [4], storages=["int8"], whiten=[False, True], labels=labels)
    lines = str(table).splitlines()
    assert len(lines) == 5
    assert lines[0].endswith("recall@10 | class precision@10 |")
    assert lines[2].startswith("| 20 (whole) | float32 | 80 | 1.000 |")
    plain, _ = table.records
    mark = " *" if plain.on_frontier else ""
    assert lines[3] == f"| 4 | int8 | 4 | {plain.recall:.3f}{mark} | {plain.class_precision:.3f} |"
    assert lines[4].startswith("| 4 whitened | int8 | 4 |")
    unlabelled = retrieval_table(rows, [4], storages=["int8"])
    assert unlabelled.records[0].class_precision is None


def test_the_frontier_has_the_records_that_none_dominates():
    pairs = [(10, 0.5), (10, 0.6), (20, 0.6), (20, 0.9), (40, 0.8), (40, 0.95), (40, 0.95)]
    records = [RetrievalRecord(1, "int8", False, size, part, None) for size, part in pairs]
    found = [one.on_frontier for one in _with_frontier(records)]
    assert found == [False, True, False, True, False, True, True]


def test_a_query_is_removed_also_where_an_equal_row_precedes_it():
    found = without_query(np.array([[5, 2, 8], [1, 2, 3]]), np.array([2, 7]))
    np.testing.assert_array_equal(found, [[5, 8], [1, 2]])


def test_class_precision_refuses_labels_of_other_rows():
    found = np.array([[0, 4]])
    with pytest.raises(InputError, match="row 4 have no label: 3 labels"):
        class_precision(np.zeros(3), np.zeros(1), found)
    with pytest.raises(InputError, match="2 labels and 1 queries are not the same"):
        class_precision(np.zeros(5), np.zeros(2), found)


def test_bad_arguments_are_refused(data):
    rows, labels = data
    with pytest.raises(InputError, match=r"embeddings of shape \(300,\)"):
        retrieval_table(rows[:, 0], [4])
    with pytest.raises(ConfigError, match="ks is empty"):
        retrieval_table(rows, [])
    with pytest.raises(ConfigError, match="storages = 'int8' is no list"):
        retrieval_table(rows, [4], storages="int8")
    with pytest.raises(ConfigError, match="storage = 'int4' is not one of"):
        retrieval_table(rows, [4], storages=["int4"])
    with pytest.raises(ConfigError, match="k must be a positive integer"):
        retrieval_table(rows, [0])
    with pytest.raises(ConfigError, match="whiten: 'no' is not True or False"):
        retrieval_table(rows, [4], whiten=["no"])
    with pytest.raises(ConfigError, match="n_queries must be a positive integer"):
        retrieval_table(rows, [4], n_queries=0)
    with pytest.raises(InputError, match="300 neighbours are wanted of 299 other rows"):
        retrieval_table(rows, [4], n_neighbors=300)
    with pytest.raises(InputError, match=r"labels of shape \(299,\) do not match 300 embeddings"):
        retrieval_table(rows, [4], labels=labels[:-1])
    with pytest.raises(InputError, match="k = 30 exceeds the 20 dimensions"):
        retrieval_table(rows, [30])
