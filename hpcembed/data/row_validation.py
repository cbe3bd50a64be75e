"""Rows as a caller hands them over: refused on all ranks or made into what a DataMatrix keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import agreement

__all__ = ["assign", "checked_rows", "copied_bytes"]


def checked_rows(rows: Any, labels: Any, comm: MPI.Comm) -> tuple[Any, NDArray[Any]]:
    """Rows as a real array or as CSR without duplicates, and one label for each.

    Collective. Nothing is copied that is as it should be already.

    Raises
    ------
    InputError
        On all ranks: rows that are no table of real numbers, labels of another length, ranks with
        different numbers of features or ways of holding them.
    """
    with agreement(comm):
        rows = _sparse(rows) if scipy.sparse.issparse(rows) else np.asarray(rows)
        if rows.ndim != 2:
            raise InputError(f"rows of shape {rows.shape}: give a table of shape (rows, features)")
        if rows.dtype.kind not in "biuf":
            remedy = "give the real and imaginary parts as features of their own"
            remedy = remedy if rows.dtype.kind == "c" else "give numbers"
            raise InputError(f"rows of type {rows.dtype} are not real numbers: {remedy}")
        labels = np.asarray(labels)
        if labels.shape != (rows.shape[0],):
            raise InputError(
                f"labels of shape {labels.shape} for {rows.shape[0]} rows: give one for each row"
            )
    kind = "sparse" if scipy.sparse.issparse(rows) else "dense"
    held = set(comm.allgather((rows.shape[1], kind)))
    if len(held) > 1:
        listed = ", ".join(f"{kind} with {d} features" for d, kind in sorted(held))
        raise InputError(f"rows differ between ranks: {listed}: give all ranks the same columns")
    return rows, labels


def _sparse(rows: Any) -> Any:
    """CSR over the same memory where it is CSR already, each entry stored once."""
    if rows.ndim != 2:
        return rows
    rows = scipy.sparse.csr_array(rows)
    d = rows.shape[1]
    if rows.nnz and not 0 <= int(rows.indices.min()) <= int(rows.indices.max()) < d:
        raise InputError(f"sparse rows hold a column number beyond their {d} features: check them")
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


def copied_bytes(rows: Any, storage: str) -> int:
    """What a DataMatrix takes beside the rows that it is given. Not collective."""
    if scipy.sparse.issparse(rows):
        return int(8 * rows.nnz)
    is_dense = storage == "dense" or (storage == "auto" and rows.dtype == np.float64)
    return int(8 * rows.size) if is_dense else 0


def assign(target: NDArray[np.floating[Any]], values: NDArray[np.float64]) -> None:
    """Round values into an array of another precision.

    Not collective.

    Raises
    ------
    InputError
        When a finite value would become infinite.
    """
    try:
        with np.errstate(over="raise", under="ignore"):
            target[...] = values
    except FloatingPointError as error:
        raise InputError(
            f"a value of {np.max(np.abs(values)):.1e} is beyond {target.dtype}, in which rows go "
            "to the networks: set data.scaling, or remove such rows"
        ) from error
