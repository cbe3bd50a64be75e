"""Means, spreads and intervals against scipy, and what "no loss" means."""

import numpy as np
import pytest
from scipy import stats

from hpcembed.jobs.study.statistics import (
    Difference,
    best_compression,
    paired,
    smallest_without_loss,
    summarise,
)
from hpcembed.jobs.study.trials import Trial, TrialResult

HIDDEN = (8, 8)


def results(kind, k, validation, test, hidden=HIDDEN, parameters=100, seconds=1.0):
    return [
        TrialResult(f"{kind}{k}{hidden}{seed}", Trial(kind, hidden, k, seed), parameters + k,
               seconds + seed, 0.1, v, t, 3, ())
        for seed, (v, t) in enumerate(zip(validation, test, strict=True))
    ]  # fmt: skip


def test_interval_is_that_of_student():
    rng = np.random.default_rng(0)
    mine, other = rng.normal(0.9, 0.01, 7), rng.normal(0.92, 0.01, 7)
    found = paired(list(mine), list(other), 0.9)
    test = stats.ttest_rel(mine, other).confidence_interval(0.9)
    assert found.mean == pytest.approx((mine - other).mean())
    assert (found.low, found.high) == pytest.approx((test.low, test.high))
    assert paired([0.9], [0.8], 0.95) is None
    assert paired([], [], 0.95) is None
    assert paired([0.9, np.nan], [0.8, 0.7], 0.95) is None
    constant = paired([0.9, 0.8], [0.8, 0.7], 0.95)
    assert (constant.low, constant.high) == pytest.approx((0.1, 0.1))


def test_within_is_about_the_lower_end():
    assert Difference(-0.001, -0.0019, 0.0).within(0.002)
    assert not Difference(0.01, -0.0021, 0.03).within(0.002)


def test_every_field_of_a_point():
    validation, test = [0.90, 0.92, 0.94], [0.88, 0.91, 0.91]
    base = results("full", 64, [0.95, 0.95, 0.96], [0.93, 0.94, 0.92])
    full, point = summarise(results("spectral", 5, validation, test) + base, 0.95)
    assert (point.input, point.hidden, point.n_inputs) == ("spectral", HIDDEN, 5)
    assert point.seeds == (0, 1, 2)
    assert point.parameters == 105
    assert point.train_seconds == 2.0
    assert point.validation_mean == pytest.approx(0.92)
    assert point.validation_deviation == pytest.approx(0.02)
    assert point.test_mean == pytest.approx(0.9)
    assert point.test_deviation == pytest.approx(np.std(test, ddof=1))
    assert (point.test_lowest, point.test_highest) == (0.88, 0.91)
    assert point.validation_difference.mean == pytest.approx(np.mean([-0.05, -0.03, -0.02]))
    assert point.test_difference.mean == pytest.approx(np.mean([-0.05, -0.03, -0.01]))
    assert full.validation_difference is None
    assert full.test_difference is None


def test_only_shared_seeds_are_paired():
    base = results("full", 64, [0.5, 0.6], [0.5, 0.6])
    many = results("spectral", 5, [0.5, 0.7, 0.1], [0.6, 0.6, 0.1])
    point = summarise(base + many, 0.95)[1]
    assert point.validation_difference.mean == pytest.approx(0.05)
    alone = summarise(many[:1] + base, 0.95)[1]
    assert alone.validation_difference is None
    assert np.isnan(alone.test_deviation)


def ladder(test_at_8=0.950):
    """Accuracies that rise with k; k = 8 is the first within 0.5 points on validation rows."""
    jitter = np.array([0.0, 0.0005, -0.0005])
    trials = results("full", 64, 0.95 + jitter, 0.95 + jitter, parameters=900)
    for k, validation, test in ((4, 0.93, 0.93), (8, 0.948, test_at_8), (16, 0.95, 0.951)):
        trials += results("spectral", k, validation + jitter[::-1] / 2, test + jitter[::-1] / 2)
    return trials


@pytest.mark.parametrize(("test_at_8", "confirmed"), [(0.950, True), (0.90, False)])
def test_the_choice_is_made_on_validation_rows(test_at_8, confirmed):
    points = summarise(ladder(test_at_8), 0.95)
    (one,) = smallest_without_loss(points, 0.005)
    assert (one.point.input, one.point.hidden) == ("spectral", HIDDEN)
    assert one.holds
    assert one.point.n_inputs == 8
    assert one.baseline.n_inputs == 64
    assert one.confirmed is confirmed


def test_no_k_is_good_enough():
    (one,) = smallest_without_loss(summarise(ladder(), 0.95), 0.0)
    assert not one.holds
    assert not one.confirmed
    assert one.point.n_inputs == 16


def test_the_smallest_model_counts_its_projection():
    jitter = np.array([0.0, 0.0005, -0.0005])
    trials = ladder()
    # A narrower network at k = 16: fewer trained parameters, but a larger projection.
    trials += results("spectral", 16, 0.95 + jitter, 0.95 + jitter, (4,), parameters=10)
    points = summarise(trials, 0.95)
    one = best_compression(trials, points, 64, 0.005, 0.95)
    assert one.holds
    assert (one.point.hidden, one.point.n_inputs) == (HIDDEN, 8)
    assert one.baseline.input == "full"
    assert one.validation_difference.mean == pytest.approx(-0.002)
    assert one.test_difference.mean == pytest.approx(0.0, abs=1e-12)
    assert one.same == one.baseline
    assert one.from_same == one.test_difference
    assert (one.of_network.low, one.of_network.mean, one.of_network.high) == (0.0, 0.0, 0.0)
    small = best_compression(trials, points, 2, 0.005, 0.95)
    assert (small.point.hidden, small.point.n_inputs) == ((4,), 16)
    assert small.same is None  # 4 was not trained on all features
    assert (small.from_same, small.of_network) == (None, None)
    nearest = best_compression(trials, points, 64, -1.0, 0.95)
    assert not nearest.holds
    without = [one for one in trials if one.trial.input != "full"]
    assert best_compression(without, summarise(without, 0.95), 64, 0.005, 0.95) is None
    single = [one for one in trials if one.trial.seed == 0]
    assert best_compression(single, summarise(single, 0.95), 64, 0.005, 0.95) is None


def test_the_same_network_on_all_features_divides_the_difference():
    jitter = np.array([0.0, 0.0005, -0.0005])
    trials = results("full", 64, 0.95 + jitter, 0.96 + jitter, (64,), parameters=5000)
    trials += results("full", 64, 0.949 + jitter, 0.93 - jitter, (4,), parameters=300)
    trials += results("spectral", 8, 0.949 + jitter, 0.94 + 3 * jitter, (4,), parameters=50)
    one = best_compression(trials, summarise(trials, 0.95), 64, 0.005, 0.95)
    assert (one.baseline.hidden, one.same.hidden, one.point.hidden) == ((64,), (4,), (4,))
    assert (one.same.input, one.same.n_inputs) == ("full", 64)
    for found, other, mine in (
        (one.of_network, 0.96 + jitter, 0.93 - jitter),
        (one.from_same, 0.93 - jitter, 0.94 + 3 * jitter),
        (one.test_difference, 0.96 + jitter, 0.94 + 3 * jitter),
    ):
        test = stats.ttest_rel(mine, other).confidence_interval(0.95)
        assert found.mean == pytest.approx((mine - other).mean())
        assert (found.low, found.high) == pytest.approx((test.low, test.high))
