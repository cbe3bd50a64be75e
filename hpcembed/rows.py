"""Rows as a caller hands them over, made into what a DataMatrix keeps, or refused on all ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.errors import InputError
from hpcembed.parallel import agreement

__all__ = ["checked_rows"]


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
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows
