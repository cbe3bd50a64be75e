"""Limits of memory set by control groups, by SLURM and for the process, less the memory in use.

Control groups are nested: a limit of any ancestor applies. Both versions are read, from the paths
in ``/proc/self/cgroup``. In a container these paths may not exist below the mount point; then the
limits of the mount point itself apply. Pages of files that the kernel can drop at any time
(``inactive_file``) do not count as used.

The limits of a control group apply to all processes of the group together, those of SLURM to all
ranks of the job on a compute node, and those of ``setrlimit`` to one process.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

__all__ = ["cgroup_left", "process_left", "resident_bytes", "slurm_limit"]

_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")
#: Version 1 writes a number near 2^63 for a group without a limit.
_NO_LIMIT = 2**60


def cgroup_left(root: Path = Path("/")) -> int | None:
    """Return the bytes left in the most restricted control group of this process.

    Parameters
    ----------
    root : Path
        Root of the file system; another one in tests.

    Returns
    -------
    int or None
        None if no group has a limit.
    """
    left = []
    for group, (limit_file, used_file, droppable) in _groups(root):
        limit = _number(group / limit_file)
        if limit is None or limit >= _NO_LIMIT:
            continue
        used = (_number(group / used_file) or 0) - _statistic(group / "memory.stat", droppable)
        left.append(max(0, limit - max(0, used)))
    return min(left, default=None)


def slurm_limit(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the bytes that SLURM allows the job on this compute node, or None without a limit.

    Examples
    --------
    >>> slurm_limit({"SLURM_MEM_PER_CPU": "2000", "SLURM_CPUS_ON_NODE": "4"}) // 2**20
    8000
    """
    limits = []
    per_node = _positive(environment.get("SLURM_MEM_PER_NODE"))
    if per_node:
        limits.append(per_node)
    per_cpu = _positive(environment.get("SLURM_MEM_PER_CPU"))
    cpus = _positive(environment.get("SLURM_CPUS_ON_NODE"))
    if per_cpu and cpus:
        limits.append(per_cpu * cpus)
    return min(limits) * 2**20 if limits else None


def process_left() -> int | None:
    """Return the bytes that this process may still allocate, or None without a limit.

    The limits are those of the address space and of the data segment (``ulimit -v``, ``-d``).
    """
    pages = _statm()
    size = os.sysconf("SC_PAGE_SIZE")
    left = []
    for kind, column in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            left.append(max(0, soft - pages[column] * size))
    return min(left, default=None)


def resident_bytes() -> int:
    """Return the resident memory of this process, 0 where the system does not report it."""
    return _statm()[1] * os.sysconf("SC_PAGE_SIZE")


def _groups(root: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Yield the folder of every control group above this process, with the names of its files."""
    mounts = root / "sys/fs/cgroup"
    found: set[Path] = set()
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/", "0:memory:/"]:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            places, files = [mounts, mounts / "unified"], _V2
        elif "memory" in controllers.split(","):
            places, files = [mounts / "memory"], _V1
        else:
            continue
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for place in places:
            for depth in range(len(parts), -1, -1):
                group = place.joinpath(*parts[:depth])
                if group not in found:
                    found.add(group)
                    yield group, files


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _statistic(path: Path, name: str) -> int:
    with suppress(OSError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name and value.strip().isdigit():
                return int(value)
    return 0


def _positive(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


def _statm() -> list[int]:
    """Return the sizes of this process in pages: total, resident, and others; see proc(5)."""
    with suppress(OSError):
        return [int(word) for word in Path("/proc/self/statm").read_text().split()]
    return [0] * 7
