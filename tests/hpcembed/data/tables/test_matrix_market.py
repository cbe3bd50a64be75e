"""Matrix Market and bare triplets: every kind against scipy, errors by line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from mpi4py import MPI

from hpcembed.data.prediction_input import read_prediction_input
from hpcembed.data.reading import describe_dataset, read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.data.tables.matrix_market import read_matrix
from hpcembed.runtime.errors import InputError, MemoryLimitError
from hpcembed.runtime.ranks import ownership_range


def square(symmetry: str, n: int = 7) -> np.ndarray:
    generator = np.random.default_rng(4)
    matrix = generator.integers(-9, 9, (n, n)) * (generator.random((n, n)) < 0.6)
    if symmetry == "symmetric":
        return np.tril(matrix) + np.tril(matrix, -1).T
    if symmetry == "skew-symmetric":
        return np.tril(matrix, -1) - np.tril(matrix, -1).T
    return matrix


def dense(matrix) -> np.ndarray:
    return matrix.toarray() if scipy.sparse.issparse(matrix) else matrix


@pytest.mark.parametrize("symmetry", ["general", "symmetric", "skew-symmetric"])
@pytest.mark.parametrize("field", ["real", "integer"])
@pytest.mark.parametrize("layout", ["coordinate", "array"])
def test_every_kind(tmp_path, symmetry, field, layout):
    matrix = square(symmetry)
    path = tmp_path / "a.mtx"
    content = scipy.sparse.coo_array(matrix) if layout == "coordinate" else matrix
    scipy.io.mmwrite(path, content, field=field, symmetry=symmetry, comment="one\ntwo")
    assert f"{layout} {field} {symmetry}" in path.read_text()
    found = read_matrix(path)
    np.testing.assert_array_equal(dense(found), matrix)
    assert scipy.sparse.issparse(found) == (layout == "coordinate")
    assert found.dtype == np.float64
    (tmp_path / "a.mtx.gz").write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(dense(read_matrix(tmp_path / "a.mtx.gz")), matrix)


def test_pattern_blanks_comments_and_line_ends(tmp_path):
    path = tmp_path / "a.mtx"
    path.write_bytes(
        b"%%MatrixMarket  matrix coordinate PATTERN general\r\n% c\r\n\r\n 3 4  3\r\n"
        b"  1\t1 \r\n% in between\r\n\r\n2   4\r\n 3 2\r\n"
    )
    expected = np.zeros((3, 4))
    expected[[0, 1, 2], [0, 3, 1]] = 1
    np.testing.assert_array_equal(read_matrix(path).toarray(), expected)


def test_duplicate_entries_of_a_file_are_added(tmp_path):
    (tmp_path / "a.mtx").write_text("2 2 3\n1 1 1.5\n1 1 2\n2 1 1\n")
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.mtx").toarray(), [[3.5, 0], [1, 0]])


def test_bare_triplets_that_list_every_entry_are_dense(tmp_path):
    (tmp_path / "a.mtx").write_text(
        "2 3 6\n" + "".join(f"{i} {j} {i}.{j}e-1\n" for i in (1, 2) for j in (1, 2, 3))
    )
    found = read_matrix(tmp_path / "a.mtx")
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, [[0.11, 0.12, 0.13], [0.21, 0.22, 0.23]])


COORDINATE = "%%MatrixMarket matrix coordinate real general\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello\nworld\n", ("line 1", "is not a line of 3 sizes")),
        ("%%MatrixMarket matrix coordinate complex general\n", ("'complex' is not read",)),
        ("%%MatrixMarket matrix coordinate real hermitian\n", ("'hermitian' is not read",)),
        ("%%MatrixMarket tensor coordinate real general\n", ("a banner is",)),
        (COORDINATE, ("truncated", "sizes")),
        (COORDINATE + "2 2\n1 1 1\n", ("line 2", "is not a line of 3 sizes")),
        (COORDINATE + "2 -2 1\n1 1 1\n", ("line 2", "is not a line of 3 sizes")),
        (COORDINATE + "0 2 0\n", ("zero rows or columns",)),
        (COORDINATE + "2 2 2\n1 1 1\n2 2 1.00000\n\n1 2 1\n", ("more entries than the 2",)),
        (COORDINATE + "2 2 2\n1 1 1.00000000000000\n", ("truncated: fewer entries than the 2",)),
        (COORDINATE + "2 2 999999999999\n1 1 1\n", ("truncated", "more than", "can hold")),
        (COORDINATE + "99999999999 99999999999 1\n1 1 1\n", ("too large a matrix",)),
        (COORDINATE + "2 2 2\n1 1 1\n0 1 5\n", ("line 4", "index 0 is not one of 1 to 2")),
        (COORDINATE + "2 2 2\n1 1 1\n1 3 5\n", ("line 4", "index 3 is not one of 1 to 2")),
        (COORDINATE + "2 2 2\n1 1 1\n1 1.5 5\n", ("line 4", "index 1.5")),
        (COORDINATE + "2 2 2\n1 1 1\n1 2 nan\n", ("line 4", "nan is not a finite number")),
        (COORDINATE + "2 2 2\n1 1 1.000\n1 2\n", ("line 4", "2 fields where 3 are needed")),
        (COORDINATE + "2 2 2\n1 1 1\n1 2 3 4\n", ("line 4", "4 fields where 3 are needed")),
        (
            "%%MatrixMarket matrix array real symmetric\n2 3\n1\n2\n3\n",
            ("symmetric matrix of 2 x 3",),
        ),
        ("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\nx\n", ("line 6", "x is not")),
    ],
)
def test_refusals(tmp_path, text, words):
    (tmp_path / "a.mtx").write_text(text)
    with pytest.raises(InputError) as caught:
        read_matrix(tmp_path / "a.mtx")
    for word in ("a.mtx", *words):
        assert word in str(caught.value), str(caught.value)


def test_dense_bomb_in_a_sparse_file(tmp_path):
    (tmp_path / "a.mtx").write_text(COORDINATE + f"{10**15} 2 1\n1 1 1\n")
    with pytest.raises(MemoryLimitError, match=r"a\.mtx"):
        read_matrix(tmp_path / "a.mtx")


def labelled(folder: Path, matrix: np.ndarray, *, is_sparse: bool) -> DataSettings:
    scipy.io.mmwrite(folder / "a.mtx", scipy.sparse.coo_array(matrix) if is_sparse else matrix)
    (folder / "y.txt").write_text("".join("ab"[i % 2] + "\n" for i in range(len(matrix))))
    return DataSettings(
        train=("a.mtx",), train_labels="y.txt", test=("a.mtx",), test_labels="y.txt"
    )


@pytest.mark.parametrize("is_sparse", [True, False])
def test_as_features(tmp_path, comm, is_sparse):
    matrix = np.random.default_rng(0).standard_normal((20, 6)) * (np.arange(6) % 2)
    config = labelled(tmp_path, matrix, is_sparse=is_sparse)
    data = read_dataset(config, tmp_path, comm)
    np.testing.assert_allclose(dense(data.train.rows), matrix, rtol=1e-14)
    assert scipy.sparse.issparse(data.train.rows) == is_sparse
    np.testing.assert_array_equal(data.train.labels.codes, np.arange(20) % 2)
    said = describe_dataset(config, tmp_path, comm)
    assert said.is_sparse == is_sparse
    assert said.nnz == (120 if is_sparse else None)
    assert (said.n_rows, said.n_features) == ((20, 20), 6)


def test_labels_of_another_number(tmp_path, comm):
    config = labelled(tmp_path, np.eye(6), is_sparse=True)
    (tmp_path / "y.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match=r"y.txt: 2 labels for the 6 rows of .*a.mtx"):
        read_dataset(config, tmp_path, comm)


def test_splitting_sparse_rows(tmp_path, comm):
    matrix = np.diag(np.arange(1.0, 41.0))
    config = labelled(tmp_path, matrix, is_sparse=True)
    config = DataSettings(train=config.train, train_labels="y.txt", n_features=50)
    data = read_dataset(config, tmp_path, comm)
    assert data.train.rows.shape == (32, 50)
    assert data.test.rows.shape == (8, 50)
    found = np.concatenate([data.train.rows.toarray(), data.test.rows.toarray()]).sum(axis=1)
    np.testing.assert_array_equal(np.sort(found), np.arange(1.0, 41.0))


def bare(folder, text):
    (folder / "rows.mtx").write_text(text)
    (folder / "labels.txt").write_text("a\nb\na\nb\n")
    return {"train": ("rows.mtx",), "train_labels": "labels.txt", "test_fraction": 0.5}


@pytest.mark.mpi
def test_bare_triplets_from_0(shared_tmp, comm):
    if comm.rank == 0:
        bare(shared_tmp, "4 3 5\n0 0 1.5\n1 2 2\n2 0 3\n3 1 4\n3 2 5\n")
    comm.Barrier()
    keys = {"train": ("rows.mtx",), "train_labels": "labels.txt"}
    with pytest.raises(InputError, match=r"line 2: .* set data.index_base = 0 if the file counts"):
        read_dataset(DataSettings(**keys), shared_tmp, comm)
    path = shared_tmp / "rows.mtx"
    # A model keeps the key for its prediction inputs.
    table, _ = read_prediction_input(DataSettings(index_base=0), path, None, 3, comm)
    expected = np.array([[1.5, 0, 0], [0, 0, 2], [3, 0, 0], [0, 4, 5]])
    start, stop = ownership_range(4, comm)
    np.testing.assert_array_equal(table.rows.toarray(), expected[start:stop])
    with pytest.raises(InputError, match="index 0 is not one of 1 to 4"):
        read_prediction_input(DataSettings(index_base=1), path, None, 3, comm)


def test_an_index_beyond_the_sizes_of_triplets_from_0(tmp_path):
    keys = bare(tmp_path, "4 3 1\n4 0 1\n")
    with pytest.raises(InputError, match="index 4 is not one of 0 to 3: correct the file"):
        read_dataset(DataSettings(**keys, index_base=0), tmp_path, MPI.COMM_SELF)


@pytest.mark.parametrize("first", ["1 1 4.5", "0 1 4", "2 0 -1.5"])
def test_triplets_without_sizes_are_named(tmp_path, first):
    keys = bare(tmp_path, f"{first}\n2 2 1\n")
    words = f"line 1: '{first}' is an entry, not a line of sizes"
    with pytest.raises(InputError, match=words):
        read_dataset(DataSettings(**keys), tmp_path, MPI.COMM_SELF)
