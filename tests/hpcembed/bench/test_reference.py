"""Reference of the benchmark of PCAs: products of the covariance, and optimal components."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from hpcembed.bench import reference
from hpcembed.bench.data_sets import load, parse
from hpcembed.bench.reference import Covariance, reference_of
from hpcembed.runtime.errors import InputError

HERE = Path()


@pytest.mark.parametrize("word", ["generated:90x12:float64", "sparse:90x12:4", "generated:9x30"])
def test_products_are_those_of_the_covariance(word):
    rows = load(parse(word), HERE, 0)
    whole = rows.toarray() if scipy.sparse.issparse(rows) else rows
    expected = np.cov(whole.T.astype(np.float64))
    C = Covariance(rows)
    V = np.random.default_rng(0).standard_normal((C.d, 3))
    np.testing.assert_allclose(C.times(V), expected @ V, atol=1e-13)
    np.testing.assert_allclose(C.dense(), expected, atol=1e-13)
    np.testing.assert_allclose(np.trace(C.dense()), np.trace(expected), rtol=1e-12)


@pytest.mark.parametrize("word", ["generated:40x200:float64", "sparse:60x150:9"])
def test_the_reference_is_the_same_three_ways(word):
    C = Covariance(load(parse(word), HERE, 0))
    ways = [reference_of(C, 4, largest_dense=size) for size in (1000, 100, 10)]
    assert [way.source.split(" ")[0] for way in ways] == ["LAPACK", "LAPACK", "hpcembed"]
    assert "Gram" in ways[1].source
    for way in ways[1:]:
        np.testing.assert_allclose(way.values, ways[0].values, rtol=1e-9)
        np.testing.assert_allclose(np.abs(np.sum(way.vectors * ways[0].vectors, axis=0)), 1)
    assert ways[0].first(2).vectors.shape == (C.d, 2)


def test_the_second_test_finds_a_missing_component(monkeypatch):
    C = Covariance(load(parse("generated:80x50:float64"), HERE, 0))
    V = reference_of(C, 4).vectors

    class Incomplete:
        def __init__(self, *_arguments, **_settings):
            self.components_ = V[:, 1:].T

        def fit(self, _rows):
            return self

    monkeypatch.setattr(reference, "PCA", Incomplete)
    with pytest.raises(InputError, match="left out"):
        reference_of(C, 3, largest_dense=10)


def test_more_components_than_there_are_is_refused():
    with pytest.raises(InputError, match="--k 9"):
        reference_of(Covariance(np.eye(9, 20)), 9)
