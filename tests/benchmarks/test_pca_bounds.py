"""The script that measures bounds runs and prints a line for every step."""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pca_bounds.py"


@pytest.mark.launch
def test_a_table_for_every_shape(run_mpi):
    words = ["--shapes", "300x40", "30x400", "--k", "5", "--threads", "1", "--repeats", "1"]
    done = run_mpi(0, str(SCRIPT), *words, "--stream", "100000", "--square", "50", timeout=120)
    assert done.status == 0, done.err
    assert "| memory read |" in done.out
    for shape in ("300 x 40", "30 x 400"):
        table = done.out.split(f"**{shape} float32**")[1].split("**")[0]
        steps = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
        assert steps[2:5] == ["X.T @ X", "ssyrk", "dsyrk, rows converted"]
        assert "float32 pass, 8 columns" in steps
        assert "certificate, 5 columns in double" in steps
        assert steps[-1] == "projection, 5 columns"
