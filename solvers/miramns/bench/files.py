"""Matrices from Matrix Market files, plain or gzipped, read by one rank and dealt out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc
from scipy.io import mminfo, mmread
from scipy.sparse import csr_matrix

from miramns.bench.assembly import aij_from_rows
from miramns.convergence import MiramnsError

__all__ = ["BenchError", "agreed", "describe_matrix", "matrix_files", "read_matrix"]

_SUFFIXES = (".mtx", ".mtx.gz")


class BenchError(MiramnsError):
    """What was asked of the benchmark cannot be done."""


def agreed(
    comm: MPI.Comm, work: Callable[[], Any], *, deliver: Callable[[Any], Any] | None = None
) -> Any:
    """Do on rank 0 what may fail there, and give all ranks its result or its error.

    Collective on `comm`.

    Parameters
    ----------
    work : callable
        Called on rank 0.
    deliver : callable, optional
        How the result reaches the others, ``comm.scatter`` in place of ``comm.bcast``.

    Raises
    ------
    BenchError
        On all ranks, when `work` raised it, ``OSError``, ``ValueError`` or ``EOFError``.
    """
    result: Any = None
    trouble = ""
    if comm.rank == 0:
        try:
            result = work()
        except (BenchError, OSError, ValueError, EOFError) as error:
            trouble = str(error) or type(error).__name__
    trouble = comm.bcast(trouble)
    if trouble:
        raise BenchError(trouble)
    return (deliver or comm.bcast)(result)


def matrix_files(comm: MPI.Comm, folder: Path) -> list[Path]:
    """Matrix Market files of a data folder, in alphabetical order. Collective on `comm`.

    Parameters
    ----------
    folder : Path
        The files are in its subfolder ``matrices``.

    Raises
    ------
    BenchError
        When there are none.
    """

    def find() -> list[Path]:
        inner = folder / "matrices"
        found = sorted(path for path in inner.glob("*") if path.name.endswith(_SUFFIXES))
        if not found:
            raise BenchError(f"no .mtx or .mtx.gz file in {inner}")
        return found

    found: list[Path] = agreed(comm, find)
    return found


def describe_matrix(comm: MPI.Comm, path: Path) -> tuple[int, bool]:
    """Size of the matrix in a file and whether its header says symmetric. Collective on `comm`.

    Raises
    ------
    BenchError
        When the file cannot be read, or holds no square real matrix.
    """

    def look() -> tuple[int, bool]:
        try:
            rows, columns, _, _, field, symmetry = mminfo(str(path))
        except (OSError, ValueError, EOFError) as error:
            raise BenchError(f"{path}: not a Matrix Market file ({error})") from error
        if rows != columns or field not in ("real", "integer", "pattern"):
            raise BenchError(f"{path}: need a square real matrix, got {rows} x {columns} {field}")
        return int(rows), symmetry == "symmetric"

    described: tuple[int, bool] = agreed(comm, look)
    return described


def read_matrix(comm: MPI.Comm, path: Path, hermitian: bool) -> PETSc.Mat:
    """Read a matrix on rank 0 and deal out its rows. Collective on `comm`.

    Raises
    ------
    BenchError
        When the file cannot be read.
    """

    def read() -> list[csr_matrix]:
        whole = csr_matrix(mmread(str(path)), dtype=np.float64)
        whole.sum_duplicates()
        shares = np.array_split(np.arange(whole.shape[0]), comm.size)
        return [whole[rows[0] : rows[-1] + 1] if rows.size else whole[:0] for rows in shares]

    local = agreed(comm, read, deliver=comm.scatter)
    n = local.shape[1]
    return aij_from_rows(comm, (n, n), local, hermitian=hermitian)
