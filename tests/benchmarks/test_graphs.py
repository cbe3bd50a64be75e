"""Script on graphs: hpcembed on the ranks of a job beside SciPy in a process of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "graphs.py"


@pytest.mark.launch
def test_both_methods_have_times_and_memory(run_mpi):
    words = ["power-law", "--nodes", "500", "--edges", "3000", "-k", "3", "--repeats", "2"]
    for ranks in (0, 2):
        done = run_mpi(ranks, str(SCRIPT), *words, timeout=120)
        assert done.status == 0, done.err
        assert f"generated on {max(1, ranks)} ranks" in done.out
        for method in ("hpcembed", "scipy"):
            times = re.search(rf"^  {method} +[0-9.]+ s \((.*)\)  peak [0-9.]+ ", done.out, re.M)
            assert len(times[1].split(", ")) == 2
        assert "scipy / hpcembed: " in done.out
