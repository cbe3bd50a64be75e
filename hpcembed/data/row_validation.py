"""Validation of rows: arrays from a caller, blocks from a file, values in another precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.arguments import as_array
from hpcembed.runtime.errors import InputError

__all__ = ["assign", "canonical_csr", "check_finite", "checked_rows", "copied_bytes"]


def checked_rows(rows: Any, labels: Any, comm: MPI.Comm) -> tuple[Any, NDArray[Any]]:
    """Return rows as a real array or as CSR without duplicates, and one label for each row.

    Collective. Valid rows are not copied.

    Raises
    ------
    InputError
        On all ranks: rows are not a table of real numbers, the numbers of rows and labels differ,
        or ranks have different numbers of features, or sparse and dense rows.
    """
    with agreement(comm):
        rows = canonical_csr(rows) if scipy.sparse.issparse(rows) else as_array("rows", rows)
        if rows.ndim != 2:
            raise InputError(f"rows of shape {rows.shape}: give a table of shape (rows, features)")
        if rows.dtype.kind not in "biuf":
            remedy = "give the real and imaginary parts as features of their own"
            remedy = remedy if rows.dtype.kind == "c" else "give numbers"
            raise InputError(f"rows of type {rows.dtype} are not real numbers: {remedy}")
        labels = as_array("labels", labels)
        if labels.ndim > 1 and math.prod(labels.shape[1:]) > 1:
            raise InputError(
                f"labels of shape {labels.shape}: several labels or targets for each row are not "
                "supported: train one model for each column, labels[:, j]"
            )
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


def canonical_csr(rows: Any) -> Any:
    """Return CSR in the same memory if possible, without duplicate entries. Not collective."""
    if rows.ndim != 2:
        return rows
    rows = scipy.sparse.csr_array(rows)
    d = rows.shape[1]
    if rows.nnz and not 0 <= int(rows.indices.min()) <= int(rows.indices.max()) < d:
        raise InputError(f"sparse rows have a column number beyond their {d} features: check them")
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


def check_finite(block: NDArray[np.generic], name: object, first_row: int) -> None:
    """Raise an error if a block of rows contains NaN or infinite values.

    Parameters
    ----------
    block : ndarray of shape (m, d)
    name : object
        The file, for the message.
    first_row : int
        Index of the block's first row in the file, from 0.

    Raises
    ------
    InputError
        The message names file, row and column, both counted from 1.
    """
    if block.dtype.kind != "f":
        return
    finite = np.isfinite(block)
    if finite.all():
        return
    row, column = (int(index[0]) for index in np.nonzero(~finite))
    raise InputError(
        f"{name}: row {first_row + row + 1}, column {column + 1}: {block[row, column]} is not a "
        "finite number: remove or replace such values"
    )


def copied_bytes(rows: Any, storage: str) -> int:
    """Return the memory that a DataMatrix takes in addition to the rows it is made from."""
    if scipy.sparse.issparse(rows):
        return int(8 * rows.nnz)
    is_dense = storage == "dense" or (storage == "auto" and rows.dtype == np.float64)
    return int(8 * rows.size) if is_dense else 0


def assign(target: NDArray[np.floating[Any]], values: NDArray[np.float64]) -> None:
    """Round values to the precision of an array.

    Raises
    ------
    InputError
        A finite value would become infinite.
    """
    try:
        with np.errstate(over="raise", under="ignore"):
            target[...] = values
    except FloatingPointError as error:
        raise InputError(
            f"a value of {np.max(np.abs(values)):.1e} exceeds the range of {target.dtype}, "
            "the type of network inputs: set data.scaling, or remove such rows"
        ) from error
