"""Performance profiles, geometric means, and ratios of MIRAMns to its rivals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from miramns.bench.eigensolver_record import EigensolverRecord
from miramns.bench.harness.performance_profile import geometric_mean, performance_profile
from miramns.bench.ratios import ratios


def test_performance_profile_of_a_table_made_by_hand():
    inf, nan = math.inf, math.nan
    costs = np.array([[1.0, 2.0, 4.0], [3.0, 3.0, inf], [nan, 5.0, 10.0], [inf, nan, inf]])
    factors, shares = performance_profile(costs)
    np.testing.assert_array_equal(factors, [1.0, 2.0, 4.0])
    third = 1 / 3
    np.testing.assert_allclose(
        shares, [[2 * third, 2 * third, 0.0], [2 * third, 1.0, third], [2 * third, 1.0, 2 * third]]
    )
    factors, shares = performance_profile(np.full((2, 2), nan))
    assert (factors.shape, shares.tolist()) == ((1,), [[0.0, 0.0]])


def record(
    method: str, seconds: float | None, products: int, problem: str = "p"
) -> EigensolverRecord:
    return EigensolverRecord(
        problem=problem, group="g", n=10, hermitian=True, which="LM", k=2, method=method,
        ranks=1, tol=1e-8, status="ok" if seconds else "wrong", seconds=seconds, n_matvec=products,
        floor_matvec=10, floor_s=0.5,
    )  # fmt: skip


def test_ratios_leave_wrong_answers_out():
    records = [
        record("miramns", 2.0, 20), record("ks", 4.0, 40), record("ks-2k", 1.0, 80),
        record("ks-4k", None, 10), record("miramns", None, 20, "q"), record("ks", 4.0, 40, "q"),
    ]  # fmt: skip
    first, second = ratios(records)
    assert first.seconds == {"ks": 0.5, "ks-best": 2.0, "floor": 4.0}
    assert first.products == {"ks": 0.5, "ks-best": 0.25, "floor": 2.0}
    assert all(math.isnan(x) for x in second.seconds.values())
    mean, count = geometric_mean([first.seconds["ks"], second.seconds["ks"], 2.0])
    assert mean == pytest.approx(1.0)
    assert count == 2
    assert geometric_mean([])[1] == 0
