"""The interval between checkpoints keeps their share of the run below 2 %."""

import numpy as np
import pytest

from miramns.checkpointing import CheckpointClock


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("miramns.checkpointing.clock.time.perf_counter", lambda: now[0])
    clock = CheckpointClock()
    clock.now = now
    return clock


@pytest.mark.parametrize("rate", [1e8, 1e9, 1e10])
@pytest.mark.parametrize("size", [10**3, 10**8, 10**10, 10**11])
def test_share_of_the_writing(clock, rate, size):
    began = clock.now[0]
    times = []
    while len(times) < 20:
        clock.now[0] += 0.5
        if clock.is_due(size):
            seconds = 0.01 + size / rate
            clock.now[0] += seconds
            clock.written(size, seconds)
            times.append(clock.now[0])
    assert clock.n_written == 20
    assert clock.seconds <= 0.02 * (clock.now[0] - began)
    assert np.diff(times).min() >= 60


def test_the_first_one_waits_as_long_as_a_slow_disk_would_need(clock):
    assert clock.interval(10**10) == pytest.approx(5000)
    clock.written(10**10, seconds=10.0)
    assert clock.interval(10**10) == pytest.approx(500)


def test_small_ones_say_nothing_about_the_rate(clock):
    clock.written(100, seconds=3.0)
    assert clock.interval(100) == pytest.approx(150)
    assert clock.interval(10**10) == pytest.approx(5000)


def test_a_given_interval(monkeypatch):
    assert CheckpointClock(0).is_due(10**12)
    assert CheckpointClock(5).interval(10**12) == 5
    assert not CheckpointClock(5).is_due()
    for every in (-1, float("nan")):
        with pytest.raises(ValueError, match="must not be negative"):
            CheckpointClock(every)
