"""The time limit of a job: given in the command, or the end of the job's SLURM allocation."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hpcembed.runtime.errors import ConfigError

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["parse_duration", "slurm_end", "time_limit"]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PARTS = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d{2})(?::(\d{2}))?")
#: Seconds to wait for a command of SLURM.
_PATIENCE = 10.0


def parse_duration(text: str, option: str = "--time-limit", least: float = 1e-3) -> float:
    """Return a duration in seconds.

    Parameters
    ----------
    text : str
        Numbers with units s, m, h, d; or HOURS:MINUTES:SECONDS, HOURS:MINUTES, with DAYS- before
        them as in SLURM.
    option : str
        Name of the option, for error messages.
    least : float
        Smallest duration.

    Raises
    ------
    ConfigError
        Another form, or a duration that is too short or longer than 30 years.

    Examples
    --------
    >>> [parse_duration(text) for text in ("90m", "1h30m", "1:30:00", "1:30", "1-00:00:00")]
    [5400.0, 5400.0, 5400.0, 5400.0, 86400.0]
    """
    word = text.strip().lower()
    if _PARTS.fullmatch(word):
        parts = re.findall(r"([\d.]+)([smhd])", word)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    elif clock := _CLOCK.fullmatch(word):
        days, hours, minutes, rest = (float(part or 0) for part in clock.groups())
        seconds = 86400 * days + 3600 * hours + 60 * minutes + rest
    else:
        seconds = -1.0
    if not least <= seconds < 1e9:
        raise ConfigError(f"{option} {text}: give a duration such as 90m, 1h30m or 1:30:00")
    return seconds


def time_limit(comm: MPI.Intracomm, given: str) -> tuple[float | None, float]:
    """Return the end of a job in seconds since the epoch, and the seconds until then.

    Collective.

    Parameters
    ----------
    given : str
        The duration from now; "none": no limit; empty: until the end of the SLURM job, if any.

    Returns
    -------
    deadline : float or None
        The same on all ranks.
    seconds : float
        0 without a limit.
    """
    now = float(comm.bcast(time.time()))
    if given:
        seconds = math.inf if given == "none" else parse_duration(given)
        return (None, 0.0) if math.isinf(seconds) else (now + seconds, seconds)
    end: float | None = comm.bcast(slurm_end(os.environ) if comm.rank == 0 else None)
    return (None, 0.0) if end is None else (end, max(0.0, end - now))


def slurm_end(environment: Mapping[str, str]) -> float | None:
    """Return the end of the SLURM job in seconds since the epoch; None if there is none.

    Newer versions of SLURM set ``SLURM_JOB_END_TIME``; else ``scontrol``, then ``squeue``, are
    called.

    Examples
    --------
    >>> slurm_end({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1800000000"})
    1800000000.0
    """
    job = environment.get("SLURM_JOB_ID", "")
    if not job.isdigit():
        return None
    with contextlib.suppress(ValueError):
        return float(environment.get("SLURM_JOB_END_TIME", ""))
    shown = _output("scontrol", "--oneliner", "show", "job", job)
    found = re.search(r"\bEndTime=(\S+)", shown)
    text = found[1] if found else _output("squeue", "--noheader", "-j", job, "-o", "%e").strip()
    with contextlib.suppress(ValueError):
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    return None


def _output(*command: str) -> str:
    """Return the output of a command; empty if it fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return finished.stdout
