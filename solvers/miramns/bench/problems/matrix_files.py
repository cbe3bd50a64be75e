"""Matrices from Matrix Market files, plain or compressed by gzip; rank 0 reads and distributes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc
from scipy.io import mminfo, mmread
from scipy.sparse import csr_matrix

from miramns.bench.harness.root_rank import BenchError, on_root_rank
from miramns.bench.problems.distributed_matrices import aij_from_rows

_SUFFIXES = (".mtx", ".mtx.gz")


def matrix_files(comm: MPI.Comm, folder: Path) -> list[Path]:
    """Return the Matrix Market files of a data folder in alphabetical order.

    Collective on `comm`.

    Parameters
    ----------
    folder : Path
        The files are in its subfolder ``matrices``.

    Raises
    ------
    BenchError
        If there are none.
    """

    def find() -> list[Path]:
        inner = folder / "matrices"
        found = sorted(path for path in inner.glob("*") if path.name.endswith(_SUFFIXES))
        if not found:
            raise BenchError(f"no .mtx or .mtx.gz file in {inner}")
        return found

    found: list[Path] = on_root_rank(comm, find)
    return found


def is_symmetric(comm: MPI.Comm, path: Path) -> bool:
    """Return whether the header of a file declares its matrix symmetric.

    Collective on `comm`.

    Raises
    ------
    BenchError
        If the file cannot be read or does not hold a square real matrix.
    """

    def read_header() -> bool:
        try:
            rows, columns, _, _, field, symmetry = mminfo(str(path))
        except (OSError, ValueError, EOFError) as error:
            raise BenchError(f"{path}: not a Matrix Market file ({error})") from error
        if rows != columns or field not in ("real", "integer", "pattern"):
            raise BenchError(f"{path}: need a square real matrix, got {rows} x {columns} {field}")
        return bool(symmetry == "symmetric")

    symmetric: bool = on_root_rank(comm, read_header)
    return symmetric


def read_matrix(comm: MPI.Comm, path: Path, hermitian: bool) -> PETSc.Mat:
    """Read a matrix on rank 0 and distribute its rows.

    Collective on `comm`.

    Raises
    ------
    BenchError
        If the file cannot be read.
    """

    def read() -> list[csr_matrix]:
        whole = csr_matrix(mmread(str(path)), dtype=np.float64)
        whole.sum_duplicates()
        shares = np.array_split(np.arange(whole.shape[0]), comm.size)
        return [whole[rows[0] : rows[-1] + 1] if rows.size else whole[:0] for rows in shares]

    local = on_root_rank(comm, read, deliver=comm.scatter)
    n = local.shape[1]
    return aij_from_rows(comm, (n, n), local, hermitian=hermitian)
