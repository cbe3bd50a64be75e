"""Seconds of every stage of a job, and the memory peak per rank, for several layouts.

    python benchmarks/stages.py --data-dir DATA [--jobs mnist cifar10] [--layouts 1x2 2x1]
                                [--repeats 3] [--mpiexec "mpiexec --bind-to none"]
                                [--set SECTION.KEY=VALUE]

A layout RxT is R ranks with T BLAS threads each; a launcher that binds ranks to cores must be told
not to (Open MPI: --bind-to none). Every figure is the median over the repeats, of the slowest rank;
the train column is that of two epochs of the 32-32 network on both inputs, unless --set says
otherwise. A run that is not certified is not timed: the script stops. Nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

JOBS = Path(__file__).resolve().parents[1] / "jobs"
STAGES = ("read", "operator", "solve", "project", "gather")

#: Without --set, only the smallest network is trained, and briefly: training is not the subject.
BRIEF = ('classifier.hidden=["very_low"]', "training.epochs=2")


def run_once(arguments: argparse.Namespace, job: str, ranks: int, threads: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [
            *shlex.split(arguments.mpiexec),
            "-n",
            str(ranks),
            sys.executable,
            "-m",
            "hpcembed",
            "run",
            str(JOBS / f"{job}.toml"),
            "--data-dir",
            str(arguments.data_dir),
            "--out",
            str(out),
            "--set",
            "output.figures=false",
        ]
        for override in arguments.overrides or BRIEF:
            command += ["--set", override]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"{job} on {ranks} x {threads}: not timed, exit status "
                f"{done.returncode}\n{done.stderr[-2000:]}"
            )
        return json.loads((out / "run.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--jobs", nargs="+", default=["mnist", "cifar10"])
    parser.add_argument("--layouts", nargs="+", default=["1x2", "2x1"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mpiexec", default="mpiexec")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()

    print(f"| job | ranks x threads | {' | '.join(STAGES)} | Krylov-Schur | train | peak MiB |")
    print(f"|---|---|{'---|' * (len(STAGES) + 3)}")
    for job in arguments.jobs:
        for layout in arguments.layouts:
            ranks, threads = map(int, layout.split("x"))
            runs = [run_once(arguments, job, ranks, threads) for _ in range(arguments.repeats)]
            cells = [
                _median(run["embedding"]["seconds"][stage] for run in runs) for stage in STAGES
            ]
            cells.append(_median(run["embedding"]["reference"]["seconds"] for run in runs))
            networks = [sum(one["train_seconds"] for one in run["classifiers"]) for run in runs]
            peaks = runs[0]["environment"]["peak_bytes_per_rank"]
            peak = ", ".join(f"{peak / 2**20:.0f}" for peak in peaks)
            print(
                f"| {job} | {layout} | {' | '.join(cells)} | {_median(networks)} | {peak} |",
                flush=True,
            )


def _median(values: object) -> str:
    return f"{statistics.median(values):.2f}"


if __name__ == "__main__":
    main()
