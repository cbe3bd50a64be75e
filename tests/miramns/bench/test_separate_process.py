"""Runs in a process of their own: outcome, memory, time, errors, environment. No comparisons."""

from __future__ import annotations

import pytest

from miramns.bench.harness.separate_process import Outcome, environment, run_separately

CHILD = """
import sys, time
import numpy as np
from miramns.bench.harness.separate_process import measure_run

def prepare(order):
    def run():
        if order["do"] == "sleep":
            time.sleep(60)
        if order["do"] == "raise":
            raise ValueError("no\\n  solution")
        if order["do"] == "exit":
            sys.exit(5)
        return float(np.ones(order["n"]).sum())
    return run

measure_run(prepare)
"""


def outcome(limit=60.0, **order):
    return run_separately(["-c", CHILD], {"n": 2_000_000} | order, threads=1, limit=limit)


def test_result_time_and_memory_of_a_run():
    found = outcome(do="sum")
    assert (found.status, found.why, found.result) == ("ok", "", 2e6)
    assert 0 < found.seconds < 60
    assert 0 < found.processor_seconds < 60
    assert found.peak_bytes is None or 1e7 < found.peak_bytes < 1e8  # 16 MB


def test_a_run_over_the_limit_is_killed():
    assert outcome(limit=0.01, do="sleep") == Outcome("limit", "more than 0.01 s")


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"do": "raise"}, "solution"),
        ({"do": "exit"}, "its process ended with status 5"),
        ({}, "KeyError: 'do'"),
    ],
)
def test_a_run_without_a_result_gives_its_reason(order, why):
    assert outcome(**order) == Outcome("refused", why)


def test_a_child_process_belongs_to_no_mpi_job(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    found = environment(3)
    assert "OMPI_COMM_WORLD_SIZE" not in found
    assert "OMPI_ALLOW_RUN_AS_ROOT" in found
    assert found["OMP_NUM_THREADS"] == "3"
