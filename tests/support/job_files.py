"""Small tables and job files for tests of whole jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

#: The jobs that come with the project.
JOBS = Path(__file__).parents[2] / "jobs"

FAST = ("--set", "training.epochs=2", "--set", "output.figures=false")
WITHOUT_NETWORKS = ("--set", "classifier.enabled=false", "--set", "output.figures=false")


def write_table(folder: Path, rows: int = 30, name: str = "small.csv") -> Path:
    """Write a table of three features and two classes, with a header."""
    rng = np.random.default_rng(0)
    lines = ["a,b,c,kind"]
    lines += [
        ",".join(f"{x:.6f}" for x in rng.standard_normal(3)) + f",{'xy'[i % 2]}"
        for i in range(rows)
    ]
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def write_job(folder: Path, extra: str = "", k: int = 2, train: str = "small.csv") -> Path:
    """Write a quick job on the table."""
    path = folder / "small.toml"
    path.write_text(
        f'[data]\nname = "small"\ntrain = ["{train}"]\nlabel_column = "kind"\n'
        f"test_fraction = 0.3\n[embedding]\nn_components = {k}\n"
        "[classifier]\nhidden = [[4]]\n[training]\nepochs = 1\nvalidation_fraction = 0.3\n"
        f"[output]\nfigures = false\n{extra}"
    )
    return path


def write_small(folder: Path, rows: int = 30, **job: Any) -> Path:
    """Write table and job; return the job's path."""
    write_table(folder, rows)
    return write_job(folder, **job)


def settings(*assignments: str) -> list[str]:
    """Return command-line words that set keys of a job."""
    return [word for assignment in assignments for word in ("--set", assignment)]


def load_run(out: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the numbers and the projection that a job wrote."""
    run = json.loads((out / "run.json").read_text())
    return run, safetensors.numpy.load_file(out / "projection.safetensors")
