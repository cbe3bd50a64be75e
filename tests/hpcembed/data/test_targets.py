"""The choice between classification and regression, and targets in every format, on all ranks."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from hpcembed.data.dataset import make_dataset
from hpcembed.data.labels import (
    MAX_CLASSES,
    LocalLabels,
    LocalTargets,
    as_classes,
    labels_from_array,
    labels_from_text,
)
from hpcembed.data.matrix import DataMatrix
from hpcembed.data.reading import read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.data.table import Table
from hpcembed.data.tables.label_column import LabelColumn
from hpcembed.data.targets import as_targets, check_variation, choose_task, target_style
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import allgather_rows, ownership_range


def local(values, comm):
    start, stop = ownership_range(len(values), comm)
    if isinstance(values, list):
        return labels_from_text(values[start:stop], "labels.txt", start)
    return labels_from_array(values[start:stop], "labels.npy", start)


def table(values, comm):
    start, stop = ownership_range(len(values), comm)
    rows = np.arange(2.0 * len(values)).reshape(-1, 2)[start:stop]
    return Table(rows, local(values, comm), start, len(values), (), "table")


CHOICES = [
    (["a", "b", "7"] * 4, "classification", "not numbers"),
    (np.arange(60) % 20 / 2, "classification", "20 different"),
    (np.arange(63) % 21 / 2, "regression", "21 different"),
    (np.arange(21 * 20) % 21, "classification", "21 different integers in 420 rows"),
    (np.arange(3 * (MAX_CLASSES + 10)) / 4, "regression", "more than 65,536"),
]


@pytest.mark.mpi
@pytest.mark.parametrize(("values", "task", "reason"), CHOICES)
def test_choice(values, task, reason, comm):
    found, why = choose_task(local(values, comm), "auto", comm)
    assert (found, reason in why) == (task, True)
    assert len(set(comm.allgather(why))) == 1


@pytest.mark.mpi
@pytest.mark.parametrize(
    "values", [np.arange(420 - 1) % 21, np.arange(20 * 1001) % 1001, np.arange(214)]
)
def test_ambiguous_integers_are_refused_with_counts_and_remedies(values, comm):
    n_values = np.unique(values).size
    with pytest.raises(InputError) as caught:
        choose_task(local(values, comm), "auto", comm)
    message = str(caught.value)
    assert f"{n_values:,} different integers in {len(values):,} rows" in message
    assert 'data.task = "regression"' in message
    assert 'data.task = "classification"' in message
    for task in ("regression", "classification"):
        assert choose_task(local(values, comm), task, comm)[0] == task


def test_many_numbers_are_not_kept_as_texts():
    numbers = np.arange(MAX_CLASSES + 1) + 0.1
    for labels in (
        labels_from_array(numbers, "y", 0),
        labels_from_array(numbers.astype(str), "y", 0),
        labels_from_text([repr(one) for one in numbers.tolist()], "y", 0),
    ):
        assert isinstance(labels, LocalTargets)
        np.testing.assert_array_equal(labels.values, numbers)
    few = labels_from_array(numbers[:-1], "y", 0)
    assert isinstance(few, LocalLabels)
    np.testing.assert_array_equal(as_targets(few).values, numbers[:-1])
    words = [f"w{number}" for number in range(MAX_CLASSES + 1)]
    for make in (list, np.array):
        with pytest.raises(InputError, match="65536 different labels"):
            (labels_from_text if make is list else labels_from_array)(make(words), "y", 0)


def test_targets_keep_every_digit():
    values = np.array([1e15 + 0.125, 0.1, -3.0, 2.0**53])
    np.testing.assert_array_equal(as_targets(labels_from_array(values, "y", 0)).values, values)
    single = values[1:2].astype(np.float32)
    assert as_targets(labels_from_array(single, "y", 0)).values[0] == np.float64(single[0])


def test_text_is_no_target():
    labels = labels_from_text(["1", "2.5", "1", "high"], "prices.csv, column price", 10)
    with pytest.raises(InputError, match=r"column price: row 14: the target 'high'.*data.task"):
        as_targets(labels, 10)
    with pytest.raises(InputError, match="row 1: the target '1e999'"):
        as_targets(labels_from_text(["1e999"], "y", 0))


@pytest.mark.mpi
def test_split_of_targets(comm):
    values = np.arange(50) / 3
    data = make_dataset([table(values, comm)], DataSettings(test_fraction=0.3), comm)
    assert (data.task, data.train.n_rows, data.test.n_rows) == ("regression", 35, 15)
    assert data.has_labels
    assert data.train.class_names == ()
    assert "50 different" in data.task_reason
    whole = make_dataset(
        [table(values, MPI.COMM_SELF)], DataSettings(test_fraction=0.3), MPI.COMM_SELF
    )
    for mine, expected in ((data.train, whole.train), (data.test, whole.test)):
        found = allgather_rows(comm, mine.labels.values)
        np.testing.assert_array_equal(found, expected.labels.values)
        rows = allgather_rows(comm, mine.rows)
        np.testing.assert_allclose(rows[:, 0] / 2 / 3, found)  # rows and targets stay together


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("values", "settings", "kind", "words"),
    [
        (np.arange(50) / 3, {"split": "stratified"}, ConfigError, "split.*needs classes"),
        (np.arange(50) / 3, {"relevance": "classes"}, ConfigError, "relevance.*needs classes"),
        (np.ones(50), {"task": "regression"}, InputError, "targets of all training rows are equal"),
        (["1", "b"] * 9, {"task": "regression"}, InputError, "row 2: the target 'b'"),
    ],
)
def test_refused_regressions(values, settings, kind, words, comm):
    with pytest.raises(kind, match=words):
        make_dataset([table(values, comm)], DataSettings(**settings), comm)


@pytest.mark.mpi
def test_classification_of_continuous_numbers(comm):
    data = make_dataset(
        [table(np.arange(120) % 30 / 4, comm)], DataSettings(task="classification"), comm
    )
    assert len(data.train.class_names) == 30
    many = np.arange(comm.size * (MAX_CLASSES + 1)) / 4
    with pytest.raises(InputError, match="65536 different labels"):
        make_dataset([table(many, comm)], DataSettings(task="classification"), comm)


@pytest.mark.mpi
def test_constant_targets(comm):
    with pytest.raises(InputError, match="are equal"):
        check_variation(LocalTargets(np.full(comm.rank, 3.0), "y"), comm)
    check_variation(LocalTargets(np.array([1e9, 1e9 + 1]), "y"), comm)


FORMATS = ["npy", "npz", "hdf5", "idx", "csv", "svmlight", "text"]


def write(kind: str, folder: Path, rows: np.ndarray, y: np.ndarray) -> DataSettings:
    path = folder / "a"
    if kind in ("npz", "hdf5"):
        if kind == "npz":
            with path.open("wb") as stream:
                np.savez(stream, x=rows, y=y)
        else:
            with h5py.File(path, "w") as file:
                file["x"], file["y"] = rows, y
        return DataSettings(format=kind, train=("a",))
    if kind in ("npy", "idx", "text"):
        with path.open("wb") as stream:
            np.save(stream, rows)
        if kind == "idx":
            content = b"\0\0\x0e\x01" + struct.pack(">I", len(y)) + y.astype(">f8").tobytes()
            (folder / "y").write_bytes(content)
        elif kind == "npy":
            np.save(folder / "y.npy", y)
            return DataSettings(format="npy", train=("a",), train_labels="y.npy")
        else:
            (folder / "y").write_text("".join(f"{one!r}\n" for one in y.tolist()))
        return DataSettings(format="npy", train=("a",), train_labels="y")
    lines = []
    for row, target in zip(rows.tolist(), y.tolist(), strict=True):
        if kind == "csv":
            lines.append(",".join(map(repr, [*row, target])))
        else:
            lines.append(" ".join([repr(target), *(f"{j + 1}:{v!r}" for j, v in enumerate(row))]))
    head = "p,q,price\n" if kind == "csv" else ""
    path.write_text(head + "\n".join(lines) + "\n")
    return DataSettings(format=kind, train=("a",), label_column="price" * (kind == "csv"))


@pytest.mark.mpi
@pytest.mark.parametrize("kind", FORMATS)
def test_targets_in_every_format(kind, comm, shared_tmp):
    rows = np.random.default_rng(0).standard_normal((37, 2))
    y = 1e6 + rows[:, 0] / 3
    if comm.rank == 0:
        write(kind, shared_tmp, rows, y)
    comm.Barrier()
    config = write(kind, shared_tmp, rows, y) if comm.size == 1 else settings_of(kind)
    data = read_dataset(config, shared_tmp, comm)
    assert data.task == "regression"
    found = np.concatenate(
        [allgather_rows(comm, part.labels.values) for part in (data.train, data.test)]
    )
    np.testing.assert_array_equal(np.sort(found), np.sort(y))
    matrix = DataMatrix(data.train.rows, data.train.labels.values, comm)
    assert matrix.labels.dtype == np.float64
    matrix.destroy()


def settings_of(kind: str) -> DataSettings:
    labels = {"npy": "y.npy", "idx": "y", "text": "y"}.get(kind, "")
    form = kind if kind not in ("idx", "text") else "npy"
    column = "price" if kind == "csv" else ""
    return DataSettings(format=form, train=("a",), train_labels=labels, label_column=column)


@pytest.mark.mpi
def test_csv_with_more_numbers_than_classes(comm, shared_tmp):
    y = np.arange((MAX_CLASSES + 5) * comm.size) / 8
    if comm.rank == 0:
        lines = "".join(f"{number % 7},{number!r}\n" for number in y.tolist())
        (shared_tmp / "a.csv").write_text("x,y\n" + lines)
    comm.Barrier()
    config = DataSettings(train=("a.csv",), label_column="y")
    data = read_dataset(config, shared_tmp, comm)
    parts = [allgather_rows(comm, part.labels.values) for part in (data.train, data.test)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), y)


def test_several_targets_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((4, 2)), y=np.eye(4))
    with pytest.raises(InputError, match=r"y: labels of shape \(4, 4\).*one model for each column"):
        read_dataset(DataSettings(train=("a.npz",)), tmp_path, MPI.COMM_SELF)
    (tmp_path / "a.svm").write_text("1,3 1:2.5\n2 1:1\n")
    with pytest.raises(InputError, match=r"line 1: the label '1,3' has several values"):
        read_dataset(DataSettings(train=("a.svm",)), tmp_path, MPI.COMM_SELF)
    with pytest.raises(InputError, match=r"labels of shape \(3, 2\).*labels\[:, j\]"):
        DataMatrix(np.ones((3, 2)), np.ones((3, 2)), MPI.COMM_SELF)


@pytest.mark.mpi
def test_diabetes(comm):
    data = read_dataset(DataSettings(format="diabetes", task="regression"), Path(), comm)
    assert (data.train.n_rows, data.test.n_rows, data.task) == (354, 88, "regression")
    assert data.train.feature_names[:2] == ("age", "sex")
    y = np.concatenate([allgather_rows(comm, one.labels.values) for one in (data.train, data.test)])
    assert (y.min(), y.max(), round(y.mean(), 3)) == (25.0, 346.0, 152.133)
    with pytest.raises(InputError, match="214 different integers in 442 rows"):
        read_dataset(DataSettings(format="diabetes"), Path(), comm)


def european(values):
    return [f"{v:,.2f}".replace(",", "_").replace(".", ",").replace("_", ".") for v in values]


AMOUNTS = np.arange(60) * 123.25 - 900.5
WRITTEN = {
    "plain": [repr(v) for v in AMOUNTS.tolist()],
    "point": [f"{v:,.2f}" for v in AMOUNTS],
    "comma": european(AMOUNTS),
    "point with currency": [f"${v:,.2f}" for v in AMOUNTS],
    "comma with currency": [f"{text} €" for text in european(AMOUNTS)],
    "comma with code": [f"EUR {text}" for text in european(AMOUNTS)],
}


@pytest.mark.mpi
@pytest.mark.parametrize("writing", WRITTEN)
def test_targets_are_read_as_columns_are(comm, writing):
    texts = np.array(WRITTEN[writing])
    labels = local(texts, comm)
    style = target_style(labels, "auto", "auto", comm)
    assert style == writing.partition(" ")[0]
    assert choose_task(labels, "auto", comm, style)[0] == "regression"
    mine = slice(*ownership_range(len(AMOUNTS), comm))
    np.testing.assert_allclose(as_targets(labels, 0, style).values, AMOUNTS[mine])


def test_percent_is_a_share():
    labels = labels_from_text([f"{i},5 %" for i in range(40)], "y", 0)
    style = target_style(labels, "auto", "auto", MPI.COMM_SELF)
    assert as_targets(labels, 0, style).values[3] == pytest.approx(0.035)


@pytest.mark.mpi
def test_numbers_with_two_meanings_are_asked_about(comm):
    labels = local([f"{i},000" for i in range(1, 60)], comm)
    with pytest.raises(
        InputError, match=r'labels.txt: .* set data.target_numbers = "decimal_comma" or'
    ):
        target_style(labels, "auto", "auto", comm)
    # The columns of the table, or the setting, decide.
    assert target_style(labels, "auto", "auto", comm, comma=True) == "comma"
    assert target_style(labels, "decimal_point", "auto", comm) == "point"
    assert target_style(labels, "auto", "classification", comm) == "plain"


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NA", "row 31: the target 'NA' is missing"),
        ("?", "row 31: the target '?' is missing"),
        ("abc", "row 31: the target 'abc' is not a number, as the other targets are"),
    ],
)
def test_a_few_targets_that_are_no_numbers(comm, text, words):
    texts = [f"{i}.5" for i in range(200)]
    texts[30] = text
    start, _ = ownership_range(200, comm)
    with pytest.raises(InputError, match=re.escape(words)):
        target_style(local(texts, comm), "auto", "auto", comm, start=start)


def test_classes_are_no_missing_targets():
    for texts in (["NA", "1", "2"] * 20, [str(i) for i in range(50)] + ["other"]):
        labels = labels_from_text(texts, "y", 0)
        assert target_style(labels, "auto", "auto", MPI.COMM_SELF) == "plain"


def test_several_currencies_are_refused():
    labels = labels_from_text([f"${i}.5" for i in range(40)] + ["5 EUR"], "y", 0)
    with pytest.raises(InputError, match=r"targets in \$ and €"):
        target_style(labels, "auto", "auto", MPI.COMM_SELF)


def test_more_amounts_than_there_may_be_classes():
    amounts = np.arange(MAX_CLASSES + 10) * 0.25
    texts = [text + " €" for text in european(amounts)]
    column = LabelColumn(len(texts), "y")
    for begin in range(0, len(texts), 10_000):
        part = texts[begin : begin + 10_000]
        column.add(part, np.arange(len(part)))
    for labels in (column.labels(), labels_from_text(texts, "y", 0)):
        style = target_style(labels, "auto", "auto", MPI.COMM_SELF)
        np.testing.assert_allclose(as_targets(labels, 0, style).values, amounts)
        with pytest.raises(InputError, match="these are not classes"):
            as_classes(labels)
