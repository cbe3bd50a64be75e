"""One reduction per column: identities of the factorisation, reductions, answers."""

import numpy as np
import pytest
import scipy.linalg

from miramns import MiramnsError, OperatorError, Options, seeded_normal, solve
from miramns.factorization.arnoldi import ArnoldiFactorization
from miramns.factorization.dcgs2 import DCGS2Factorization
from miramns.projected import OrthonormalProjection, ritz_pairs, thick_restart

pytestmark = pytest.mark.mpi

RNG = np.random.default_rng(0)
GENERAL = RNG.standard_normal((80, 80))
GENERAL[0, 0] += 30
#: What a product adds to its space is little beside the rest: one pass is never enough.
SHIFTED = GENERAL + 40 * np.eye(80)
OPERATORS = {
    "hermitian": GENERAL + GENERAL.T,
    "nonsymmetric": GENERAL,
    "nonnormal": np.triu(GENERAL) + np.diag(np.arange(80.0)),
    "hilbert": scipy.linalg.hilbert(80),
    "graded": np.diag(10.0 ** -np.linspace(0, 12, 80)) + 1e-8 * GENERAL,
    "large": 1e120 * GENERAL,
    "small": 1e-120 * GENERAL,
}


def started(A, capacity, factorization=DCGS2Factorization, start=None, **more):
    first, last = A.getOwnershipRange()
    start = seeded_normal(0, first, last) if start is None else start[first:last]
    return factorization(A, capacity, start, **more)


def check_factorization(f, M, gather):
    j = f.size
    V = gather(f.basis[:, : j + 1])
    np.testing.assert_allclose(V.T @ V, np.eye(j + 1), rtol=0, atol=1e-12)
    scale = np.linalg.norm(M, 2) or 1.0
    difference = M @ V[:, :j] - V @ f.hessenberg[: j + 1, :j]
    np.testing.assert_allclose(difference / scale, 0, atol=1e-13)


@pytest.mark.parametrize("name", OPERATORS)
def test_relation_and_orthonormality(operators, gather, name):
    M = OPERATORS[name]
    f = started(operators(M), 50)
    for size in (1, 2, 20, 50):
        f.extend(size)
        assert f.size == size
        check_factorization(f, M, gather)
    f.destroy()


def test_one_reduction_a_column(operators):
    A = operators(SHIFTED)
    delayed, full = started(A, 50), started(A, 50, ArnoldiFactorization)
    start = delayed.n_reductions
    delayed.extend(50)
    # the first candidate takes one of its own
    assert delayed.n_reductions - start == 50 + 1
    assert delayed.n_matvec == 50 + 1
    full.extend(50)
    assert full.n_reductions - start > 1.5 * 50, "the usual way takes no more: nothing is saved"
    np.testing.assert_allclose(delayed.hessenberg[:51, :50], full.hessenberg[:51, :50], atol=1e-10)
    delayed.destroy()
    full.destroy()


@pytest.mark.parametrize("hermitian", [True, False])
def test_thick_restarts_keep_the_relation_and_the_product_ahead(operators, gather, hermitian):
    M = OPERATORS["hermitian" if hermitian else "nonsymmetric"]
    f = started(operators(M), 24)
    f.extend(24)
    for cycle in range(60):
        before, products = f.n_reductions, f.n_matvec
        H, beta = f.hessenberg[:24, :24].copy(), f.beta
        ritz = ritz_pairs(OrthonormalProjection(H, beta), "LM", hermitian=hermitian)
        f.restart(
            *thick_restart(OrthonormalProjection(H, beta), ritz, 9, "LM", hermitian=hermitian)
        )
        p = f.size
        check_factorization(f, M, gather)
        f.extend(24)
        check_factorization(f, M, gather)
        if cycle < 2:
            assert f.n_reductions - before == f.n_matvec - products == 24 - p
    f.destroy()


def test_refresh(operators, gather):
    f = started(operators(GENERAL), 20)
    f.extend(12)
    f.reorthonormalize()
    check_factorization(f, GENERAL, gather)
    f.extend(20)
    check_factorization(f, GENERAL, gather)
    f.destroy()


@pytest.mark.parametrize("inside", [1, 2, 5])
@pytest.mark.parametrize("hermitian", [True, False])
def test_invariant_subspace_goes_on_with_a_new_direction(operators, gather, inside, hermitian):
    M = np.diag(np.arange(1.0, 41.0))
    if not hermitian:
        M += np.diag(np.linspace(0, 1, 39), 1)
    start = (np.arange(40) < inside).astype(float)
    f = started(operators(M), 30, start=start)
    f.extend(30)
    assert f.n_breakdowns == 1
    assert f.part_start == inside
    assert f.hessenberg[inside, inside - 1] == 0.0
    check_factorization(f, M, gather)
    f.destroy()


@pytest.mark.parametrize("values", [np.zeros(30), np.ones(30), np.repeat([1.0, 2.0, 3.0], 10)])
def test_breakdowns_one_after_the_other(operators, gather, values):
    f = started(operators(diagonal=values), 20)
    f.extend(20)
    assert f.n_breakdowns >= 6
    assert f.n_matvec <= 21, "products are made of nothing"
    check_factorization(f, np.diag(values), gather)
    f.destroy()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_whole_space(operators, gather, n):
    M = np.diag(np.arange(1.0, n + 1))
    f = started(operators(M), n)
    f.extend(n)
    V = gather(f.basis[:, :n])
    np.testing.assert_allclose(V.T @ V, np.eye(n), atol=1e-13)
    np.testing.assert_allclose(V.T @ M @ V, f.hessenberg[:n, :n], atol=1e-13)
    assert f.beta <= 1e-13
    f.destroy()


def test_locked_columns_that_span_no_invariant_space(operators, gather):
    A = operators(GENERAL)
    locked = np.random.default_rng(1).standard_normal((80, 3))
    f = started(A, 40, locked=locked[slice(*A.getOwnershipRange())])
    f.extend(40)
    V = gather(f.basis[:, :41])
    L = np.linalg.qr(locked)[0]
    assert np.abs(L.T @ V).max() < 1e-13
    np.testing.assert_allclose(V.T @ V, np.eye(41), atol=1e-13)
    projected = GENERAL - L @ (L.T @ GENERAL)
    np.testing.assert_allclose(projected @ V[:, :40], V @ f.hessenberg[:41, :40], atol=1e-11)
    f.destroy()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e155, 1e-165])
def test_products_without_a_norm_are_named(operators, bad):
    values = np.full(30, bad)
    f = started(operators(diagonal=values), 5)
    with pytest.raises(OperatorError, match=r"product 1 with the operator"):
        f.extend(5)
    f.destroy()


SPECTRA = {
    "power": np.arange(1.0, 201.0) ** -0.5,
    "laplacian": 2 - 2 * np.cos(np.pi * np.arange(1, 201) / 201),
    "multiple": np.r_[np.full(3, 3.0), np.arange(1.0, 150.0) ** -1.0],
    "rank 3": np.r_[3.0, 2.0, 1.0, np.zeros(57)],
    "identity": np.ones(50),
    "zero": np.zeros(40),
}


@pytest.mark.parametrize("ncv", [None, 24])
@pytest.mark.parametrize("name", SPECTRA)
def test_hermitian_answers(operators, symmetric, name, ncv):
    A = operators(symmetric(SPECTRA[name]))
    full = solve(A, 6, hermitian=True, ncv=ncv, options=Options(orthogonalization="full"))
    result = solve(A, 6, hermitian=True, ncv=ncv, options=Options(orthogonalization="dcgs2"))
    scale = max(abs(SPECTRA[name]).max(), 1e-300)
    np.testing.assert_allclose(result.eigenvalues, full.eigenvalues, atol=1e-8 * scale)
    assert result.converged
    assert result.orthogonality <= 1e-12
    # copies enter by rounding, which decides when
    most = 2 * full.n_matvec if name == "multiple" else full.n_matvec
    assert result.n_matvec <= most + 1 + result.n_restarts


@pytest.mark.parametrize("ncv", [None, 20])
@pytest.mark.parametrize("which", ["LM", "LR", "SR"])
def test_nonsymmetric_answers_with_fewer_reductions(operators, gather, which, ncv):
    A = operators(SHIFTED)
    full = solve(
        A, 4, which=which, hermitian=False, ncv=ncv, options=Options(orthogonalization="full")
    )
    result = solve(
        A, 4, which=which, hermitian=False, ncv=ncv, options=Options(orthogonalization="dcgs2")
    )
    np.testing.assert_allclose(result.eigenvalues, full.eigenvalues, atol=1e-5)
    assert result.converged
    assert result.orthogonality <= 1e-12
    X = gather(result.eigenvectors)
    norms = np.linalg.norm(SHIFTED @ X - X * result.eigenvalues, axis=0)
    assert (norms <= result.residual_tolerances + 1e-12).all()
    # one a column, one for the start, one for the first candidate, one a refresh, and its candidate
    assert result.n_reductions <= result.n_matvec + 3 + 2 * (result.n_restarts // 50)
    assert full.n_reductions > 1.5 * full.n_matvec


def test_refusals(operators):
    A = operators(diagonal=np.ones(20))
    for variant, inner in (("block", None), ("published", None), ("default", A)):
        options = Options(orthogonalization="dcgs2", inner=inner)
        with pytest.raises(MiramnsError, match="'dcgs2' is for the default variant"):
            solve(A, 2, hermitian=True, variant=variant, options=options)
    with pytest.raises(MiramnsError, match="auto, full, partial, dcgs2"):
        solve(A, 2, hermitian=True, options=Options(orthogonalization="cgs"))
