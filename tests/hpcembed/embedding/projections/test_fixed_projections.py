"""Lowest frequencies and selected features: scipy's transform as the oracle, ranks, bad input."""

import numpy as np
import pytest
import scipy.fft
import scipy.sparse
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from hpcembed import CosineTransform, DataMatrix, FeatureTruncation
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import ownership_range

DIGITS = load_digits().data


@parametrize_with_checks(
    [CosineTransform(1), FeatureTruncation(1), FeatureTruncation(1, order="variance")]
)
@pytest.mark.filterwarnings("default")
def test_estimator_checks(estimator, check):
    check(estimator)


def test_frequencies_of_sequences_against_scipy():
    model = CosineTransform(11).fit(DIGITS)
    theirs = scipy.fft.dct(DIGITS, norm="ortho", axis=1)[:, :11]
    np.testing.assert_allclose(model.transform(DIGITS), theirs, atol=1e-11)
    assert model.frequencies_.tolist() == [[u] for u in range(11)]
    sparse = scipy.sparse.csr_array(DIGITS)
    np.testing.assert_allclose(model.transform(sparse), theirs, atol=1e-11)
    whole = CosineTransform(64).fit(DIGITS)
    np.testing.assert_allclose(whole.inverse_transform(whole.transform(DIGITS)), DIGITS, atol=1e-10)


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (3, 4, 6), (1, 8, 8)])
def test_frequencies_of_images_against_scipy(shape):
    d = int(np.prod(shape))
    X = np.random.default_rng(0).standard_normal((7, d))
    model = CosineTransform(d, image_shape=shape).fit(X)
    theirs = scipy.fft.dctn(X.reshape(-1, *shape), norm="ortho", axes=(-2, -1))
    picked = np.stack([theirs[(slice(None), *frequency)] for frequency in model.frequencies_.T.T])
    np.testing.assert_allclose(model.transform(X), picked.T, atol=1e-12)
    np.testing.assert_allclose(model.components_ @ model.components_.T, np.eye(d), atol=1e-12)
    height, width = shape[-2:]
    norms = [(u / height) ** 2 + (v / width) ** 2 for u, v in model.frequencies_[:, -2:]]
    assert np.all(np.diff(norms) >= -1e-12)
    assert len({tuple(one) for one in model.frequencies_.tolist()}) == d
    few = CosineTransform(5, image_shape=shape).fit(X)
    np.testing.assert_array_equal(few.components_, model.components_[:5])


def test_features():
    first = FeatureTruncation(5).fit(DIGITS)
    assert first.features_.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(first.transform(DIGITS), DIGITS[:, :5])
    widest = FeatureTruncation(5, order="variance").fit(DIGITS)
    assert widest.features_.tolist() == np.argsort(-DIGITS.var(axis=0))[:5].tolist()
    np.testing.assert_array_equal(widest.transform(DIGITS), DIGITS[:, widest.features_])
    equal = FeatureTruncation(3, order="variance").fit(np.tile([[0.0], [1e5]], (1, 9)))
    assert equal.features_.tolist() == [0, 1, 2]
    assert widest.get_feature_names_out()[0] == "featuretruncation0"


def test_bad_input_is_one_line():
    cases = [
        (CosineTransform(65), InputError, "n_components <= features"),
        (CosineTransform(0), ConfigError, "n_components must be a positive integer"),
        (CosineTransform(2, image_shape=(8, 9)), ConfigError, "give the shape of a row"),
        (CosineTransform(2, image_shape=(64,)), ConfigError, "height, width"),
        (FeatureTruncation(65), InputError, "n_components <= features"),
        (FeatureTruncation(2, order="last"), ConfigError, "first, variance"),
    ]
    for estimator, kind, text in cases:
        with pytest.raises(kind, match=text):
            estimator.fit(DIGITS)


@pytest.mark.mpi
def test_the_same_on_any_number_of_ranks(comm):
    first, last = ownership_range(len(DIGITS), comm)
    X = DataMatrix(DIGITS[first:last].astype(np.uint8), np.zeros(last - first, np.int64), comm)
    for model in (CosineTransform(9, image_shape=(8, 8)), FeatureTruncation(9, order="variance")):
        alone = type(model)(**model.get_params()).fit(DIGITS)
        np.testing.assert_array_equal(model.fit(X).components_, alone.components_)
        np.testing.assert_allclose(
            model.transform(X, np.float64), alone.transform(DIGITS[first:last]), atol=1e-11
        )
        assert model.n_samples_ == len(DIGITS)
    X.destroy()


def test_variances_that_are_no_numbers():
    rows = np.random.default_rng(0).standard_normal((30, 3)) * [1, 3, 2]
    for scale in (1e-160, 1.0, 1e150):
        found = FeatureTruncation(2, order="variance").fit(scale * rows)
        assert found.features_.tolist() == [1, 2]
    with pytest.raises(InputError, match=r"the variance of feature 0 .* overflows: scale"):
        FeatureTruncation(2, order="variance").fit(1e160 * rows)
