"""Suggested numbers of components: against scikit-learn and scikit-dimension, and known signals."""

import math

import numpy as np
import pytest
import sklearn.datasets
import sklearn.decomposition
from sklearn.decomposition._pca import _assess_dimension

from hpcembed.embedding.diagnostics import suggested_sizes
from hpcembed.embedding.diagnostics.minka_evidence import minka_evidence
from hpcembed.embedding.diagnostics.suggested_size import (
    gavish_donoho_factor,
    marchenko_pastur_median,
)
from hpcembed.runtime.errors import ConfigError, InputError
from oracle_values import SPECTRA, size_values, stored


def spectrum(rows):
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2 / (len(rows) - 1)
    return np.pad(values, (0, max(rows.shape[1] - len(values), 0)))


CASES = {name: rows for name, rows in SPECTRA.items() if name != "wide"}
WIDE = SPECTRA["wide"]


@pytest.mark.parametrize("name", CASES)
def test_minka_as_scikit_learn(name):
    rows = CASES[name]
    values = spectrum(rows)
    rank = int(np.sum(values > 1e-9 * values[0]))
    expected = np.array([_assess_dimension(values, k, len(rows)) for k in range(1, rank)])
    found = minka_evidence(values, len(rows))
    np.testing.assert_allclose(
        found[: rank - 1] - found[0], expected - expected[0], rtol=1e-8, atol=1e-6
    )
    assert np.isneginf(found[rank - 1 :]).all()
    minka = suggested_sizes(values, *rows.shape)[2]
    assert minka.size == minka.at_least == int(np.argmax(expected)) + 1
    assert math.isnan(minka.threshold)
    oracle = sklearn.decomposition.PCA("mle", svd_solver="full").fit(rows)
    # three constant features of the digits leave no noise in 61 components
    assert oracle.n_components_ == (61 if name == "digits" else minka.size)


@pytest.mark.parametrize("name", SPECTRA)
def test_sizes_as_scikit_dimension(name):
    rows = SPECTRA[name]
    found = suggested_sizes(spectrum(rows), *rows.shape)
    expected = stored()["sizes"][name]
    assert list(expected) == (["MP", "GD"] if name == "wide" else ["MP", "GD", "Minka"])
    for one, (version, oracle) in zip(found, expected.items(), strict=name != "wide"):
        assert one.size == oracle["size"]
        if version != "Minka":
            assert one.noise == "median"
            assert one.noise_variance == pytest.approx(oracle["noise_variance"], rel=1e-6)


@pytest.mark.parametrize("name", SPECTRA)
def test_stored_sizes_are_those_of_scikit_dimension(name):
    pytest.importorskip("skdim")
    expected = stored()["sizes"][name]
    found = size_values(name)
    assert {version: one["size"] for version, one in found.items()} == {
        version: one["size"] for version, one in expected.items()
    }
    for version in ("MP", "GD"):
        variances = [one[version]["noise_variance"] for one in (found, expected)]
        assert variances[0] == pytest.approx(variances[1], rel=1e-9)


@pytest.mark.parametrize("rows", [CASES["three of 20"], WIDE], ids=["long", "wide"])
def test_signals_are_counted(rows):
    n, d = rows.shape
    values, signals = spectrum(rows), 3 if d == 20 else 4
    whole = suggested_sizes(values, n, d)
    assert [one.size for one in whole[:2]] == [signals] * 2
    assert [one.method for one in whole] == ["marchenko_pastur", "gavish_donoho", "minka"]
    assert whole[0].noise_variance == pytest.approx(1, abs=0.1)
    assert whole[1].threshold > whole[0].threshold
    for k in range(signals + 1, min(n - 1, d)):
        part = suggested_sizes(values[:k], n, d, trace=values.sum())
        assert [one.size for one in part] == [signals, signals, None]
        assert {one.noise for one in part} == {"trace", ""}
        assert part[0].noise_variance == pytest.approx(1, abs=0.1)
        assert part[0].threshold == pytest.approx(
            part[0].noise_variance * (1 + math.sqrt(d / (n - 1))) ** 2
        )
    assert "needs all" in part[2].reason
    few = suggested_sizes(values[:2], n, d, trace=values.sum())
    assert [(one.size, one.at_least) for one in few] == [(None, 2), (None, 2), (None, 0)]
    assert few[0].reason == "all 2 known components exceed the threshold"


def test_uncentred_rows_have_one_degree_of_freedom_more():
    rows = CASES["three of 20"] - CASES["three of 20"].mean(axis=0)
    n, d = rows.shape
    values = np.linalg.svd(rows, compute_uv=False) ** 2 / (n - 1)
    found = suggested_sizes(values, n, d, centred=False)[0]
    noise = np.median(values * (n - 1) / n) / marchenko_pastur_median(d / n)
    assert found.noise_variance == pytest.approx(noise * n / (n - 1))
    assert found.threshold == pytest.approx(found.noise_variance * (1 + math.sqrt(d / n)) ** 2)


def test_constants_of_the_papers():
    # the threshold relative to the median: 2.858 for square matrices, table IV for others
    for ratio, omega in ((1.0, 2.858), (0.5, 2.1711), (0.05, 1.5194)):
        found = math.sqrt(gavish_donoho_factor(ratio) / marchenko_pastur_median(ratio))
        assert found == pytest.approx(omega, abs=6e-4)


def test_sizes_that_are_not_determined():
    minka = suggested_sizes(spectrum(WIDE)[:59], 60, 200)[2]
    assert (minka.size, minka.reason) == (
        None,
        "it needs as many rows as features, 200; there are 60",
    )
    with pytest.raises(InputError, match="at least 2 rows"):
        suggested_sizes([1.0], 1, 3)
    with pytest.raises(ConfigError, match="n_features"):
        suggested_sizes([1.0], 3, 0)
    assert suggested_sizes([1.0], 3, 1)[2].reason == "the rows have one dimension"
