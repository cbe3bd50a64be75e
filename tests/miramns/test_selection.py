"""The order of wanted values, ties, and the cut; no MPI needed."""

import numpy as np
import pytest

from miramns.interfaces.eps_selection import ByComparison, NearestTo
from miramns.selection import cuts_pair, displaces, ties_at, wanted_order


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


def test_pair_at_the_cut_is_seen():
    values = np.array([5, 2 + 3j, 2 - 3j, 1])
    assert [cuts_pair(values, k) for k in range(5)] == [False, False, True, False, False]
    assert not cuts_pair(values.real, 2)


@pytest.mark.parametrize(
    ("values", "candidate", "which", "expected"),
    [
        ([3.0, 2.0], 2.5, "LM", True),
        ([3.0, 2.0], -2.5, "LM", True),
        ([3.0, 2.0], -2.5, "LA", False),
        ([3.0, 2.0], 2.0 + 1e-12, "LM", False),
        ([3.0, 2.0], 1.0, "LM", False),
        ([1.0, 2.0], 1.5, "SR", True),
        ([3 + 1j, 3 - 1j], 3 + 2j, "LR", False),
        ([3 + 1j, 3 - 1j], 1 + 2j, "LI", True),
        ([3.0, 2.0], 2.5, lambda values: -values, True),
    ],
)
def test_candidates_that_displace_a_value(values, candidate, which, expected):
    assert displaces(np.array(values), candidate, which, 1e-9) is expected
