"""Import mpi4py, PETSc, SLEPc and PyTorch one after the other, and print facts about each.

Usage: ``python -m hpcembed.jobs.doctor.library_probe PACKAGE...``. Before each import a line with
the name of the package is printed, and a line of JSON after it: a process that an import ends
leaves the facts of the earlier packages and the name of this one.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["PACKAGES", "mpi_libraries"]

#: The MPI library itself, not its bindings to C++ and Fortran.
_MPI_LIBRARY = re.compile(r"/lib(?:mpi|mpich|mpi_abi|mpi_(?:gnu|intel|cray)\w*)[-.\w]*\.so[.\d]*$")
_BINDING = re.compile(r"/libmpi(?:_cxx|_mpifh|_usempi\w*|fort|cxx|_java)[-.\w]*\.so")


def mpi_libraries(maps: Path = Path("/proc/self/maps")) -> list[str]:
    """Return the paths of the MPI libraries that this process has loaded."""
    try:
        lines = maps.read_text().splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[-1] for line in lines if "/" in line}
    return sorted(p for p in paths if _MPI_LIBRARY.search(p) and not _BINDING.search(p))


def _mpi4py() -> dict[str, Any]:
    import mpi4py
    from mpi4py import MPI

    library = " ".join(MPI.Get_library_version().splitlines()[0].strip("\x00 ").split())
    return {
        "version": mpi4py.__version__,
        "library": library.split(", package")[0][:120],
        "paths": mpi_libraries(),
    }


def _petsc4py() -> dict[str, Any]:
    import petsc4py

    petsc4py.init(["hpcembed", "-no_signal_handler"])
    from petsc4py import PETSc

    return {
        "version": petsc4py.__version__,
        "library": ".".join(map(str, PETSc.Sys.getVersion())),
        "scalar": PETSc.ScalarType.__name__,
        "index": PETSc.IntType.__name__,
        "paths": mpi_libraries(),
    }


def _slepc4py() -> dict[str, Any]:
    import slepc4py
    from slepc4py import SLEPc

    return {"version": slepc4py.__version__, "library": ".".join(map(str, SLEPc.Sys.getVersion()))}


def _torch() -> dict[str, Any]:
    import numpy as np
    import torch

    try:
        shares_arrays = bool(torch.from_numpy(np.ones(1)).sum() == 1)
    except RuntimeError:  # Numpy is not available: compiled for another release of numpy
        shares_arrays = False
    return {
        "version": str(torch.__version__),
        "gpus": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "shares_arrays": shares_arrays,
    }


#: Probes in the order of imports.
PACKAGES: dict[str, Callable[[], dict[str, Any]]] = {
    "mpi4py": _mpi4py,
    "petsc4py": _petsc4py,
    "slepc4py": _slepc4py,
    "torch": _torch,
}


def _main() -> None:
    for name in sys.argv[1:]:
        print(f"import {name}", flush=True)
        try:
            facts = PACKAGES[name]()
        except Exception as error:  # of any kind: it is the fact to report
            facts = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:400]}
        print(json.dumps({"package": name, **facts}), flush=True)


if __name__ == "__main__":
    _main()
