"""Embeddings of arrays and of files: their width, and their rows in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.arguments import as_array
from hpcembed.runtime.errors import InputError

__all__ = ["blocks_of", "check_width", "dimensions_of", "row_slices"]

_BLOCK_ROWS = 16_384


def dimensions_of(rows: Any) -> int:
    """Return the number of columns of rows of an array or of files."""
    if hasattr(rows, "n_features"):
        return int(rows.n_features)
    table = as_array("embeddings", rows)
    if table.ndim != 2:
        raise InputError(f"embeddings of shape {table.shape}: give an array of shape (n, d)")
    _check_numbers(table)
    return int(table.shape[1])


def check_width(rows: NDArray[Any], d: int) -> NDArray[Any]:
    """Return embeddings as an array of shape (n, d), or raise InputError."""
    rows = as_array("embeddings", rows)
    if rows.ndim != 2 or rows.shape[1] != d:
        raise InputError(f"embeddings of shape (n, {d}) are needed, not {rows.shape}")
    _check_numbers(rows)
    return rows


def _check_numbers(rows: NDArray[Any]) -> None:
    """Raise InputError unless rows are real numbers."""
    if rows.dtype.kind not in "biuf":
        raise InputError(f"embeddings of type {rows.dtype}: give real numbers")


def blocks_of(rows: Any) -> Iterator[NDArray[Any]]:
    """Yield the rows of an array or of files in blocks of at most 16,384 rows."""
    parts = (block for _, block in rows.blocks()) if hasattr(rows, "blocks") else (rows,)
    for part in parts:
        table = np.asarray(part)
        for chosen in row_slices(len(table)):
            yield table[chosen]


def row_slices(n: int) -> Iterator[slice]:
    """Yield slices of at most 16,384 of n rows."""
    for first in range(0, n, _BLOCK_ROWS):
        yield slice(first, min(n, first + _BLOCK_ROWS))
