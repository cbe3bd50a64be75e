"""DataMatrix: the same results for three storages and any number of rows per rank."""

import numpy as np
import pytest
import scipy.sparse

from hpcembed.data import matrix
from hpcembed.data.matrix import DataMatrix
from hpcembed.runtime.errors import InputError

pytestmark = pytest.mark.mpi

RNG = np.random.default_rng(0)
WHOLE = RNG.integers(0, 255, size=(23, 6)).astype(np.float64) * (RNG.random((23, 6)) < 0.4)
SHIFT = np.array([0.0, 1, 2, 3, 4, 5])
FACTOR = np.array([1.0, 0.5, 2, 1, 1, 4])


def shares(comm, n):
    """Uneven shares; with several ranks, the last but one owns no rows."""
    cuts = {1: [0, n], 2: [0, 0, n], 3: [0, n // 3, n // 3, n]}[comm.size]
    return slice(cuts[comm.rank], cuts[comm.rank + 1])


def make(comm, kind, scaled=True):
    mine = WHOLE[shares(comm, 23)]
    if kind == "aij":
        rows = scipy.sparse.csr_array(mine)
        keywords = {"factor": FACTOR} if scaled else {}
        expected = WHOLE * FACTOR if scaled else WHOLE
    else:
        dtype = {"dense": np.float64, "shell": np.uint8, "shell32": np.float32}[kind]
        rows = mine.astype(dtype)
        keywords = {"shift": SHIFT, "factor": FACTOR} if scaled else {}
        expected = (WHOLE - SHIFT) * FACTOR if scaled else WHOLE
    labels = np.arange(23)[shares(comm, 23)]
    return DataMatrix(rows, labels, comm, **keywords), expected


KINDS = ["dense", "shell", "shell32", "aij"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaled", [True, False])
def test_shape_blocks_and_rows(comm, monkeypatch, kind, scaled):
    monkeypatch.setattr(matrix, "_BLOCK_BYTES", 1)
    X, expected = make(comm, kind, scaled)
    assert X.storage == kind.removesuffix("32")
    assert (X.n_rows, X.n_features) == (23, 6)
    assert X.row_range[1] - X.row_range[0] == X.n_local
    mine = expected[slice(*X.row_range)]
    rows = [b.toarray() if X.is_sparse else np.array(b) for _, b in X.blocks()]
    firsts = [first for first, _ in X.blocks()]
    if rows:
        np.testing.assert_allclose(np.vstack(rows), mine)
        assert firsts == list(np.cumsum([0, *(len(b) for b in rows[:-1])]))
    np.testing.assert_allclose(X.dense_rows(np.float64), mine)
    assert X.dense_rows().dtype == np.float32
    assert X.stored_bytes >= 0
    if kind == "aij":
        assert X.n_nonzeros == np.count_nonzero(WHOLE)
    np.testing.assert_array_equal(X.labels, np.arange(23)[slice(*X.row_range)])


@pytest.mark.parametrize("kind", KINDS)
def test_petsc_products(comm, kind):
    X, expected = make(comm, kind)
    x, y = X.mat.createVecs()
    first, last = x.getOwnershipRange()
    v = np.linspace(-1, 1, 6)
    x.setArray(v[first:last])
    X.mat.mult(x, y)
    np.testing.assert_allclose(y.getArray(), (expected @ v)[slice(*X.row_range)], atol=1e-11)
    u = np.linspace(1, 2, 23)
    y.setArray(u[slice(*X.row_range)])
    X.mat.multTranspose(y, x)
    np.testing.assert_allclose(x.getArray(), (expected.T @ u)[first:last], atol=1e-10)
    x.destroy()
    y.destroy()
    X.destroy()


def test_shell_storage_does_not_copy_rows(comm):
    rows = WHOLE.astype(np.uint8)
    X = DataMatrix(rows, np.zeros(23, int), comm, factor=np.full(6, 1 / 255))
    assert X.stored_bytes == rows.nbytes
    rows[0, 0] = 255
    assert X.dense_rows(np.float64)[0, 0] == 1.0


@pytest.mark.parametrize(
    ("rows", "keywords", "message"),
    [
        (scipy.sparse.csr_array(np.eye(3)), {"shift": np.ones(3)}, "sparse rows take no shift"),
        (scipy.sparse.csr_array(np.eye(3)), {"storage": "dense"}, "does not fit sparse rows"),
        (np.eye(3), {"storage": "aij"}, "does not fit dense rows"),
    ],
)
def test_storage_that_does_not_fit(comm, rows, keywords, message):
    with pytest.raises(ValueError, match=message):
        DataMatrix(rows, np.zeros(3, int), comm, **keywords)


def test_rows_beyond_a_precision_are_refused(comm):
    X = DataMatrix(np.full((2, 2), 1e40), np.zeros(2, int), comm)
    with pytest.raises(InputError, match=r"a value of 1.0e\+40 exceeds the range of float32"):
        X.dense_rows()
    np.testing.assert_array_equal(X.dense_rows(np.float64), 1e40)


@pytest.mark.parametrize("form", ["csc_array", "coo_array", "bsr_array", "csr_matrix"])
def test_every_sparse_format_is_read_by_rows(comm, form):
    square = np.arange(9.0).reshape(3, 3)
    X = DataMatrix(getattr(scipy.sparse, form)(square), np.zeros(3, int), comm)
    np.testing.assert_array_equal(X.dense_rows(np.float64), square)
    assert X.is_sparse


def test_duplicate_entries_are_added_in_a_copy(comm):
    twice = scipy.sparse.csr_array(([1.0, 2.0, 4.0], [1, 1, 0], [0, 2, 3]), shape=(2, 2))
    X = DataMatrix(twice, np.zeros(2, int), comm)
    np.testing.assert_array_equal(X.dense_rows(np.float64), [[0, 3], [4, 0]])
    assert X.n_nonzeros == 2 * comm.size
    assert twice.nnz == 3


@pytest.mark.parametrize(
    ("rows", "n_labels", "message"),
    [
        (np.ones(4), 4, "rows of shape \\(4,\\): give a table"),
        (np.ones((2, 2)) + 1j, 2, "complex128 are not real numbers: give the real and imaginary"),
        (scipy.sparse.csr_array(1j * np.eye(2)), 2, "complex128 are not real numbers"),
        (np.array([["a", "b"]]), 1, "not real numbers: give numbers"),
        (np.ones((3, 2)), 2, "labels of shape \\(2,\\) for 3 rows"),
        (np.ones((3, 2)), 4, "labels of shape \\(4,\\) for 3 rows"),
    ],
)
def test_invalid_rows_are_an_error_on_all_ranks(comm, rows, n_labels, message):
    with pytest.raises(InputError, match=message):
        DataMatrix(rows, np.zeros(n_labels, int), comm)
    # The same if one rank alone has invalid rows.
    if comm.rank != comm.size - 1:
        rows, n_labels = np.ones((1, 2)), 1
    with pytest.raises(InputError, match=message):
        DataMatrix(rows, np.zeros(n_labels, int), comm)


def test_ranks_with_different_columns(comm):
    if comm.size == 1:
        pytest.skip("needs two ranks")
    with pytest.raises(InputError, match="rows differ between ranks"):
        DataMatrix(np.ones((1, 2 + comm.rank)), np.zeros(1, int), comm)
