"""The small dense problem, its order, and the shapes of restarts; no MPI needed."""

import itertools

import numpy as np
import pytest
import scipy.linalg

from miramns.nested import checkpoints, largest_size, published_measure, published_sizes
from miramns.ordering import ByComparison, NearestTo
from miramns.projected import (
    cuts_pair,
    refined_pairs,
    ritz_pairs,
    schur_basis,
    ties_at,
    wanted_order,
)
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


def same_values(found, expected, atol):
    """Whether two arrays hold the same values, each as often, in whatever order."""
    left = list(expected)
    for value in found:
        nearest = int(np.argmin(np.abs(np.array(left) - value)))
        assert abs(left.pop(nearest) - value) <= atol, f"{value} is not among {expected}"
    assert not left


@pytest.mark.parametrize(
    ("which", "values", "expected"),
    [
        ("LM", [-2, 1, 2, 2j, -2j], [2, 2j, -2j, -2, 1]),
        ("SM", [-1, 3, 1j, -1j, 1], [1, 1j, -1j, -1, 3]),
        ("LR", [1 + 1.5j, 1 - 1.5j, 1, 2 + 3j, 2 - 3j], [2 + 3j, 2 - 3j, 1, 1 + 1.5j, 1 - 1.5j]),
        ("LR", [2j, -2j, 1j, -1j, 0], [0, 1j, -1j, 2j, -2j]),
        ("SR", [1 + 1.5j, 1 - 1.5j, 3, 1, -4], [-4, 1, 1 + 1.5j, 1 - 1.5j, 3]),
        ("LI", [1 + 2j, 1 - 2j, 3 + 2j, 3 - 2j, 5], [3 + 2j, 3 - 2j, 1 + 2j, 1 - 2j, 5]),
        ("SI", [-4, 1 + 1j, 1 - 1j, 7, 3], [7, 3, -4, 1 + 1j, 1 - 1j]),
        ("BE", [1, 5, -3, 2, 0], [5, -3, 2, 0, 1]),
        (NearestTo(2.0), [1, 3, 2 + 1j, 2 - 1j, 0], [3, 2 + 1j, 2 - 1j, 1, 0]),
        (NearestTo(2.0, "real"), [1, 3 + 1j, 3 - 1j, 3, 2], [2, 3, 3 + 1j, 3 - 1j, 1]),
        (
            ByComparison(lambda a, b: int(np.sign(b.real - a.real))),
            [1 + 1.5j, 1 - 1.5j, 1, 4, -2],
            [4, 1, 1 + 1.5j, 1 - 1.5j, -2],
        ),
    ],
)
def test_rounding_does_not_order_what_ties(which, values, expected):
    expected = np.array(expected)
    rng = np.random.default_rng(4)
    exact = np.array(values)
    for _trial in range(20):
        noise = rng.uniform(-5e-15, 5e-15, (2, len(exact)))
        # both of a conjugate pair move alike, as LAPACK's do
        for j in np.flatnonzero(exact.imag < 0):
            noise[:, j] = noise[0, j - 1], -noise[1, j - 1]
        moved = exact + noise[0]
        if np.iscomplexobj(exact):
            moved = moved + 1j * np.where(exact.imag == 0, 0, noise[1])
        if isinstance(which, ByComparison):
            # a function of the user compares as it likes, here without tolerance
            moved = exact
        np.testing.assert_allclose(moved[wanted_order(moved, which)], expected, atol=1e-13)


def test_copies_stay_in_the_order_of_their_digits():
    values = 3.0 + 1e-15 * np.array([0.0, 4.0, 2.0])
    np.testing.assert_array_equal(wanted_order(values, "LA"), [1, 2, 0])
    np.testing.assert_array_equal(wanted_order(values, "SA"), [0, 2, 1])
    np.testing.assert_array_equal(wanted_order(-values, "LM"), [1, 2, 0])


def test_a_chain_of_ties_is_no_tie():
    values = np.array([1.0, -(1 - 8e-12), 1 - 16e-12, -(1 - 24e-12)])
    np.testing.assert_array_equal(wanted_order(values, "LM"), [0, 1, 2, 3])
    far = np.full(4, 1e-3)
    np.testing.assert_array_equal(wanted_order(values, "LM", far), [0, 2, 1, 3])


def test_infinite_keys_tie_and_come_last():
    values = np.array([3.0, -1.0, 2.0, 0.0])

    def keys(values):
        return np.where(values > 0, np.inf, values)

    np.testing.assert_array_equal(wanted_order(values, keys), [1, 3, 0, 2])


@pytest.mark.parametrize(
    ("which", "values", "ends_in_tie"),
    [
        ("LM", [3, 2, -2, 1], [False, True, False, False]),
        ("LA", [3, 2, 2 - 1e-15, 1], [False, True, False, False]),
        ("LA", [3, 2, -2, 1], [False, False, False, False]),
        ("LR", [1, 1 + 1j, 1 - 1j, 0], [True, True, False, False]),
        ("LM", [1, 1e-16, 0, 0], [False, True, True, False]),
        ("BE", [5, -3, 2, -3], [False, False, True, False]),
        (NearestTo(1.0), [1, 2, 0, 5], [False, True, False, False]),
    ],
)
def test_ties_at_the_cut_are_seen(which, values, ends_in_tie):
    values = np.array(values)
    assert [ties_at(values, which, k) for k in range(1, 5)] == ends_in_tie
    assert not ties_at(values, which, 0)
    close = np.array([2.0, 1.0, 1.0 - 1e-6])
    assert ties_at(close, "LM", 2, 2e-6)
    assert not ties_at(close, "LM", 2)


def test_copies_coupled_by_rounding_get_vectors_of_their_own():
    # LAPACK returns one vector twice of such blocks: diag(1, 1, 0, 0), as a run from 4 directions
    # of which the third is new makes it
    H = np.zeros((4, 4))
    for block, angle in ((slice(0, 2), 1.525), (slice(2, 4), 1.187)):
        H[block, block] = np.outer(*2 * [[np.cos(angle), np.sin(angle)]])
    H[:2, 2:] = [[-1.5e-18, 9e-19], [-4e-17, 3e-17]]
    ritz = ritz_pairs(H, 0.0, "LM", hermitian=False)
    assert np.linalg.svd(ritz.vectors)[1][-1] < 1e-10, "nothing is shown"
    values, Y = refined_pairs(H, ritz.values, ritz.vectors)
    assert np.linalg.svd(Y)[1][-1] > 0.5
    np.testing.assert_allclose(H @ Y, Y * values, atol=1e-15)
    pairs = scipy.linalg.block_diag(ROTATION, ROTATION)
    pairs[0, 2] = pairs[1, 3] = 1e-16
    ritz = ritz_pairs(pairs, 0.0, "LM", hermitian=False)
    values, Y = refined_pairs(pairs, ritz.values, ritz.vectors)
    assert np.linalg.svd(Y)[1][-1] > 0.5
    np.testing.assert_allclose(pairs @ Y, Y * values, atol=1e-14)
    np.testing.assert_array_equal(Y[:, 1::2], Y[:, ::2].conj())


def test_a_defective_eigenvalue_keeps_its_vector():
    H = np.array([[1.0, 1.0], [0.0, 1.0]])
    ritz = ritz_pairs(H, 0.0, "LM", hermitian=False)
    values, Y = refined_pairs(H, ritz.values, ritz.vectors)
    np.testing.assert_allclose(np.abs(Y), [[1, 1], [0, 0]], atol=1e-15)
    np.testing.assert_allclose(values, 1.0)


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
    same_values(np.linalg.eigvals(T), wanted, atol=1e-10)


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
