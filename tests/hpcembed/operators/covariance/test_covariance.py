"""The covariance, assembled and matrix-free, against numpy in double precision."""

import numpy as np
import pytest
import scipy.sparse

from hpcembed.data import matrix
from hpcembed.data.matrix import DataMatrix
from hpcembed.operators.covariance.covariance import covariance
from hpcembed.runtime.errors import InputError

pytestmark = pytest.mark.mpi


def shares(comm, n):
    cuts = {1: [0, n], 2: [0, n // 3, n], 3: [0, n // 2, n // 2, n]}[comm.size]
    return slice(cuts[comm.rank], cuts[comm.rank + 1])


def operator_of(comm, whole, engine, **keywords):
    mine = whole[shares(comm, whole.shape[0])]
    rows = mine if scipy.sparse.issparse(mine) else np.ascontiguousarray(mine)
    X = DataMatrix(rows, np.zeros(mine.shape[0], int), comm, **keywords)
    return covariance(X, engine), X


def entries(mat):
    """All columns of the operator, through its products."""
    x, y = mat.createVecs()
    columns = []
    first, last = x.getOwnershipRange()
    for j in range(mat.getSize()[0]):
        x.set(0)
        if first <= j < last:
            x.setValue(j, 1.0)
        x.assemble()
        mat.mult(x, y)
        columns.append(np.concatenate(mat.comm.tompi4py().allgather(y.getArray().copy())))
    x.destroy()
    y.destroy()
    return np.array(columns).T


@pytest.mark.parametrize("engine", ["assembled", "matrix_free"])
@pytest.mark.parametrize("rows", ["double", "float32", "uint8", "sparse"])
def test_against_numpy(comm, monkeypatch, engine, rows):
    monkeypatch.setattr(matrix, "_BLOCK_BYTES", 1)  # several blocks per rank
    rng = np.random.default_rng(1)
    whole = rng.integers(0, 200, (57, 9)) * (rng.random((57, 9)) < 0.5)
    factor = np.linspace(0.1, 1, 9)
    exact = np.cov((whole * factor).T)
    stored = {
        "double": whole.astype(np.float64),
        "float32": whole.astype(np.float32),
        "uint8": whole.astype(np.uint8),
        "sparse": scipy.sparse.csr_array(whole.astype(np.float64)),
    }[rows]
    operator, X = operator_of(comm, stored, engine, factor=factor)
    np.testing.assert_allclose(entries(operator.mat), exact, atol=1e-11 * np.abs(exact).max())
    np.testing.assert_allclose(operator.mean, (whole * factor).mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(operator.variances, np.diag(exact), rtol=1e-12)
    assert operator.total_variance == pytest.approx(np.trace(exact), rel=1e-12)
    assert operator.engine == engine
    assert operator.is_hermitian
    assert operator.mat.isSymmetricKnown() == (True, True)
    operator.destroy()
    X.destroy()


def test_assembled_is_symmetric_to_the_last_bit(comm):
    whole = np.random.default_rng(2).standard_normal((40, 13))
    operator, _ = operator_of(comm, whole, "assembled")
    first, last = operator.mat.getOwnershipRange()
    mine = operator.mat.getValues(range(first, last), range(13))
    C = np.vstack(comm.allgather(mine))
    assert np.array_equal(C, C.T)
    operator.destroy()


@pytest.mark.parametrize("engine", ["assembled", "matrix_free"])
def test_huge_offset_costs_no_digits(comm, engine):
    rng = np.random.default_rng(3)
    base = np.round(rng.standard_normal((200, 5)) * 2**10) / 2**10
    exact = np.cov(base.T)
    operator, _ = operator_of(comm, base + 2.0**30, engine)
    np.testing.assert_allclose(entries(operator.mat), exact, atol=1e-9)
    np.testing.assert_allclose(operator.variances, np.diag(exact), rtol=1e-9)
    operator.destroy()


def test_algebraic_centring_keeps_the_digits_of_a_moderate_offset(comm):
    base = np.random.default_rng(5).standard_normal((2000, 5))
    operator, _ = operator_of(comm, base + 900.0, "matrix_free")
    x, y = operator.mat.createVecs()
    x.set(1.0)
    operator.mat.mult(x, y)
    product = np.concatenate(comm.allgather(y.getArray().copy()))
    np.testing.assert_allclose(product, np.cov(base.T).sum(axis=1), atol=1e-11)
    x.destroy()
    y.destroy()
    operator.destroy()


@pytest.mark.parametrize("engine", ["assembled", "matrix_free"])
def test_constant_columns_have_exactly_zero_rows(comm, engine):
    whole = np.random.default_rng(4).standard_normal((30, 4))
    whole[:, 2] = 7.0
    operator, _ = operator_of(comm, whole, engine)
    C = entries(operator.mat)
    assert np.abs(C[2]).max() <= 1e-15
    assert operator.variances[2] <= 1e-15
    operator.destroy()


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows(comm, n):
    whole = np.ones((n, 3))
    mine = whole if comm.rank == 0 else whole[:0]
    X = DataMatrix(mine, np.zeros(len(mine), int), comm)
    with pytest.raises(InputError, match=f"at least 2 training rows, got {n}"):
        covariance(X, "assembled")
