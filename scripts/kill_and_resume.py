#!/usr/bin/env python3
"""Kill a job at random moments, continue it, and compare its results with an uninterrupted run.

    scripts/kill_and_resume.py --kills 10 run jobs/digits.toml --set output.figures=false
    scripts/kill_and_resume.py --kills 5 --ranks 2 study jobs/study_digits.toml

The command runs once from start to end. Then it runs again for each kill, in a folder of its own:
it is killed with SIGKILL (all of its processes, or one rank) after a random share of the time, and
the same command is given again until it ends. With --repeat it is killed several times before. The
eigenpairs, projections, networks and scores must be those of the first run, bit for bit. Times are
not compared. The exit status is 0 if every comparison passes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Files whose bytes are compared.
PATTERNS = ("*.safetensors", "eigenvalues.csv", "convergence.csv", "model/*")
#: Keys of results that differ between two runs of a job.
TIMES = ("seconds", "environment", "train_seconds", "history", "convergence", "created")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="number of killed runs")
    parser.add_argument("--repeat", type=int, default=1, help="kills of each run")
    parser.add_argument("--ranks", type=int, default=0, help="0: without mpiexec")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--every", default="0s", help="--checkpoint-every of the killed runs")
    parser.add_argument("--work", type=Path, default=Path("runs/kill-and-resume"))
    parser.add_argument("command", nargs=argparse.REMAINDER, help="run JOB, study STUDY, ...")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    whole = arguments.work / "whole"
    began = time.monotonic()
    status = start(arguments.command, whole, arguments.ranks, "none").wait()
    seconds = time.monotonic() - began
    if status not in (0, 3, 4, 5):
        print(f"the uninterrupted run ended with status {status}: see {whole}.log")
        return 2
    print(f"uninterrupted: {seconds:.1f} s, status {status}", flush=True)
    n_same = 0
    for number in range(1, arguments.kills + 1):
        out = arguments.work / f"kill-{number}"
        moments = []
        for _ in range(arguments.repeat):
            process = start(arguments.command, out, arguments.ranks, arguments.every)
            moments.append(chance.uniform(0.0, seconds))
            kill_after(
                process, moments[-1], one_rank=bool(arguments.ranks and chance.random() < 0.5)
            )
        again = start(arguments.command, out, arguments.ranks, arguments.every).wait()
        faults = differences(whole, out)
        if again != status and not (again == 2 and not (out / "checkpoints").exists()):
            # a run that had ended before the kill is refused, and its results are compared
            faults.insert(0, f"status {again}: see {out}.log")
        n_same += not faults
        shown = ", ".join(f"{moment:.1f}" for moment in moments)
        print(f"kill {number} after {shown} s: {'; '.join(faults) or 'same bits'}", flush=True)
    print(f"{n_same} of {arguments.kills} equal the uninterrupted run")
    return 0 if n_same == arguments.kills else 1


def start(command: Sequence[str], out: Path, ranks: int, every: str) -> subprocess.Popen[bytes]:
    """Start a command of hpcembed; its output is appended to a log beside the output folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "hpcembed", *command, "--out", str(out)]
    words += [] if every == "none" else ["--checkpoint-every", every]
    if ranks:
        words = [*launcher(), "-n", str(ranks), *words]
    with Path(f"{out}.log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)


def launcher() -> list[str]:
    """Return ``mpiexec`` with options that allow any number of ranks."""
    mpiexec = os.environ.get("MPIEXEC", "mpiexec")
    version = subprocess.run([mpiexec, "--version"], capture_output=True, text=True).stdout
    is_open_mpi = any(name in version for name in ("Open MPI", "OpenRTE"))
    return [mpiexec, *(("--oversubscribe", "--bind-to", "none") if is_open_mpi else ())]


def kill_after(process: subprocess.Popen[bytes], seconds: float, *, one_rank: bool) -> None:
    """Kill a job with SIGKILL after some seconds: all its processes, or one rank."""
    try:
        process.wait(seconds)
        return
    except subprocess.TimeoutExpired:
        pass
    victims = descendants(process.pid)
    ranks = [one for one in victims if b"hpcembed" in command_of(one)]
    victims = ranks[-1:] if one_rank and ranks else [process.pid, *victims]
    for one in victims:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    deadline = time.monotonic() + 20.0
    while any(is_alive(one) for one in victims) and time.monotonic() < deadline:
        time.sleep(0.05)


def descendants(process: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = list[int](), [process]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def command_of(process: int) -> bytes:
    """Return the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def is_alive(process: int) -> bool:
    """Return whether a process runs."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def differences(whole: Path, out: Path) -> list[str]:
    """Return the differences between the results in two folders, besides times."""
    faults = []
    names = [{p.relative_to(f) for one in PATTERNS for p in f.glob(one)} for f in (whole, out)]
    for name in sorted(names[0] | names[1]):
        pair = [folder / name for folder in (whole, out)]
        if not all(path.is_file() for path in pair):
            faults.append(f"{name} is missing")
        elif name.suffix in (".json", ".md") or name.parent.name == "figures":
            continue
        elif pair[0].read_bytes() != pair[1].read_bytes():
            faults.append(f"{name} differs")
    for record in ("run.json", "study.json", "compress.json", "trials.csv"):
        pair = [folder / record for folder in (whole, out)]
        if pair[0].exists() and not pair[1].exists():
            faults.append(f"{record} is missing")
        elif pair[0].exists() and contents(pair[0]) != contents(pair[1]):
            faults.append(f"{record} differs")
    if (out / "checkpoints").exists():
        faults.append("checkpoints are left")
    return faults


def contents(path: Path) -> Any:
    """Return a table or a record without times."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [without_times(row) for row in csv.DictReader(file)]
    return without_times(json.loads(path.read_text()))


def without_times(value: Any) -> Any:
    """Return a JSON value without the keys that differ between two runs."""
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [without_times(one) for one in value]
    return value


if __name__ == "__main__":
    raise SystemExit(main())
