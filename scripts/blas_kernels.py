"""Check that OpenBLAS uses the kernel that OPENBLAS_CORETYPE names.

Usage: OPENBLAS_CORETYPE=KERNEL python blas_kernels.py KERNEL

Prints the reason if no OpenBLAS that numpy, scipy or PETSc has loaded uses it, and nothing
otherwise. Prints the kernel of each library to standard error. An OpenBLAS that lacks a kernel uses
a related one: scipy's wheels use Haswell in place of Zen.
"""

from __future__ import annotations

import sys

import numpy as np
import scipy.linalg
import threadpoolctl
from petsc4py import PETSc


def main() -> None:
    """Print the kernels in use."""
    kernel = sys.argv[1]
    # A library may load its BLAS when it first needs it.
    np.linalg.inv(np.eye(2))
    scipy.linalg.inv(np.eye(2))
    PETSc.Mat().createDense((2, 2), comm=PETSc.COMM_SELF).destroy()
    libraries = [
        library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"
    ]
    used = {library["filepath"]: library.get("architecture", "?") for library in libraries}
    for path, architecture in sorted(used.items()):
        print(f"kernel {architecture}: {path}", file=sys.stderr)
    if not any(library["internal_api"] == "openblas" for library in libraries):
        print("no OpenBLAS is loaded")
    elif kernel.lower() not in (architecture.lower() for architecture in used.values()):
        print(f"OpenBLAS uses {', '.join(sorted(set(used.values())))} instead")


if __name__ == "__main__":
    main()
