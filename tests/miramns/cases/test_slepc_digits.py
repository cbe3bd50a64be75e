"""Examples and tests of SLEPc: the digits that it prints, five after the point.

Source: SLEPc, src/eps/tests (test2, 3, 6, 8, 9, 20, 22, 27) and src/eps/tutorials (ex2, ex4, ex9).
Matrices are built here from their definitions; options, numbers and tolerances are SLEPc's.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io

pytestmark = pytest.mark.mpi

EPS = np.finfo(np.float64).eps


def assert_digits(values, printed):
    """Equal as SLEPc prints them; its own outputs differ by one unit between versions."""
    np.testing.assert_allclose(values, printed, rtol=0, atol=1.01e-5)


def laplacian_1d(n):
    return 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)


def laplacian_2d(nx, ny):
    return np.kron(np.eye(ny), laplacian_1d(nx)) + np.kron(laplacian_1d(ny), np.eye(nx))


def apply_laplacian_2d(n):
    """Product with the n by n grid, without a matrix."""

    def apply(x):
        grid = x.reshape(n, n)
        y = 4 * grid
        y[1:] -= grid[:-1]
        y[:-1] -= grid[1:]
        y[:, 1:] -= grid[:, :-1]
        y[:, :-1] -= grid[:, 1:]
        return y.ravel()

    return apply


def rander48(count, seed=0x12345678):
    """PETSc's default random numbers: the 48-bit linear congruential generator of Unix."""
    state, numbers = (seed << 16) | 0x330E, []
    for _ in range(count):
        state = (0x5DEECE66D * state + 0xB) % 2**48
        numbers.append(state / 2**48)
    return np.array(numbers)


def markov(m):
    """Transition matrix of a random walk on a triangular grid of m (m + 1) / 2 points."""
    points = [(i, j) for i in range(1, m + 1) for j in range(1, m - i + 2)]
    index = {point: row for row, point in enumerate(points)}
    A = np.zeros((len(points), len(points)))
    cst = 0.5 / (m - 1)
    for (i, j), row in index.items():
        if j != m - i + 1:
            down = cst * (i + j - 1)
            A[row, index[i, j + 1]] = (2 if i == 1 else 1) * down
            A[row, index[i + 1, j]] = (2 if j == 1 else 1) * down
        up = 0.5 - cst * (i + j - 3)
        if j > 1:
            A[row, index[i, j - 1]] = up
        if i > 1:
            A[row, index[i - 1, j]] = up
    return A


def brusselator(n, alpha=2.0, beta=5.45, delta1=0.008, delta2=0.004, length=0.51302):
    """Brusselator wave model: two species on a line of n points."""
    T = -laplacian_1d(n) * ((n + 1) / length) ** 2
    identity = np.eye(n)
    return np.block(
        [
            [delta1 * T + (beta - 1) * identity, alpha**2 * identity],
            [-beta * identity, delta2 * T - alpha**2 * identity],
        ]
    )


def rdb200():
    """The matrix rdb200 that SLEPc ships: two species on a 10 by 10 grid, interleaved.

    As shipped it is symmetric: both couplings of the species are 4.
    """
    T = -laplacian_2d(10, 10) * 121 / 0.25
    return (
        np.kron(0.004 * T, np.diag([1, 0]))
        + np.kron(0.008 * T, np.diag([0, 1]))
        + np.kron(np.eye(100), [[4.45, 4.0], [4.0, -4.0]])
    )


@pytest.mark.parametrize(
    ("n", "which", "printed"),
    [
        (30, "LM", [3.98974, 3.95906, 3.90828, 3.83792]),
        (30, "SA", [0.01026, 0.04094, 0.09172, 0.16208]),
        (32, "LR", [3.99094, 3.96386, 3.91899, 3.85674]),
        (32, "SR", [0.00906, 0.03614, 0.08101, 0.14326]),
    ],
    ids=["30 largest", "30 smallest", "32 largest", "32 smallest"],
)
def test2_line(solved, check_hermitian, n, which, printed):
    M = laplacian_1d(n)
    result, X = solved(M, 4, which=which, hermitian=True)
    check_hermitian(M, result, X, 4, which)
    assert_digits(result.eigenvalues, printed)


def test3_two_random_diagonals(solved, check_hermitian):
    """One call must leave nothing behind for the next: first matrix, second, first again."""
    numbers = rander48(60)
    off = np.eye(30, k=1) + np.eye(30, k=-1)
    matrices = [np.diag(numbers[:30]) - off, np.diag(numbers[30:]) - off]
    printed = [[2.61861, 2.53982, 2.46239, 2.33322], [2.61224, 2.58655, 2.55415, 2.40928]]
    lowest = [[-1.73690, -1.53762, -1.48834, -1.43676], [-1.56985, -1.45448, -1.41954, -1.26645]]
    seen = []
    for i in (0, 1, 0):
        result, X = solved(matrices[i], 4, which="LM", hermitian=True)
        check_hermitian(matrices[i], result, X, 4)
        assert_digits(result.eigenvalues, printed[i])
        seen.append(result.eigenvalues)
        result, X = solved(matrices[i], 4, which="SA", hermitian=True)
        check_hermitian(matrices[i], result, X, 4, "SA")
        assert_digits(result.eigenvalues, lowest[i])
    np.testing.assert_array_equal(seen[0], seen[2])


def test6_diagonal(operators, solved):
    result, _ = solved(operators(diagonal=np.arange(1.0, 31.0)), 4, hermitian=True)
    assert_digits(result.eigenvalues, [30, 29, 28, 27])


@pytest.mark.parametrize("ncv", [10, 11, None])
def test8_matrix_free_grid_with_a_double_eigenvalue(shell, solved, check_hermitian, ncv):
    A = shell(400, apply_laplacian_2d(20))
    result, X = solved(A, 4, hermitian=True, ncv=ncv, max_it=40000)
    check_hermitian(laplacian_2d(20, 20), result, X, 4)
    assert_digits(result.eigenvalues, [7.95532, 7.88881, 7.88881, 7.82229])


@pytest.mark.parametrize(
    "printed",
    [
        "0.16203 0.39851 0.39851 0.63499",
        "0.16203 0.39851 0.39851 0.63499 0.77129 0.77129 "
        "1.00777 1.00777 1.25018 1.25018 1.38056 1.48666",
    ],
    ids=["4 smallest", "12 smallest"],
)
def test8_smallest_of_a_grid(shell, solved, printed):
    """Four double eigenvalues among the twelve smallest."""
    printed = [float(number) for number in printed.split()]
    k = len(printed)
    result, _ = solved(shell(100, apply_laplacian_2d(10)), k, which="SA", hermitian=True)
    truth = np.linalg.eigvalsh(laplacian_2d(10, 10))[:k]
    np.testing.assert_allclose(result.eigenvalues, truth, rtol=0, atol=1e-8)
    assert_digits(result.eigenvalues, printed)


@pytest.mark.parametrize("ncv", [7, 8, None])
def test9_markov_tie_in_modulus(solved, check_nonsymmetric, ncv):
    """Eigenvalues in pairs +a, -a; SLEPc's start vector; vectors have unit norm to 100 eps."""
    M = markov(15)
    start = np.zeros(120)
    start[:2] = -1.5, 2.1
    result, X = solved(M, 4, hermitian=False, ncv=ncv, max_it=1500, tol=5e-11, start=start)
    check_nonsymmetric(M, result, X, 4, atol=1e-8)
    assert_digits(np.sort(result.eigenvalues.real), [-1, -0.97137, 0.97137, 1])
    assert np.abs(np.linalg.norm(X, axis=0) - 1).max() <= 100 * EPS


def test9_markov_order_of_a_tie(solved):
    """SLEPc's test puts the positive one of +a, -a first where moduli agree to sqrt(eps)."""
    for ncv in (7, 8, None):
        for seed in range(3):
            result, _ = solved(
                markov(15), 4, hermitian=False, ncv=ncv, max_it=1500, tol=5e-11, seed=seed
            )
            assert_digits(result.eigenvalues, [1, -1, 0.97137, -0.97137])


def test9_markov_rightmost(solved, check_nonsymmetric):
    M = markov(15)
    result, X = solved(M, 3, which="LR", hermitian=False, tol=1e-7)
    check_nonsymmetric(M, result, X, 3, "LR", tol=1e-7, atol=1e-5)
    assert_digits(result.eigenvalues, [1, 0.97137, 0.90423])


def test20_changing_ncv(solved):
    M = laplacian_1d(18)
    found = [
        solved(M, 1, which="SR", hermitian=True, tol=1e-9, ncv=ncv)[0].eigenvalues
        for ncv in (16, 18, 10, None)
    ]
    for values in found:
        assert_digits(values, [0.02728])


@pytest.mark.parametrize(
    ("n", "first", "second"),
    [
        (30, 0.00019 + 2.13938j, -0.67192 + 2.52712j),
        (50, 0.00007 + 2.13946j, -0.67386 + 2.52812j),
    ],
    ids=["test22", "ex9"],
)
def test22_brusselator_complex_pairs(solved, check_nonsymmetric, n, first, second):
    """SLEPc requires error estimates below 5 tol |lambda|, and orthogonality below 10 tol."""
    M = brusselator(n)
    result, X = solved(M, 4, which="LR", hermitian=False, max_it=5000)
    check_nonsymmetric(M, result, X, 4, "LR")
    assert_digits(result.eigenvalues, [first, first.conjugate(), second, second.conjugate()])
    assert (result.residual_norms < 5 * 1e-8 * np.linalg.norm(M, 2)).all()
    assert result.orthogonality < 10 * 1e-8


def test22_brusselator_largest(solved):
    result, _ = solved(brusselator(50), 4, hermitian=False)
    assert_digits(result.eigenvalues, [-311.34775, -310.44873, -308.95415, -306.86967])


def test27_start_in_the_span_of_exact_eigenvectors(solved, check_hermitian):
    """A second solve, started inside the invariant subspace of the first answer."""
    M = laplacian_2d(10, 10)
    printed = [0.16203, 0.39851, 0.39851, 0.63499, 0.77129]
    first, X = solved(M, 5, which="SA", hermitian=True)
    for start in (X[:, 0], X.sum(axis=1)):
        again, Y = solved(M, 5, which="SA", hermitian=True, start=start)
        check_hermitian(M, again, Y, 5, "SA")
        assert_digits(first.eigenvalues, printed)
        assert_digits(again.eigenvalues, printed)


@pytest.mark.parametrize("which", ["LM", "LR", "SR"])
def test42_many_complex_on_the_unit_circle(solved, check_nonsymmetric, which):
    """Orthogonal matrix of 15 rotations: all moduli are one, so LM may return any of them."""
    angles = rander48(15) * 2 * np.pi
    M = np.zeros((30, 30))
    for i, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        M[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[c, s], [-s, c]]
    result, X = solved(M, 5, which=which, hermitian=False)
    check_nonsymmetric(M, result, X, 5, which, atol=1e-7)
    np.testing.assert_allclose(np.abs(result.eigenvalues), 1, rtol=1e-7)


def test_ex2_grid_72(shell, solved):
    """7.99074 is double; SLEPc prints it once: a Krylov space sees one vector of an eigenspace."""
    A = shell(5184, apply_laplacian_2d(72))
    result, _ = solved(A, 4, hermitian=True)
    lines = 2 - 2 * np.cos(np.pi * np.arange(1, 73) / 73)
    truth = np.sort(np.add.outer(lines, lines).ravel())[::-1][:4]
    np.testing.assert_allclose(result.eigenvalues, truth, rtol=0, atol=1e-8)
    assert_digits(truth[0], 7.99630)


def test_ex4_rdb200(solved, check_hermitian):
    """-34.10419 and -32.68111 are double; SLEPc prints each once."""
    M = rdb200()
    result, X = solved(M, 4, hermitian=True)
    check_hermitian(M, result, X, 4)
    assert_digits(result.eigenvalues, [-35.00752, -34.10419, -34.10419, -33.20131])


def test_bfw62a(solved, check_nonsymmetric, data_dir):
    """Matrix Market's bfw62a, which SLEPc ships as well: nonsymmetric, from a waveguide."""
    path = data_dir / "matrices" / "bfw62a.mtx"
    if not path.is_file():
        pytest.skip("no bfw62a.mtx in the data folder")
    M = scipy.io.mmread(path).toarray()
    for which in ("LM", "LR", "SR"):
        result, X = solved(M, 4, which=which, hermitian=False)
        check_nonsymmetric(M, result, X, 4, which, atol=1e-5)
