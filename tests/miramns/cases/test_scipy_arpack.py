"""Cases of SciPy's tests of ARPACK, in double precision.

Source: scipy/sparse/linalg/_eigen/arpack/tests/test_arpack.py. Tolerances are SciPy's: relative
and absolute 2000 eps for values and for ``A v = w v``, with tol at rounding level; sqrt(eps) where
subsets are compared.
"""

from __future__ import annotations

import numpy as np
import pytest

from miramns import ConvergedReason, MiramnsError

EPS = float(np.finfo(np.float64).eps)
TOLERANCE = {"rtol": 2000 * EPS, "atol": 2000 * EPS}
TIGHT = 10 * EPS


def symmetric_6(seed):
    """Random symmetric matrix of size 6, entries of order 1."""
    M = np.random.default_rng(seed).random((6, 6))
    return M + M.T


def positive_6(seed):
    """Random positive definite matrix of size 6."""
    M = np.random.default_rng(seed).random((6, 6))
    return M @ M.T


def general_6(seed):
    """Random nonsymmetric matrix of size 6."""
    return np.random.default_rng(seed).random((6, 6))


def closed_count(values, k):
    """`k`, or one more where a conjugate pair would be cut."""
    return k + int(k < len(values) and values[k] == np.conj(values[k - 1]) != values[k - 1])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [symmetric_6, positive_6], ids=["symmetric", "positive"])
@pytest.mark.parametrize("which", ["LM", "LA", "SA", "LR", "SR"])
@pytest.mark.parametrize("k", [1, 2, 4, 6])
@pytest.mark.parametrize("storage", ["dense", "matrix-free"])
def test_symmetric_6(
    operators, shell, solved, check_hermitian, in_order, kind, which, k, seed, storage
):
    M = kind(seed)
    A = operators(M) if storage == "dense" else shell(6, lambda x: M @ x)
    v0 = np.random.default_rng(100 + seed).uniform(-1, 1, 6)
    result, X = solved(A, k, which=which, hermitian=True, tol=TIGHT, start=v0)
    check_hermitian(M, result, X, k, which, tol=TIGHT)
    exact = in_order(np.linalg.eigvalsh(M), which)[:k]
    np.testing.assert_allclose(result.eigenvalues, exact, **TOLERANCE)
    np.testing.assert_allclose(M @ X, X * result.eigenvalues, **TOLERANCE)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("which", ["LM", "LR", "SR"])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("storage", ["dense", "matrix-free"])
def test_nonsymmetric_6(
    operators, shell, solved, check_nonsymmetric, in_order, which, k, seed, storage
):
    """With pairs at the cut: SciPy drops or adds one of them (gh-24358), here one is added."""
    M = general_6(seed)
    A = operators(M) if storage == "dense" else shell(6, lambda x: M @ x)
    v0 = np.random.default_rng(100 + seed).uniform(-1, 1, 6)
    result, X = solved(A, k, which=which, hermitian=False, tol=TIGHT, start=v0)
    check_nonsymmetric(M, result, X, k, which, tol=TIGHT, atol=1e-12)
    exact = in_order(np.linalg.eigvals(M), which)
    count = closed_count(exact, k)
    assert len(result.eigenvalues) == count
    np.testing.assert_allclose(result.eigenvalues, exact[:count], **TOLERANCE)
    np.testing.assert_allclose(M @ X, X * result.eigenvalues, **TOLERANCE)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("which", ["SM", "BE"])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_symmetric_6_inside_and_both_ends(solved, which, k, seed):
    """BE takes half from each end, one more from the high end where k is odd."""
    M = symmetric_6(seed)
    v0 = np.random.default_rng(100 + seed).uniform(-1, 1, 6)
    result, X = solved(M, k, which=which, hermitian=True, tol=TIGHT, start=v0)
    assert result.converged
    exact = np.linalg.eigvalsh(M)
    if which == "SM":
        expected = exact[np.argsort(np.abs(exact))][:k]
    else:
        expected = np.r_[exact[: k // 2], exact[6 - (k - k // 2) :]]
    np.testing.assert_allclose(np.sort(result.eigenvalues), np.sort(expected), **TOLERANCE)
    np.testing.assert_allclose(M @ X, X * result.eigenvalues, **TOLERANCE)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [1, 2, 3])
def test_nonsymmetric_6_smallest_modulus(solved, k, seed):
    M = general_6(seed)
    v0 = np.random.default_rng(100 + seed).uniform(-1, 1, 6)
    result, X = solved(M, k, which="SM", hermitian=False, tol=TIGHT, start=v0)
    assert result.converged
    exact = np.linalg.eigvals(M)
    found = len(result.eigenvalues)
    assert found in (k, k + 1)
    expected = np.sort(np.abs(exact))[:found]
    np.testing.assert_allclose(np.abs(result.eigenvalues), expected, **TOLERANCE)
    np.testing.assert_allclose(M @ X, X * result.eigenvalues, **TOLERANCE)


@pytest.mark.parametrize("tol", [1e-12, EPS])
@pytest.mark.parametrize("hermitian", [True, False])
def test_1_to_1000_nine_largest(operators, solved, hermitian, tol):
    """arpack-ng issue 1315: the ninth of 1000, 999, ... came back wrong for the nonsymmetric one.

    19 vectors; the original requires rounding level.
    """
    A = operators(diagonal=np.arange(1.0, 1001.0))
    result, X = solved(A, 9, hermitian=hermitian, ncv=19, tol=tol, max_it=10000)
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, np.arange(1000.0, 991.0, -1), rtol=1e-12)
    assert np.abs(X.T @ X - np.eye(9)).max() <= (1e-12 if hermitian else 1e-8)


@pytest.mark.parametrize("which", ["LM", "LR"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_complex_pair_at_the_cut(solved, check_nonsymmetric, which, k):
    """gh-24358: k cuts a conjugate pair; k + 1 values come back, the pair whole and first +."""
    rotation = np.array([[3.0, -4.0], [4.0, 3.0]])
    M = np.diag(np.linspace(0.1, 1, 30))
    M[:2, :2] = rotation
    M[2:4, 2:4] = rotation / 2
    X = np.eye(30) + 0.1 * np.random.default_rng(0).standard_normal((30, 30))
    M = X @ M @ np.linalg.inv(X)
    result, V = solved(M, k, which=which, hermitian=False)
    check_nonsymmetric(M, result, V, k, which, atol=1e-6)
    expected = [3 + 4j, 3 - 4j, 1.5 + 2j, 1.5 - 2j][: 2 * ((k + 1) // 2)]
    np.testing.assert_allclose(result.eigenvalues, expected, atol=1e-6)


def test_nested_subsets_of_a_symmetric_matrix_by_the_nonsymmetric_solver(solved):
    """Start vector of ones; the values for k are the first of those for more, to sqrt(eps)."""
    M = np.zeros((14, 14))
    index = np.arange(14)
    M[index, index] = np.r_[9.0, -6, 12, 5, -4, 8, -7, 3, 10, -2, 6, -11, 1, 4]
    M += 0.3 * np.cos(np.add.outer(index, index))
    all_values = np.linalg.eigvalsh(M)
    all_values = all_values[np.argsort(-np.abs(all_values))]
    for k in range(1, 12):
        result, _ = solved(M, k, hermitian=False, start=np.ones(14))
        np.testing.assert_allclose(result.eigenvalues.imag, 0, atol=np.sqrt(EPS))
        np.testing.assert_allclose(result.eigenvalues.real, all_values[:k], rtol=np.sqrt(EPS))


def test_no_convergence_hands_over_the_converged_subset(solved):
    """SciPy raises with the converged pairs attached; here the result lists them."""
    M = np.diag(np.r_[np.arange(1.0, 200.0), 1e4])
    result, X = solved(M, 5, hermitian=True, ncv=10, max_it=2, tol=1e-12)
    assert result.reason is ConvergedReason.DIVERGED_ITS
    assert not result.converged
    assert 1 <= result.n_converged == 5 - len(result.unconverged) < 5
    good = np.setdiff1d(np.arange(5), result.unconverged)
    assert 0 in good
    np.testing.assert_allclose(result.eigenvalues[0], 1e4, rtol=1e-10)
    norms = np.linalg.norm(M @ X - X * result.eigenvalues, axis=0)
    assert (norms[good] <= 1.01 * 1e-12 * np.abs(result.eigenvalues[good]) + 1e-9).all()


def test_ticket_1459(solved):
    """Start vector of zeros but one entry, for a matrix with two equal blocks: a crash there."""
    M = np.diag(np.r_[2.0, 2.0, np.linspace(-1, 1, 20)])
    start = np.zeros(22)
    start[0] = 1.0
    result, _ = solved(M, 2, hermitian=True, start=start)
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, [2, 2], atol=1e-12)


@pytest.mark.parametrize("hermitian", [True, False])
def test_k_of_the_whole_size(solved, in_order, hermitian):
    """SciPy warns and calls LAPACK for k >= n (or n - 1); here all k up to n are served."""
    M = symmetric_6(3) if hermitian else general_6(3)
    exact = np.linalg.eigvalsh(M) if hermitian else np.linalg.eigvals(M)
    for k in (5, 6):
        result, _ = solved(M, k, hermitian=hermitian)
        assert result.converged
        count = closed_count(in_order(exact, "LM"), k)
        np.testing.assert_allclose(result.eigenvalues, in_order(exact, "LM")[:count], atol=1e-12)


@pytest.mark.parametrize("k", [0, -1, 7])
def test_k_out_of_range(solved, k):
    with pytest.raises(MiramnsError, match=f"k={k}, n=6"):
        solved(symmetric_6(0), k, hermitian=True)


@pytest.mark.parametrize("which", ["ABCDE", "XX", "", "lm"])
def test_unknown_which(solved, which):
    with pytest.raises(MiramnsError, match="which="):
        solved(symmetric_6(0), 2, which=which, hermitian=True)


@pytest.mark.parametrize("which", ["LA", "SA"])
def test_algebraic_ends_are_for_hermitian_ones(solved, which):
    with pytest.raises(MiramnsError, match="which="):
        solved(general_6(0), 2, which=which, hermitian=False)


def test_same_seed_same_bits(solved):
    """Reproducible: two calls in one process give the same bits; another seed the same values."""
    M = np.diag(np.arange(1.0, 101.0) ** -0.5)
    (one, X), (two, Y) = (solved(M, 6, hermitian=True, seed=7) for _ in range(2))
    np.testing.assert_array_equal(one.eigenvalues, two.eigenvalues)
    np.testing.assert_array_equal(X, Y)
    other, _ = solved(M, 6, hermitian=True, seed=8)
    np.testing.assert_allclose(other.eigenvalues, one.eigenvalues, rtol=1e-12)
