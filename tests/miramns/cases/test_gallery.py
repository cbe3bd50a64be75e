"""Matrices of Higham's gallery and of the tridiagonal test collections, against LAPACK.

Sources: N. Higham, The Test Matrix Toolbox (and MatrixDepot.jl); J. H. Wilkinson, The Algebraic
Eigenvalue Problem; stetester (ACM Algorithm 880) for glued Wilkinson, Clement, and the Hermite,
Laguerre and Legendre tridiagonals.

Hermitian ones are held to the whole contract. Of nonsymmetric ones the eigenvalues are compared
where they are well enough conditioned; of defective ones what any matrix allows: see the tests.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg

EPS = float(np.finfo(np.float64).eps)


def tridiagonal(diagonal, off) -> np.ndarray:
    return np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)


def wilkinson_plus(n=21) -> np.ndarray:
    """W+: the largest eigenvalues come in pairs that agree to 14 digits for n = 21."""
    return tridiagonal(np.abs(np.arange(n) - n // 2).astype(float), np.ones(n - 1))


def glued_wilkinson(copies=5, glue=1e-8) -> np.ndarray:
    """Copies of W21+ joined by small entries: clusters of 2 `copies` eigenvalues."""
    M = np.kron(np.eye(copies), wilkinson_plus())
    for c in range(1, copies):
        M[21 * c, 21 * c - 1] = M[21 * c - 1, 21 * c] = glue
    return M


def clement(n=31) -> np.ndarray:
    """Symmetric: eigenvalues n - 1, n - 3, ..., -(n - 1), a tie in modulus throughout."""
    i = np.arange(1.0, n)
    return tridiagonal(np.zeros(n), np.sqrt(i * (n - i)))


def kac(n=21) -> np.ndarray:
    """The same spectrum from the nonsymmetric tridiagonal of Sylvester and Kac."""
    i = np.arange(1.0, n)
    return np.diag(i, 1) + np.diag(i[::-1], -1)


def rosser() -> np.ndarray:
    """Double, nearly equal, zero, small and opposite eigenvalues in 8 by 8 integers."""
    return np.array(
        [
            [611, 196, -192, 407, -8, -52, -49, 29],
            [196, 899, 113, -192, -71, -43, -8, -44],
            [-192, 113, 899, 196, 61, 49, 8, 52],
            [407, -192, 196, 611, 8, 44, 59, -23],
            [-8, -71, 61, 8, 411, -599, 208, 208],
            [-52, -43, 49, 44, -599, 411, 208, 208],
            [-49, -8, 8, 59, 208, 208, 99, -911],
            [29, -44, 52, -23, 208, 208, -911, 99.0],
        ]
    )


def indices(n):
    i = np.arange(1.0, n + 1)
    return i[:, None], i[None, :]


def lehmer(n=30):
    i, j = indices(n)
    return np.minimum(i, j) / np.maximum(i, j)


def moler(n=20):
    """Positive definite with one eigenvalue near zero."""
    L = np.tril(-np.ones((n, n)), -1) + np.eye(n)
    return L @ L.T


def dingdong(n=30):
    """Eigenvalues in two clusters around pi/2 and -pi/2."""
    i, j = indices(n)
    return 0.5 / (n - i - j + 1.5)


def kms(n=40, rho=0.9):
    i, j = indices(n)
    return rho ** np.abs(i - j)


def orthogonal_polynomial(name: str, n: int = 40) -> np.ndarray:
    """Jacobi matrix, whose eigenvalues are the nodes of Gauss quadrature."""
    i = np.arange(1.0, n)
    if name == "hermite":
        return tridiagonal(np.zeros(n), np.sqrt(i / 2))
    if name == "laguerre":
        return tridiagonal(2 * np.arange(n) + 1.0, i)
    return tridiagonal(np.zeros(n), i / np.sqrt(4 * i * i - 1))


SYMMETRIC: dict[str, Callable[[], np.ndarray]] = {
    "wilkinson W21+": wilkinson_plus,
    "wilkinson W21-": lambda: tridiagonal(np.arange(10.0, -11, -1), np.ones(20)),
    "glued wilkinson 1e-8": glued_wilkinson,
    "glued wilkinson 1e-14": lambda: glued_wilkinson(3, 1e-14),
    "clement": clement,
    "rosser": rosser,
    "lehmer": lehmer,
    "minij": lambda: np.minimum(*indices(30)),
    "moler": moler,
    "pei": lambda: np.ones((20, 20)) + 2 * np.eye(20),
    "fiedler": lambda: np.abs(np.subtract(*indices(30))),
    "dingdong": dingdong,
    "kms": kms,
    "kms negative": lambda: kms(rho=-0.5),
    "hilbert": lambda: scipy.linalg.hilbert(20),
    "pascal": lambda: scipy.linalg.pascal(9).astype(float),
    "hadamard": lambda: scipy.linalg.hadamard(32).astype(float),
    "poisson": lambda: (
        np.kron(np.eye(7), tridiagonal(np.full(7, 2.0), -np.ones(6)))
        + np.kron(tridiagonal(np.full(7, 2.0), -np.ones(6)), np.eye(7))
    ),
    "prolate": lambda: scipy.linalg.toeplitz(
        np.r_[0.5, np.sin(0.5 * np.pi * np.arange(1, 32)) / (np.pi * np.arange(1, 32))]
    ),
    "hermite": lambda: orthogonal_polynomial("hermite"),
    "laguerre": lambda: orthogonal_polynomial("laguerre"),
    "legendre": lambda: orthogonal_polynomial("legendre"),
    "exchange": lambda: np.eye(24)[::-1].copy(),
    "randsvd": lambda: _randsvd(40, 1e12),
    "star": lambda: np.outer(np.eye(30)[0], np.ones(30)) + np.outer(np.ones(30), np.eye(30)[0]),
}


def _randsvd(n, condition):
    Q, _ = np.linalg.qr(np.random.default_rng(9).standard_normal((n, n)))
    M = (Q * condition ** -(np.arange(n) / (n - 1))) @ Q.T
    return (M + M.T) / 2


@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric(solved, check_hermitian, name, k, which):
    M = SYMMETRIC[name]()
    result, X = solved(M, k, which=which, hermitian=True, tol=1e-10)
    check_hermitian(M, result, X, k, which, tol=1e-10)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_all_pairs(solved, check_hermitian, name):
    M = SYMMETRIC[name]()
    result, X = solved(M, len(M), hermitian=True, tol=1e-13)
    check_hermitian(M, result, X, len(M), tol=1e-13)


@pytest.mark.parametrize(
    "name",
    ["wilkinson W21+", "glued wilkinson 1e-8", "clement", "lehmer", "kms", "hermite", "poisson"],
)
@pytest.mark.parametrize("which", ["LM", "SA"])
def test_symmetric_with_restarts(solved, check_hermitian, name, which):
    """A subspace of 12: clusters have to come through restarts."""
    M = SYMMETRIC[name]()
    result, X = solved(M, 4, which=which, hermitian=True, ncv=12, tol=1e-10, max_it=5000)
    check_hermitian(M, result, X, 4, which, tol=1e-10)


def test_rosser_values_by_name(solved):
    """Exact ones: 10 sqrt(10405) with both signs, 1020 and 1000 twice, 510 +- 100 sqrt(26), 0."""
    result, _ = solved(rosser(), 8, which="LA", hermitian=True, tol=1e-13)
    big, root = 10 * np.sqrt(10405), 100 * np.sqrt(26)
    exact = [big, 510 + root, 1000, 1000, 510 - root, 0, -big]
    exact.insert(1, 1020.0)
    np.testing.assert_allclose(result.eigenvalues, sorted(exact, reverse=True), atol=1e-10)


# ----------------------------------------------------------------------------------- nonsymmetric


def frank(n=12):
    """Upper Hessenberg, positive eigenvalues; the small ones are ill-conditioned."""
    i, j = indices(n)
    return np.where(j >= i - 1, n + 1 - np.maximum(i, j), 0.0)


def grcar(n=30):
    """Toeplitz; complex eigenvalues, all sensitive."""
    return np.triu(np.tril(np.ones((n, n)), 3)) - np.eye(n, k=-1)


def chebspec(n=16):
    """Chebyshev differentiation without the boundary: nilpotent, so any eigenvalue is rounding."""
    x = np.cos(np.pi * np.arange(n + 1) / n)
    c = np.r_[2, np.ones(n - 1), 2] * (-1.0) ** np.arange(n + 1)
    difference = np.subtract.outer(x, x) + np.eye(n + 1)
    D = np.outer(c, 1 / c) / difference
    return (D - np.diag(D.sum(axis=1)))[1:, 1:]


def kahan(n=20, theta=1.2):
    """Upper triangular: eigenvalues s^i, graded."""
    s, c = np.sin(theta), np.cos(theta)
    return np.diag(s ** np.arange(n)) @ (np.eye(n) - c * np.triu(np.ones((n, n)), 1))


def hanowa(n=20):
    """Eigenvalues -1 + i j and its conjugate, j = 1 .. n/2: all on a line."""
    D = np.diag(np.arange(1.0, n // 2 + 1))
    return np.block([[-np.eye(n // 2), -D], [D, -np.eye(n // 2)]])


WELL_CONDITIONED: dict[str, tuple[Callable[[], np.ndarray], float]] = {
    # matrix and the accuracy that LAPACK itself has for the wanted eigenvalues, times |A|
    "frank": (frank, 1e-8),
    "kac": (kac, 1e-8),
    "lotkin": (lambda: np.vstack([np.ones(15), scipy.linalg.hilbert(15)[1:]]), 1e-8),
    "hanowa": (hanowa, 1e-8),
    "leslie": (lambda: scipy.linalg.leslie(np.full(12, 0.7), np.full(11, 0.8)), 1e-8),
    "circulant": (lambda: scipy.linalg.circulant(np.arange(1.0, 17)), 1e-8),
    "forsythe": (lambda: np.eye(10, k=1) + _corner(10), 1e-6),
    "companion": (lambda: scipy.linalg.companion(np.poly([1.0, -2, 3, 0.5, 4, -5])), 1e-6),
    "parter": (lambda: 1 / (np.subtract(*indices(20)) + 0.5), 1e-8),
}


def _corner(n, value=0.1):
    M = np.zeros((n, n))
    M[-1, 0] = value
    return M


def _redheffer(n):
    i, j = indices(n)
    return np.where((j == 1) | (j % i == 0), 1.0, 0.0)


@pytest.mark.parametrize("which", ["LM", "LR", "SR"])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("name", WELL_CONDITIONED)
def test_nonsymmetric(solved, check_nonsymmetric, name, k, which):
    generate, accuracy = WELL_CONDITIONED[name]
    M = generate()
    result, X = solved(M, k, which=which, hermitian=False, tol=1e-12)
    atol = accuracy * np.linalg.norm(M, 2)
    check_nonsymmetric(M, result, X, k, which, tol=1e-12, atol=atol)


DEFECTIVE: dict[str, Callable[[], np.ndarray]] = {
    "jordan block": lambda: np.eye(20) + np.eye(20, k=1),
    "nilpotent": lambda: np.eye(12, k=1),
    "two jordan blocks": lambda: scipy.linalg.block_diag(
        2 * np.eye(6) + np.eye(6, k=1), -2 * np.eye(6) + np.eye(6, k=1)
    ),
    "triw": lambda: np.eye(15) + 2 * np.triu(np.ones((15, 15)), 1),
    "chebspec": chebspec,
    "grcar": grcar,
    "kahan": kahan,
    "redheff": lambda: _redheffer(20),
    "wilkinson eigenvalues 1..20 over 20": lambda: (
        np.diag(np.arange(20.0, 0, -1)) + 20 * np.eye(20, k=1)
    ),
}


@pytest.mark.parametrize("which", ["LM", "LR", "SR"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", DEFECTIVE)
def test_defective_or_nearly(solved, check_nonsymmetric, name, k, which):
    """What must hold where eigenvalues have no accuracy: every pair belongs to a nearby matrix.

    The smallest singular value of ``A - theta I`` is then at most the residual; the run ends, and
    vectors are finite and of unit norm. Those of one Jordan block may be parallel.
    """
    M = DEFECTIVE[name]()
    n, norm = len(M), np.linalg.norm(M, 2)
    result, X = solved(M, k, which=which, hermitian=False)
    check_nonsymmetric(M, result, X, k, which)
    for theta in result.eigenvalues:
        distance = np.linalg.svd(M - theta * np.eye(n), compute_uv=False)[-1]
        assert distance <= 1.01e-8 * norm


@pytest.mark.parametrize("which", ["LM", "LR", "SR"])
def test_jordan_block_that_one_product_cannot_leave(solved, check_nonsymmetric, which):
    """Start e_1, the only eigenvector: the space is invariant at once."""
    M = 3 * np.eye(12) + np.eye(12, k=1)
    result, X = solved(M, 2, which=which, hermitian=False, start=np.eye(12)[0])
    check_nonsymmetric(M, result, X, 2, which)
    assert np.abs(result.eigenvalues - 3).max() <= 20 * EPS ** (1 / 12)
