"""Co-occurrence counts and their information against hand counts and double loops in Python."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse

from hpcembed.data.matrix import DataMatrix
from hpcembed.operators.cooccurrence.feature_cooccurrence import (
    correlation,
    feature_cooccurrence,
    sparse_feature_cooccurrence,
)
from hpcembed.operators.cooccurrence.mutual_information import positive_information
from hpcembed.operators.cooccurrence.windows import TokenDocuments, Window
from hpcembed.operators.cooccurrence.word_cooccurrence import cooccurrence
from hpcembed.runtime.errors import ConfigError, InputError

pytestmark = pytest.mark.mpi


def mine(comm, documents):
    """Return this rank's consecutive documents, fewest on the first rank."""
    n = len(documents)
    cuts = np.linspace(0, 1, comm.size + 1) ** 1.5 * n
    return TokenDocuments.packed(documents[int(cuts[comm.rank]) : int(cuts[comm.rank + 1])])


def whole(matrix):
    rows = matrix.comm.allgather(matrix.rows.toarray())
    assert matrix.comm.allgather(matrix.row_range)[-1][1] == matrix.n_terms
    return np.vstack(rows)


def by_double_loop(documents, n, window, symmetric=True):
    """Return the counts by their definition, term by term."""
    counts = np.zeros((n, n))
    weight = {
        "none": lambda s: 1.0,
        "harmonic": lambda s: 1 / s,
        "linear": lambda s: (window.size - s + 1) / window.size,
    }[window.weighting]
    for document in documents:
        tokens = [t for t in document if t >= 0 or not window.skip_unknown]
        for p, i in enumerate(tokens):
            for q, j in enumerate(tokens):
                near = 0 < abs(q - p) <= window.size and (symmetric or q > p)
                if near and i >= 0 and j >= 0:
                    counts[i, j] += weight(abs(q - p))
    return counts


def random_documents(seed, n_documents=40, n_terms=23, longest=60):
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, n_terms + 2)
    lengths = rng.integers(0, longest, n_documents)
    return [rng.choice(n_terms + 1, m, p=shares / shares.sum()) - 1 for m in lengths]


def test_counted_by_hand(comm):
    # a b a | b ? c | c | (nothing)
    documents = [np.array(d, dtype=int) for d in ([0, 1, 0], [1, -1, 2], [2], [])]
    counts = cooccurrence(mine(comm, documents), 3, comm, window=Window(2))
    assert whole(counts).tolist() == [[2, 2, 0], [2, 0, 1], [0, 1, 0]]
    assert counts.symmetric
    assert counts.n_nonzeros == 5
    assert counts.row_sums().tolist() == [4, 3, 1]
    near = cooccurrence(mine(comm, documents), 3, comm, window=Window(1))
    assert whole(near).tolist() == [[0, 2, 0], [2, 0, 0], [0, 0, 0]]
    skipping = cooccurrence(mine(comm, documents), 3, comm, window=Window(1, "none", True))
    assert whole(skipping).tolist() == [[0, 2, 0], [2, 0, 1], [0, 1, 0]]
    after = cooccurrence(mine(comm, documents), 3, comm, window=Window(2), symmetric=False)
    assert whole(after).tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert not after.symmetric


@pytest.mark.parametrize("weighting", ["none", "harmonic", "linear"])
@pytest.mark.parametrize("skip_unknown", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_against_a_double_loop(comm, weighting, skip_unknown, symmetric):
    documents = random_documents(1, n_documents=11, longest=20)
    window = Window(4, weighting, skip_unknown)
    expected = by_double_loop(documents, 23, window, symmetric)
    # pieces of 5 positions and messages of some entries; of 16; all at once
    for buffer_bytes in (56 * 4 * 5, 56 * 4 * 16, 2**24):
        counts = cooccurrence(
            mine(comm, documents),
            23,
            comm,
            window=window,
            symmetric=symmetric,
            buffer_bytes=buffer_bytes,
        )
        np.testing.assert_allclose(whole(counts), expected, rtol=1e-14)
        if weighting != "harmonic":
            assert np.array_equal(whole(counts), expected)
        assert counts.rows.has_canonical_format
        if symmetric:
            assert np.array_equal(whole(counts), whole(counts).T)


def test_same_to_the_last_bit_on_any_number_of_ranks(comm):
    documents = random_documents(2, n_documents=70)
    for window in (Window(7, "harmonic"), Window(6, "linear"), Window(5)):
        distributed = cooccurrence(mine(comm, documents), 23, comm, window=window)
        alone = cooccurrence(TokenDocuments.packed(documents), 23, comm.Split(comm.rank))
        alone = cooccurrence(TokenDocuments.packed(documents), 23, alone.comm, window=window)
        assert np.array_equal(whole(distributed), alone.rows.toarray())
        information = positive_information(distributed, shift=1.5, smoothing=0.75)
        again = positive_information(alone, shift=1.5, smoothing=0.75)
        assert np.array_equal(whole(information), again.rows.toarray())
        again.comm.Free()
    wide = cooccurrence(mine(comm, documents), 23, comm, window=Window(25, "harmonic"))
    expected = by_double_loop(documents, 23, Window(25, "harmonic"))
    np.testing.assert_allclose(whole(wide), expected, rtol=1e-12)


def test_few_documents_many_ranks_and_unknown_words(comm):
    one = [np.array([0, 0, 0])]
    counts = cooccurrence(mine(comm, one), 1, comm)
    assert whole(counts).tolist() == [[6]]
    unknown = [np.full(5, -1), np.zeros(0, int), np.full(1, -1)]
    counts = cooccurrence(mine(comm, unknown), 4, comm)
    assert whole(counts).tolist() == np.zeros((4, 4)).tolist()
    assert positive_information(counts).n_nonzeros == 0
    none = cooccurrence(mine(comm, []), 2, comm)
    assert none.n_nonzeros == 0
    assert none.rows.shape[1] == 2


def information_by_loop(C, shift, smoothing):
    total = C.sum(axis=1)
    powers = np.where(total > 0, total**smoothing, 0.0)
    contexts = powers / powers.sum()
    M = np.zeros_like(C)
    for i, j in zip(*np.nonzero(C), strict=True):
        M[i, j] = max(np.log(C[i, j] / total[i] / contexts[j]) - np.log(shift), 0)
    return (M + M.T) / 2


@pytest.mark.parametrize(("shift", "smoothing"), [(1, 1), (5, 1.0), (1.0, 0.75), (3, 0.0)])
def test_information_against_its_definition(comm, shift, smoothing):
    documents = random_documents(3)
    C = by_double_loop(documents, 24, Window(3))  # the last term never occurs
    counts = cooccurrence(mine(comm, documents), 24, comm, window=Window(3))
    information = positive_information(counts, shift=shift, smoothing=smoothing)
    expected = information_by_loop(C, shift, smoothing)
    found = whole(information)
    np.testing.assert_allclose(found, expected, atol=1e-13)
    assert np.array_equal(found, found.T)
    assert information.rows.data.min(initial=1) > 0
    mat = information.create_mat()
    assert mat.getType() == "seqaij" if comm.size == 1 else "mpiaij"
    assert mat.getOwnershipRange() == information.row_range
    assert mat.isSymmetricKnown() == (True, True)
    values = mat.getValues(range(*information.row_range), range(24))
    assert np.array_equal(np.vstack(comm.allgather(values)), found)
    mat.destroy()


def test_information_of_independent_words_is_zero(comm):
    # every pair as often as chance would have it
    documents = [np.array([i, j]) for i in range(3) for j in range(3)]
    counts = cooccurrence(mine(comm, documents), 3, comm, window=Window(1))
    assert positive_information(counts, smoothing=1.0).rows.data.max(initial=0) < 1e-15


def test_memory_stays_within_the_buffer(comm):
    rng = np.random.default_rng(4)
    tokens = rng.integers(0, 120, 100_000).astype(np.int32)
    documents = TokenDocuments(tokens, np.array([0, len(tokens)]))
    peaks = {}
    for buffer_bytes in (2**20, 2**23):
        cooccurrence(documents, 120, comm, buffer_bytes=buffer_bytes)  # imports, caches
        tracemalloc.start()
        counts = cooccurrence(documents, 120, comm, buffer_bytes=buffer_bytes)
        peaks[buffer_bytes] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peaks[buffer_bytes] < buffer_bytes + 80 * counts.rows.nnz + 100 * 120
    # or the buffer is no limit at all
    assert peaks[2**23] > 2 * peaks[2**20]


def test_memory_of_the_rows(comm):
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, 800, 100_000).astype(np.int32)
    documents = TokenDocuments(tokens, np.array([0, len(tokens)]))
    tracemalloc.start()
    counts = cooccurrence(documents, 800, comm, buffer_bytes=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20 + 80 * counts.rows.nnz + 100 * 800


def test_refusals(comm):
    good = mine(comm, [np.array([0, 1])])

    def refused(error, text, documents=good, n_terms=2, **settings):
        with pytest.raises(error, match=text):
            cooccurrence(documents, n_terms, comm, **settings)

    refused(
        InputError,
        "document 1 contains the term number 2: numbers go from 0 to 1",
        TokenDocuments.packed([np.array([0]), np.array([1, 2])]),
    )
    refused(
        InputError,
        "begin with 0 and end with 2",
        TokenDocuments(np.zeros(2, int), np.array([0, 1])),
    )
    refused(
        InputError, "must not decrease", TokenDocuments(np.zeros(2, int), np.array([0, 2, 1, 2]))
    )
    refused(InputError, "tokens of shape", TokenDocuments(np.zeros(2), np.array([0, 2])))
    refused(InputError, "a vocabulary of 0 words", n_terms=0)
    refused(ConfigError, "window must be an integer from 1 to 1000", window=Window(0))
    refused(ConfigError, "weighting = 'flat'", window=Window(2, "flat"))
    refused(ConfigError, "a window of 5 needs at least 1400", buffer_bytes=1399)
    if comm.size > 1:
        refused(ConfigError, "symmetric differs between ranks", symmetric=comm.rank == 0)
        first = TokenDocuments.packed([np.array([comm.rank * 7])])
        refused(InputError, r"\[rank 1\] document 0 contains the term number 7", first)
    with pytest.raises(InputError, match="document 0 is an array of shape"):
        TokenDocuments.packed([np.array([0.5])])
    after = cooccurrence(good, 2, comm, symmetric=False)
    with pytest.raises(ConfigError, match="symmetric counts"):
        positive_information(after)
    for settings in ({"shift": 0}, {"shift": "1"}, {"smoothing": 1.1}, {"smoothing": None}):
        with pytest.raises(ConfigError, match="must"):
            positive_information(cooccurrence(good, 2, comm), **settings)


def table(comm, rows):
    n = rows.shape[0]
    part = rows[n * comm.rank // comm.size : n * (comm.rank + 1) // comm.size]
    return DataMatrix(part, np.zeros(part.shape[0], int), comm)


def entries(mat, n):
    rows = mat.getValues(range(*mat.getOwnershipRange()), range(n))
    return np.vstack(mat.comm.tompi4py().allgather(rows))


@pytest.mark.parametrize("kind", ["sparse", "dense", "float32"])
@pytest.mark.parametrize("binary", [False, True])
def test_features_that_share_rows(comm, kind, binary):
    rng = np.random.default_rng(5)
    rows = rng.integers(1, 5, (31, 9)) * (rng.random((31, 9)) < 0.3)
    used = (rows > 0).astype(float) if binary else rows.astype(float)
    stored = {
        "sparse": scipy.sparse.csr_array(rows.astype(float)),
        "dense": rows.astype(float),
        "float32": rows.astype(np.float32),
    }[kind]
    X = table(comm, stored)
    mat = feature_cooccurrence(X, binary=binary)
    np.testing.assert_allclose(entries(mat, 9), used.T @ used, rtol=1e-14)
    assert mat.isSymmetricKnown() == (True, True)
    assert ("aij" in mat.getType()) == (kind == "sparse")
    mat.destroy()
    if kind == "sparse":
        longest = int((rows > 0).sum(axis=1).max())
        for n_pairs in (longest, longest**2 - 1, 3 * longest**2):  # less than a row, several rows
            counts = sparse_feature_cooccurrence(X, binary=binary, buffer_bytes=56 * n_pairs)
            assert np.array_equal(whole(counts), used.T @ used)
        with pytest.raises(ConfigError, match=f"a row with {longest} entries needs"):
            sparse_feature_cooccurrence(X, buffer_bytes=56 * longest - 1)
    else:
        assert np.array_equal(whole(sparse_feature_cooccurrence(X, binary=binary)), used.T @ used)
    X.destroy()


@pytest.mark.parametrize("sparse", [False, True])
def test_correlation_against_numpy(comm, sparse):
    rng = np.random.default_rng(6)
    rows = (rng.random((40, 6)) < 0.4).astype(float)
    rows[:, 3] = 1.0  # constant
    rows[:, 4] = 0.1  # constant, not exact
    X = table(comm, scipy.sparse.csr_array(rows) if sparse else rows)
    found = correlation(X)
    varies = [0, 1, 2, 5]
    expected = np.zeros((6, 6))
    expected[np.ix_(varies, varies)] = np.corrcoef(rows[:, varies].T)
    np.testing.assert_allclose(entries(found.mat, 6), expected, atol=1e-13)
    assert found.variances.tolist() == [1, 1, 1, 0, 0, 1]
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-14)
    assert found.engine == "assembled"
    found.destroy()
    with pytest.raises(InputError, match="at least 2 rows, got 1"):
        correlation(table(comm, rows[:1]))
    X.destroy()
