"""The comparison on small data runs, and prints a line for each data set."""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "small_data.py"


@pytest.mark.launch
def test_a_line_for_a_data_set(run_mpi):
    done = run_mpi(0, str(SCRIPT), "--sets", "iris", "--splits", "2", "--seeds", "1", timeout=240)
    assert done.status == 0, done.err
    (line,) = [line for line in done.out.splitlines() if line.startswith("| iris")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == ["120", "4"]
    ours, tuned, majority = float(cells[3]), float(cells[4]), float(cells[7])
    assert majority == 33.3
    assert min(ours, tuned) > 85
    assert cells[5].startswith(f"{ours - tuned:+.1f}"[:2])
