"""Runs in a process of their own: outcome, memory, time, errors, environment."""

from __future__ import annotations

from importlib import import_module

import pytest

from miramns.bench.harness.separate_process import child_environment, run_separately

MODULE = """
import sys, time
import numpy as np

def prepare(order):
    if order["do"] == "not prepare":
        raise ValueError("no\\n  preparation")

    def run():
        if order["do"] == "sleep":
            time.sleep(60)
        if order["do"] == "raise":
            raise ValueError("no\\n  solution")
        if order["do"] == "exit":
            sys.exit(5)
        return float(np.ones(order["n"]).sum())

    return run
"""


@pytest.fixture
def outcome(tmp_path, monkeypatch):
    """Outcome of a run of a module that a child process can import."""
    (tmp_path / "separate_run.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    prepare = import_module("separate_run").prepare

    def run(do, limit=60.0):
        return run_separately(prepare, {"do": do, "n": 2_000_000}, threads=1, limit=limit)

    return run


def test_result_time_and_memory_of_a_run(outcome):
    found = outcome("sum")
    assert (found.status, found.why, found.result) == ("ok", "", 2e6)
    assert 0 < found.seconds < 60
    assert 0 < found.processor_seconds < 60
    assert found.peak_bytes is None or 1e7 < found.peak_bytes < 1e8  # 16 MB


def test_a_run_over_the_limit_is_killed(outcome):
    found = outcome("sleep", limit=0.01)
    assert (found.status, found.why) == ("limit", "more than 0.01 s")


@pytest.mark.parametrize(
    ("do", "why"),
    [
        ("not prepare", "preparation"),
        ("raise", "solution"),
        ("exit", "its process ended with status 5"),
    ],
)
def test_a_run_without_a_result_gives_its_reason(outcome, do, why):
    found = outcome(do)
    assert (found.status, found.why, found.result) == ("refused", why, None)


def test_a_child_process_belongs_to_no_mpi_job(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_MCA_ess", "env")
    monkeypatch.setenv("OMPI_MCA_rmaps_base_oversubscribe", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    found = child_environment(3)
    assert "OMPI_COMM_WORLD_SIZE" not in found
    assert "OMPI_MCA_ess" not in found
    assert "OMPI_MCA_rmaps_base_oversubscribe" in found
    assert "OMPI_ALLOW_RUN_AS_ROOT" in found
    assert found["OMP_NUM_THREADS"] == "3"
