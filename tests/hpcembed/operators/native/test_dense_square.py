"""Compiled squares of dense rows, against numpy in double precision and in integers."""

import numpy as np
import pytest

from hpcembed.operators.native import stored_rows
from hpcembed.operators.native.dense_square import dense_square, square_bytes
from hpcembed.operators.native.stored_rows import STORED_TYPES, StoredRows
from hpcembed.runtime.machine import native_library as library
from stored_samples import sample

SUPPORTED = library.supported_sets()

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="built without a C compiler")

#: Error of sums in float32 and float64, relative to the sums of the moduli: 48 and 12 roundings.
TOLERANCES = {np.float32: 70 * 2.0**-24, np.float64: 180 * 2.0**-53}


def check(rows, precision, *, shift=None, factor=None, threads=1):
    """Compare the square and the sums with numpy."""
    lower, sums = dense_square(StoredRows(rows, shift, factor), precision, threads=threads)
    X = rows.astype(np.float64)
    X = X - (0 if shift is None else shift)
    X = X * (1 if factor is None else factor)
    tol = TOLERANCES[precision]
    moduli = np.abs(X)
    assert lower.flags.f_contiguous
    assert not np.triu(lower, 1).any()
    error = np.abs(lower - np.tril(X.T @ X))
    assert (error <= tol * (moduli.T @ moduli) + 1e-300).all()
    assert (np.abs(sums - X.sum(axis=0)) <= tol * moduli.sum(axis=0) + 1e-300).all()


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("stored", sorted(kind.char for kind in STORED_TYPES))
def test_types(monkeypatch, name, precision, stored):
    monkeypatch.setenv("HPCEMBED_NATIVE", name)
    check(sample(301, 77, stored), precision)


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 2, 5, 6, 7, 15, 16, 17, 31, 33, 48, 95, 97, 250])
def test_numbers_of_features(monkeypatch, name, precision, d):
    monkeypatch.setenv("HPCEMBED_NATIVE", name)
    check(sample(150, d, precision), precision)


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("n", [0, 1, 47, 48, 49, 143, 144, 145, 577, 4500])
def test_numbers_of_rows(monkeypatch, name, n):
    monkeypatch.setenv("HPCEMBED_NATIVE", name)
    check(sample(n, 20, np.float32), np.float32)


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("stored", [np.uint8, np.int8])
def test_squares_of_bytes_are_exact(monkeypatch, name, stored):
    monkeypatch.setenv("HPCEMBED_NATIVE", name)
    limits = np.iinfo(stored)
    rows = sample(10_000, 19, stored)
    rows[:, 3] = limits.max  # the largest sums of a block
    rows[0, 3] = limits.min
    Z = rows.astype(np.int64) - rows[0]
    stored_rows = StoredRows(rows, rows[0].astype(float))
    lower, sums = dense_square(stored_rows, np.float32, exact=True, threads=2)
    assert np.array_equal(lower, np.tril(Z.T @ Z))
    assert np.array_equal(sums, Z.sum(axis=0))


@pytest.mark.parametrize("name", SUPPORTED)
def test_zero_columns_are_skipped_where_they_are_zero(monkeypatch, name):
    """Each block has other columns that are zero."""
    monkeypatch.setenv("HPCEMBED_NATIVE", name)
    rows = sample(432, 100, np.float32)
    rows[:144, :64] = 0.0
    rows[144:288, 20:90] = 0.0
    rows[:, 40:48] = 0.0
    check(rows, np.float32)


def test_nan_and_inf_remain():
    rows = sample(300, 40, np.float32)
    rows[:, 10:30] = 0.0
    rows[7, 12] = np.nan
    rows[8, 33] = np.inf
    lower, sums = dense_square(StoredRows(rows), np.float32)
    assert np.isnan(lower[12, 12])
    assert np.isinf(lower[33, 33])
    assert np.isnan(sums[12])


@pytest.mark.parametrize(
    "view",
    [np.asfortranarray, lambda rows: rows[::2], lambda rows: rows[:, ::-3]],
    ids=["fortran", "rows", "columns"],
)
def test_strides(view):
    check(view(sample(300, 100, np.float64)), np.float32)


@pytest.mark.parametrize("scaled", ["shift", "factor", "shift factor"])
def test_shift_and_factor(scaled):
    rng = np.random.default_rng(3)
    keywords = {name: rng.uniform(0.5, 2.0, 70) for name in scaled.split()}
    check(sample(200, 70, np.float64), np.float64, **keywords)


@pytest.mark.parametrize("threads", [2, 3, 50])
def test_threads(monkeypatch, threads):
    monkeypatch.setattr(stored_rows, "_THREAD_WORK", 1)
    check(sample(1000, 50, np.float32), np.float32, threads=threads)


def test_sums_of_one_sign_lose_few_digits():
    """Errors of long sums of positive products would all have one sign."""
    rows = np.random.default_rng(0).integers(0, 256, (20_000, 8)).astype(np.float32) / 255
    lower, _ = dense_square(StoredRows(rows), np.float32)
    X = rows.astype(np.float64)
    part = np.tril_indices(8)
    assert np.abs(lower[part] / (X.T @ X)[part] - 1).max() < 5e-7


def test_memory_grows_with_features_and_threads():
    assert square_bytes(100, 2) == 2 * 20 * 100**2


def test_shifted_rows_combine_with_their_own_scaling():
    rng = np.random.default_rng(1)
    rows, shift, factor, more = rng.normal(size=(4, 5)), *rng.uniform(1, 2, (3, 5))
    found = StoredRows(rows, shift, factor).shifted(more)
    expected = (rows - shift) * factor - more
    np.testing.assert_allclose((found.rows - found.shift) * found.factor, expected, atol=1e-14)
    plain = StoredRows(rows).shifted(more)
    assert plain.factor is None
    np.testing.assert_array_equal(plain.shift, more)
    assert StoredRows(rows).shifted(None).shift is None


def test_little_work_takes_one_thread():
    assert stored_rows.useful_threads(8, 0) == 1
    assert stored_rows.useful_threads(8, 3 * 2**23) == 3
    assert stored_rows.useful_threads(2, 2**40) == 2
