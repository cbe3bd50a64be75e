"""Rows and labels of a caller: what is taken, and one line for what is not."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mpi4py import MPI

from hpcembed.data.columns import RawColumns
from hpcembed.data.dataset import make_dataset
from hpcembed.data.in_memory import label_array, rows_of, table_of
from hpcembed.data.settings import DataSettings
from hpcembed.runtime.errors import InputError

TEXTS = ["u", "v", "u"]


@pytest.mark.parametrize(
    "labels",
    [
        TEXTS,
        np.array(TEXTS, dtype=object),
        [["u"], ["v"], ["u"]],
        pd.Series(TEXTS, dtype="string"),
        pd.Series(pd.Categorical(TEXTS, categories=["w", "v", "u"])),
        pd.DataFrame({"kind": TEXTS}),
        pa.array(TEXTS),
        pa.chunked_array([pa.array(TEXTS).dictionary_encode()]),
    ],
)
def test_labels_of_every_kind(labels):
    assert label_array(labels, "y").tolist() == TEXTS


def test_numbers_of_arrow_as_labels():
    assert label_array(pa.array([1, 2, 1]), "y").tolist() == [1, 2, 1]
    assert label_array(pa.array([True, False]), "y").tolist() == [True, False]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((3, 2)), r"y: shape \(3, 2\): give one label for each row. Several labels"),
        ([["a", "b"], ["a"]], r"y: row 1: \['a', 'b'\]: give one label for each row. Several"),
        (["a", ("a", "b")], r"y: row 2: \('a', 'b'\): give one label"),
        (1, "y: a single value: give one label for each row"),
        (pa.array([1, None]), "y: row 2: the label is missing"),
        (pd.Series(["a", None]), "y: row 2: the label is missing"),
        ([1, "a", None], "y: row 3: the label is missing"),
    ],
)
def test_labels_that_cannot_be_used(labels, words):
    with pytest.raises(InputError, match=words):
        label_array(labels, "y")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("table.csv", "X: 'table.csv' is a name: open files with hpcembed.open_rows"),
        (["good", None], "X: row 2 is not a text"),
        (None, r"X: shape \(\)"),
    ],
)
def test_rows_that_cannot_be_used(rows, words):
    with pytest.raises(InputError, match=words):
        rows_of(rows, "X")


def test_intervals_are_categories():
    rows, names = rows_of(pd.DataFrame({"age": pd.cut([1.0, 5.0, 9.0], 2)}), "X")
    assert names == ("age",)
    assert rows.column("age").values == ("(0.992, 5.0]", "(5.0, 9.0]")
    strange = pd.DataFrame({"c": pd.Categorical([(1, 2), (3, 4)])})
    with pytest.raises(InputError, match="column 'c': a value of type tuple"):
        rows_of(strange, "X")


def table(labels):
    rows = np.random.default_rng(0).normal(size=(len(labels), 2))
    return table_of(rows, labels, MPI.COMM_SELF)


def test_one_row_is_refused():
    with pytest.raises(InputError, match="X: one row: give more rows"):
        make_dataset([table(["a"])], DataSettings(), MPI.COMM_SELF)


@pytest.mark.parametrize(
    ("names", "is_reported"),
    [
        (["a", "b", "a;b", "b;c", "c"], True),
        (["a|b", "b|a", "a", "b"], True),
        (["a;b", "c;d"], False),
        (["a", "b"], False),
    ],
)
def test_classes_that_combine_labels_are_named(names, is_reported, caplog):
    caplog.set_level("WARNING", "hpcembed")
    make_dataset([table(names * 10)], DataSettings(), MPI.COMM_SELF)
    assert ("several labels for a row" in caplog.text) == is_reported


def test_objects_that_are_booleans_are_booleans():
    for labels in ([True, False], np.array([True, False], dtype=object)):
        array = label_array(labels, "y")
        assert array.dtype == np.bool_
        assert set(table_of(np.eye(2), labels, MPI.COMM_SELF).labels.values) == {"True", "False"}
    with pytest.raises(InputError, match="labels of mixed types"):
        label_array(np.array([True, 3], dtype=object), "y")


@pytest.mark.mpi
@pytest.mark.parametrize("rank", [0, -1])
def test_gaps_of_one_rank_give_columns_on_all(rank):
    comm = MPI.COMM_WORLD
    rows = np.arange(8.0).reshape(4, 2)
    if comm.rank == rank % comm.size:
        rows[1, 0] = np.nan
    elif comm.rank == 1:  # a rank without rows
        rows = rows[:0]
    found = table_of(rows, np.arange(len(rows)), comm)
    assert isinstance(found.rows, RawColumns)
    assert found.feature_names == ("x1", "x2")
