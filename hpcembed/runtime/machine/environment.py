"""Environment of a run: versions, MPI library, PETSc build, threads, hosts, scheduler."""

from __future__ import annotations

import os
import platform
import socket
import sys
from importlib import metadata

from mpi4py import MPI
from petsc4py import PETSc
from slepc4py import SLEPc

import hpcembed
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.machine.native_library import instruction_set

__all__ = ["describe_environment"]

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "mpi4py",
    "petsc4py",
    "slepc4py",
    "h5py",
    "pyarrow",
    "safetensors",
)

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_THREAD_TIMEOUT",
    "MKL_NUM_THREADS",
    "PETSC_OPTIONS",
    "HPCEMBED_NATIVE",
)


def describe_environment(comm: MPI.Comm, threads: int) -> dict[str, object]:
    """Return the environment of a run as JSON values.

    Collective: host names are gathered.

    Parameters
    ----------
    threads : int
        BLAS threads per rank.

    Returns
    -------
    environment : dict
        Among others "products": the instruction set of the compiled products, or "numpy".
    """
    with agreement(comm):
        products = instruction_set() or "numpy"
    hosts = sorted(set(comm.allgather(socket.gethostname())))
    return {
        "hpcembed": hpcembed.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "mpi": MPI.Get_library_version().split("\n")[0].strip("\x00 "),
        "petsc": ".".join(map(str, PETSc.Sys.getVersion())),
        "slepc": ".".join(map(str, SLEPc.Sys.getVersion())),
        "petsc_scalar": str(PETSc.ScalarType.__name__),
        "petsc_index": str(PETSc.IntType.__name__),
        "products": products,
        "ranks": comm.size,
        "threads_per_rank": threads,
        "hosts": hosts,
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if name in _VARIABLES or name in ("SLURM_JOB_ID", "SLURM_NNODES", "SLURM_NTASKS")
        },
        "command": sys.argv,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
