"""The estimate of the time left, and the plain lines of a progress."""

import itertools
import logging

import pytest

from hpcembed.runtime import logging as log
from hpcembed.runtime.logging import Progress, TimeLeft

#: Seconds of each of many equal units, by their number.
SPEEDS = {
    "even": lambda i: 1.0,
    "slow start": lambda i: 20.0 if i == 0 else 1.0,
    "slower and slower": lambda i: 0.5 + i / 400,
    "faster and faster": lambda i: 1.5 - i / 400,
    "uneven": lambda i: 0.2 if i % 3 else 2.5,
}


@pytest.mark.parametrize("speed", SPEEDS)
def test_estimate_is_within_a_factor_of_two_after_a_minute(speed):
    seconds = [SPEEDS[speed](i) for i in range(400)]
    total, estimate = sum(seconds), TimeLeft()
    for i, now in enumerate(itertools.accumulate(seconds), 1):
        estimate.add(now, i / len(seconds))
        if 60 <= now <= 0.97 * total:
            assert 0.5 <= estimate.seconds() / (total - now) <= 2.0


def test_nothing_is_estimated_without_progress():
    estimate = TimeLeft()
    assert estimate.seconds() is None
    estimate.add(10.0, 0.0)
    assert estimate.seconds() is None
    estimate.add(20.0, 1.0)
    assert estimate.seconds() == 0.0


def test_preparations_before_the_first_unit_are_not_the_speed():
    estimate = TimeLeft()
    estimate.add(30.0, 0.001)
    assert estimate.seconds() is None
    estimate.add(30.5, 0.002)
    assert estimate.seconds() == pytest.approx(0.998 * 0.5 / 0.001)


def test_plain_lines_contain_the_time_left(monkeypatch, caplog):
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr(log.time, "perf_counter", lambda: float(next(clock)))
    caplog.set_level(logging.INFO, "hpcembed")
    with Progress("training", 100, interval=1.0) as progress:
        progress.update(25, "epochs")
        progress.update(1, "networks", share=0.9)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("training: 25/100 epochs (")
    assert "about 30 s left)" in first
    assert "left)" in second
    with Progress("products", interval=1.0) as progress:
        progress.update(25, "products")
    assert "left" not in caplog.records[-1].getMessage()
