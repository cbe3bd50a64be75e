"""The exact covariance of short integers, against arithmetic in integers and fractions."""

from fractions import Fraction

import numpy as np
import pytest
from mpi4py import MPI

from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import PCA
from hpcembed.operators.covariance import integer_covariance
from hpcembed.operators.covariance.covariance_passes import Moments
from hpcembed.operators.covariance.integer_covariance import has_integers, integer_triangle

pytestmark = pytest.mark.mpi

EPSILON = np.finfo(float).eps


def share(comm, n):
    """Uneven rows per rank; the second of three ranks has none."""
    cuts = {1: [0, n], 2: [0, n // 3, n], 3: [0, n // 2, n // 2, n]}[comm.size]
    return slice(cuts[comm.rank], cuts[comm.rank + 1])


def integers_of(dtype, n, d, seed=0):
    limits = np.iinfo(dtype)
    rows = np.random.default_rng(seed).integers(
        limits.min, limits.max, (n, d), dtype=dtype, endpoint=True
    )
    rows[:, 2] = 7  # constant
    rows[:, 4] = limits.max  # the largest products
    rows[0, 4] = limits.min
    return rows


def data_matrix(comm, rows, **scaling):
    mine = rows[share(comm, len(rows))]
    return DataMatrix(mine, np.zeros(len(mine), int), comm, storage="shell", **scaling)


def exact_covariance(rows, *, centred):
    """Each entry rounded once."""
    n, d = rows.shape
    wide = rows.astype(object)
    squares, sums = wide.T @ wide, wide.sum(axis=0)
    result = np.empty((d, d))
    for i in range(d):
        for j in range(d):
            if centred:
                result[i, j] = Fraction(int(n * squares[i, j] - sums[i] * sums[j]), n * (n - 1))
            else:
                result[i, j] = Fraction(int(squares[i, j]), n - 1)
    return result


@pytest.mark.parametrize("native", ["", "none"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("n", [2, 5, 1008, 2500])
def test_exact_on_any_number_of_ranks(comm, monkeypatch, native, dtype, centred, n):
    monkeypatch.setenv("HPCEMBED_NATIVE", native)
    rows = integers_of(dtype, n, 6)
    moments = Moments(data_matrix(comm, rows), centred=centred)
    lower = integer_triangle(data_matrix(comm, rows), moments, threads=2)
    exact = exact_covariance(rows, centred=centred)
    # three roundings, relative to the deviations
    deviations = np.sqrt(exact.diagonal())
    error = np.abs(np.tril(lower - exact))
    assert (error <= 4 * EPSILON * np.outer(deviations, deviations)).all()
    whole = DataMatrix(rows, np.zeros(n, int), MPI.COMM_SELF, storage="shell")
    alone = integer_triangle(whole, Moments(whole, centred=centred))
    assert np.array_equal(np.tril(lower), np.tril(alone))
    if centred:
        assert np.array_equal(moments.variances, lower.diagonal())
        assert moments.variances[2] == 0.0
        np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-14, atol=1e-14)


def test_scaled_rows(comm):
    rows = integers_of(np.uint8, 300, 6)
    scaling = {"shift": np.linspace(-3.0, 90.0, 6), "factor": np.linspace(0.01, 2.0, 6)}
    X = data_matrix(comm, rows, **scaling)
    assert has_integers(X, centred=True)
    assert not has_integers(X, centred=False)
    moments = Moments(X)
    lower = integer_triangle(X, moments)
    scaled = (rows - scaling["shift"]) * scaling["factor"]
    exact = np.cov(scaled.T)
    np.testing.assert_allclose(np.tril(lower), np.tril(exact), atol=1e-13 * exact.max())
    np.testing.assert_allclose(moments.mean, scaled.mean(axis=0), rtol=1e-13)


def test_constant_rows(comm):
    rows = np.full((10, 3), 200, dtype=np.uint8)
    moments = Moments(data_matrix(comm, rows))
    assert not integer_triangle(data_matrix(comm, rows), moments).any()
    assert moments.mean.tolist() == [200.0, 200.0, 200.0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_components_need_no_pass_over_the_rows(comm, monkeypatch, dtype):
    """Residuals come from the exact matrix, also where passes in single precision were planned."""
    from hpcembed.embedding import _covariance

    monkeypatch.setattr(_covariance, "CovariancePasses", None)
    rows = integers_of(dtype, 900, 40)
    pca = PCA(5, engine="assembled").fit(rows[share(comm, 900)], comm=comm)
    values = np.linalg.eigvalsh(exact_covariance(rows[:, :40], centred=True))[::-1]
    np.testing.assert_allclose(pca.explained_variance_, values[:5], rtol=1e-12)
    assert pca.certified_
    assert pca.certificate_ == "exact"


def test_logical_rows_are_bytes(comm):
    rows = np.random.default_rng(0).random((700, 12)) < np.linspace(0.0, 1.0, 12)
    moments = Moments(data_matrix(comm, rows))
    lower = integer_triangle(data_matrix(comm, rows), moments)
    exact = np.cov(rows.T.astype(float))
    np.testing.assert_allclose(np.tril(lower), np.tril(exact), rtol=1e-13, atol=1e-15)
    fitted = PCA(3).fit(rows[share(comm, 700)], comm=comm)
    assert fitted.certificate_ == "exact"


def test_wide_integers_take_the_other_way(comm):
    rows = np.arange(12, dtype=np.int32).reshape(4, 3)
    assert not has_integers(data_matrix(comm, rows), centred=True)


def test_more_rows_than_exact_sums_hold_take_the_other_way(comm, monkeypatch):
    rows = np.arange(12, dtype=np.int16).reshape(4, 3)
    assert has_integers(data_matrix(comm, rows), centred=True)
    monkeypatch.setitem(integer_covariance._MOST_ROWS, 2, 3)
    assert not has_integers(data_matrix(comm, rows), centred=True)


def test_rows_of_two_types_take_the_other_way_on_all_ranks(comm):
    rows = integers_of(np.uint8, 300, 6)[share(comm, 300)]
    mine = rows.astype(np.float32) if comm.rank == 1 else rows
    X = DataMatrix(mine, np.zeros(len(mine), int), comm, storage="shell")
    assert has_integers(X, centred=True) == (comm.size == 1)
    fitted = PCA(3, engine="assembled").fit(mine, comm=comm)
    exact = np.linalg.eigvalsh(np.cov(integers_of(np.uint8, 300, 6).T.astype(float)))[::-1]
    np.testing.assert_allclose(fitted.explained_variance_, exact[:3], rtol=1e-6)


def test_components_of_bytes_have_the_same_bits_on_any_number_of_ranks(comm):
    rows = integers_of(np.uint8, 900, 40)
    shared = PCA(5).fit(rows[share(comm, 900)], comm=comm)
    alone = PCA(5).fit(rows)
    for name in ("components_", "explained_variance_", "mean_", "feature_variances_"):
        assert np.array_equal(getattr(shared, name), getattr(alone, name))
