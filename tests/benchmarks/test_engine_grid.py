"""The script that compares the engines of PCA runs, and prints a line for every case."""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "engine_grid.py"


@pytest.mark.launch
def test_a_line_for_every_case(run_mpi):
    words = ["--only", "2000 x 50,", "--threads", "1", "--repeats", "1"]
    done = run_mpi(0, str(SCRIPT), *words, timeout=120)
    assert done.status == 0, done.err
    lines = [line for line in done.out.splitlines() if line.startswith("| 2000 x 50")]
    assert len(lines) == 2
    assert "chosen / best: worst" in done.out
    assert "chosen / peer: worst" in done.out
