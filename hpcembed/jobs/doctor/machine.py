"""Cores, threads and memory of the ranks of a host, with control groups, SLURM and bindings."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hpcembed.jobs.doctor.finding import Finding, found
from hpcembed.runtime.machine.memory import format_bytes
from hpcembed.runtime.machine.memory_limits import cgroup_left, process_left, slurm_limit
from hpcembed.runtime.wording import counted

__all__ = ["Memory", "RankCores", "check_cores", "check_memory", "cpu_quota", "memory_of_host"]

#: Memory of a rank below which most jobs fail: Python, PETSc and torch take 0.5 GiB of it.
_LITTLE = 2**30
#: Room of a rank in /dev/shm below which MPI and torch fail; 64 MiB are the default of Docker.
_LITTLE_SHARED = 64 * 2**20


@dataclass(frozen=True, slots=True)
class RankCores:
    """Cores on which a rank may run, and its threads.

    Attributes
    ----------
    host : str
    cores : tuple of int
    threads : int
        OMP_NUM_THREADS, or 0 if it is not set.
    """

    host: str
    cores: tuple[int, ...]
    threads: int

    @classmethod
    def of_this_process(cls, host: str) -> RankCores:
        """Return the cores and threads of this process."""
        if hasattr(os, "sched_getaffinity"):
            cores = sorted(os.sched_getaffinity(0))
        else:
            cores = list(range(os.cpu_count() or 1))
        variable = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
        return cls(host, tuple(cores), int(variable) if variable.isdigit() else 0)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the cores that the control groups of this process allow, or None without a limit.

    Parameters
    ----------
    root : Path
        Root of the file system; another one in tests.
    """
    mounts = root / "sys/fs/cgroup"
    quotas = []
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/", "0:cpu:/"]:
        controllers, _, path = line.partition(":")[2].partition(":")
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for depth in range(len(parts), -1, -1):
            below = Path(*parts[:depth])
            if not controllers:
                quotas.append(_ratio(_words(mounts / below / "cpu.max")))
            elif "cpu" in controllers.split(","):
                for mount in (mounts / "cpu", mounts / "cpu,cpuacct"):
                    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                    quotas.append(_ratio([w for n in names for w in _words(mount / below / n)]))
    return min((quota for quota in quotas if quota is not None), default=None)


def _words(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().split()
    return []


def _ratio(words: Sequence[str]) -> float | None:
    """Return quota / period; a quota of "max" or -1 is none."""
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def check_cores(
    mine: RankCores, on_host: Sequence[RankCores], quota: float | None
) -> list[Finding]:
    """Return findings about the cores of this rank, and of the ranks of this host together.

    Parameters
    ----------
    mine : RankCores
        This rank; the findings about the host are the same on all of its ranks.
    on_host : sequence of RankCores
        All ranks of this host.
    quota : float or None
        Of :func:`cpu_quota`.
    """
    union = set().union(*(rank.cores for rank in on_host))
    n_cores, limit = len(union), f"{len(union)} of {os.cpu_count() or len(union)} by affinity"
    if quota is not None and quota < n_cores:
        n_cores, limit = max(1, math.floor(quota)), f"quota of the control group: {quota:g}"
    ranks = len(on_host)
    # the share that hpcembed takes: it does not read the quota
    share = max(1, len(union) // ranks)
    threads = max(rank.threads or share for rank in on_host)
    words = {
        "ranks": counted(ranks, "rank"),
        "threads": counted(threads, "thread"),
        "cores": counted(n_cores, "core"),
        "limit": limit,
    }
    findings = []
    if ranks > n_cores:
        findings.append(found("too-many-ranks", count=n_cores, **words))
    if threads > 1 and ranks * threads > n_cores:
        findings.append(found("too-many-threads", share=max(1, n_cores // ranks), **words))
    if mine.threads > len(mine.cores) and len(mine.cores) < len(union):
        own = {
            "threads": counted(mine.threads, "thread"),
            "cores": counted(len(mine.cores), "core"),
        }
        findings.append(found("narrow-binding", count=mine.threads, **own))
    return findings or [found("cores", **words)]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that the ranks of a host may still allocate, by the limit that applies.

    Attributes
    ----------
    limits : dict of str to int
        Bytes of one rank by the name of the limit.
    shared : int or None
        Free bytes of /dev/shm; None without this folder.
    ranks : int
        Ranks of the host.
    """

    limits: dict[str, int]
    shared: int | None
    ranks: int


def memory_of_host(
    ranks: int, root: Path = Path("/"), environment: Mapping[str, str] = os.environ
) -> Memory:
    """Read the limits of memory for `ranks` processes of this host."""
    limits = {}
    with suppress(OSError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                limits["free memory of the host"] = int(line.split()[1]) * 1024 // ranks
    together = {"control group": cgroup_left(root), "SLURM": slurm_limit(environment)}
    limits |= {name: left // ranks for name, left in together.items() if left is not None}
    own = process_left()
    if own is not None:
        limits["ulimit -v or -d"] = own
    shared = None
    with suppress(OSError):
        statistics = os.statvfs(root / "dev/shm")
        shared = statistics.f_bavail * statistics.f_frsize
    return Memory(limits, shared, ranks)


_ADVICE = {
    "free memory of the host": "start fewer ranks on this host, or end other programs",
    "control group": "request more memory for the container or job (docker run --memory, --mem)",
    "SLURM": "request more memory: sbatch --mem or --mem-per-cpu",
    "ulimit -v or -d": "ulimit -v unlimited; ulimit -d unlimited",
}


def check_memory(memory: Memory) -> list[Finding]:
    """Return findings about the memory of a host."""
    findings = []
    if memory.limits:
        limit, available = min(memory.limits.items(), key=lambda item: item[1])
        words = {"available": format_bytes(available), "limit": limit}
        if available < _LITTLE:
            findings.append(found("low-memory", advice=_ADVICE[limit], **words))
        else:
            findings.append(found("memory", **words))
    if memory.shared is not None and memory.shared < _LITTLE_SHARED * memory.ranks:
        free, ranks = format_bytes(memory.shared), counted(memory.ranks, "rank")
        findings.append(found("small-shared-memory", free=free, ranks=ranks))
    return findings
