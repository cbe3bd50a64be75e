"""The published iteration: QR steps, the choice of a size, breakdowns."""

import numpy as np
import pytest
import scipy.linalg

from miramns import Options, solve
from miramns.iteration.published import implicit_qr, published_measure
from miramns.projected import OrthonormalProjection, ritz_pairs, schur_basis

mpi = pytest.mark.mpi

LAPLACIAN = 2 - 2 * np.cos(np.pi * np.arange(1, 201) / 201)


def test_exact_shifts_leave_the_wanted_subspace():
    rng = np.random.default_rng(2)
    for m, k in [(3, 1), (10, 3), (25, 6)]:
        H = scipy.linalg.hessenberg(rng.standard_normal((m, m)))
        ritz = ritz_pairs(OrthonormalProjection(H, 1.0), "LM", hermitian=False)
        kept = ritz.whole_pairs(k)
        shifted, Q = implicit_qr(H, ritz.values[kept:])
        np.testing.assert_allclose(Q.T @ Q, np.eye(m), atol=1e-13)
        np.testing.assert_allclose(Q.T @ H @ Q, shifted, atol=1e-12)
        assert np.abs(np.tril(shifted, -2)).max() == 0.0
        assert np.abs(np.tril(Q, -(m - kept) - 1)).max() == 0.0
        _, S = schur_basis(H, "LM", kept, len(H) - 1)
        rest = Q[:, :kept] - S @ (S.T @ Q[:, :kept])
        assert np.linalg.norm(rest, 2) < 1e-10


def test_published_measure():
    assert published_measure(np.array([3.0, 4.0]), 10.0) == 0.5
    assert published_measure(np.array([0.0]), 0.0) == 0.0


@mpi
def test_published_records_every_size_and_one_choice_per_restart(operators, symmetric):
    A = operators(symmetric(LAPLACIAN))
    result = solve(A, 3, hermitian=True, variant="published", ncv=20)
    assert result.converged
    for restart in range(result.n_restarts + 1):
        checks = [c for c in result.history if c.restart == restart]
        assert sorted(c.size for c in checks) == list(range(6, 21))
        best = min(checks, key=lambda c: (c.measure, c.size))
        assert [c.size for c in checks if c.chosen] == [best.size]


@mpi
def test_published_starts_from_equal_entries(operators):
    # Equal entries are an eigenvector of this matrix, so the first space is invariant at once.
    M = np.ones((12, 12)) + np.diag(np.full(12, 2.0))
    result = solve(
        operators(M), 1, hermitian=True, variant="published", options=Options(nested_sizes=[3, 4])
    )
    np.testing.assert_allclose(result.eigenvalues, [14.0], rtol=1e-12)


@mpi
@pytest.mark.parametrize("which", ["LM", "SA"])
def test_published_goes_on_from_an_eigenvector(operators, which):
    # equal entries span the null space of a graph Laplacian
    n = 200
    M = np.diag(np.r_[1.0, np.full(n - 2, 2.0), 1.0]) - np.eye(n, k=1) - np.eye(n, k=-1)
    M[0, 0] += 30.0
    M[1, 1] += 30.0
    M[0, 1] = M[1, 0] = M[0, 1] - 30.0
    np.testing.assert_array_equal(M @ np.ones(n), 0.0)
    expected = np.linalg.eigvalsh(M)
    expected = expected[:2] if which == "SA" else expected[::-1][:2]
    result = solve(
        operators(M + 3 * np.eye(n)), 2, which=which, hermitian=True, variant="published", ncv=24,
        tol=1e-6, max_it=300,
    )  # fmt: skip
    assert result.n_restarts > 0, "a run without restarts shows nothing"
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, expected + 3, atol=1e-5)


@mpi
@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("inside", [slice(0, 1), slice(40, 43)])
def test_published_leaves_an_invariant_space_without_the_wanted(operators, hermitian, inside):
    values = np.arange(1.0, 101.0)
    M = np.diag(values)
    if not hermitian:
        M[50:, 50:] += np.diag(np.linspace(0, 1, 49), 1)
    start = np.zeros(100)
    start[inside] = 1.0
    A = operators(M)
    result = solve(
        A, 2, hermitian=hermitian, variant="published", ncv=16, max_it=200,
        start=start[slice(*A.getOwnershipRange())],
    )  # fmt: skip
    assert result.n_restarts > 0
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, [100, 99], rtol=1e-6)


@mpi
@pytest.mark.slow
def test_published_choice_is_not_misled_by_a_small_subspace(operators):
    # a tiny subspace converges to something far inside, with the smallest measure of all
    values = 1 - np.geomspace(1, 1e-12, 600)
    result = solve(
        operators(diagonal=values), 1, which="LA", hermitian=True, tol=1e-10, variant="published",
        max_it=15,
    )  # fmt: skip
    np.testing.assert_allclose(result.eigenvalues, values.max(), atol=1e-6)
