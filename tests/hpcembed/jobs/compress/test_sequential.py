"""Intervals that are computed while seeds are added are wrong no more often than stated."""

import math

import numpy as np
import pytest

from hpcembed.jobs.compress.sequential import Look, decide, interval, plan_looks, verdict_of
from hpcembed.networks.paired_intervals import Difference, paired

LOOKS = plan_looks(5, 30, 0.05)


@pytest.mark.parametrize(("first", "most"), [(2, 2), (5, 5), (5, 6), (3, 30), (5, 1000)])
@pytest.mark.parametrize("error", [0.05, 0.2])
def test_the_looks_spend_the_error(first, most, error):
    looks = plan_looks(first, most, error)
    sizes = [look.n_seeds for look in looks]
    assert (sizes[0], sizes[-1]) == (first, most)
    assert sizes == sorted(set(sizes))
    assert math.fsum(look.error for look in looks) == pytest.approx(error)
    assert all(look.error > 0 for look in looks)


def test_a_single_look_is_the_interval_of_all_seeds():
    values = np.random.default_rng(0).normal(0.9, 0.1, 8)
    (look,) = plan_looks(8, 8, 0.05)
    found = interval(values, np.zeros(8), 10**9, look.error)
    expected = paired(values, np.zeros(8), 0.95)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )


def test_equal_accuracies_of_few_rows_prove_little():
    equal = [1.0] * 5
    few, many = (interval(equal, equal, rows, 0.01) for rows in (12, 12_000))
    assert few.high == -few.low == pytest.approx(math.log(200) / 60)
    assert verdict_of(few, 0.01) == "undecided"
    assert verdict_of(many, 0.01) == "keeps"
    with pytest.raises(ValueError, match="two pairs"):
        interval([1.0], [1.0], 12, 0.05)


def test_r2_has_the_interval_of_the_seeds_alone():
    values, others = [0.81, 0.84, 0.8, 0.86], [0.8, 0.85, 0.82, 0.83]
    assert interval(values, others, None, 0.01) == paired(values, others, 0.99)
    assert interval([0.5] * 3, [0.5] * 3, None, 0.01) == Difference(0.0, 0.0, 0.0)


def test_the_first_look_that_decides_is_the_last():
    seen = []

    def compare(look):
        seen.append(look.n_seeds)
        return Difference(0.0, -0.1 / look.n_seeds, 0.1 / look.n_seeds)

    found = decide(LOOKS, compare, 0.011)
    assert (found.verdict, found.n_seeds, seen) == ("keeps", 10, [5, 10])
    assert found.difference.low == -0.01
    assert decide(LOOKS, compare, 0.001).verdict == "undecided"
    lost = decide(LOOKS, lambda look: Difference(-0.5, -0.6, -0.4), 0.3)
    assert (lost.verdict, lost.n_seeds) == ("loses", 5)
    assert decide([Look(2, 0.05)], lambda look: Difference(-0.3, -0.4, -0.3), 0.3).n_seeds == 2


#: Validation rows, and rates of rows that the network alone, or the baseline alone, gets wrong.
RATES = [(12, 0.02, 0.0), (12, 0.03, 0.01), (40, 0.011, 0.001), (144, 0.02, 0.01), (144, 0.05, 0.0)]


@pytest.mark.parametrize(("n_rows", "network", "baseline"), RATES)
def test_verdicts_are_wrong_no_more_often_than_stated(n_rows, network, baseline):
    margin, repeats = network - baseline, 1000
    rng, zeros = np.random.default_rng(7), np.zeros(30)
    keeps = loses = covered = naive = 0
    for _ in range(repeats):
        rates = [network, baseline, 1.0 - network - baseline]
        wrong = rng.multinomial(n_rows, rates, 30)
        difference = (wrong[:, 1] - wrong[:, 0]) / n_rows

        def compare(look, difference=difference, error=None):
            n = look.n_seeds
            return interval(difference[:n], zeros[:n], n_rows, error or look.error)

        # The true loss is the margin: each decision is an error.
        verdict = decide(LOOKS, compare, margin).verdict
        keeps, loses = keeps + (verdict == "keeps"), loses + (verdict == "loses")
        covered += all(
            found.low <= -margin <= found.high for found in (compare(look) for look in LOOKS)
        )
        plain = [paired(difference[: look.n_seeds], zeros[: look.n_seeds]) for look in LOOKS]
        naive += any(not one.low <= -margin <= one.high for one in plain)
    deviations = 3 * math.sqrt(0.05 * 0.95 / repeats)
    assert keeps / repeats <= 0.025 + deviations / 2
    assert (keeps + loses) / repeats <= 0.05 + deviations
    assert covered / repeats >= 0.95 - deviations
    # An interval of 95 % at every look is wrong more often: the rule is needed.
    assert naive / repeats > 0.05 + deviations


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_clear_differences_are_decided(loss):
    rng, zeros, verdicts = np.random.default_rng(1), np.zeros(30), []
    for _ in range(200):
        wrong = rng.multinomial(144, [0.01 + loss, 0.01, 0.98 - loss], 30)
        difference = (wrong[:, 1] - wrong[:, 0]) / 144
        verdicts.append(
            decide(
                LOOKS,
                lambda look, d=difference: interval(
                    d[: look.n_seeds], zeros[: look.n_seeds], 144, look.error
                ),
                0.02,
            ).verdict
        )
    assert verdicts.count("keeps" if loss == 0.0 else "loses") >= 195
