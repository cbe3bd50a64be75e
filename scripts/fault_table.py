#!/usr/bin/env python3
"""Run a job with every fault on every rank, and write the table of docs/explanations/faults.md.

    scripts/fault_table.py --out docs/explanations/faults.md
    scripts/fault_table.py --only 1:solve: --out table.md

A job runs once from start to end, and once with each fault (HPCEMBED_FAULT=RANK:PHASE:KIND). After
each fault the table has the exit status, the seconds from the fault to the end of the launcher, the
message, and the processes that are left. Where hpcembed stores checkpoints, the same command is
then given again without the fault, and its results are compared with those of the first run, bit
for bit. The exit status is 0 if every job ends within the limit with one message and no process is
left, and every result is that of the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.fault_injection import KINDS, PHASES, Fault, requested

ROOT = Path(__file__).resolve().parents[1]
#: Seconds from a fault to the end of its job.
LIMIT = 10.0
#: Seconds after which a job is ended.
_PATIENCE = 300.0
_MARK = "HPCEMBED_FAULT_TABLE"
_PATTERNS = ("*.safetensors", "eigenvalues.csv", "model/*.safetensors")
_TIMES = ("seconds", "environment", "train_seconds", "history", "convergence", "created", "job")

_PAGE = """\
# Faults and the end of a job

A fault on one rank must end the whole job: soon, with one message, and without a process that is
left. The variable `HPCEMBED_FAULT=RANK:PHASE:KIND` requests a fault for tests
(`hpcembed.runtime.fault_injection`), and `scripts/fault_table.py` makes the table below. The phases
are the steps of `hpcembed run`: the fault occurs at their beginning.

| kind | fault |
|---|---|
| `exception` | an exception of the code, on one rank alone |
| `nan` | a NaN in a product with the operator (`solve`), or in an array of the phase |
| `kill` | the process ends by SIGKILL |
| `disk_full` | from then on, every write of this rank to a file fails |
| `slow` | the rank sleeps for 3 seconds |
| `truncated` | the newest checkpoint loses its second half, then the rank ends by SIGKILL |

- A defect, here an exception that hpcembed does not expect, ends with status 1 and the traceback of
  its rank; other errors end with status 2 and one line.
- After SIGKILL, the launcher reports the rank and ends the others. The status is that of the
  launcher.
- Rank 0 writes the results, and trains the networks whose inputs it holds. The other ranks write
  checkpoints only, and have no arrays in `train`: these faults do not change the results.
- A slow rank delays the job. Its results are the same.

{job}

{table}

`seconds` is the time from the fault to the end of the launcher. `left` is the number of processes
that remain. `load` is the load average of the machine, of {cores} cores, when the job ends.
{resume}
{summary}
"""
_RESUME = """\
`again` is the result of the same command without the fault: `same bits` means that eigenpairs,
projections, networks and scores equal those of the uninterrupted run.
"""


@dataclass
class Cell:
    """One row of the table."""

    fault: Fault
    status: int | str
    seconds: float
    message: str
    n_messages: int
    left: int
    result: str
    again: str
    load: float = 0.0

    @property
    def happened(self) -> bool:
        """Whether the fault occurred."""
        return self.seconds >= 0

    @property
    def is_good(self) -> bool:
        """Whether the job ended as it must."""
        if self.left or self.status == "hang" or self.again not in ("", "same bits"):
            return False
        if self.status == 0:
            return self.result == "same bits"
        return self.n_messages == 1 and self.seconds < LIMIT


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--job", default="jobs/digits.toml")
    parser.add_argument("--only", default="", help="beginnings of RANK:PHASE:KIND, with commas")
    parser.add_argument("--work", type=Path, default=Path("runs/faults"))
    parser.add_argument("--out", type=Path, help="page to write (default: print the table)")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True)
    resumes = "--resume" in _hpcembed("run", "--help")
    words = ["run", arguments.job, "--set", "training.epochs=2", "--set", "output.figures=false"]
    words += ["--set", "classifier.baseline=false"]
    words += ["--checkpoint-every", "0s"] if resumes else []
    whole = arguments.work / "whole"
    began = time.monotonic()
    done = _start(words, whole, arguments.ranks, None)
    if done.returncode:
        sys.exit(f"the job without a fault failed:\n{done.stderr}")
    print(f"without a fault: {time.monotonic() - began:.1f} s", flush=True)
    cells = []
    faults = _faults(arguments.ranks, arguments.only, resumes)
    for fault in faults:
        cell = _run(fault, words, whole, arguments, resumes)
        cells.append(cell)
        print(f"{'' if cell.is_good else 'BAD '}{_row(cell, resumes)}", flush=True)
        if arguments.out:
            # also of the part that was made, if this is ended before the last fault
            arguments.out.write_text(_page(cells, len(faults), words, arguments, resumes))
    summary = _summary(cells, len(faults))
    print(summary)
    return 0 if all(cell.is_good for cell in cells) else 1


def _page(
    cells: list[Cell], n_faults: int, words: list[str], arguments: argparse.Namespace, resumes: bool
) -> str:
    text = "hpcembed " + " ".join(words)
    job = f"The job: `{text}` on {arguments.ranks} ranks."
    return _PAGE.format(
        job=job,
        table=_table(cells, resumes),
        cores=os.cpu_count(),
        summary=_summary(cells, n_faults),
        resume=_RESUME if resumes else "",
    )


def _summary(cells: list[Cell], n_faults: int) -> str:
    good = sum(cell.is_good for cell in cells)
    longest = max((cell.seconds for cell in cells if cell.status != 0), default=0.0)
    text = (
        f"{good} of {len(cells)} faults: no process is left, and the job ends within "
        f"{LIMIT:.0f} s of the fault with one message,\nor goes on and has the results of the "
        f"first run. The longest end took {longest:.1f} s."
    )
    again = [cell.again for cell in cells if cell.again]
    if again:
        same = again.count("same bits")
        text += f"\n{same} of {len(again)} jobs that had ended continue to the same bits."
    if len(cells) < n_faults:
        text += f"\n{n_faults - len(cells)} more faults are possible and are not in the table."
    return text


def _faults(ranks: int, only: str, resumes: bool) -> list[Fault]:
    """Return all faults that are possible."""
    faults = []
    for phase in PHASES:
        if phase == "checkpoint" and not resumes:
            continue
        for kind in KINDS:
            for rank in range(ranks):
                os.environ["HPCEMBED_FAULT"] = text = f"{rank}:{phase}:{kind}"
                try:
                    fault = requested()
                except ConfigError:  # not a fault of this phase
                    continue
                if fault is not None and text.startswith(tuple(only.split(","))):
                    faults.append(fault)
    del os.environ["HPCEMBED_FAULT"]
    return faults


def _run(
    fault: Fault, words: list[str], whole: Path, arguments: argparse.Namespace, resumes: bool
) -> Cell:
    """Run the job with a fault, and again without it."""
    out = arguments.work / "-".join(map(str, fault))
    log = out.with_suffix(".fault")
    done = _start(words, out, arguments.ranks, fault, log)
    ended = time.time()
    left, load = len(_marked(done.mark)), os.getloadavg()[0]
    seconds = -1.0
    if log.exists():
        seconds = ended - float(log.read_text().split()[0])
    status: int | str = "hang" if done.returncode is None else done.returncode
    message, n_messages = _message(done.stderr)
    result = _difference(whole, out) if status == 0 else ""
    again = ""
    if resumes and status != 0:
        second = _start(words, out, arguments.ranks, None)
        again = _difference(whole, out) if second.returncode == 0 else _failure(second)
    return Cell(fault, status, seconds, message, n_messages, left, result, again, load)


@dataclass
class Done:
    """A job that has ended."""

    returncode: int | None
    stderr: str
    mark: str


def _start(
    words: list[str], out: Path, ranks: int, fault: Fault | None, log: Path | None = None
) -> Done:
    """Run a job; after a hang, end all of its processes."""
    mark = uuid.uuid4().hex
    environment = os.environ | {_MARK: mark}
    if fault is not None:
        environment["HPCEMBED_FAULT"] = ":".join(map(str, fault))
        environment["HPCEMBED_FAULT_LOG"] = str(log)
    command = [*_launcher(), "-n", str(ranks), sys.executable, "-m", "hpcembed", *words]
    process = subprocess.Popen(
        [*command, "--out", str(out)], env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        _, errors = process.communicate(timeout=_PATIENCE)
        return Done(process.returncode, errors, mark)
    except subprocess.TimeoutExpired:
        for one in _marked(mark):
            os.kill(one, signal.SIGKILL)
        _, errors = process.communicate()
        return Done(None, errors, mark)


def _launcher() -> list[str]:
    """Return ``mpiexec`` with options that allow any number of ranks."""
    mpiexec = os.environ.get("MPIEXEC", "mpiexec")
    version = subprocess.run([mpiexec, "--version"], capture_output=True, text=True).stdout
    is_open_mpi = any(name in version for name in ("Open MPI", "OpenRTE"))
    return [mpiexec, *(("--oversubscribe", "--bind-to", "none") if is_open_mpi else ())]


def _hpcembed(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hpcembed", *words], capture_output=True, text=True, check=True
    )
    return done.stdout


def _marked(mark: str) -> list[int]:
    """Return the processes that were started with a mark and run still."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"{_MARK}={mark}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _message(errors: str) -> tuple[str, int]:
    """Return the message of a job, and the number of messages: lines of errors or tracebacks."""
    lines = re.findall(r"^hpcembed: (?:error: )?(.*)$", errors, re.MULTILINE)
    tracebacks = re.split(r"^(?=\[rank \d+/\d+\] Traceback)", errors, flags=re.MULTILINE)[1:]
    for one in tracebacks:
        last = [line for line in one.splitlines() if re.match(r"[\w.]+(Error|Exception)\b", line)]
        lines.append(f"traceback: {last[0] if last else ''}")
    if not lines:
        lines = re.findall(r"^.*(process rank \d+ .*exited on signal \d+.*)$", errors, re.MULTILINE)
        lines = [f"launcher: {re.sub(r' with PID [0-9]+ on node [^ ]+', '', one)}" for one in lines]
    return (lines[0] if lines else ""), len(lines)


def _failure(done: Done) -> str:
    """Return the message of a job that failed, or its status."""
    if done.returncode is None:
        return f"no end after {_PATIENCE:.0f} s"
    return _message(done.stderr)[0] or f"status {done.returncode}"


def _difference(whole: Path, out: Path) -> str:
    """Return "same bits", or the first difference between the results in two folders."""
    names = {p.relative_to(f) for f in (whole, out) for one in _PATTERNS for p in f.glob(one)}
    for name in sorted(names):
        pair = [folder / name for folder in (whole, out)]
        if not all(path.is_file() for path in pair):
            return f"{name} is missing"
        if pair[0].read_bytes() != pair[1].read_bytes():
            return f"{name} differs"
    records = [_without_times(json.loads((one / "run.json").read_text())) for one in (whole, out)]
    return "same bits" if records[0] == records[1] else "run.json differs"


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(one) for key, one in value.items() if key not in _TIMES}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


def _table(cells: list[Cell], resumes: bool) -> str:
    head = ["rank", "phase", "kind", "status", "seconds", "load", "message", "left"]
    head += ["again"] if resumes else []
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(_row(cell, resumes) for cell in cells)])


def _row(cell: Cell, resumes: bool) -> str:
    message = cell.message or f"none; {cell.result}"
    message = message.replace(str(Path.cwd()) + "/", "").replace("|", "\\|")
    seconds = f"{cell.seconds:.1f}" if cell.happened else "no fault"
    entries = [*cell.fault, cell.status, seconds, f"{cell.load:.0f}", message, cell.left]
    entries += [cell.again] if resumes else []
    return "| " + " | ".join(map(str, entries)) + " |"


if __name__ == "__main__":
    sys.exit(main())
