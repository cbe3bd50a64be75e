"""Many inputs: processes with limits of memory and time read them, and a log holds the outcomes.

The process of the campaign imports everything, and forks a worker for each chunk of inputs. A
worker reads one valid file first. Before each input it sets RLIMIT_AS to a margin above its size;
it reports the start and the outcome of each input through a pipe. A worker that dies (crash) or
needs more than ten seconds of processor time for one input (hang) is a finding; the next worker
goes on behind that input.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fuzzing.formats import Format, make_case
from fuzzing.trial import Outcome, run_trial

__all__ = ["Limits", "run_chunk"]


@dataclass(frozen=True)
class Limits:
    """Limits of a worker.

    Attributes
    ----------
    memory : int
        Bytes that one input may allocate above those of a worker that has read a valid file.
    seconds : float
        Processor time of one input.
    wall : float
        Time of one input that waits without computing.
    """

    memory: int = 2**29
    seconds: float = 10.0
    wall: float = 60.0


def run_chunk(format: Format, seeds: range, limits: Limits) -> Iterator[tuple[int, Outcome]]:
    """Read the inputs of some seeds; yield the outcome of each."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        next_seed = seeds.start
        while next_seed < seeds.stop:
            for seed, outcome in _run_worker(format, range(next_seed, seeds.stop), limits, folder):
                next_seed = seed + 1
                yield seed, outcome
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_worker(
    format: Format, seeds: range, limits: Limits, folder: Path
) -> Iterator[tuple[int, Outcome]]:
    """Fork one worker; yield outcomes until it is done, dies or is killed."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _work(format, seeds, limits, folder, writer)
    os.close(writer)
    current, buffer, ended = seeds.start, b"", False
    begun, used = time.monotonic(), 0.0
    while not ended:
        ready, _, _ = select.select([reader], [], [], 0.5)
        if not ready:
            now = _processor_seconds(process)
            is_hang = now - used > limits.seconds or time.monotonic() - begun > limits.wall
            if is_hang and begun:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                os.close(reader)
                where = (folder / "stderr").read_text(errors="replace")[-2000:]
                yield (
                    current,
                    Outcome("hang", f"killed after {now - used:.0f} s; {where}", now - used),
                )
                return
            continue
        piece = os.read(reader, 2**16)
        ended = not piece
        buffer += piece
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            report = json.loads(line)
            if "outcome" in report:
                yield report["seed"], Outcome(**report["outcome"])
                current = report["seed"] + 1
            else:
                current = report["seed"]
                begun, used = time.monotonic(), report["used"]
    os.close(reader)
    _, status = os.waitpid(process, 0)
    if status and current < seeds.stop:
        errors = (folder / "stderr").read_text(errors="replace")[-3000:]
        yield current, Outcome("crash", f"status {status}: {errors}", 0.0)


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _work(format: Format, seeds: range, limits: Limits, folder: Path, pipe: int) -> None:
    """Read the inputs of some seeds in this process, which ends here."""

    def report(**content: Any) -> None:
        os.write(pipe, json.dumps(content).encode() + b"\n")

    status = 0
    try:
        errors = os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(errors, descriptor)
        faulthandler.enable()
        (folder / "warm").mkdir(exist_ok=True)
        run_trial(format, _valid_case(format), folder / "warm")
        for seed in seeds:
            case = make_case(format, seed)
            report(seed=seed, used=sum(os.times()[:2]))
            with _limited(limits.memory):
                outcome = run_trial(format, case, folder)
            report(seed=seed, outcome=asdict(outcome))
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stderr.flush()
        os._exit(status)


@contextmanager
def _limited(n_bytes: int) -> Iterator[None]:
    """Let this process allocate `n_bytes` more than it has."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _valid_case(format: Format) -> Any:
    return next(case for seed in range(1000) if (case := make_case(format, seed)).is_valid)
