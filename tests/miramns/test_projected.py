"""The projected problem, and the vectors that a restart keeps; no MPI needed."""

import numpy as np
import pytest
import scipy.linalg

from miramns.projected import (
    OrthonormalProjection,
    refined_pairs,
    ritz_pairs,
    schur_basis,
)
from miramns.selection import wanted_order

ROTATION = np.array([[2.0, -3.0], [3.0, 2.0]])  # eigenvalues 2 +- 3i


def same_values(found, expected, atol):
    """Whether two arrays hold the same values, each as often, in whatever order."""
    left = list(expected)
    for value in found:
        nearest = int(np.argmin(np.abs(np.array(left) - value)))
        assert abs(left.pop(nearest) - value) <= atol, f"{value} is not among {expected}"
    assert not left


@pytest.mark.parametrize("hermitian", [True, False])
def test_estimates_are_the_residuals_of_the_factorisation(hermitian):
    rng = np.random.default_rng(0)
    M = rng.standard_normal((20, 20))
    M = M + M.T if hermitian else M
    H, Q = scipy.linalg.hessenberg(M, calc_q=True)
    m = 8
    ritz = ritz_pairs(OrthonormalProjection(H[:m, :m], H[m, m - 1]), "LM", hermitian=hermitian)
    for theta, y, estimate in zip(ritz.values, ritz.vectors.T, ritz.estimates, strict=True):
        x = Q[:, :m] @ y
        assert np.linalg.norm(M @ x - theta * x) == pytest.approx(estimate, rel=1e-9, abs=1e-12)


def test_copies_coupled_by_rounding_get_vectors_of_their_own():
    # LAPACK returns one vector twice of such blocks: diag(1, 1, 0, 0), as a run from 4 directions
    # of which the third is new makes it
    H = np.zeros((4, 4))
    for block, angle in ((slice(0, 2), 1.525), (slice(2, 4), 1.187)):
        H[block, block] = np.outer(*2 * [[np.cos(angle), np.sin(angle)]])
    H[:2, 2:] = [[-1.5e-18, 9e-19], [-4e-17, 3e-17]]
    ritz = ritz_pairs(OrthonormalProjection(H, 0.0), "LM", hermitian=False)
    assert np.linalg.svd(ritz.vectors)[1][-1] < 1e-10, "nothing is shown"
    values, Y, _ = refined_pairs(H, ritz.values, ritz.vectors)
    assert np.linalg.svd(Y)[1][-1] > 0.5
    np.testing.assert_allclose(H @ Y, Y * values, atol=1e-15)
    pairs = scipy.linalg.block_diag(ROTATION, ROTATION)
    pairs[0, 2] = pairs[1, 3] = 1e-16
    ritz = ritz_pairs(OrthonormalProjection(pairs, 0.0), "LM", hermitian=False)
    values, Y, _ = refined_pairs(pairs, ritz.values, ritz.vectors)
    assert np.linalg.svd(Y)[1][-1] > 0.5
    np.testing.assert_allclose(pairs @ Y, Y * values, atol=1e-14)
    np.testing.assert_array_equal(Y[:, 1::2], Y[:, ::2].conj())


def test_a_defective_eigenvalue_keeps_its_vector():
    H = np.array([[1.0, 1.0], [0.0, 1.0]])
    ritz = ritz_pairs(OrthonormalProjection(H, 0.0), "LM", hermitian=False)
    values, Y, _ = refined_pairs(H, ritz.values, ritz.vectors)
    np.testing.assert_allclose(np.abs(Y), [[1, 1], [0, 0]], atol=1e-15)
    np.testing.assert_allclose(values, 1.0)


def test_condition_numbers_of_eigenvalues():
    """From left and right vectors; copies of one eigenvalue have that of their projector."""
    H = np.random.default_rng(0).standard_normal((30, 30))
    values, left, right = scipy.linalg.eig(H, left=True)
    ritz = ritz_pairs(OrthonormalProjection(H, 0.0), "LM", hermitian=False)
    conditions = refined_pairs(H, ritz.values, ritz.vectors)[2]
    places = [np.argmin(np.abs(values - value)) for value in ritz.values]
    expected = 1 / np.abs(np.sum(left.conj() * right, axis=0))[places]
    np.testing.assert_allclose(conditions, expected, rtol=1e-10)
    for matrix, expected in (
        (np.diag([2.0, 1.0, 1.0, 0.0]), 1.0),
        (2 * np.eye(3), 1.0),
        (np.array([[2.0, 1e6], [0.0, 1.0]]), 1e6),
    ):
        ritz = ritz_pairs(OrthonormalProjection(matrix, 0.0), "LM", hermitian=False)
        conditions = refined_pairs(matrix, ritz.values, ritz.vectors)[2]
        np.testing.assert_allclose(conditions, expected, rtol=1e-6)


@pytest.mark.parametrize("which", ["LM", "LR", "SR"])
@pytest.mark.parametrize("keep", [1, 2, 3, 5])
def test_schur_basis_spans_the_wanted(which, keep):
    H = scipy.linalg.block_diag(ROTATION, [[-4.0]], 0.5 * ROTATION, [[1.0]])
    X = np.random.default_rng(1).standard_normal((6, 6))
    H = X @ H @ np.linalg.inv(X)
    T, Q = schur_basis(H, which, keep, len(H))
    assert Q.shape[1] in (keep, keep + 1)
    np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), atol=1e-13)
    np.testing.assert_allclose(H @ Q, Q @ T, atol=1e-11)
    values = np.linalg.eigvals(H)
    wanted = values[wanted_order(values, which)][: Q.shape[1]]
    same_values(np.linalg.eigvals(T), wanted, atol=1e-10)
