"""The headline of a run, and the interval of a difference of accuracies."""

from types import SimpleNamespace

import pytest

from hpcembed.jobs.report.run_headline import best_network, difference_interval, run_headline
from hpcembed.jobs.report.saving import SavedParameters


def network(kind, hidden, parameters, validation, test, task="classification"):
    return SimpleNamespace(
        input=kind, hidden=hidden, parameters=parameters, validation_score=validation,
        test_score=test, task=task,
    )  # fmt: skip


LARGE = network("full", (64,), 4000, 0.97, 0.96)
SMALL = network("full", (8,), 500, 0.94, 0.92)
EMBEDDED = network("embedded", (8,), 150, 0.95, 0.95)


def test_the_interval_is_that_of_newcombe():
    # examples of the paper, table II: 9/10 - 3/10 and 0/10 - 0/10
    assert difference_interval(0.9, 0.3, 10) == pytest.approx((0.1705, 0.8090), abs=1e-4)
    assert difference_interval(0.0, 0.0, 10) == pytest.approx((-0.2775, 0.2775), abs=1e-4)
    low, high = difference_interval(0.95, 0.96, 400)
    assert difference_interval(0.96, 0.95, 400) == pytest.approx((-high, -low))


def test_both_networks_on_all_features_are_compared():
    lines = run_headline([LARGE, SMALL, EMBEDDED], 5, 50, 400, is_linear=True)
    low, high = (100 * end for end in difference_interval(0.95, 0.92, 400))
    base_low, base_high = (100 * end for end in difference_interval(0.95, 0.96, 400))
    assert lines == [
        "8 on 5 components of 50 features: test accuracy 95.00 %",
        f"the same network on all features: 92.00 %, difference +3.00 [{low:+.2f}, {high:+.2f}] "
        "points (95 % interval of 400 test rows; one seed)",
        "the best network on all features, 64: 96.00 %, difference -1.00 "
        f"[{base_low:+.2f}, {base_high:+.2f}] points (95 % interval of 400 test rows; one seed)",
        SavedParameters(4000, 500, 150, 400).text(),
    ]


def test_the_baseline_may_be_the_same_network():
    lines = run_headline([SMALL, EMBEDDED], 5, 50, 400, is_linear=True)
    assert len(lines) == 3
    assert "all of it by the embedding" in lines[-1]


def test_without_test_rows_scores_are_left_out():
    nan = float("nan")
    networks = [network("full", (8,), 500, 0.9, nan), network("embedded", (8,), 150, 0.9, nan)]
    assert run_headline(networks, 5, 50, 0, is_linear=False) == [
        "8 on 5 components of 50 features",
        "parameters: 500 -> 150 without the embedding, which is not a projection, 3.3 times fewer",
    ]


def test_a_regression_of_one_seed_has_no_interval():
    full = network("full", (8,), 500, 0.9, 0.5, "regression")
    embedded = network("embedded", (8,), 150, 0.9, 0.4, "regression")
    lines = run_headline([full, embedded], 5, 50, 40, is_linear=True)
    assert lines[0] == "8 on 5 components of 50 features: test R2 0.4000"
    assert lines[1].endswith("R2 0.5000, difference -10.00 points (one seed: no interval)")


def test_one_kind_of_input_alone_has_no_headline():
    assert run_headline([LARGE, SMALL], 5, 50, 400, is_linear=True) == []
    assert run_headline([EMBEDDED], 5, 50, 400, is_linear=True) == []


def test_the_best_network_is_chosen_on_validation_rows_the_smallest_of_equal_ones():
    wide = network("embedded", (64,), 400, 0.95, 0.99)
    assert best_network([wide, EMBEDDED, LARGE], "embedded") is EMBEDDED
    assert best_network([EMBEDDED, SMALL, LARGE], "full") is LARGE
    assert best_network([EMBEDDED], "full") is None
