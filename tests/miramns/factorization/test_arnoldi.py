"""The identities that an Arnoldi factorisation must satisfy, on 1, 2 and 3 ranks."""

import numpy as np
import pytest
import scipy.linalg
from petsc4py import PETSc

from miramns.errors import MiramnsError, OperatorError
from miramns.factorization.arnoldi import ArnoldiFactorization
from miramns.factorization.block import BlockFactorization
from miramns.iteration.published import implicit_qr
from miramns.products import apply_columns
from miramns.projected import OrthonormalProjection, ritz_pairs, thick_restart

pytestmark = pytest.mark.mpi


def local(vector, A):
    first, last = A.getOwnershipRange()
    return vector[first:last]


def check_factorization(f, M, gather, tolerance=1e-13):
    """A V = V H + v beta e', V orthonormal, H the projection."""
    j = f.size
    V = gather(f.basis[:, : j + 1])
    np.testing.assert_allclose(V.T @ V, np.eye(j + 1), atol=1e-13)
    scale = np.linalg.norm(M, 2)
    np.testing.assert_allclose(
        M @ V[:, :j], V @ f.hessenberg[: j + 1, :j], atol=tolerance * max(scale, 1)
    )


@pytest.mark.parametrize("hermitian", [True, False])
def test_relation_and_orthonormality(operators, gather, hermitian):
    M = np.random.default_rng(0).standard_normal((40, 40))
    M = M + M.T if hermitian else M
    A = operators(M)
    f = ArnoldiFactorization(A, 12, local(np.ones(40), A))
    f.extend(12)
    check_factorization(f, M, gather)
    assert f.size == 12
    assert f.n_matvec == 12
    # One for the start vector, then one or two per column, rarely a third.
    assert 1 + 12 <= f.n_reductions <= 1 + 3 * 12
    f.destroy()


def test_hilbert_matrix_needs_the_second_pass(operators, gather):
    M = scipy.linalg.hilbert(60)
    A = operators(M)
    f = ArnoldiFactorization(A, 30, local(np.ones(60), A))
    f.extend(30)
    V = gather(f.basis[:, :31])
    np.testing.assert_allclose(V.T @ V, np.eye(31), atol=1e-13)
    # One pass alone loses it: the test is worth something.
    W = np.ones((60, 1)) / np.sqrt(60)
    for _ in range(30):
        w = M @ W[:, -1]
        w -= W @ (W.T @ w)
        W = np.hstack([W, (w / np.linalg.norm(w))[:, None]])
    assert np.abs(W.T @ W - np.eye(31)).max() > 1e-3
    f.destroy()


def test_invariant_subspace_goes_on_with_zero_coupling(operators, gather):
    M = np.diag([3.0, 3.0, 2.0, 1.0, 1.0, 1.0])
    A = operators(M)
    start = np.array([1.0, 0, 1.0, 0, 0, 0])
    f = ArnoldiFactorization(A, 5, local(start, A))
    f.extend(5)
    assert f.n_breakdowns >= 1
    assert f.part_start >= 2
    assert np.count_nonzero(np.diag(f.hessenberg, -1) == 0.0) >= 1
    check_factorization(f, M, gather)
    f.destroy()


@pytest.mark.parametrize("start", [np.zeros(9), np.full(9, np.inf)])
def test_useless_start_vector_is_replaced(operators, gather, start):
    M = np.diag(np.arange(1.0, 10.0))
    A = operators(M)
    f = ArnoldiFactorization(A, 4, local(start, A))
    f.extend(4)
    check_factorization(f, M, gather)
    f.destroy()


def test_whole_space_ends_without_a_direction_left(operators, gather):
    M = np.diag(np.arange(1.0, 6.0))
    A = operators(M)
    f = ArnoldiFactorization(A, 5, local(np.ones(5), A))
    f.extend(5)
    V = gather(f.basis[:, :5])
    np.testing.assert_allclose(V.T @ V, np.eye(5), atol=1e-13)
    assert f.beta <= 1e-12
    f.destroy()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_product_that_is_not_finite_is_named_on_all_ranks(operators, bad):
    values = np.arange(1.0, 31.0)
    values[17] = bad
    A = operators(diagonal=values)
    f = ArnoldiFactorization(A, 5, local(np.ones(30), A))
    with pytest.raises(OperatorError, match=r"product 1 with the operator .* not finite"):
        f.extend(5)
    f.destroy()


@pytest.mark.parametrize("hermitian", [True, False])
def test_thick_restart_keeps_the_relation(operators, gather, hermitian):
    M = np.random.default_rng(1).standard_normal((30, 30))
    M = M + M.T if hermitian else M
    A = operators(M)
    f = ArnoldiFactorization(A, 14, local(np.ones(30), A))
    f.extend(14)
    H = f.hessenberg[:14, :14].copy()
    ritz = ritz_pairs(OrthonormalProjection(H, f.beta), "LM", hermitian=hermitian)
    Q, T = thick_restart(OrthonormalProjection(H, f.beta), ritz, 6, "LM", hermitian=hermitian)
    f.restart(Q, T)
    assert f.size == Q.shape[1]
    assert f.size in (6, 7)
    check_factorization(f, M, gather)
    kept = np.linalg.eigvals(f.hessenberg[: f.size, : f.size])
    wanted = ritz.values[: f.size]
    np.testing.assert_allclose(np.sort_complex(kept), np.sort_complex(wanted), atol=1e-10)
    f.extend(14)
    check_factorization(f, M, gather)
    f.destroy()


def spoilt(f, wide):
    """Columns that are orthonormal to 1e-6 only, with the relation unharmed."""
    M = np.eye(wide) + 1e-6 * np.triu(np.random.default_rng(5).standard_normal((wide, wide)))
    p = f.size
    f.basis[:, :wide] = f.basis[:, :wide] @ M
    f.hessenberg[:wide, :p] = np.linalg.solve(M, f.hessenberg[:wide, :p] @ M[:p, :p])


@pytest.mark.parametrize("width", [None, 1, 3])
def test_refresh_makes_orthonormal_and_keeps_the_relation(operators, gather, width):
    M = np.random.default_rng(1).standard_normal((30, 30))
    A = operators(M)
    start = local(np.ones(30), A)
    if width is None:
        f = ArnoldiFactorization(A, 12, start)
    else:
        f = BlockFactorization(A, 12, start, width=width)
    f.extend(12)
    wide = f.size + (width or 1)
    spoilt(f, wide)
    V = gather(f.basis[:, :wide])
    assert np.abs(V.T @ V - np.eye(wide)).max() > 1e-8
    f.reorthonormalize()
    V = gather(f.basis[:, :wide])
    np.testing.assert_allclose(V.T @ V, np.eye(wide), atol=1e-14)
    np.testing.assert_allclose(M @ V[:, : f.size], V @ f.hessenberg[:wide, : f.size], atol=1e-12)
    f.destroy()


def test_refresh_is_the_same_to_the_bit_on_all_ranks(operators, comm, monkeypatch):
    # LAPACK of one rank may round otherwise than that of another
    cholesky = scipy.linalg.cholesky
    off = 1 + 1e-15 * comm.rank
    monkeypatch.setattr(scipy.linalg, "cholesky", lambda gram: off * cholesky(gram))
    A = operators(np.random.default_rng(1).standard_normal((30, 30)))
    f = ArnoldiFactorization(A, 12, local(np.ones(30), A))
    f.extend(12)
    f.reorthonormalize()
    for H in comm.allgather(f.hessenberg):
        np.testing.assert_array_equal(H, f.hessenberg)
    f.destroy()


@pytest.mark.parametrize("hermitian", [True, False])
def test_implicit_restart_keeps_the_relation(operators, gather, hermitian):
    M = np.random.default_rng(2).standard_normal((30, 30))
    M = M + M.T if hermitian else M
    A = operators(M)
    f = ArnoldiFactorization(A, 12, local(np.ones(30), A))
    f.extend(12)
    H = f.hessenberg[:12, :12].copy()
    ritz = ritz_pairs(OrthonormalProjection(H, f.beta), "LM", hermitian=hermitian)
    k = ritz.whole_pairs(4)
    shifted, Q = implicit_qr(H, ritz.values[k:])
    residual = f.basis[:, :12] @ Q[:, k] * shifted[k, k - 1]
    residual = residual + f.basis[:, 12] * (f.beta * Q[11, k - 1])
    f.rotate(Q[:, :k], shifted[:k, :k], residual)
    assert f.size == k
    check_factorization(f, M, gather, tolerance=1e-11)
    f.destroy()


def test_products_with_columns(operators, gather):
    M = np.random.default_rng(3).standard_normal((11, 11))
    A = operators(M)
    X = np.random.default_rng(4).standard_normal((11, 3))
    Y = gather(apply_columns(A, np.asfortranarray(local(X, A))))
    np.testing.assert_allclose(Y, M @ X, atol=1e-13)


class Watched(PETSc.Mat):
    """An identity that remembers what was made for it; its products can be made to fail."""

    def createVecs(self, *args):  # noqa: N802
        vectors = super().createVecs(*args)
        self.made.extend(vectors)
        return vectors

    def matMult(self, other, *args):  # noqa: N802
        self.made.append(other)
        self._may_fail()
        return super().matMult(other, *args)

    def mult(self, x, y):
        self._may_fail()
        super().mult(x, y)

    def _may_fail(self):
        if self.fails:
            raise RuntimeError("no product today")

    def all_freed(self):
        return len(self.made) > 0 and all(made.handle == 0 for made in self.made)


@pytest.fixture
def watched(comm):
    A = Watched().createAIJ((12, 12), nnz=1, comm=comm)
    for i in range(*A.getOwnershipRange()):
        A[i, i] = 1.0
    A.assemble()
    A.made, A.fails = [], False
    yield A
    A.destroy()


def test_vectors_are_freed_where_the_set_up_fails(watched):
    rows = watched.getLocalSize()[0]
    with pytest.raises(MiramnsError, match="vector 0 to stay orthogonal to is zero"):
        ArnoldiFactorization(watched, 4, np.ones(rows), locked=np.zeros((rows, 1)))
    assert watched.all_freed()


def test_vectors_are_freed_where_the_start_block_fails(watched, monkeypatch):
    def fail(*_):
        raise RuntimeError("no random numbers today")

    monkeypatch.setattr(BlockFactorization, "_random", fail)
    with pytest.raises(RuntimeError, match="no random numbers"):
        BlockFactorization(watched, 4, np.ones(watched.getLocalSize()[0]), width=2)
    assert watched.all_freed()


@pytest.mark.parametrize("columns", [1, 3])
def test_what_a_failing_product_was_given_is_freed(watched, columns):
    watched.fails = True
    X = np.ones((watched.getLocalSize()[0], columns), order="F")
    with pytest.raises(RuntimeError, match="no product today"):
        apply_columns(watched, X)
    assert watched.all_freed()
