"""Scaling: scikit-learn's numbers, stability for large offsets, sparse rows, empty ranks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from hpcembed.data.file_validation import BLOCK_BYTES
from hpcembed.data.scaling import fit_scaling
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import ownership_range


def features(n: int = 500) -> np.ndarray:
    generator = np.random.default_rng(8)
    rows = generator.standard_normal((n, 6)) * [1, 1e-9, 1e9, 3, 1, 1]
    rows[:, 3] += 1e4
    rows[:, 4] = 0.1
    rows[:, 5] = 0.0
    return rows


def scaled(kind: str, rows, comm=MPI.COMM_SELF, n_rows: int | None = None):
    return fit_scaling(kind, 255.0, rows, rows.shape[0] if n_rows is None else n_rows, comm)


def test_none_and_divide():
    rows = features()
    found = scaled("none", rows)
    np.testing.assert_array_equal(found.factor, np.ones(6))
    np.testing.assert_array_equal(found.shift, np.zeros(6))
    assert found.kind == "none"
    found = scaled("divide", rows)
    np.testing.assert_array_equal(found.factor, np.full(6, 1 / 255))
    np.testing.assert_array_equal(found.shift, np.zeros(6))
    with pytest.raises(ConfigError, match=r"data\.scaling"):
        scaled("what", rows)


@pytest.mark.parametrize("dtype", ["f8", "f4", "u1"])
def test_standard_as_scikit_learn(dtype):
    rows = features() if dtype != "u1" else np.random.default_rng(0).integers(0, 256, (500, 6))
    rows = rows.astype(dtype)
    found = scaled("standard", rows)
    expected = StandardScaler().fit(rows.astype("f8"))
    np.testing.assert_allclose(found.shift, expected.mean_, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(found.factor, 1 / expected.scale_, rtol=1e-12)
    assert found.factor.dtype == found.shift.dtype == np.float64


@pytest.mark.parametrize("dtype", ["f8", "u1"])
def test_minmax_as_scikit_learn(dtype):
    rows = features()[:, [0, 2, 3, 4, 5]]
    if dtype == "u1":
        rows = np.random.default_rng(0).integers(0, 256, (500, 6)).astype("u1")
    found = scaled("minmax", rows)
    expected = MinMaxScaler().fit(rows.astype("f8"))
    np.testing.assert_allclose(found.factor, expected.scale_, rtol=1e-12)
    np.testing.assert_allclose(found.shift, expected.data_min_, rtol=1e-12)


def test_a_small_unit_is_not_a_constant():
    rows = features()[:, :1] * 1e-30
    assert scaled("minmax", rows).factor[0] > 1e28


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_sparse_rows_are_not_shifted(kind):
    rows = features()[:, [0, 2, 5]] * (np.random.default_rng(1).random((500, 3)) < 0.4)
    found = scaled(kind, scipy.sparse.csr_array(rows))
    np.testing.assert_array_equal(found.shift, np.zeros(3))
    np.testing.assert_allclose(found.factor, scaled(kind, rows).factor, rtol=1e-12)
    full = features()[:, :1] + 50.0  # no zeros: the smallest value is not zero
    found = scaled(kind, scipy.sparse.csr_array(full))
    np.testing.assert_allclose(found.factor, scaled(kind, full).factor, rtol=1e-12)


def test_overflow_is_refused():
    rows = np.array([[1e300, 1.0], [-1e300, 2.0], [0.0, 3.0]])
    with pytest.raises(InputError, match="feature 1 are too large"):
        scaled("standard", rows)
    with pytest.raises(InputError, match="feature 1 are too large"):
        scaled("minmax", rows * 1e8)


@pytest.mark.mpi
def test_standard_is_stable_for_a_large_mean(comm):
    n = 3000
    rows = 1e9 + np.random.default_rng(9).standard_normal((n, 3))
    start, stop = ownership_range(n, comm)
    found = scaled("standard", rows[start:stop], comm, n)
    for column in range(3):
        exact = [Fraction(value) for value in rows[:, column].tolist()]
        mean = sum(exact) / n
        variance = float(sum((value - mean) ** 2 for value in exact) / n)
        assert abs(found.shift[column] - float(mean)) <= 4e-7
        assert abs(found.factor[column] * np.sqrt(variance) - 1) < 1e-12


@pytest.mark.mpi
@pytest.mark.parametrize("kind", ["standard", "minmax"])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_ranks_agree_and_may_be_empty(comm, kind, is_sparse):
    rows = features()
    hold = scipy.sparse.csr_array if is_sparse else np.asarray
    start, stop = (0, 500) if comm.rank == comm.size - 1 else (0, 0)
    alone = scaled(kind, hold(rows))
    found = scaled(kind, hold(rows[start:stop]), comm, 500)
    np.testing.assert_array_equal(found.factor, alone.factor)
    np.testing.assert_array_equal(found.shift, alone.shift)
    start, stop = ownership_range(500, comm)
    found = scaled(kind, hold(rows[start:stop]), comm, 500)
    np.testing.assert_allclose(found.factor, alone.factor, rtol=1e-12)
    everywhere = comm.allgather((found.factor.tobytes(), found.shift.tobytes()))
    assert len(set(everywhere)) == 1


def test_blocks_do_not_matter():
    n = 3 * BLOCK_BYTES // (8 * 64)
    rows = np.random.default_rng(0).integers(0, 256, (n, 64)).astype("u1")
    found = scaled("standard", rows)
    np.testing.assert_allclose(found.shift, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.factor, 1 / rows.std(axis=0), rtol=1e-12)


@pytest.mark.mpi
@pytest.mark.parametrize("kind", ["standard", "minmax"])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_the_bits_of_one_rank(comm, kind, is_sparse):
    rows = features(700)
    rows = scipy.sparse.csr_array(np.where(rows > 1, rows, 0.0)) if is_sparse else rows
    first, last = (int(700 * (i / comm.size) ** 3) for i in (comm.rank, comm.rank + 1))
    found = fit_scaling(kind, 1.0, rows[first:last], 700, comm, reproducible=True)
    alone = fit_scaling(kind, 1.0, rows, 700, MPI.COMM_SELF, reproducible=True)
    usual = scaled(kind, rows)
    for name in ("shift", "factor"):
        ours, theirs = getattr(found, name), getattr(alone, name)
        assert ours.tobytes() == theirs.tobytes()
        np.testing.assert_allclose(ours, getattr(usual, name), rtol=1e-12)
