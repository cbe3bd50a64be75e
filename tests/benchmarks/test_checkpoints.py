"""Script on the time of checkpoints: all ways to run have times, and write what they should."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "checkpoints.py"


@pytest.mark.launch
def test_times_of_all_ways(run_mpi, tmp_path):
    folder = tmp_path / "cifar10"
    folder.mkdir()
    records = np.random.default_rng(0).integers(0, 256, (60, 3073)).astype(np.uint8)
    records.tofile(folder / "data_batch_1.bin")
    words = ["cifar10", "graph", "--data-dir", str(tmp_path), "--engine", "block", "-k", "3"]
    words += ["--nodes", "2000", "--edges", "9000", "--repeats", "2"]
    for ranks in (0, 2):
        done = run_mpi(ranks, str(SCRIPT), *words, timeout=200)
        assert done.status == 0, done.err
        written = {
            way: [
                int(n) for n in re.findall(rf"^  {way} +[0-9.]+ s .*  (\d+) check", done.out, re.M)
            ]
            for way in ("without", "default", "each")
        }
        assert written["without"] == written["default"] == [0, 0]
        assert min(written["each"]) > 1
        assert len(re.findall(r"at the default interval of 60 s [0-9.]+ %", done.out)) == 2
