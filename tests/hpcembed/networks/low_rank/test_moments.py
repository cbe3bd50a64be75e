"""Covariances from sums over rows."""

import numpy as np
import pytest

from hpcembed.networks.low_rank.layer_reports import relative_error
from hpcembed.networks.low_rank.moments import Moments


def moments_of(rows):
    moments = Moments(rows.shape[1])
    for part in np.array_split(rows, 3):
        moments.add_rows(part)
    return moments


def test_covariances_are_those_of_numpy_and_symmetric():
    means = np.array([0.0, 1.0, 100.0, 1e4])
    rows = np.random.default_rng(0).standard_normal((50, 4)) + means
    found = moments_of(rows).covariance()
    np.testing.assert_allclose(found, np.cov(rows.T, bias=True), rtol=1e-6, atol=1e-7)
    assert (found == found.T).all()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e5 / 7])
def test_a_constant_column_has_no_variance(value):
    """Its deviations from the mean are rounding errors: exact zeros, also beside other columns."""
    rows = np.random.default_rng(0).standard_normal((1000, 3))
    rows[:, 1] = value
    moments = moments_of(rows)
    for about in (None, np.array([0.0, value, 0.0])):
        found = moments.covariance(about)
        assert not found[1].any()
        assert not found[:, 1].any()
        assert (np.diagonal(found)[[0, 2]] > 0.5).all()


def test_small_deviations_count():
    rows = np.random.default_rng(0).standard_normal((1000, 2)) * 1e-5 + 1.0
    np.testing.assert_allclose(np.diagonal(moments_of(rows).covariance()), rows.var(0), rtol=1e-4)


def test_errors_of_constant_outputs_are_relative_to_their_mean_square():
    n, y, error = 40, np.array([0.1, 0.7]), 1e-3
    sums = np.array([n, n * error**2, n * (y**2).sum(), *(n * y)])
    assert relative_error(sums) == pytest.approx(error**2 / (y**2).sum())
