"""``eigsh`` and ``eigs`` compared with scipy's, and on rows distributed over 1, 2 and 3 ranks."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from petsc4py import PETSc

from miramns import EigenResult, MiramnsError, NoConvergence, eigs, eigsh

N = 50


def general(seed=0):
    return np.random.default_rng(seed).standard_normal((N, N))


def symmetric_matrix(seed=0):
    M = general(seed)
    return M + M.T


def positive(seed=1):
    G = general(seed)
    return np.eye(N) + G @ G.T / N


def wanted(values, which, k, transformed=None):
    """The k values that `which` means, by sorting all of them."""
    t = values if transformed is None else transformed
    if which == "BE":
        order = np.argsort(t)
        return values[np.r_[order[: k // 2], order[len(t) - (k - k // 2) :]]]
    measure = {"M": np.abs(t), "R": t.real, "A": t.real, "I": np.abs(t.imag)}[which[1]]
    order = np.lexsort((-t.imag, np.round(-measure if which[0] == "L" else measure, 9)))
    return values[order[:k]]


FORMS = {
    "dense": lambda M: M,
    "list": lambda M: M.tolist(),
    "csr": sp.csr_array,
    "csc matrix": sp.csc_matrix,
    "coo": sp.coo_array,
    "operator": spla.aslinearoperator,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["plain", "M", "sigma", "sigma M", "cayley"])
def test_forms_of_a_symmetric_problem(form, mode):
    A, M = symmetric_matrix(), positive()
    convert = FORMS[form]
    arguments = {"M": convert(M)} if "M" in mode else {}
    if mode in ("sigma", "sigma M", "cayley"):
        arguments["sigma"] = 0.7
    if mode == "cayley":
        arguments["mode"] = "cayley"
    B = M if "M" in mode else np.eye(N)
    values = scipy.linalg.eigh(A, B)[0]
    inverted = 1 / (values - 0.7)
    t = {"cayley": 1 + 1.4 * inverted}.get(mode, inverted if "sigma" in mode else values)
    w, v = eigsh(convert(A), 4, **arguments)
    np.testing.assert_allclose(w, np.sort(wanted(values, "LM", 4, t)), rtol=1e-11)
    np.testing.assert_allclose(v.T @ B @ v, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(A @ v, B @ v * w, atol=1e-11)
    assert w.dtype == v.dtype == np.float64


@pytest.mark.parametrize("which", ["LM", "SM", "LA", "SA", "BE"])
@pytest.mark.parametrize("sigma", [None, 0.7])
@pytest.mark.parametrize("has_M", [False, True])
def test_parts_of_a_symmetric_spectrum(which, sigma, has_M):
    A, M = symmetric_matrix(), positive() if has_M else None
    values = scipy.linalg.eigh(A, M)[0]
    t = None if sigma is None else 1 / (values - sigma)
    w = eigsh(A, 5, M=M, sigma=sigma, which=which)[0]
    np.testing.assert_allclose(w, np.sort(wanted(values, which, 5, t)), atol=1e-10)
    if (which, sigma) != ("SM", 0.7):  # where ARPACK may miss one
        ours, theirs = w, spla.eigsh(A, 5, M=M, sigma=sigma, which=which)[0]
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    alone = eigsh(A, 5, M=M, sigma=sigma, which=which, return_eigenvectors=False)
    np.testing.assert_array_equal(alone, w)


@pytest.mark.parametrize("which", ["LM", "SM", "LR", "SR", "LI"])
@pytest.mark.parametrize("sigma", [None, 0.7])
@pytest.mark.parametrize("has_M", [False, True])
@pytest.mark.parametrize("k", [4, 5])
def test_parts_of_a_general_spectrum(which, sigma, has_M, k):
    A, M = general(), positive() if has_M else None
    values = scipy.linalg.eigvals(A, M)
    # the transformation turns imaginary parts round, the answer does not
    t = None if sigma is None else 1 / (values.conj() - sigma)
    w, v = eigs(A, k, M=M, sigma=sigma, which=which)
    assert w.shape == (k,)
    assert v.shape == (N, k)
    np.testing.assert_allclose(w, wanted(values, which, k, t), atol=1e-9)
    np.testing.assert_allclose(A @ v, (v if M is None else M @ v) * w, atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(v, axis=0), 1)
    alone = eigs(A, k, M=M, sigma=sigma, which=which, return_eigenvectors=False)
    np.testing.assert_array_equal(alone, w)


@pytest.mark.parametrize("form", ["dense", "csr", "operator"])
def test_forms_of_a_general_problem(form):
    A, M = general(), positive()
    convert = FORMS[form]
    for arguments in ({}, {"sigma": 0.7}, {"M": convert(M)}, {"M": convert(M), "sigma": 0.7}):
        B = M if "M" in arguments else None
        values = scipy.linalg.eigvals(A, B)
        t = 1 / (values.conj() - 0.7) if "sigma" in arguments else None
        w = eigs(convert(A), 3, return_eigenvectors=False, **arguments)
        np.testing.assert_allclose(w, wanted(values, "LM", 3, t), atol=1e-9)


def test_given_inverses_are_used():
    A, M = symmetric_matrix(), positive()
    inverse, shifted = np.linalg.inv(M), np.linalg.inv(A - 0.7 * M)
    calls = []

    def counted(matrix):
        def matvec(x):
            calls.append(1)
            return matrix @ x

        return spla.LinearOperator((N, N), matvec=matvec, dtype=np.float64)

    values = scipy.linalg.eigh(A, M)[0]
    for arguments in (
        {"Minv": counted(inverse)},
        {"sigma": 0.7, "OPinv": counted(shifted)},
        {"sigma": 0.7, "OPinv": counted(shifted), "mode": "cayley"},
    ):
        calls.clear()
        w = eigsh(A, 4, M=M, return_eigenvectors=False, **arguments)
        assert calls
        np.testing.assert_allclose(w, eigsh(A, 4, M=M, **_without(arguments))[0], atol=1e-10)
        assert np.abs(w[:, None] - values).min(axis=1).max() <= 1e-10
    plain = np.linalg.inv(A - 0.7 * np.eye(N))
    for mode in ("normal", "cayley"):
        w = eigsh(A, 4, sigma=0.7, OPinv=plain, mode=mode)[0]
        np.testing.assert_allclose(w, eigsh(A, 4, sigma=0.7, mode=mode)[0], atol=1e-10)
    nonsymmetric = general()
    w = eigs(nonsymmetric, 3, M=M, Minv=inverse)[0]
    np.testing.assert_allclose(w, eigs(nonsymmetric, 3, M=M)[0], atol=1e-9)


def _without(arguments):
    return {name: value for name, value in arguments.items() if name not in ("Minv", "OPinv")}


def test_defaults_are_those_of_scipy():
    A = symmetric_matrix()
    np.testing.assert_allclose(eigsh(A)[0], spla.eigsh(A)[0], atol=1e-11)
    assert eigs(general())[0].shape == (6,)
    integers = np.diag(np.arange(1, 21))
    np.testing.assert_allclose(eigsh(integers, 2)[0], [19, 20])
    single = symmetric_matrix().astype(np.float32)
    np.testing.assert_allclose(eigsh(single, 2)[0], spla.eigsh(single, 2)[0], rtol=1e-5)


def test_smallest_of_a_path_graph():
    n = 200
    L = sp.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1])
    exact = 2 - 2 * np.cos(np.pi * np.arange(1, 6) / (n + 1))
    np.testing.assert_allclose(eigsh(L, 5, sigma=0)[0], exact, rtol=1e-10)
    np.testing.assert_allclose(eigsh(L, 5, sigma=0, which="LA")[0], exact, rtol=1e-10)


def test_rank_deficient_and_identity():
    A = np.zeros((30, 30))
    np.testing.assert_allclose(eigsh(A, 3)[0], 0, atol=1e-14)
    np.testing.assert_allclose(eigsh(np.eye(30), 4)[0], 1)
    np.testing.assert_allclose(
        eigsh(np.diag(np.r_[3.0, 2, np.zeros(28)]), 4)[0], [0, 0, 2, 3], atol=1e-13
    )


def test_the_start_vector_decides_nothing_but_the_way():
    A = symmetric_matrix()
    w = eigsh(A, 3)[0]
    np.testing.assert_array_equal(eigsh(A, 3)[0], w)
    for arguments in (
        {"v0": np.ones(N)},
        {"rng": 4},
        {"rng": np.random.default_rng(5)},
        {"ncv": 4},
        {"ncv": N},
        {"tol": 1e-12},
        {"tol": -1},
    ):
        np.testing.assert_allclose(eigsh(A, 3, **arguments)[0], w, atol=1e-10)
    loose = eigsh(A, 3, tol=1e-2, ncv=20)[0]
    np.testing.assert_allclose(loose, w, rtol=1e-2)


def test_no_convergence_carries_what_did_converge():
    A = np.diag(np.r_[100.0, np.linspace(1, 2, 299)])
    with pytest.raises(spla.ArpackNoConvergence, match="of 4 pairs converged") as failure:
        eigsh(A, 4, ncv=8, maxiter=3, tol=1e-12)
    error = failure.value
    assert isinstance(error, NoConvergence)
    assert "\n" not in str(error)
    assert str(error).endswith("raise max_it or ncv, or loosen tol")
    np.testing.assert_allclose(error.eigenvalues, [100.0])
    assert error.eigenvectors.shape == (300, 1)
    assert abs(error.eigenvectors[0, 0]) == pytest.approx(1)
    assert isinstance(error.result, EigenResult)
    assert not error.result.converged
    with pytest.raises(NoConvergence):
        eigs(np.triu(A + np.ones((300, 300))), 4, ncv=8, maxiter=1)


def test_all_pairs_are_left_to_lapack():
    A, M = symmetric_matrix(), positive()
    with pytest.warns(RuntimeWarning, match="scipy.linalg.eigh is used"):
        w = eigsh(A, N, M=M)[0]
    np.testing.assert_allclose(w, scipy.linalg.eigh(A, M)[0])
    with pytest.warns(RuntimeWarning, match="k >= n: "):
        assert eigsh(A, N + 3, return_eigenvectors=False).shape == (N,)
    with pytest.warns(RuntimeWarning, match=r"k >= n - 1: scipy.linalg.eig is used"):
        w = eigs(general(), N - 1)[0]
    assert w.shape == (N,)
    for form in (sp.csr_array, spla.aslinearoperator):
        with pytest.raises(TypeError, match="convert, or reduce k"):
            eigsh(form(A), N)
        with pytest.raises(TypeError, match="k >= n - 1"):
            eigs(form(A), N - 1)
    with pytest.raises(TypeError, match="convert, or reduce k"):
        eigsh(A, N, M=spla.aslinearoperator(M))
    assert eigsh(A, N - 1, return_eigenvectors=False).shape == (N - 1,)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (eigsh, {"k": 0}, "k > 0"),
        (eigsh, {"which": "LR"}, "which must be one of LM SM LA SA BE"),
        (eigs, {"which": "LA"}, "which must be one of LM SM LR SR LI SI"),
        (eigsh, {"mode": "buckling", "sigma": 1.0}, "'normal' or 'cayley'"),
        (eigsh, {"mode": "cayley"}, "needs sigma"),
        (eigsh, {"ncv": 6}, r"need 7 <= ncv <= n"),
        (eigs, {"ncv": 7}, r"need 8 <= ncv <= n"),
        (eigsh, {"ncv": N + 1}, "ncv=51, n=50"),
        (eigsh, {"maxiter": 0}, "maxiter > 0"),
        (eigsh, {"tol": 2.0}, "tol < 1"),
        (eigs, {"sigma": 1j}, "sigma must be real"),
        (eigs, {"OPpart": "r"}, "without sigma it must be None"),
        (eigs, {"OPpart": "i", "sigma": 1.0}, "with a real sigma it can be 'r'"),
        (eigsh, {"OPinv": np.eye(N)}, "give sigma"),
        (eigsh, {"Minv": np.eye(N)}, "Minv is for M"),
        (eigsh, {"M": np.eye(N), "Minv": np.eye(N), "sigma": 1.0}, "without sigma"),
        (eigsh, {"M": np.eye(4)}, "M must be distributed as A"),
        (eigsh, {"A": np.ones((3, N))}, "A must be square"),
        (eigsh, {"A": np.ones((5, 3))}, "A must be square"),
        (eigs, {"A": sp.csr_array(np.ones((5, 3)))}, "A must be square"),
        (eigsh, {"A": np.ones(N)}, "A must be square"),
        (eigsh, {"A": np.eye(N) * 1j}, "A must be real"),
        (eigsh, {"M": sp.eye_array(N) * 1j}, "M must be real"),
        (eigsh, {"v0": np.ones(3)}, "start must hold"),
        (eigsh, {"A": np.full((N, N), np.nan)}, "not finite"),
        (eigsh, {"M": -np.eye(N)}, "not positive"),
    ],
)
def test_arguments_that_do_not_fit(function, arguments, message):
    with pytest.raises(ValueError, match=message) as refusal:
        function(**({"A": symmetric_matrix()} | arguments))
    assert isinstance(refusal.value, MiramnsError)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("part", [None, "r", "R"])
def test_real_part_of_a_real_shift(part):
    A = np.diag(np.arange(float(N)))
    A[:2, :2] = [[3.0, -1.0], [1.0, 3.0]]
    w = eigs(A, 3, sigma=10.2, OPpart=part, return_eigenvectors=False)
    np.testing.assert_allclose(w, [10, 11, 9], atol=1e-9)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("function", [eigsh, eigs])
def test_shift_zero_of_a_zero_diagonal(function, explicit):
    """SuperLU pivots where PETSc's own factorisation ends at the first zero."""
    T = sp.diags_array([np.ones(N - 1), np.ones(N - 1)], offsets=[1, -1]).tocsr()
    if explicit:
        T = T + sp.eye_array(N)
        T.data[T.tocoo().row == T.tocoo().col] = 0.0
    exact = 2 * np.cos(np.pi * np.arange(1, N + 1) / (N + 1))
    exact = exact[np.argsort(np.abs(exact))[:4]]
    w = function(T, 4, sigma=0, return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(w.real), np.sort(exact), atol=1e-12)


def test_complex_build_is_refused(monkeypatch):
    monkeypatch.setattr(PETSc, "ScalarType", np.complex128)
    for function in (eigsh, eigs):
        with pytest.raises(MiramnsError, match="complex scalars"):
            function(symmetric_matrix(), 3)


@pytest.mark.mpi
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("mode", ["plain", "M", "sigma", "sigma M", "cayley M"])
def test_rows_of_every_rank(comm, gather, form, mode):
    A, M = symmetric_matrix(), positive()
    # unequal parts; the last rank may have the fewest
    first, last = np.linspace(0, N**0.5, comm.size + 1)[comm.rank : comm.rank + 2] ** 2
    rows = slice(round(first), round(last))
    arguments = {"M": form(M[rows])} if "M" in mode else {}
    if mode not in ("plain", "M"):
        arguments["sigma"] = 0.7
    if "cayley" in mode:
        arguments["mode"] = "cayley"
    B = M if "M" in mode else np.eye(N)
    w, v = eigsh(form(A[rows]), 4, v0=np.ones(N)[rows], comm=comm, **arguments)
    assert v.shape == (rows.stop - rows.start, 4)
    whole = dict(arguments, M=M) if "M" in mode else arguments
    np.testing.assert_allclose(w, spla.eigsh(A, 4, **whole)[0], atol=1e-9)
    X = gather(v)
    np.testing.assert_allclose(A @ X, B @ X * w, atol=1e-10)
    np.testing.assert_allclose(X.T @ B @ X, np.eye(4), atol=1e-11)
    w, v = eigs(form(general()[rows]), 3, comm=comm)
    X = gather(v)
    np.testing.assert_allclose(general() @ X, X * w, atol=1e-10)


@pytest.mark.mpi
def test_petsc_matrices(operators, symmetric, gather):
    M = symmetric(np.linspace(1, 9, 40))
    A = operators(M)
    w, v = eigsh(A, 3)
    np.testing.assert_allclose(w, np.linspace(1, 9, 40)[-3:])
    assert v.shape == (A.getLocalSize()[0], 3)
    w, v = eigs(operators(diagonal=np.arange(1.0, 31)), 2, which="SR")
    np.testing.assert_allclose(w, [1, 2], atol=1e-8)
    # it still belongs to its owner
    assert A.norm() > 0


@pytest.mark.mpi
def test_every_rank_refuses_what_one_cannot_take(comm):
    A = np.eye(20)[comm.rank :: comm.size]
    with pytest.raises(MiramnsError, match="A must be real"):
        eigsh(A * 1j if comm.rank == comm.size - 1 else A, 2, comm=comm)
    with pytest.raises(MiramnsError, match="A must be square"):
        eigsh(A[: len(A) - 1] if comm.rank == 0 else A, 2, comm=comm)
    if comm.size > 1:
        with pytest.raises(MiramnsError, match=r"use a PETSc\.Mat in parallel"):
            local = spla.LinearOperator((len(A), 20), matvec=lambda x: x, dtype=float)
            eigsh(local, 2, comm=comm)
        with pytest.raises(TypeError, match="on one rank"):
            eigsh(A, 20, comm=comm)
