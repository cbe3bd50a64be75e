"""Mutated inputs of every format; ``scripts/fuzz.py`` reads many more, with limits of memory."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzing.formats import Case, formats, make_case
from fuzzing.trial import run_trial

FORMATS = formats()
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def quiet():
    """Keep the warnings of readers, which are right, off the terminal."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def fixed(n: int):
    """Return hypothesis settings with fixed inputs."""
    return settings(
        max_examples=n,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.mark.parametrize("name", FORMATS)
def test_an_input_is_read_or_refused_in_one_line(name, tmp_path):
    @fixed(12)
    @given(SEEDS)
    def check(seed: int) -> None:
        outcome = run_trial(FORMATS[name], make_case(FORMATS[name], seed), tmp_path)
        assert not outcome.is_finding, f"scripts/fuzz.py --repeat {seed} {name!r}: {outcome}"

    check()


@pytest.mark.parametrize("name", FORMATS)
def test_valid_files_are_read_right(name, tmp_path):
    case = next(case for seed in range(1000) if (case := make_case(FORMATS[name], seed)).is_valid)
    outcome = run_trial(FORMATS[name], case, tmp_path)
    assert outcome.verdict == "read", outcome
    if case.truth is not None:  # the comparison is not idle
        wrong = run_trial(FORMATS[name], Case(case.files, is_valid=True, truth="other"), tmp_path)
        assert wrong.verdict == "wrong value"
