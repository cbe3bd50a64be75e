"""Nearest words, computed by hand."""

import numpy as np

from hpcembed.jobs.report.nearest_words import nearest_words

NAMES = ("cat", "dog", "sun", "moon", "nothing")
#: Terms in two coordinates: animals along the first, the sky along the second.
VECTORS = np.array([[2.0, 0.0], [1.0, 0.1], [0.0, 3.0], [-0.1, 1.0], [0.0, 0.0]])


def test_neighbours_by_cosine():
    lengths = np.linalg.norm(VECTORS, axis=0)
    eigenvalues = lengths**2
    components = 7.0 * (VECTORS / lengths).T  # of any length
    found = nearest_words(components, eigenvalues, NAMES, np.array([1, 5, 3, 1, 9]), 2, 3)
    assert [one.word for one in found] == ["dog", "sun"]
    assert found[0].nearest == ("cat", "sun", "moon")
    assert found[1].nearest == ("moon", "dog", "cat")
    cosines = [1.0 / np.sqrt(1.01), 0.1 / np.sqrt(1.01), (-0.1 + 0.1) / 1.01]
    assert np.allclose(found[0].cosines, cosines)


def test_eigenvalues_weigh_and_words_without_vector_are_left_out():
    components = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]) / np.sqrt(2.0)
    small, large = (
        nearest_words(components, np.array([1.0, e]), ("a", "b", "c"), np.array([2, 1, 3]))
        for e in (1e-6, -1e6)
    )
    assert [one.word for one in small] == ["a", "b"]
    assert small[0].nearest == ("b",)
    assert small[0].cosines[0] > 0.99
    assert large[0].cosines[0] < -0.99
