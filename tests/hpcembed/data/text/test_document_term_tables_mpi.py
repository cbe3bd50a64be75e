"""Texts as a data set: split, vocabulary of the training documents, document-term matrices."""

from __future__ import annotations

import csv
import logging

import msgspec
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from hpcembed.data.reading import describe_dataset, read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.data.table import Table
from hpcembed.data.text import term_relevance
from hpcembed.runtime.errors import ConfigError, InputError, MemoryLimitError
from hpcembed.runtime.ranks import allgather_rows

pytestmark = pytest.mark.mpi


def documents(n: int = 90) -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(3)
    words = np.array([f"word{i}" for i in range(60)])
    labels = [("north", "south", "west")[i % 3] for i in range(n)]
    texts = []
    for label in labels:
        first = {"north": 0, "south": 20, "west": 40}[label]
        own = generator.integers(first, first + 25, 6) % 60
        texts.append(" ".join(words[np.r_[own, generator.integers(0, 60, 3)]]))
    texts[5] = ""
    return texts, labels


def dense(table: Table, comm) -> np.ndarray:
    rows = allgather_rows(comm, table.rows.toarray())
    assert rows.shape == (table.n_rows, len(table.feature_names))
    return rows


@pytest.fixture
def folder(comm, shared_tmp):
    texts, labels = documents()
    if comm.rank == 0:
        for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
            (shared_tmp / "tree" / label).mkdir(parents=True, exist_ok=True)
            (shared_tmp / "tree" / label / f"{i:03d}").write_text(f"Subject: head\n\n{text}")
        pairs = list(zip(labels, texts, strict=True))
        (shared_tmp / "lines").write_text("".join(f"{y} {x}\n" for y, x in pairs))
        (shared_tmp / "new").write_text("west word40 stranger\nsouth stranger\n")
        (shared_tmp / "alien").write_text("east word40\n")
        (shared_tmp / "single").write_text("".join(f"west {x}\n" for x in texts))
        (shared_tmp / "symbols").write_text("a ! ?\nb - -\n" * 9)
        with (shared_tmp / "table.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("kind", "text"), *pairs])
    comm.Barrier()
    return shared_tmp


def test_split_then_vocabulary(comm, folder, caplog):
    """Only training documents determine terms and idf, the same on any number of ranks."""
    texts, labels = documents()
    config = DataSettings(
        format="text_lines", train=("lines",), min_df=2, sublinear_tf=True, split_seed=4
    )
    with caplog.at_level(logging.WARNING, "hpcembed"):
        found = read_dataset(config, folder, comm)
    assert ("have no term of the vocabulary" in caplog.text) == (comm.rank == 0)
    # Which rows are held out is known from a table of row numbers with the same labels.
    if comm.rank == 0:
        lines = [f"{i},{label}" for i, label in enumerate(labels)]
        (folder / "numbers.csv").write_text("\n".join(["row,kind", *lines]))
    comm.Barrier()
    numbers = DataSettings(train=("numbers.csv",), label_column="kind", split_seed=4)
    split = read_dataset(numbers, folder, comm)
    train, test = (
        [texts[int(i)] for i in allgather_rows(comm, part.rows)[:, 0]]
        for part in (split.train, split.test)
    )
    peer = TfidfVectorizer(min_df=2, sublinear_tf=True)
    expected = [peer.fit_transform(train).toarray(), peer.transform(test).toarray()]
    assert found.train.feature_names == tuple(peer.get_feature_names_out())
    assert found.train.class_names == ("north", "south", "west")
    for part, rows in zip((found.train, found.test), expected, strict=True):
        np.testing.assert_allclose(dense(part, comm), rows, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(
        allgather_rows(comm, found.test.labels.codes), allgather_rows(comm, split.test.labels.codes)
    )
    np.testing.assert_allclose(found.vectoriser.idf, peer.idf_, rtol=1e-12)
    np.testing.assert_allclose(
        found.vectoriser.transform(["word1 word1 stranger"]).toarray(),
        peer.transform(["word1 word1 stranger"]).toarray(),
        rtol=1e-12,
    )


def test_formats_agree(comm, folder):
    """The same documents as lines, CSV and folder, with scaling and the split of the files."""
    common = {"weighting": "counts", "norm": "none", "max_features": 30, "split": "own"}
    options = {
        "lines": {"format": "text_lines"},
        "table.csv": {"format": "auto", "text_column": "text", "label_column": "kind"},
        "tree": {"format": "text_folder", "headers": "remove"},
    }
    made = {}
    for name, more in options.items():
        config = DataSettings(train=(name,), test=(name,), scaling="standard", **common, **more)
        made[name] = read_dataset(config, folder, comm)
        assert made[name].scaling.factor.shape == (30,)
        assert describe_dataset(config, folder, comm).stored_bytes > 500
    rows = dense(made["lines"].train, comm)
    np.testing.assert_array_equal(rows, dense(made["table.csv"].train, comm))
    np.testing.assert_array_equal(rows, dense(made["lines"].test, comm))
    order = np.lexsort((np.arange(90), np.arange(90) % 3))  # sorted folders
    np.testing.assert_array_equal(rows[order], dense(made["tree"].train, comm))
    own = DataSettings(format="text_lines", train=("lines",), test=("new",))
    test = dense(read_dataset(own, folder, comm).test, comm)
    assert np.count_nonzero(test, axis=1).tolist() == [1, 0]


def test_refusals(comm, folder):
    def refused(words: str, error=InputError, **options) -> None:
        config = DataSettings(**{"format": "text_lines", "train": ("lines",), **options})
        with pytest.raises(error, match=words):
            read_dataset(config, folder, comm)

    refused("one class only", train=("single",))
    refused("no training row has: east", test=("alien",))
    refused("not one word", train=("symbols",))
    refused("none of 60 words", min_df=80)
    refused("contain the labels", ConfigError, train_labels="lines")
    csv_of = {"format": "text_csv", "train": ("table.csv",)}
    refused("label_column", text_column="text", **csv_of)
    refused("text_column", ConfigError, label_column="kind", **csv_of)
    config = DataSettings(format="text_lines", train=("lines",))
    with pytest.raises(MemoryLimitError, match="reading"):
        read_dataset(config, folder, comm, available_bytes=1000)


def test_relevance(comm, folder, monkeypatch):
    """Factors follow the formula, from training labels only; terms of relevance zero vanish."""
    config = DataSettings(format="text_lines", train=("lines",), test=("lines",), norm="none")
    plain = read_dataset(config, folder, comm)
    monkeypatch.setattr(term_relevance, "_COUNTS_AT_A_TIME", 30)
    found = read_dataset(msgspec.structs.replace(config, relevance="classes"), folder, comm)
    rows = dense(plain.train, comm)
    labels = allgather_rows(comm, plain.train.labels.codes)
    has = rows > 0
    prior = np.bincount(labels) / labels.size
    by_class = np.array([has[labels == c].sum(axis=0) for c in range(3)]).T
    share = (by_class + prior) / (has.sum(axis=0)[:, None] + 1)
    factors = np.sqrt((share * np.log(share / prior)).sum(axis=1))
    np.testing.assert_allclose(found.vectoriser.relevance, factors, rtol=1e-10)
    np.testing.assert_allclose(dense(found.train, comm), rows * factors, rtol=1e-10)
    np.testing.assert_allclose(dense(found.test, comm), rows * factors, rtol=1e-10)
    # "sea" and "road" are equally frequent in both classes.
    if comm.rank == 0:
        (folder / "same").write_text("a sea road\nb road sea\na sea own\nb road sea sea\n" * 3)
    comm.Barrier()
    config = DataSettings(format="text_lines", train=("same",), test=("same",), relevance="classes")
    same = read_dataset(config, folder, comm)
    terms = dict(zip(same.train.feature_names, same.vectoriser.relevance, strict=True))
    assert terms["sea"] == pytest.approx(0, abs=1e-9)
    assert terms["own"] > 2 * terms["road"] > 0
    np.testing.assert_array_less(np.linalg.norm(dense(same.train, comm), axis=1), 1 + 1e-12)
