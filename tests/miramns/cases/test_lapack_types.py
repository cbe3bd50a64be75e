"""The 22 symmetric matrix types with which ScaLAPACK tests its eigensolvers, at its thresholds.

Source: LAPACK Working Note 93 (PDSYEVX test program), DDRVST; singular value modes as in DLATMS.
Test ratios, each to stay below 30:

* ``|A V - V D| / (|A| n ulp)``
* ``|I - V'V| / (n ulp)``
* ``|D - D_LAPACK| / (|D| n ulp)``
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

N = 40
ULP = float(np.finfo(np.float64).eps)
THRESHOLD = 30

#: Norms near the square roots of overflow and underflow, as the test programs scale them.
LARGE = np.sqrt(np.finfo(np.float64).max) * ULP / N
SMALL = np.sqrt(np.finfo(np.float64).tiny) * N / ULP


def signs(n: int) -> np.ndarray:
    return np.random.default_rng(1).choice([-1.0, 1.0], n)


def arithmetic(n: int) -> np.ndarray:
    """From 1 to ulp in equal steps."""
    return 1 - np.arange(n) / (n - 1) * (1 - ULP)


def geometric(n: int) -> np.ndarray:
    """From 1 to ulp in equal ratios."""
    return ULP ** (np.arange(n) / (n - 1))


def clustered(n: int) -> np.ndarray:
    """1, and ulp n - 1 times."""
    return np.r_[1.0, np.full(n - 1, ULP)]


def clusters_of_powers(n: int) -> np.ndarray:
    """The integer i 2^i times: clusters of size 1, 2, 4, ..."""
    values = np.arange(np.ceil(np.log2(n + 1)))
    return np.repeat(values, 2 ** values.astype(int))[:n]


def rotated(values: np.ndarray) -> np.ndarray:
    """U D U' with U from the Haar measure."""
    n = len(values)
    Q, R = np.linalg.qr(np.random.default_rng(2).standard_normal((n, n)))
    Q *= np.sign(np.diag(R))
    M = (Q * values) @ Q.T
    return (M + M.T) / 2


def random_entries(n: int) -> np.ndarray:
    M = np.random.default_rng(3).uniform(-1, 1, (n, n))
    return np.tril(M) + np.tril(M, -1).T


def split_tridiagonal(n: int) -> np.ndarray:
    """Direct sum of diagonally dominant tridiagonals, each with diagonal entries from 1 to ulp."""
    rng = np.random.default_rng(4)
    M = np.zeros((n, n))
    first = 0
    while first < n:
        size = min(int(rng.integers(1, n // 3)), n - first)
        diagonal = geometric(size) if size > 1 else np.ones(1)
        off = np.sqrt(diagonal[1:] * diagonal[:-1]) * rng.uniform(0, 0.5, size - 1)
        M[first : first + size, first : first + size] = (
            np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)
        )
        first += size
    return M


TYPES: dict[str, Callable[[], np.ndarray]] = {
    "1 zero": lambda: np.zeros((N, N)),
    "2 identity": lambda: np.eye(N),
    "3 diagonal arithmetic": lambda: np.diag(signs(N) * arithmetic(N)),
    "4 diagonal geometric": lambda: np.diag(signs(N) * geometric(N)),
    "5 diagonal clustered": lambda: np.diag(signs(N) * clustered(N)),
    "6 diagonal geometric, large": lambda: np.diag(signs(N) * geometric(N)) * LARGE,
    "7 diagonal geometric, small": lambda: np.diag(signs(N) * geometric(N)) * SMALL,
    "8 arithmetic": lambda: rotated(signs(N) * arithmetic(N)),
    "9 geometric": lambda: rotated(signs(N) * geometric(N)),
    "10 clustered": lambda: rotated(signs(N) * clustered(N)),
    "11 arithmetic, large": lambda: rotated(signs(N) * arithmetic(N)) * LARGE,
    "12 arithmetic, small": lambda: rotated(signs(N) * arithmetic(N)) * SMALL,
    "13 random entries": lambda: random_entries(N),
    "14 random entries, large": lambda: random_entries(N) * LARGE,
    "15 random entries, small": lambda: random_entries(N) * SMALL,
    "16 positive arithmetic": lambda: rotated(arithmetic(N)),
    "17 positive geometric": lambda: rotated(geometric(N)),
    "18 positive clustered": lambda: rotated(clustered(N)),
    "19 positive arithmetic, large": lambda: rotated(arithmetic(N)) * LARGE,
    "20 positive arithmetic, small": lambda: rotated(arithmetic(N)) * SMALL,
    "21 split tridiagonal": lambda: split_tridiagonal(N),
    "22 clusters of 1, 2, 4, ...": lambda: rotated(clusters_of_powers(N)),
}


@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
@pytest.mark.parametrize("k", [1, 7, N // 2, N - 1, N])
@pytest.mark.parametrize("name", TYPES)
def test_ratios(solved, in_order, name, k, which):
    M = TYPES[name]()
    result, X = solved(M, k, which=which, hermitian=True, tol=ULP)
    assert result.converged, result.view()
    theta = result.eigenvalues
    exact = np.linalg.eigvalsh(M)
    norm = np.abs(exact).max()
    unit = norm * N * ULP if norm else 1.0
    residual = np.linalg.norm(M @ X - X * theta, 1) / unit
    departure = np.linalg.norm(X.T @ X - np.eye(k), 1) / (N * ULP)
    expected = in_order(exact, which)[:k]
    if which == "LM":  # ties of +a and -a may come in either order
        theta, expected = np.sort(np.abs(theta)), np.sort(np.abs(expected))
    error = np.abs(theta - expected).max() / unit
    assert max(residual, departure, error) < THRESHOLD, (residual, departure, error)


@pytest.mark.parametrize("factor", [2.0**400, 2.0**-400], ids=["large", "small"])
@pytest.mark.parametrize("name", [name for name in TYPES if not name.endswith(("large", "small"))])
def test_scale_changes_nothing(solved, name, factor):
    """Nothing may be compared with an absolute number: as many products, the same values."""
    M = TYPES[name]()
    base, _ = solved(M, 5, hermitian=True)
    scaled, Y = solved(M * factor, 5, hermitian=True)
    assert scaled.converged
    assert scaled.n_matvec == base.n_matvec
    norm = np.abs(base.eigenvalues).max()
    np.testing.assert_allclose(scaled.eigenvalues / factor, base.eigenvalues, atol=50 * ULP * norm)
    assert np.abs(Y.T @ Y - np.eye(5)).max() <= 1e-12
