"""Reference eigenvalues: matching with an answer, and the consensus of several answers."""

from __future__ import annotations

import numpy as np

from miramns.bench.reference import Reference, Spectrum, consensus_spectrum, reference_of


def test_matching_with_a_reference():
    reference = reference_of(Spectrum(np.array([3.0, -1.0, 1.0, 0.5, 2.0, 2.0]), np.ones(6), "x"),
                             4, "LM", 1e-8)  # fmt: skip
    np.testing.assert_array_equal(np.abs(reference.values), [3.0, 2.0, 2.0, 1.0])
    assert reference.missing_from(np.array([3.0, 2.0, 2.0, 1.0])) == 0
    assert reference.missing_from(np.array([3.0, 2.0, 2.0, -1.0])) == 0  # equally wanted
    assert reference.missing_from(np.array([3.0, 2.0, 1.0, -1.0])) == 1  # a copy is missing
    assert reference.missing_from(np.array([3.0, 2.0, 2.0, 0.5])) == 1
    assert reference.missing_from(np.array([3.0 + 1e-6, 2.0, 2.0, 1.0])) == 1
    assert reference.missing_from(np.empty(0)) == 4
    pair = Reference(np.array([1 + 2j, 1 - 2j]), np.full(2, 1e-8), "x", "LM")
    assert pair.missing_from(np.array([1 - 2j, 1 + 2j])) == 0


def test_consensus_has_the_largest_sum_of_wanted_values():
    sets = [np.array([3.0, 1.0]), np.array([3.0, 2.0]), np.array([9.0])]
    best = consensus_spectrum(sets, 2, "LR", hermitian=True)
    np.testing.assert_array_equal(best.values, [3.0, 2.0])
    assert best.source == "best of 2"
    assert consensus_spectrum(sets, 3, "LR", hermitian=True) is None
    low = consensus_spectrum(
        [np.array([-3.0, 0.0]), np.array([-3.0, -1.0])], 2, "SR", hermitian=True
    )
    np.testing.assert_array_equal(low.values, [-3.0, -1.0])
