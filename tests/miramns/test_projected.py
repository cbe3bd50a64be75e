"""The small dense problem, its order, and the shapes of restarts; no MPI needed."""

import itertools

import numpy as np
import pytest
import scipy.linalg

from miramns.nested import checkpoints, largest_size, published_measure, published_sizes
from miramns.projected import cuts_pair, ritz_pairs, schur_basis, wanted_order
from miramns.restart import implicit_qr, kept_size

ROTATION = np.array([[2.0, -3.0], [3.0, 2.0]])  # eigenvalues 2 +- 3i


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("LM", [-5, 4, 1, -0.5]),
        ("LR", [4, 1, -0.5, -5]),
        ("LA", [4, 1, -0.5, -5]),
        ("SR", [-5, -0.5, 1, 4]),
        ("SA", [-5, -0.5, 1, 4]),
    ],
)
def test_wanted_order(which, expected):
    values = np.array([1.0, -5.0, 4.0, -0.5])
    np.testing.assert_array_equal(values[wanted_order(values, which)], expected)


def test_ties_in_modulus_keep_pairs_together_with_plus_first():
    values = np.array([-1, 1j, 1, -1j, 0.5])
    np.testing.assert_array_equal(
        values[wanted_order(values, "LM")], np.array([1, 1j, -1j, -1, 0.5])
    )


def test_pair_at_the_cut_is_seen():
    values = np.array([5, 2 + 3j, 2 - 3j, 1])
    assert [cuts_pair(values, k) for k in range(5)] == [False, False, True, False, False]
    assert not cuts_pair(values.real, 2)


@pytest.mark.parametrize("hermitian", [True, False])
def test_estimates_are_the_residuals_of_the_factorisation(hermitian):
    rng = np.random.default_rng(0)
    M = rng.standard_normal((20, 20))
    M = M + M.T if hermitian else M
    H, Q = scipy.linalg.hessenberg(M, calc_q=True)
    m = 8
    ritz = ritz_pairs(H[:m, :m], H[m, m - 1], "LM", hermitian=hermitian)
    for theta, y, estimate in zip(ritz.values, ritz.vectors.T, ritz.estimates, strict=True):
        x = Q[:, :m] @ y
        assert np.linalg.norm(M @ x - theta * x) == pytest.approx(estimate, rel=1e-9, abs=1e-12)


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
    np.testing.assert_allclose(
        np.sort_complex(np.linalg.eigvals(T)), np.sort_complex(wanted), atol=1e-10
    )


def test_exact_shifts_leave_the_wanted_subspace():
    rng = np.random.default_rng(2)
    for m, k in [(3, 1), (10, 3), (25, 6)]:
        H = scipy.linalg.hessenberg(rng.standard_normal((m, m)))
        ritz = ritz_pairs(H, 1.0, "LM", hermitian=False)
        kept = ritz.whole_pairs(k)
        shifted, Q = implicit_qr(H, ritz.values[kept:])
        np.testing.assert_allclose(Q.T @ Q, np.eye(m), atol=1e-13)
        np.testing.assert_allclose(Q.T @ H @ Q, shifted, atol=1e-12)
        assert np.abs(np.tril(shifted, -2)).max() == 0.0
        assert np.abs(np.tril(Q, -(m - kept) - 1)).max() == 0.0
        _, S = schur_basis(H, "LM", kept, len(H) - 1)
        rest = Q[:, :kept] - S @ (S.T @ Q[:, :kept])
        assert np.linalg.norm(rest, 2) < 1e-10


def test_checkpoints_end_at_the_largest_and_grow():
    sizes = checkpoints(10, 100)
    assert sizes[0] == 12
    assert sizes[-1] == 100
    assert all(b > a for a, b in itertools.pairwise(sizes))
    assert max(b / a for a, b in itertools.pairwise(sizes)) < 1.2
    assert checkpoints(5, 5) == (5,)


def test_largest_size_obeys_dimension_and_memory():
    assert largest_size(10, 10_000, 10_001) == 120
    assert largest_size(50, 10_000, 10_001) == 300
    assert largest_size(10, 10_000, 10_001, hermitian=False) == 60
    assert largest_size(50, 10_000, 10_001, hermitian=False) == 250
    assert largest_size(10, 60, 61) == 60
    assert largest_size(10, 10_000, 41) == 40
    assert largest_size(10, 10_000, 3) == 12


def test_published_sizes_are_every_integer_from_twice_k():
    assert published_sizes(50, 784) == tuple(range(100, 201))
    assert published_sizes(5, 500, 10) == (10,)
    assert published_sizes(10, 34) == tuple(range(20, 35))
    assert published_sizes(8, 500, 10) == tuple(range(10, 17))
    assert published_sizes(17, 21) == (21,)


def test_published_measure():
    assert published_measure(np.array([3.0, 4.0]), 10.0) == 0.5
    assert published_measure(np.array([0.0]), 0.0) == 0.0


@pytest.mark.parametrize(("k", "m", "kept"), [(5, 25, 15), (5, 7, 6), (1, 3, 2), (3, 4, 3)])
def test_kept_size_leaves_room(k, m, kept):
    assert kept_size(k, m) == kept < m
