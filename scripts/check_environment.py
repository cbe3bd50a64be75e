"""Check that an environment can run hpcembed on several ranks, and print the versions.

Usage: mpiexec -n N python check_environment.py N
"""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import sys

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc
from slepc4py import SLEPc

LIBRARIES = ("torch", "scipy", "sklearn", "h5py", "pyarrow.parquet", "matplotlib", "rich",
             "safetensors.numpy", "onnx", "threadpoolctl")  # fmt: skip


def problems(ranks: int) -> list[str]:
    """Return the defects of this environment, one line each."""
    found = []
    comm = MPI.COMM_WORLD
    if comm.size != ranks:
        found.append(
            f"mpiexec started {ranks} ranks, but each is in a job of {comm.size}: mpiexec "
            f"and mpi4py use different MPI libraries (mpi4py: {library()})"
        )
    if PETSc.COMM_WORLD.getSize() != comm.size:
        found.append("PETSc and mpi4py use different MPI libraries")
    if not np.issubdtype(PETSc.ScalarType, np.floating):
        found.append("PETSc has complex scalars; hpcembed needs a build with real scalars")
    if PETSc.Sys.getVersion()[:2] != SLEPc.Sys.getVersion()[:2]:
        found.append("PETSc and SLEPc are of different releases")
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            found.append(f"cannot import {name}: {error}")
    return found


def library() -> str:
    """Return the name and version of the MPI library."""
    return " ".join(MPI.Get_library_version().splitlines()[0].split(",")[0].split())


def main() -> None:
    """Print the versions or the defects."""
    comm = MPI.COMM_WORLD
    found = problems(int(sys.argv[1]))
    first = comm.rank == 0
    # Ranks in jobs of their own cannot communicate.
    if comm.size > 1:
        found = sorted({line for lines in comm.allgather(found) for line in lines})
    if first and found:
        print("\n".join(f"check: {line}" for line in found), file=sys.stderr, flush=True)
    elif first:
        petsc = ".".join(map(str, PETSc.Sys.getVersion()))
        slepc = ".".join(map(str, SLEPc.Sys.getVersion()))
        torch = importlib.metadata.version("torch")
        print(
            f"check: Python {platform.python_version()}, {library()}, PETSc {petsc}, "
            f"SLEPc {slepc}, numpy {np.__version__}, torch {torch}; {comm.size} ranks communicate",
            flush=True,
        )
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
