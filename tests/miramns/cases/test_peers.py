"""Cases of PRIMME, Spectra, ArnoldiMethod.jl, KrylovKit.jl and ARPACK-NG, with their tolerances.

Each section names its source. Matrices are built from their definitions.
"""

from __future__ import annotations

import numpy as np
import pytest

EPS = float(np.finfo(np.float64).eps)

# --------------------------------------------------------------------------------------- PRIMME
# Python/tests.py: tol = 0.1 sqrt(eps); eigenvalues within |A| tol, residuals within
# |A| (tol + eps) sqrt(k); the C driver requires |V_i'V_j| < 1e-7.

PRIMME_TOL = 0.1 * np.sqrt(EPS)
SIZES = [(n, k) for n in (2, 3, 5, 10, 100) for k in (1, 2, 3, 5, 10, 70) if k <= n]


def mikota(n):
    """Mikota's chain of masses and springs in standard form: eigenvalues 1, 4, 9, ... n^2.

    Masses 1/i; springs n, n - 1, ..., 1 from the wall outwards; D K D with D = masses^(-1/2).
    """
    springs = np.arange(n, 0.0, -1.0)
    K = np.diag(springs + np.r_[springs[1:], 0.0])
    K -= np.diag(springs[1:], 1) + np.diag(springs[1:], -1)
    D = np.sqrt(np.arange(1.0, n + 1))
    return D[:, None] * K * D


def elastic_rod(n):
    """Rod under torsion, fixed at one end, linear elements; mass matrix taken into both sides."""
    K = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    B = 4 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)
    K[-1, -1], B[-1, -1] = 1, 2
    L = np.linalg.cholesky(B / (6 * n))
    M = np.linalg.solve(L, np.linalg.solve(L, n * K).T)
    return (M + M.T) / 2


@pytest.mark.parametrize(("n", "k"), SIZES)
@pytest.mark.parametrize(
    "generate",
    [mikota, elastic_rod, lambda n: np.diag(np.arange(1.0, n + 1))],
    ids=["mikota", "elastic rod", "diagonal"],
)
@pytest.mark.parametrize("which", ["LA", "SA"])
def test_primme_generators(solved, check_hermitian, in_order, generate, n, k, which):
    M = generate(n)
    result, X = solved(M, k, which=which, hermitian=True, tol=PRIMME_TOL)
    check_hermitian(M, result, X, k, which, tol=PRIMME_TOL)
    if generate is mikota:
        squares = np.arange(1.0, n + 1) ** 2
        np.testing.assert_allclose(
            result.eigenvalues, in_order(squares, which)[:k], atol=n * n * PRIMME_TOL
        )
    norm = np.linalg.norm(M, 2)
    residuals = np.linalg.norm(M @ X - X * result.eigenvalues)
    assert residuals <= norm * (PRIMME_TOL + EPS) * np.sqrt(k)
    off_diagonal = X.T @ X - np.diag(np.sum(X * X, axis=0))
    assert np.abs(off_diagonal).max(initial=0) < 1e-7


# -------------------------------------------------------------------------------------- Spectra
# test/SymEigs.cpp, GenEigs.cpp: largest entry of |A U - U D| at most 1e-9.


@pytest.mark.parametrize(("n", "k", "m"), [(10, 3, 6), (100, 10, 20), (1000, 20, 50)])
@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
@pytest.mark.parametrize("density", [1.0, 0.5])
def test_spectra_symmetric(operators, solved, in_order, n, k, m, which, density):
    rng = np.random.default_rng(n)
    M = rng.uniform(-1, 1, (n, n)) * (rng.random((n, n)) < density)
    M = M + M.T
    result, X = solved(M, k, which=which, hermitian=True, ncv=m, tol=1e-12, max_it=1000)
    assert result.converged, result.view()
    assert np.abs(M @ X - X * result.eigenvalues).max() <= 1e-9
    assert np.abs(X.T @ X - np.eye(k)).max() <= 1e-12
    exact = in_order(np.linalg.eigvalsh(M), which)[:k]
    np.testing.assert_allclose(result.eigenvalues, exact, atol=1e-9)


@pytest.mark.parametrize(("n", "k", "m"), [(10, 3, 6), (100, 10, 30), (300, 20, 60)])
@pytest.mark.parametrize("which", ["LM", "LR", "SR"])
@pytest.mark.parametrize("density", [1.0, 0.5])
def test_spectra_general(solved, check_nonsymmetric, n, k, m, which, density):
    rng = np.random.default_rng(n + 1)
    M = rng.uniform(-1, 1, (n, n)) * (rng.random((n, n)) < density)
    result, X = solved(M, k, which=which, hermitian=False, ncv=m, tol=1e-11, max_it=3000)
    check_nonsymmetric(M, result, X, k, which, atol=1e-8)
    assert np.abs(M @ X - X * result.eigenvalues).max() <= 1e-9


# ----------------------------------------------------------------------------- ArnoldiMethod.jl
# test/partial_schur.jl: Q'Q - I and B Q - Q R below 1000 eps (norms).


@pytest.mark.parametrize("ncv", [7, 9, None])
@pytest.mark.parametrize("hermitian", [True, False])
def test_low_rank_with_more_wanted_than_the_rank(solved, hermitian, ncv):
    """Rank 3, five wanted: two of the seven zeros come with them."""
    B = np.random.default_rng(4).random((10, 3))
    B = B @ B.T
    result, X = solved(B, 5, hermitian=hermitian, ncv=ncv, tol=EPS)
    assert result.converged
    norm = np.linalg.norm(B, 2)
    assert np.linalg.norm(B @ X - X * result.eigenvalues) < 1000 * EPS * norm
    assert np.abs(result.eigenvalues[3:]).max() < 1000 * EPS * norm
    assert np.linalg.matrix_rank(X) == 5
    if hermitian:
        assert np.linalg.norm(X.T @ X - np.eye(5)) < 1000 * EPS


@pytest.mark.parametrize("seed", range(5))
def test_all_of_a_tiny_matrix(solved, check_nonsymmetric, seed):
    """3 by 3, all values: three products are enough."""
    M = np.random.default_rng(seed).random((3, 3))
    result, X = solved(M, 3, hermitian=False)
    check_nonsymmetric(M, result, X, 3, atol=1e-12)
    assert result.n_matvec == 3


@pytest.mark.parametrize("position", [0, 13, 29])
@pytest.mark.parametrize("hermitian", [True, False])
def test_eigenvector_as_start(solved, in_order, position, hermitian):
    M = np.random.default_rng(5).random((30, 30))
    M = M + M.T
    values, vectors = np.linalg.eigh(M)
    start = vectors[:, position]
    result, X = solved(M, 2, which="LR", hermitian=hermitian, start=start)
    assert result.converged
    assert np.linalg.norm(M @ X - X * result.eigenvalues) < 1e-7 * np.linalg.norm(M, 2)
    np.testing.assert_allclose(result.eigenvalues, in_order(values, "LR")[:2], atol=1e-7)


def test_rightmost_of_a_spectrum_with_an_outlying_left(solved):
    """Dominant ones 50 to 53, smallest wanted."""
    values = np.r_[np.arange(1, 10.05, 0.1), 50, 51, 52, 53]
    result, _ = solved(np.diag(values), 3, which="SR", hermitian=False)
    np.testing.assert_allclose(result.eigenvalues, values[:3], atol=1e-6)


@pytest.mark.parametrize("hermitian", [True, False])
def test_threefold_largest(solved, hermitian):
    """Issue 112: 10 three times, then 9.99, 9.98; 20 vectors, tolerance 1e-12."""
    values = np.r_[np.arange(1, 9.05, 0.1), 9.97, 9.98, 9.99, 10, 10, 10]
    M = np.diag(values)
    result, X = solved(M, 5, hermitian=hermitian, ncv=20, tol=1e-12)
    assert result.converged
    assert np.linalg.norm(M @ X - X * result.eigenvalues) < len(values) * 1e-12 * 10
    np.testing.assert_allclose(result.eigenvalues, [10, 10, 10, 9.99, 9.98], atol=1e-9)
    assert np.linalg.matrix_rank(X) == 5


@pytest.mark.parametrize("start", [None, "in the block"])
def test_invariant_subspace_is_a_breakdown_not_an_end(solved, check_hermitian, start):
    """The start lies in a block of size 4 that the operator never leaves: H[5, 4] = 0."""
    rng = np.random.default_rng(6)
    block = rng.standard_normal((4, 4))
    rest = rng.standard_normal((36, 36))
    M = np.zeros((40, 40))
    M[:4, :4], M[4:, 4:] = block + block.T, rest + rest.T
    v0 = np.r_[np.ones(4), np.zeros(36)] if start else None
    result, X = solved(M, 6, hermitian=True, start=v0)
    check_hermitian(M, result, X, 6)


@pytest.mark.parametrize("which", ["LM", "LR", "SR"])
def test_complex_blocks_that_change_places(solved, check_nonsymmetric, which):
    """Blocks 2 by 2 and 1 by 1 interleaved: a restart has to reorder them without cutting one."""
    n = 60
    M = np.triu(np.random.default_rng(7).standard_normal((n, n)), 1) * 0.05
    M += np.diag(np.linspace(-2, 2, n))
    for i in range(0, n - 2, 6):
        M[i + 1, i], M[i, i + 1] = -0.5 - i / n, 0.5 + i / n
        M[i, i] = M[i + 1, i + 1]
    result, X = solved(M, 7, which=which, hermitian=False, ncv=18, max_it=2000)
    check_nonsymmetric(M, result, X, 7, which, atol=1e-5)


# --------------------------------------------------------------------------------- KrylovKit.jl
# test/issues.jl and the issue tracker: tol eps^(2/3), A U = U D.


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("hermitian", [True, False])
def test_two_ones_two_zeros(solved, k, hermitian):
    """Issue 38: diag(1, 1, 0, 0) gave 1 and 0 for the two largest."""
    result, X = solved(np.diag([1.0, 1, 0, 0]), k, hermitian=hermitian)
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, [1, 1, 0, 0][:k], atol=1e-12)
    assert np.linalg.matrix_rank(X) == k


@pytest.mark.parametrize("which", ["LR", "SR"])
def test_two_by_two_identity(solved, which):
    """Issue 156."""
    result, X = solved(np.eye(2), 2, which=which, hermitian=True)
    np.testing.assert_allclose(result.eigenvalues, [1, 1], atol=1e-14)
    np.testing.assert_allclose(X.T @ X, np.eye(2), atol=1e-14)


def test_symmetric_pairs_of_degenerate_values(solved, check_hermitian):
    """Issue 76: each eigenvalue of a Kronecker product with the identity is threefold."""
    M = np.random.default_rng(8).standard_normal((12, 12))
    M = np.kron(M + M.T, np.eye(3))
    result, X = solved(M, 7, hermitian=True, tol=EPS ** (2 / 3))
    check_hermitian(M, result, X, 7, tol=EPS ** (2 / 3))


# ----------------------------------------------------------------------------------- ARPACK-NG
# TESTS/: regressions, named by the number of the issue.


@pytest.mark.parametrize("ncv", [11, 5])
def test_bug_142_start_in_the_range(solved, check_nonsymmetric, ncv):
    """A stochastic matrix of rank 3, tolerance zero there: the restart vector fell in its range."""
    M = np.full((11, 11), 0.15 / 11)
    M[0, 1:] += 0.85
    M[1:, 0] = (1 - M[0, 0]) / 10
    result, X = solved(M, 1, hermitian=False, ncv=ncv, tol=EPS)
    check_nonsymmetric(M, result, X, 1, atol=1e-12)


@pytest.mark.parametrize("k", [1, 4, 8, 9])
@pytest.mark.parametrize("inverted", [False, True])
def test_bug_58_singular_variant_of_the_identity(solved, k, inverted):
    """The 9 by 9 identity with a zero first pivot and a corner: vectors came back as NaN."""
    M = np.eye(9)
    M[0, 0], M[0, 8] = 0.0, 1.0
    values = [1.0] * 8 + [0.0]
    if inverted:  # (M + I)^-1, as the shift of -1 there makes it
        M = np.linalg.inv(M + np.eye(9))
        values = [1.0] + [0.5] * 8
    result, X = solved(M, k, hermitian=False, tol=EPS)
    assert result.converged
    assert np.isfinite(X).all()
    np.testing.assert_allclose(result.eigenvalues, values[:k], atol=1e-12)
    assert np.linalg.matrix_rank(X) == k


@pytest.mark.parametrize("v0", ["null space", "range", "zero"])
@pytest.mark.parametrize("hermitian", [True, False])
def test_bug_79_start_vector(solved, v0, hermitian):
    """The start lies in the null space, in the range, or is zero."""
    values = np.r_[np.arange(20.0, 0.0, -1.0), np.zeros(20)]
    start = {"null space": values == 0, "range": values > 0, "zero": np.zeros(40)}[v0]
    result, _ = solved(np.diag(values), 4, hermitian=hermitian, start=start)
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, [20, 19, 18, 17], rtol=1e-8)


@pytest.mark.parametrize("rho", [0.0, 10.0, 100.0])
@pytest.mark.parametrize("which", ["LM", "SR"])
def test_dndrv1_convection_diffusion(solved, check_nonsymmetric, rho, which):
    """EXAMPLES/SIMPLE and NONSYM: 10 by 10 grid, 4 values, 20 vectors. Without rho all double."""
    h = 1 / 11
    line = (2 * np.eye(10) - np.eye(10, k=1) - np.eye(10, k=-1)) / h**2
    convection = rho * (np.eye(10, k=1) - np.eye(10, k=-1)) / (2 * h)
    M = np.kron(np.eye(10), line + convection) + np.kron(line, np.eye(10))
    result, X = solved(M, 4, which=which, hermitian=False, ncv=20, max_it=3000)
    check_nonsymmetric(M, result, X, 4, which, atol=1e-3 * h * np.linalg.norm(M, 2) * 1e-3)


def test_dsdrv1_laplacian(solved, check_hermitian):
    """EXAMPLES/SYM: the same without convection, 4 largest with 10 vectors; one is double."""
    line = (2 * np.eye(10) - np.eye(10, k=1) - np.eye(10, k=-1)) * 121
    M = np.kron(np.eye(10), line) + np.kron(line, np.eye(10))
    result, X = solved(M, 4, hermitian=True, ncv=10)
    check_hermitian(M, result, X, 4)
