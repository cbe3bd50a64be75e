"""The script that measures compiled passes runs, and prints a line for every case."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcembed.runtime.machine.native_library import supported_sets

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "compiled_passes.py"


@pytest.mark.launch
@pytest.mark.skipif(not supported_sets(), reason="built without a C compiler")
def test_a_line_for_every_case(run_mpi):
    words = ["--shapes", "300x40", "--columns", "3", "8", "--threads", "1", "--repeats", "1"]
    done = run_mpi(0, str(SCRIPT), *words, timeout=120)
    assert done.status == 0, done.err
    lines = [line for line in done.out.splitlines() if line.startswith("| 300x40")]
    assert len(lines) == 8
