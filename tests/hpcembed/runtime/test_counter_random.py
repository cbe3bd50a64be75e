"""Keys, numbers and permutations: bijective, fixed by the seed, without preferred positions."""

import numpy as np
import pytest

from hpcembed.runtime.counter_random import permuted, row_keys, uniform


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 255, 256, 257, 70_000])
def test_every_position_occurs_once_for_any_subset(n):
    everything = permuted(7, n, np.arange(n))
    np.testing.assert_array_equal(np.sort(everything), np.arange(n))
    some = np.random.default_rng(0).integers(0, n, 20)
    np.testing.assert_array_equal(permuted(7, n, some), everything[some])
    if n > 10:
        assert (everything != permuted(8, n, np.arange(n))).mean() > 0.5


@pytest.mark.slow
def test_no_position_is_preferred():
    n, seeds = 10, 4000
    places = np.array([permuted(seed, n, np.arange(n)) for seed in range(seeds)])
    expected = seeds / n
    for index in range(n):  # chi-square with 9 degrees of freedom: 33 is exceeded once in 10^4
        counts = np.bincount(places[:, index], minlength=n)
        assert ((counts - expected) ** 2 / expected).sum() < 33
    # Neighbours separate: they are adjacent in 2 (n - 1) of n (n - 1) pairs of positions.
    together = (np.abs(places[:, 0] - places[:, 1]) == 1).mean()
    assert together == pytest.approx(2 / n, abs=0.025)


def test_neighbours_of_a_long_order_are_independent():
    places = permuted(3, 50_000, np.arange(50_000)) / 50_000
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(places, np.arange(50_000))[0, 1]) < 0.02


def test_indices_beyond_the_end_are_refused():
    for wrong in ([3], [-1]):
        with pytest.raises(ValueError, match="between 0 and 2"):
            permuted(0, 3, np.array(wrong))
    assert permuted(0, 3, np.array([], dtype=np.int64)).size == 0


def test_keys_are_distinct_and_fixed():
    keys = row_keys(3, np.arange(200000))
    assert len(np.unique(keys)) == len(keys)
    # The sequence that the published generator gives for the seed 1234567.
    mixed_away = row_keys(0, np.arange(2))
    np.testing.assert_array_equal(mixed_away, row_keys(2**64, np.arange(2)))
    assert not np.array_equal(row_keys(0, np.arange(5))[1:], row_keys(1, np.arange(5))[:-1])
    edge = uniform(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert 0 < edge[0] < edge[1] < 1
