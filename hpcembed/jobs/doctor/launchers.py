"""Launchers of this machine, and the one that fits the MPI library of mpi4py."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcembed.jobs.doctor.child_process import run_words

__all__ = ["Launcher", "find_launcher", "mpi_family"]

_LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class Launcher:
    """A launcher that fits.

    Attributes
    ----------
    path : str
        Empty if there is none.
    family : str
        "openmpi", "hydra" (MPICH, Intel MPI, MVAPICH) or "unknown".
    others : tuple of str
        Launchers of other MPI libraries, if none fits.
    """

    path: str
    family: str
    others: tuple[str, ...] = ()

    def words(self, ranks: int) -> list[str]:
        """Return the beginning of a command on some ranks, on any number of cores."""
        options = ["--oversubscribe", "--bind-to", "none"] if self.family == "openmpi" else []
        return [self.path, *options, "-n", str(ranks)]


def mpi_family(text: str) -> str:
    """Return the family of an MPI library or launcher from its version text.

    Examples
    --------
    >>> mpi_family("mpirun (Open MPI) 4.1.4"), mpi_family("HYDRA build details:")
    ('openmpi', 'hydra')
    """
    if any(name in text for name in ("Open MPI", "OpenRTE", "open-mpi")):
        return "openmpi"
    if any(name in text for name in ("HYDRA", "MPICH", "mpich", "MVAPICH", "Intel(R) MPI")):
        return "hydra"
    return "unknown"


def find_launcher(library: str) -> Launcher:
    """Return the launcher for an MPI library, from its version text.

    The first that fits of: MPIEXEC; ``mpiexec`` beside this Python; those on the PATH.
    """
    wanted = mpi_family(library)
    others = []
    for path in dict.fromkeys(_candidates()):
        family = mpi_family(_version(path))
        if wanted in ("unknown", family):
            return Launcher(path, family)
        others.append(path)
    return Launcher("", wanted, tuple(others))


def _candidates() -> Iterator[str]:
    chosen = os.environ.get("MPIEXEC")
    names = ["mpiexec", "mpiexec.openmpi", "mpiexec.mpich", "mpiexec.hydra", "mpirun"]
    beside = [str(Path(folder, "mpiexec")) for folder in _python_folders()]
    for name in [chosen] if chosen else [*beside, *names]:
        path = shutil.which(name)
        if path:
            yield path


def _python_folders() -> tuple[Path, Path]:
    return Path(sys.executable).parent, Path(sys.base_prefix, "bin")


def _version(path: str) -> str:
    try:
        ended = run_words([path, "--version"], _LIMIT)
    except OSError:
        return ""
    return ended.out + ended.err
