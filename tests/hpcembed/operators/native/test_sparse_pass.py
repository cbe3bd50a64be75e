"""Compiled passes over sparse rows, against SciPy in double precision."""

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI

from hpcembed.data.matrix import DataMatrix
from hpcembed.operators.covariance.covariance_passes import CovariancePasses, Moments
from hpcembed.operators.native import sparse_pass as module
from hpcembed.operators.native import stored_rows
from hpcembed.operators.native.sparse_pass import compiled_csr, sparse_pass
from hpcembed.runtime.machine import native_library as library

SUPPORTED = library.supported_sets()

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="built without a C compiler")

#: Error of sums in float32 and float64, relative to the sums of the moduli.
TOLERANCES = {np.dtype(np.float32): 200 * 2.0**-24, np.dtype(np.float64): 200 * 2.0**-53}


def sample(n, d, density=0.2, value="f", index=np.int32, seed=0):
    rng = np.random.default_rng(seed)
    rows = scipy.sparse.random_array((n, d), density=density, format="csr", rng=rng)
    rows.data = rng.normal(size=rows.nnz).astype(value)
    rows.indices, rows.indptr = rows.indices.astype(index), rows.indptr.astype(index)
    return rows


def vectors(d, m, dtype, seed=1):
    return np.random.default_rng(seed).normal(size=(d, m)).astype(dtype)


def check(rows, V, offset=None, threads=1):
    cross, columns = sparse_pass(rows, V, offset, threads=threads)
    X = rows.toarray().astype(np.float64)
    a = 0 if offset is None else offset.astype(np.float64)
    Y = X @ V.astype(np.float64) - a
    moduli = np.abs(X) @ np.abs(V) + np.abs(a)
    tol = TOLERANCES[V.dtype]
    assert (np.abs(cross - X.T @ Y) <= tol * (np.abs(X).T @ moduli) + 1e-300).all()
    assert (np.abs(columns - Y.sum(axis=0)) <= tol * moduli.sum(axis=0) + 1e-300).all()


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("value", ["f", "d"])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_types(monkeypatch, name, precision, value, index):
    monkeypatch.setenv("HPCEMBED_NATIVE", name)
    rows = sample(301, 57, value=value, index=index)
    check(rows, vectors(57, 19, precision), vectors(1, 19, precision)[0])


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("m", [1, 7, 8, 9, 16, 17, 31, 32, 33, 65])
def test_numbers_of_columns(monkeypatch, name, m):
    monkeypatch.setenv("HPCEMBED_NATIVE", name)
    check(sample(100, 30), vectors(30, m, np.float32))


@pytest.mark.parametrize(
    "shape", [(0, 5), (1, 1), (3, 1), (1, 400), (9000, 3), (4096, 4), (4097, 4)]
)
def test_edges(shape):
    check(sample(*shape), vectors(shape[1], 5, np.float32), vectors(1, 5, np.float32)[0])


def test_empty_rows_subtract_the_offset():
    rows = scipy.sparse.csr_array((10, 4), dtype=np.float32)
    cross, columns = sparse_pass(rows, vectors(4, 3, np.float32), np.float32([1, 2, 3]))
    assert not cross.any()
    assert columns.tolist() == [-10.0, -20.0, -30.0]


@pytest.mark.parametrize("threads", [1, 2, 3, 50])
def test_threads(monkeypatch, threads):
    monkeypatch.setattr(stored_rows, "_THREAD_WORK", 1)
    rows = sample(1000, 50)
    rows = scipy.sparse.vstack([rows, scipy.sparse.csr_array((200, 50), dtype="f")], format="csr")
    check(rows, vectors(50, 10, np.float32), vectors(1, 10, np.float32)[0], threads=threads)


def test_threads_share_the_entries():
    """The first rows hold most entries."""
    rows = scipy.sparse.vstack([sample(100, 40, 0.9), sample(900, 40, 0.01)], format="csr")
    parts = list(module._parts(rows, 2))
    assert sum(part.n for part in parts) == 1000
    assert parts[0].n < 100


def test_rows_of_another_form_take_the_other_way(monkeypatch):
    rows = sample(20, 6)
    labels = np.zeros(20, int)
    assert compiled_csr(DataMatrix(rows, labels, MPI.COMM_SELF)) is not None
    assert compiled_csr(DataMatrix(rows.toarray(), labels, MPI.COMM_SELF)) is None
    monkeypatch.setenv("HPCEMBED_NATIVE", "none")
    assert compiled_csr(DataMatrix(rows, labels, MPI.COMM_SELF)) is None


@pytest.mark.mpi
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_passes_are_those_of_scipy(comm, monkeypatch, centred, dtype):
    rows = sample(600, 40, value="d")
    mine = rows[comm.rank * 600 // comm.size : (comm.rank + 1) * 600 // comm.size]
    V = vectors(40, 6, np.float64)
    found = []
    for name in ("", "none"):
        monkeypatch.setenv("HPCEMBED_NATIVE", name)
        X = DataMatrix(mine, np.zeros(mine.shape[0], int), comm)
        moments = Moments(X, centred=centred)
        total = comm.allreduce(CovariancePasses(X, moments, dtype, 2).whole_product(V))
        found.append((total, moments.mean, moments.variances))
        assert moments.variances is not None or dtype == np.float32
    tol = 1e-5 if dtype == np.float32 else 1e-12
    for compiled, plain in zip(*found, strict=True):
        if plain is not None:
            np.testing.assert_allclose(compiled, plain, atol=tol * np.abs(plain).max())
