"""Document-term matrices equal those of scikit-learn's vectorisers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from hpcembed.data.text.tokens import index_tokens
from hpcembed.data.text.vectoriser import TermWeights, Vectoriser
from hpcembed.data.text.vocabulary_learning import learn_vocabulary

TRAIN = ["The ship, the sea and the ship", "a road", "", "Sea wind: the wind", "naïve 3d sea"]
NEW = ["ship ship ship road unknown", "a b", "", "WIND naïve wind"]


def rows(comm, **weights):
    made = Vectoriser(learn_vocabulary(index_tokens(TRAIN), comm), TermWeights(**weights))
    return made, [made.transform(texts) for texts in (TRAIN, NEW)]


@pytest.mark.parametrize("sublinear_tf", [False, True])
@pytest.mark.parametrize("smooth_idf", [False, True])
@pytest.mark.parametrize("norm", ["l2", "none"])
def test_tfidf(comm, sublinear_tf, smooth_idf, norm):
    options = {"sublinear_tf": sublinear_tf, "smooth_idf": smooth_idf}
    peer = TfidfVectorizer(norm=None if norm == "none" else norm, **options)
    expected = [peer.fit_transform(TRAIN), peer.transform(NEW)]
    made, found = rows(comm, norm=norm, **options)
    assert made.vocabulary.terms == tuple(peer.get_feature_names_out())
    np.testing.assert_allclose(made.idf, peer.idf_, rtol=1e-14)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.toarray(), theirs.toarray(), rtol=1e-12, atol=0)
        assert ours.nnz == theirs.nnz
        assert ours.dtype == np.float64
        assert ours.has_sorted_indices
    assert found[1].toarray()[1:3].max() == 0.0


@pytest.mark.parametrize("weighting", ["counts", "binary"])
def test_without_idf(comm, weighting):
    peer = CountVectorizer(binary=weighting == "binary")
    expected = [peer.fit_transform(TRAIN), peer.transform(NEW)]
    made, found = rows(comm, weighting=weighting, norm="none", sublinear_tf=weighting == "binary")
    np.testing.assert_array_equal(made.idf, 1.0)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.toarray(), theirs.toarray())
    lengths = np.linalg.norm(rows(comm, weighting=weighting)[1][0].toarray(), axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 0, 1, 1])
