"""Word vectors, and rows as sums of feature vectors, against numpy on the same counts."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone

import hpcembed
from hpcembed.data.labels import LocalLabels
from hpcembed.data.matrix import DataMatrix
from hpcembed.data.text.documents import Documents
from hpcembed.data.text.vocabulary import Vocabulary
from hpcembed.embedding import (
    CooccurrenceEmbedding,
    Machine,
    Shape,
    SolverSettings,
    WordVectors,
)
from hpcembed.operators.cooccurrence.windows import TokenDocuments, Window
from hpcembed.operators.cooccurrence.word_cooccurrence import cooccurrence
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError, MemoryLimitError

pytestmark = pytest.mark.mpi

WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay"]


def sentences(n=60, seed=0):
    """Animals of the first half stand together more often than with the others."""
    rng = np.random.default_rng(seed)
    texts = []
    for i in range(n):
        shares = np.where((np.arange(10) < 5) == (i % 2 == 0), 4.0, 1.0)
        shares *= 1 / np.arange(1, 11)
        texts.append(" ".join(rng.choice(WORDS, rng.integers(0, 12), p=shares / shares.sum())))
    return texts


def mine(comm, documents):
    n = len(documents)
    return documents[n * comm.rank // comm.size : n * (comm.rank + 1) // comm.size]


def information(texts, size, shift, smoothing, alone):
    """Symmetric part of the definition, from counts on one rank."""
    ids = TokenDocuments.packed([np.array([WORDS.index(w) for w in t.split()]) for t in texts])
    C = cooccurrence(ids, 10, alone, window=Window(size)).rows.toarray()
    return information_of(C, shift, smoothing)


def information_of(C, shift, smoothing):
    totals = C.sum(axis=1)
    with np.errstate(divide="ignore"):
        M = np.log(C / totals[:, None] / (totals**smoothing / (totals**smoothing).sum()) / shift)
    M = np.maximum(M, 0)
    return (M + M.T) / 2


def by_modulus(M, k):
    values, vectors = np.linalg.eigh(M)
    order = np.argsort(-np.abs(values))[:k]
    return values[order], vectors[:, order]


@pytest.mark.parametrize("form", ["texts", "lists", "numbers", "pair", "vocabulary"])
def test_against_numpy_in_every_form(comm, form):
    texts = sentences()
    local = mine(comm, texts)
    lists = [text.split() for text in local]
    numbers = [np.array([WORDS.index(w) for w in words], dtype=int) for words in lists]
    model = WordVectors(4, window=2, shift=1.2, smoothing=0.75, power=0.25, tol=1e-12)
    vocabulary = Vocabulary(WORDS, [1] * 10, [1] * 10, 1)
    given = {
        "texts": (local, None),
        "lists": (lists, None),
        "numbers": (TokenDocuments.packed(numbers), WORDS),
        "pair": ((numbers, WORDS), None),
        "vocabulary": (local, vocabulary),
    }[form]
    assert model.fit(given[0], vocabulary=given[1], comm=comm) is model
    alone = comm.Split(comm.rank)
    M = information(texts, 2, 1.2, 0.75, alone)
    alone.Free()
    values, vectors = by_modulus(M, 4)
    np.testing.assert_allclose(model.eigenvalues_, values, rtol=1e-10)
    scales = np.abs(values) ** 0.5
    products = (vectors * scales) @ vectors.T
    np.testing.assert_allclose(model.vectors_ @ model.vectors_.T, products, atol=1e-10)
    assert model.terms_.tolist() == WORDS
    assert model.vocabulary_ == {word: i for i, word in enumerate(WORDS)}
    every = " ".join(texts).split()
    assert model.term_frequencies_.tolist() == [every.count(word) for word in WORDS]
    holding = [sum(word in text.split() for text in texts) for word in WORDS]
    assert model.document_frequencies_.tolist() == holding
    assert model.n_documents_ == len(texts)
    assert model.n_nonzeros_ == np.count_nonzero(M)
    assert (model.residual_norms_ <= 1e-12 * values[0] + 1e-14).all()
    assert model.certified_
    assert model.converged_reason_ == "CONVERGED_TOL"
    assert (
        len(model.result_.eigenvectors)
        == model.result_.ownership_range[1] - (model.result_.ownership_range[0])
    )
    assert set(model.seconds_) == {"operator", "solve"}


def test_vectors_do_not_depend_on_ranks(comm):
    texts = sentences(seed=3)
    many = WordVectors(5, tol=1e-12).fit(mine(comm, texts), comm=comm)
    one = WordVectors(5, tol=1e-12).fit(texts)
    np.testing.assert_allclose(many.vectors_, one.vectors_, atol=1e-9)
    np.testing.assert_allclose(many.transform(texts), one.transform(texts), atol=1e-9)


@pytest.mark.parametrize("weights", ["idf", "sif", "none"])
def test_documents_are_weighted_averages(comm, weights):
    texts = sentences()
    model = WordVectors(3, document_weights=weights, sif=0.05).fit(mine(comm, texts), comm=comm)
    df, tf = model.document_frequencies_, model.term_frequencies_
    expected = {
        "idf": np.log((1 + 60) / (1 + df)) + 1,
        "sif": 0.05 / (0.05 + tf / tf.sum()),
        "none": np.ones(10),
    }[weights]
    rows = model.transform(["cat bee cat", "zebra", "", "jay zebra"])
    cat, bee, jay = (WORDS.index(w) for w in ("cat", "bee", "jay"))
    vectors = model.vectors_
    average = 2 * expected[cat] * vectors[cat] + expected[bee] * vectors[bee]
    average /= 2 * expected[cat] + expected[bee]
    np.testing.assert_allclose(rows[0], average, atol=1e-13)
    assert not rows[1].any()
    assert not rows[2].any()
    np.testing.assert_allclose(rows[3], vectors[jay], atol=1e-13)
    lists = model.transform([["cat", "bee", "cat"], [], ["jay"]])
    np.testing.assert_allclose(lists, rows[[0, 1, 3]], atol=1e-15)
    numbers = model.transform([np.array([cat, bee, cat, -1])])
    np.testing.assert_allclose(numbers, rows[:1], atol=1e-15)
    assert model.transform([]).shape == (0, 3)


def test_nearest(comm):
    model = WordVectors(2).fit(mine(comm, sentences(400)), comm=comm)
    found = model.nearest("ant", 4)
    assert {word for word, _ in found} == {"bee", "cat", "dog", "elk"}
    cosines = [cosine for _, cosine in found]
    assert cosines == sorted(cosines, reverse=True)
    a, b = (model.vectors_[WORDS.index(w)] for w in ("ant", found[0][0]))
    assert cosines[0] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert len(model.nearest("ant", 99)) == 9
    with pytest.raises(InputError, match="'zebra' is not in the vocabulary of 10 words"):
        model.nearest("zebra")


def test_a_word_alone(comm):
    model = WordVectors(1).fit(mine(comm, ["owl owl owl"]), comm=comm)
    assert model.vectors_.tolist() == [[0.0]]
    assert model.certified_
    with pytest.raises(InputError, match="the vector of 'owl' is zero"):
        model.nearest("owl")
    # the last word of the vocabulary never occurs
    three = WordVectors(2, window=1).fit(
        mine(comm, ["ant bee", "ant bee", "cat", "cat cat"]),
        vocabulary=["ant", "bee", "cat", "elk"],
        comm=comm,
    )
    assert not three.vectors_[3].any()
    assert three.vectors_[:3].any(axis=1).all()


def test_nothing_known(comm):
    unknown = mine(comm, [np.array([-1, -1]), np.array([-1])])
    model = WordVectors(2).fit(TokenDocuments.packed(unknown), vocabulary=["a", "b"], comm=comm)
    assert not model.vectors_.any()
    with pytest.raises(InputError, match="not one word"):
        WordVectors(1).fit(mine(comm, ["", "", ""]), comm=comm)


def test_documents_that_were_read(comm):
    texts = sentences()
    local = mine(comm, texts)
    labels = LocalLabels(np.zeros(len(local), np.int64), (), "text")
    documents = Documents(local, labels, 0, len(texts), "text", comm)
    model = WordVectors(2).fit(documents)
    assert model.n_documents_ == len(texts)
    assert np.array_equal(model.transform(documents), model.transform(local))


def test_limits_of_the_vocabulary(comm):
    texts = ["ant bee", "ant cat", "ant bee dog"]
    model = WordVectors(1, min_df=2).fit(mine(comm, texts), comm=comm)
    assert model.terms_.tolist() == ["ant", "bee"]
    model = WordVectors(1, max_features=1).fit(mine(comm, texts), comm=comm)
    assert model.terms_.tolist() == ["ant"]


def test_settings_and_scikit_learn(comm):
    assert hpcembed.WordVectors is WordVectors
    model = WordVectors(3, window=7, solver=SolverSettings(ncv=9))
    copied = clone(model)
    assert copied.get_params() == model.get_params()
    assert copied.set_params(shift=5).shift == 5
    fitted = WordVectors(2).fit(mine(comm, sentences()), comm=comm)
    assert fitted.get_feature_names_out().tolist() == ["wordvectors0", "wordvectors1"]
    compared = WordVectors(3, tol=1e-10, solver=SolverSettings(reference=True))
    compared.fit(mine(comm, sentences()), comm=comm)
    assert compared.reference_.solver == "SLEPc krylovschur"
    assert compared.comparison_.max_relative_error < 1e-10
    assert compared.comparison_.exceeded == ()
    other = WordVectors(3, tol=1e-10, solver=SolverSettings(name="krylovschur"))
    other.fit(mine(comm, sentences()), comm=comm)
    np.testing.assert_allclose(other.eigenvalues_, compared.eigenvalues_, rtol=1e-9)


def test_refusals(comm):
    texts = mine(comm, sentences())

    def refused(error, message, documents=texts, vocabulary=None, **settings):
        with pytest.raises(error, match=message):
            WordVectors(**{"n_components": 2} | settings).fit(
                documents, vocabulary=vocabulary, comm=comm
            )

    refused(InputError, "n_components=11 with 10 words", n_components=11)
    refused(ConfigError, "n_components must be a positive integer", n_components=0.5)
    refused(ConfigError, "window must be an integer", window=0)
    refused(ConfigError, "shift must be positive", shift=-1.0)
    refused(ConfigError, "power must not be negative", power=-1)
    refused(ConfigError, "document_weights = 'tf'", document_weights="tf")
    refused(ConfigError, "sif must be a positive number", sif=0)
    refused(ConfigError, "tol must lie between 0 and 1", tol=2.0)
    refused(ConfigError, "solver.name = 'lapack'", solver=SolverSettings(name="lapack"))
    refused(InputError, "documents of type str", documents="ant bee")
    refused(InputError, "term numbers need a vocabulary", documents=[np.array([0, 1])])
    refused(InputError, "document 1 is of type str", documents=[["ant"], "bee"])
    refused(InputError, "1.5 is not a word", documents=[[1.5]])
    refused(InputError, "the vocabulary is empty", vocabulary=[])
    refused(InputError, "contains 'ant' twice", vocabulary=["ant", "bee", "ant"])
    refused(InputError, "a vocabulary of type str", vocabulary="ant")
    bad = TokenDocuments.packed([np.array([3])])
    refused(InputError, "document 0 contains the term number 3", bad, ["a", "b", "c"])
    few = SolverSettings(max_it=1, ncv=4)
    refused(ConvergenceError, "did not converge to the tolerance 1e-14", tol=1e-14, solver=few)
    if comm.size > 1:
        refused(ConfigError, "shift differs between ranks", shift=1.0 + comm.rank)
        given = WORDS if comm.rank else None
        refused(ConfigError, "some ranks have a vocabulary", vocabulary=given)
        refused(ConfigError, "the vocabulary differs", vocabulary=WORDS[comm.rank :])


def test_documents_that_cannot_be_used(comm):
    """Bad ones are on the last rank: all ranks must say so, and what follows must still work."""
    last = comm.rank == comm.size - 1

    def message(bad, good=("ant bee", "bee ant"), vocabulary=None):
        with pytest.raises(InputError) as caught:
            WordVectors(1).fit(bad if last else list(good), vocabulary=vocabulary, comm=comm)
        assert len(set(comm.allgather(str(caught.value)))) == 1
        where = f"[rank {comm.size - 1}] " if comm.size > 1 else ""
        assert str(caught.value).startswith(where)
        return str(caught.value).removeprefix(where)

    lists = [["ant", "bee"], ["bee", "ant"]]
    for nothing in (None, float("nan"), 7):
        kind = type(nothing).__name__
        assert message([nothing]).startswith(f"document 0 is of type {kind}: give all")
        assert message(["ant", nothing], vocabulary=WORDS).startswith("document 1 is of type")
    assert "cannot be used (TypeError" in message(np.array(7), vocabulary=WORDS)
    assert "cannot be used (TypeError" in message([np.array(7)])
    said = message([["ant"], ["bee", "a\nb"]], lists)
    assert said.startswith("the documents: document 1: the word 'a\\nb' contains a line break")
    said = message([[], ["ant", "\udce9"]], lists)
    assert said.startswith(
        "the documents: document 1: the word '\\udce9' cannot be written as UTF-8"
    )
    with pytest.raises(InputError, match=r"the vocabulary: the word '\\udce9' cannot"):
        WordVectors(1).fit(lists, vocabulary=["ant", "\udce9"], comm=comm)
    assert WordVectors(1).fit(lists, comm=comm).certified_


def presence_table(comm):
    rng = np.random.default_rng(8)
    rows = (rng.random((50, 12)) < np.where(np.arange(12) < 6, 0.5, 0.15)) * 2.0
    rows[:, 3] = rows[:, 2]
    part = mine(comm, rows)
    return rows, DataMatrix(scipy.sparse.csr_array(part), np.zeros(len(part), int), comm)


@pytest.mark.parametrize("counts", ["presence", "weights"])
def test_rows_as_sums_of_feature_vectors(comm, counts):
    rows, X = presence_table(comm)
    embedding = CooccurrenceEmbedding(3, counts=counts, power=0.5, tol=1e-12).fit(X)
    used = rows if counts == "weights" else (rows > 0).astype(float)
    M = information_of(used.T @ used, 1, 0.75)
    values, vectors = by_modulus(M, 3)
    np.testing.assert_allclose(embedding.eigenvalues_, values, rtol=1e-10)
    coordinates = np.vstack(comm.allgather(embedding.transform(X)))
    expected = rows @ (vectors * np.sqrt(np.abs(values)))
    np.testing.assert_allclose(coordinates @ coordinates.T, expected @ expected.T, atol=1e-8)
    np.testing.assert_allclose(embedding.coordinate_means_, coordinates.mean(axis=0), atol=1e-10)
    deviations = embedding.coordinate_deviations_
    np.testing.assert_allclose(deviations, coordinates.std(axis=0), rtol=1e-8)
    back = embedding.inverse_transform(coordinates)
    np.testing.assert_allclose(back, rows @ vectors @ vectors.T, atol=1e-8)
    assert embedding.n_nonzeros_ == np.count_nonzero(M)
    assert embedding.spectrum_.share is None
    assert embedding.plan_.n_entries <= 144
    assert "features that share rows" in embedding.plan_.describe()
    X.destroy()


def test_refusals_of_tables(comm):
    rows, X = presence_table(comm)
    X.destroy()
    rows[17, 5] = -0.5
    with pytest.raises(InputError, match=r"the rows hold -0.5: .* not negative"):
        CooccurrenceEmbedding(2).fit(mine(comm, rows), comm=comm)
    with pytest.raises(InputError, match="n_components=13 with 12 features"):
        CooccurrenceEmbedding(13).fit(mine(comm, np.abs(rows)), comm=comm)
    with pytest.raises(ValueError, match=r"minimum of 2|at least 2 training rows, got 1"):
        CooccurrenceEmbedding(1).fit(mine(comm, np.abs(rows[:1])), comm=comm)
    with pytest.raises(ConfigError, match="counts = 'tf' is not one of"):
        CooccurrenceEmbedding(2, counts="tf").fit(mine(comm, np.abs(rows)), comm=comm)
    with pytest.raises(MemoryLimitError, match=r"lower data.max_features"):
        CooccurrenceEmbedding(2, memory_limit=1000).fit(mine(comm, np.abs(rows)), comm=comm)


def test_the_plan_knows_sparse_rows():
    embedding, machine = CooccurrenceEmbedding(10), Machine(1, 1, 2**50)
    dense = embedding.plan(Shape(1000, 0, 50_000, None, 0), machine)
    sparse = embedding.plan(Shape(1000, 0, 50_000, 100_000, 0), machine)
    assert dense.n_entries == 50_000**2
    assert sparse.n_entries == 40_000_000
    assert sparse.bytes < dense.bytes
    assert dataclasses.replace(sparse, bytes=1).describe() != sparse.describe()
