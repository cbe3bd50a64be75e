"""Encoding of class labels over ranks."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from hpcembed.data.labels import codes_of, encode_labels, labels_from_array, labels_from_text
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import ownership_range

WORDS = ["pear", "fig", "Fig", "10", "9", "pear", "fig", "10", "9", "Fig"]


def encode(texts, others=(), comm=MPI.COMM_SELF):
    labels = [labels_from_text(texts, "train", 0)]
    labels += [labels_from_text(other, "test", 0) for other in others]
    encoded = encode_labels(labels, comm)
    assert [one.source for one in encoded] == ["train", *["test"] * len(others)]
    assert len({one.values for one in encoded}) == 1
    return [one.codes for one in encoded], encoded[0].values


def test_labels_are_sorted_as_text_unless_all_are_numbers():
    (codes,), names = encode(WORDS)
    assert names == ("10", "9", "Fig", "fig", "pear")
    assert [names[code] for code in codes] == WORDS


def test_numbers_are_sorted_by_value_and_spellings_merged():
    (train, test), names = encode(["10", "9", "9.0", "1e1", "-2"], [["+9", "10.00"]])
    assert names == ("-2", "9", "10")
    np.testing.assert_array_equal(train, [2, 1, 1, 2, 0])
    np.testing.assert_array_equal(test, [1, 2])


def test_large_integers_stay_apart():
    _, names = encode([str(2**60), str(2**60 + 1)])
    assert len(names) == 2


def test_arrays_of_labels():
    for array, texts in (
        (np.array([3.0, 1.0, 2.5]), {"3", "1", "2.5"}),
        (np.array([True, False]), {"True", "False"}),
        (np.array([b"x", b"y"]), {"x", "y"}),
        (np.array([2**63], dtype=np.uint64), {str(2**63)}),
    ):
        labels = labels_from_array(array, "y", 0)
        assert set(labels.values) == texts
        assert labels.codes.dtype == np.int64
    for array, word in (
        (np.array([1.0, np.nan]), "row 12: the label is not a finite number"),
        (np.array(["a", ""]), "row 12: the label is empty"),
        (np.array([1j]), "complex"),
        (np.array([b"\xff"]), "not UTF-8"),
    ):
        with pytest.raises(InputError, match=word):
            labels_from_array(array, "y", 10)


def test_unseen_and_single_classes():
    with pytest.raises(InputError, match=r"test: .*no training row has: x, y: "):
        encode(["a", "b"], [["y", "a", "x"]])
    with pytest.raises(InputError, match=r"train: .* one class only \(a\)"):
        encode(["a", "a"])
    with pytest.raises(InputError, match="row 2: the label is empty"):
        encode(["a", " "])


@pytest.mark.mpi
def test_the_same_codes_on_any_number_of_ranks(comm):
    (expected, expected_test), names = encode(WORDS, [WORDS[:4]])
    start, stop = ownership_range(len(WORDS), comm)
    first, last = ownership_range(4, comm)
    (codes, test), found = encode(WORDS[start:stop], [WORDS[first:last]], comm)
    assert found == names
    np.testing.assert_array_equal(codes, expected[start:stop])
    np.testing.assert_array_equal(test, expected_test[first:last])


@pytest.mark.mpi
def test_an_unknown_label_on_one_rank_is_an_error_on_all(comm):
    unseen = ["z"] if comm.rank == comm.size - 1 else ["a"]
    with pytest.raises(InputError, match="no training row has: z"):
        encode(["a", "b"], [unseen], comm)


@pytest.mark.parametrize("other", [["true", "false"], ["TRUE", "False"]])
def test_booleans_of_several_programs_are_the_same_classes(other):
    train = labels_from_text(["False", "True", "True"], "train.csv", 0)
    test = labels_from_text(other, "test.csv", 0)
    encoded = encode_labels([train, test], MPI.COMM_SELF)
    assert encoded[0].values == ("False", "True")
    assert encoded[1].codes.tolist() == [int(text.lower() == "true") for text in other]
    assert codes_of(test, ("False", "True")).tolist() == encoded[1].codes.tolist()
    words = labels_from_text(["True", "true", "maybe"], "y", 0)
    assert encode_labels([words], MPI.COMM_SELF)[0].values == ("True", "maybe", "true")


@pytest.mark.parametrize(
    ("train", "test", "names"),
    [
        (np.array([True, False, True]), np.array([0, 1]), ("False", "True")),
        (np.array([1, 0, 1]), np.array([False, True]), ("0", "1")),
        (np.array(["true", "False", "TRUE"]), np.array([0.0, 1.0]), ("False", "TRUE")),
    ],
)
def test_booleans_and_their_numbers_are_one_class(train, test, names):
    parts = [labels_from_array(array, "y", 0) for array in (train, test)]
    encoded = encode_labels(parts, MPI.COMM_SELF)
    assert [one.codes.tolist() for one in encoded] == [[1, 0, 1], [0, 1]]
    assert encoded[0].values == names
    assert codes_of(parts[1], names).tolist() == [0, 1]


def test_other_numbers_are_no_booleans():
    labels = labels_from_array(np.array([True, False]), "y", 0)
    assert codes_of(labels, ("0", "1", "2")).tolist() == [-1, -1]
    with pytest.raises(InputError, match="no training row has: 2"):
        encode(["True", "False"], [["2"]])
