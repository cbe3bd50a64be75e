"""The seeded vector does not depend on its distribution."""

import itertools

import numpy as np

from miramns import seeded_normal


def test_pieces_of_any_length_make_the_same_vector():
    whole = seeded_normal(7, 0, 101)
    cuts = [0, 1, 2, 5, 33, 34, 34, 100, 101]
    pieces = [seeded_normal(7, a, b) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_seed_and_stream_each_give_another_vector():
    base = seeded_normal(0, 0, 50)
    for other in (seeded_normal(1, 0, 50), seeded_normal(0, 0, 50, stream=1)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.5


def test_entries_are_standard_normal():
    x = seeded_normal(3, 0, 200_000)
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - 1) < 0.01
    assert abs((x**4).mean() - 3) < 0.1
    assert np.isfinite(x).all()
