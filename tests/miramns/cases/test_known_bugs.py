"""The public bugs of eigensolvers, one group each: what went wrong elsewhere must not here.

1. copies of multiple eigenvalues missing (Spectra #144, rARPACK #6, ArnoldiMethod.jl #112,
   KrylovKit.jl #38 and #76); 2. identity, zero, rank below k, k = n, n = 1 (ARPACK-NG #378);
3. unlucky start vectors (ARPACK-NG #142, #79); 4. complex pairs cut (SciPy gh-24358): in
   test_scipy_arpack; 5. ties; 6. NaN and Inf (LinearAlgebra.jl #412); 7. badly scaled data
   (scikit-learn #29534, #8368); 8. no convergence; 9. ghost copies.
"""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from miramns import ConvergedReason, OperatorError, solve

EPS = float(np.finfo(np.float64).eps)

# ------------------------------------------------------------------------------ 1 multiplicities


def cycle_laplacian(n=20):
    """Normalised Laplacian of a cycle: 1 - cos(2 pi j / n), all double but the ends."""
    shift = np.roll(np.eye(n), 1, axis=1)
    return np.eye(n) - (shift + shift.T) / 2


def kernel_of_four_groups():
    """Row-normalised kernel of four groups that do not see each other: eigenvalue 1 four times."""
    rng = np.random.default_rng(0)
    n, groups = 40, 4
    K = np.zeros((n, n))
    for g in range(groups):
        members = slice(10 * g, 10 * g + 10)
        points = rng.standard_normal((10, 3))
        distances = np.sum((points[:, None] - points[None]) ** 2, axis=2)
        K[members, members] = np.exp(-distances / 8)
    d = 1 / np.sqrt(K.sum(axis=1))
    return d[:, None] * K * d


def laplacian_of_components(sizes=(9, 7, 5, 4)):
    """Graph Laplacian of complete graphs side by side: zero as often as there are components."""
    n = sum(sizes)
    L = np.zeros((n, n))
    first = 0
    for size in sizes:
        block = slice(first, first + size)
        L[block, block] = size * np.eye(size) - np.ones((size, size))
        first += size
    return L


MULTIPLE = {
    "cycle of 20, 4 of 5": (cycle_laplacian, 4, "LM"),
    "cycle of 20, k=5": (cycle_laplacian, 5, "LM"),
    "cycle of 20, k=6": (cycle_laplacian, 6, "LM"),
    "cycle of 20, smallest": (cycle_laplacian, 5, "SA"),
    "cycle of 200": (lambda: cycle_laplacian(200), 5, "LM"),
    "kernel, 1 four times": (kernel_of_four_groups, 4, "LM"),
    "kernel, 1 four times and one": (kernel_of_four_groups, 5, "LA"),
    "components, zero four times": (laplacian_of_components, 4, "SA"),
    "components, zero four times and one": (laplacian_of_components, 6, "SA"),
    "diag(1, 1, 0, 0)": (lambda: np.diag([1.0, 1, 0, 0]), 2, "LM"),
    "diag(1, 1, 0, 0), all": (lambda: np.diag([1.0, 1, 0, 0]), 4, "LM"),
    "threefold at the end": (lambda: np.diag(np.r_[np.arange(1.0, 60), 60, 60, 60]), 4, "LM"),
    "threefold at the cut": (lambda: np.diag(np.r_[np.arange(1.0, 60), 57, 57, 60]), 4, "LM"),
    "+-3 twice each": (lambda: np.diag(np.r_[np.linspace(-1, 1, 50), 3, 3, -3, -3]), 4, "LM"),
    "two of 300": (lambda: np.diag(np.r_[np.arange(1.0, 299), 400, 400]), 2, "LA"),
    "fivefold far out": (lambda: np.diag(np.r_[np.zeros(100), np.full(5, 7.0)]), 5, "LM"),
    "fivefold far out, of a power law": (
        lambda: np.diag(np.r_[np.arange(1.0, 150) ** -1.0, np.full(5, 7.0)]),
        5,
        "LM",
    ),
}


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.mpi), 1])
@pytest.mark.parametrize("name", MULTIPLE)
def test_no_copy_is_missing(solved, check_hermitian, name, seed):
    generate, k, which = MULTIPLE[name]
    M = generate()
    result, X = solved(M, k, which=which, hermitian=True, seed=seed)
    check_hermitian(M, result, X, k, which)


@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
@pytest.mark.parametrize("m", range(3, 13))
def test_every_double_eigenvalue_of_a_grid(solved, m, restarted):
    """All k up to 12 at both ends of the m by m Laplacian, where most eigenvalues are double."""
    line = 2 - 2 * np.cos(np.pi * np.arange(1, m + 1) / (m + 1))
    exact = np.sort(np.add.outer(line, line).ravel())
    T = 2 * np.eye(m) - np.eye(m, k=1) - np.eye(m, k=-1)
    M = np.kron(np.eye(m), T) + np.kron(T, np.eye(m))
    missed = []
    for k in range(1, min(13, m * m)):
        ncv = min(max(2 * k + 4, 12), m * m) if restarted else None
        for which, expected in (("LA", exact[::-1][:k]), ("SA", exact[:k])):
            result, _ = solved(M, k, which=which, hermitian=True, ncv=ncv, max_it=3000)
            if not result.converged or np.abs(result.eigenvalues - expected).max() > 1e-6:
                missed.append((k, which, result.eigenvalues))
    assert not missed


@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("copies", [2, 3])
def test_no_copy_is_missing_though_restarts_are_many(solved, copies, hermitian):
    values = np.r_[np.linspace(0, 1, 150), np.full(copies, 1.05)]
    result, X = solved(np.diag(values), copies + 1, hermitian=hermitian, ncv=14, max_it=3000)
    assert result.converged
    expected = np.sort(values)[::-1][: copies + 1]
    np.testing.assert_allclose(result.eigenvalues, expected, atol=1e-7)
    assert np.linalg.matrix_rank(X) == copies + 1


@pytest.mark.mpi
def test_double_complex_pair(solved, check_nonsymmetric):
    """Two equal blocks of rotation: each of the conjugate values is there twice."""
    M = np.diag(np.linspace(-1, 1, 30))
    for i in (0, 2):
        M[i : i + 2, i : i + 2] = [[2, -1], [1, 2]]
    X = np.eye(30) + 0.1 * np.random.default_rng(0).standard_normal((30, 30))
    M = X @ M @ np.linalg.inv(X)
    result, V = solved(M, 4, hermitian=False)
    check_nonsymmetric(M, result, V, 4, atol=1e-6)


# ------------------------------------------------------------------ 2 identity, zero, small sizes


@pytest.mark.mpi
@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("factor", [1.0, 0.0, -2.5, 1e-100, 1e100])
def test_multiple_of_the_identity(solved, factor, hermitian, k):
    """Any independent vectors will do for a nonsymmetric one, orthonormal ones for Hermitian."""
    result, X = solved(factor * np.eye(10), k, hermitian=hermitian)
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, np.full(k, factor), rtol=1e-14)
    assert np.linalg.matrix_rank(X) == k
    if hermitian:
        np.testing.assert_allclose(X.T @ X, np.eye(k), atol=1e-12)
    assert (result.residual_norms <= 1e-13 * abs(factor)).all()


@pytest.mark.mpi
@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("value", [3.0, 0.0, -1.0])
def test_one_by_one(solved, value, hermitian):
    result, X = solved(np.array([[value]]), 1, hermitian=hermitian)
    assert result.converged
    np.testing.assert_array_equal(result.eigenvalues, [value])
    np.testing.assert_array_equal(X, [[1.0]])


@pytest.mark.parametrize("rank", [0, 1, 2, 4])
@pytest.mark.parametrize("n", [6, 40])
def test_rank_below_k(solved, check_hermitian, n, rank):
    G = np.random.default_rng(rank).standard_normal((n, rank))
    M = G @ G.T
    result, X = solved(M, 5, hermitian=True)
    check_hermitian(M, result, X, 5)


# --------------------------------------------------------------------------------------- 3 starts


@pytest.mark.filterwarnings("ignore:overflow encountered")  # in the norm of the huge one
@pytest.mark.parametrize("which", ["LM", "SA"])
@pytest.mark.parametrize(
    "start", ["first", "last", "inner", "two", "null space", "zero", "ones", "tiny", "huge"]
)
def test_start_vector(solved, check_hermitian, start, which):
    """Eigenvectors, the null space, nothing, and scales at both ends of the number range."""
    n = 60
    M = np.diag(np.r_[np.arange(1.0, 51), np.zeros(10)])
    v = {
        "first": np.eye(n)[49],
        "last": np.eye(n)[0],
        "inner": np.eye(n)[25],
        "two": np.eye(n)[25] + np.eye(n)[30],
        "null space": np.r_[np.zeros(50), np.ones(10)],
        "zero": np.zeros(n),
        "ones": np.ones(n),
        "tiny": np.full(n, 1e-200),
        "huge": np.full(n, 1e200),
    }[start]
    k = 4
    result, X = solved(M, k, which=which, hermitian=True, start=v)
    check_hermitian(M, result, X, k, which)


# ----------------------------------------------------------------------------------------- 5 ties


@pytest.mark.mpi
def test_tie_in_modulus_positive_first(solved):
    """Of +a and -a the positive one comes first, at every cut and for every seed."""
    values = np.r_[np.linspace(-1, 1, 60), 5, -5, 3, -3]
    Q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((64, 64)))
    M = (Q * values) @ Q.T
    M = (M + M.T) / 2
    for k in (1, 2, 3, 4):
        for seed in range(5):
            result, _ = solved(M, k, hermitian=True, seed=seed)
            np.testing.assert_allclose(result.eigenvalues, [5, -5, 3, -3][:k], atol=1e-9)


def test_signs_do_not_depend_on_the_seed(solved):
    """Simple eigenvalues: the vector is unique but for its sign, and that is fixed."""
    M = np.diag(np.arange(40.0, 0, -1)) + 0.1
    first = solved(M, 5, hermitian=True, tol=1e-13)[1]
    for seed in range(1, 6):
        X = solved(M, 5, hermitian=True, tol=1e-13, seed=seed)[1]
        np.testing.assert_allclose(X, first, atol=1e-9)


@pytest.mark.mpi
def test_ranks_agree(solved, comm):
    """All ranks together, and each alone: the same values, vectors and signs."""
    Q, _ = np.linalg.qr(np.random.default_rng(4).standard_normal((50, 50)))
    for values in (np.arange(1.0, 51) ** -0.5, np.linspace(-1, 2, 50), 0.5 ** np.arange(50.0)):
        M = (Q * values) @ Q.T
        M = (M + M.T) / 2
        result, X = solved(M, 4, hermitian=True, tol=1e-12)
        alone = PETSc.Mat().createDense(M.shape, array=M, comm=MPI.COMM_SELF)
        alone.assemble()
        expected = solve(alone, 4, hermitian=True, tol=1e-12)
        alone.destroy()
        np.testing.assert_allclose(result.eigenvalues, expected.eigenvalues, atol=1e-12)
        np.testing.assert_allclose(X, expected.eigenvectors, atol=1e-9)
        same = comm.bcast((result.eigenvalues.tobytes(), X.tobytes()))
        assert same == (result.eigenvalues.tobytes(), X.tobytes()), "ranks differ in the last bits"


# ---------------------------------------------------------------------------------- 6 NaN and Inf


@pytest.mark.mpi
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("variant", ["default", "published"])
def test_entry_that_is_not_finite(solved, bad, hermitian, variant):
    M = np.diag(np.arange(1.0, 31.0))
    M[7, 7] = bad
    with pytest.raises(OperatorError, match="not finite"):
        solved(M, 2, hermitian=hermitian, variant=variant)


@pytest.mark.mpi
@pytest.mark.parametrize("once", [True, False], ids=["once", "from there on"])
@pytest.mark.parametrize("call", [1, 5, 12])
def test_nan_at_a_later_call(shell, solved, call, once):
    """Ten products find the answer and three more certify it: there too it is an error."""
    calls = 0

    def apply(x):
        nonlocal calls
        calls += 1
        y = np.arange(1.0, 11.0) * x
        if calls == call or (calls > call and not once):
            y[3] = np.nan
        return y

    A = shell(10, apply)
    with pytest.raises(OperatorError, match="not finite"):
        solved(A, 3, hermitian=True)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_product_that_overflows(operators, solved):
    with pytest.raises(OperatorError, match="not finite"):
        solved(operators(diagonal=np.full(20, 1.7e308) * np.arange(1, 21)), 2, hermitian=True)


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("scale", [1e160, 1e-170], ids=["squares overflow", "squares underflow"])
def test_squares_of_entries_leave_the_number_range(solved, scale, hermitian):
    """Norms are formed from squares: the answer is right, or an error names the reason."""
    values = np.arange(1.0, 21.0)
    try:
        result, _ = solved(np.diag(values * scale), 3, hermitian=hermitian)
    except OperatorError:
        return
    if not result.converged:
        return
    np.testing.assert_allclose(result.eigenvalues / scale, [20, 19, 18], rtol=1e-7)


# ---------------------------------------------------------------------------- 7 data badly scaled


@pytest.mark.parametrize("k", [1, 4, 17, 30])
def test_graded_to_1e_minus_16(solved, check_hermitian, k):
    values = 10.0 ** -np.linspace(0, 16, 30)
    Q, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((30, 30)))
    for M in (np.diag(values), (Q * values) @ Q.T):
        M = (M + M.T) / 2
        result, X = solved(M, k, hermitian=True)
        check_hermitian(M, result, X, k)


@pytest.mark.parametrize("rows", [200, 12])
@pytest.mark.parametrize("damage", ["mean 1e6", "constant", "duplicated", "scales 1e-8 to 1e8"])
def test_covariance_of_awkward_data(solved, check_hermitian, damage, rows):
    """Also with fewer rows than columns. All eigenvalues are there and none is negative."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((rows, 30)) @ np.diag(np.linspace(3, 0.1, 30))
    if damage == "mean 1e6":
        X += 1e6
    elif damage == "constant":
        X[:, ::5] = 4.25
    elif damage == "duplicated":
        X[:, 15:] = X[:, :15]
    else:
        X *= 10.0 ** np.linspace(-8, 8, 30)
    X = X - X.mean(axis=0)
    C = X.T @ X / (rows - 1)
    for k in (3, 10, 30):
        result, V = solved(C, k, hermitian=True)
        check_hermitian(C, result, V, k)
        assert result.eigenvalues.min() >= -30 * 100 * EPS * result.eigenvalues[0]


def test_one_sample(solved, check_hermitian):
    """The covariance of one sample is zero: any orthonormal vectors will do, and are given."""
    C = np.zeros((8, 8))
    result, V = solved(C, 3, hermitian=True)
    check_hermitian(C, result, V, 3)


# ------------------------------------------------------------------------------- 8 no convergence


@pytest.mark.parametrize("variant", ["default", "published"])
@pytest.mark.parametrize("max_it", [0, 1, 4])
def test_limit_of_restarts(solved, variant, max_it):
    """Converged and unconverged pairs are distinguished, and the reason is set."""
    values = 2 - 2 * np.cos(np.pi * np.arange(1, 301) / 301)
    values[0] = 40.0
    M = np.diag(values)
    result, X = solved(M, 6, hermitian=True, variant=variant, ncv=14, max_it=max_it, tol=1e-12)
    assert result.reason is ConvergedReason.DIVERGED_ITS
    assert not result.converged
    assert result.n_restarts == max_it
    assert result.n_converged == 6 - len(result.unconverged)
    assert np.isfinite(X).all()
    np.testing.assert_allclose(np.linalg.norm(X, axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(
        result.residual_norms, np.linalg.norm(M @ X - X * result.eigenvalues, axis=0), atol=1e-12
    )


@pytest.mark.slow
def test_orthogonality_after_thousands_of_restarts(solved):
    """Each restart recombines the basis; what it loses must not add up over 4000 of them."""
    M = 2 * np.eye(400) - np.eye(400, k=1) - np.eye(400, k=-1)
    result, _ = solved(M, 3, which="SR", hermitian=False, ncv=6, max_it=4000, tol=1e-300)
    assert result.orthogonality <= 1e-12


# ---------------------------------------------------------------------------------- 9 ghost copies


@pytest.mark.parametrize("ncv", [8, 20, 60, None])
@pytest.mark.parametrize("hermitian", [True, False])
def test_no_ghosts_of_far_eigenvalues(solved, ncv, hermitian):
    """Without reorthogonalisation, values that converge early come again, as copies."""
    values = np.r_[1e8, 1e6, 1e4, np.linspace(1, 2, 197)]
    result, X = solved(np.diag(values), 6, hermitian=hermitian, ncv=ncv, max_it=5000, tol=1e-6)
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues[:3], [1e8, 1e6, 1e4], rtol=1e-6)
    assert (np.abs(result.eigenvalues[3:] - 2) < 0.2).all()
    assert np.linalg.svd(X, compute_uv=False)[-1] > 0.99
    assert result.orthogonality <= 1e-12
