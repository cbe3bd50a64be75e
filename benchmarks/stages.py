"""Seconds of every stage of a job, and the memory peak per rank, for several layouts.

    python benchmarks/stages.py --data-dir DATA [--jobs mnist cifar10] [--layouts 1x2 2x1]
                                [--repeats 3] [--mpiexec "mpiexec --bind-to none"]
                                [--set SECTION.KEY=VALUE]

A layout RxT has R ranks with T BLAS threads each. The launcher must not bind ranks to cores (Open
MPI: --bind-to none). Every number is the median over the repeats, of the slowest rank; by default
the train column is the time of two epochs of the 32-32 network on both inputs. A run that is not
certified ends the script. Nothing else should run on the machine.
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

from miramns.bench.harness.tables import markdown_row, markdown_table

JOBS = Path(__file__).resolve().parents[1] / "jobs"
STAGES = ("read", "operator", "solve", "project", "gather")

#: Default of --set: a short training of the smallest network.
BRIEF = ('classifier.hidden=["very_low"]', "training.epochs=2")


def run_once(arguments: argparse.Namespace, job: str, ranks: int, threads: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [*shlex.split(arguments.mpiexec), "-n", str(ranks), sys.executable, "-m"]
        command += ["hpcembed", "run", str(JOBS / f"{job}.toml"), "--out", str(out)]
        command += ["--data-dir", str(arguments.data_dir)]
        for override in ("output.figures=false", *(arguments.overrides or BRIEF)):
            command += ["--set", override]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"{job} on {ranks} x {threads}: exit status {done.returncode}\n"
                f"{done.stderr[-2000:]}"
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

    headings = ["job", "ranks x threads", *STAGES, "Krylov-Schur", "train", "peak MiB"]
    print("\n".join(markdown_table(headings, [])))
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
            print(markdown_row([job, layout, *cells, _median(networks), peak]), flush=True)


def _median(values: object) -> str:
    return f"{statistics.median(values):.2f}"


if __name__ == "__main__":
    main()
