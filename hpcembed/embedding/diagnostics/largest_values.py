"""The largest values of each row of a matrix whose columns come in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["keep_largest"]


def keep_largest(
    best: NDArray[Any], places: NDArray[np.int64], values: NDArray[Any], begin: int
) -> None:
    """Merge new values with the largest ones of each row, in place.

    Parameters
    ----------
    best, places : ndarray of shape (q, width)
        Values in any order, and their rows.
    values : ndarray of shape (q, b)
        Values of rows begin, ..., begin + b - 1.
    """
    width, count = best.shape[1], values.shape[1]
    hits = np.flatnonzero(values > best.min(axis=1)[:, None])
    if not hits.size:
        return
    if hits.size > values.size // 8 and count > width:
        # too many to sort: the largest of each row
        kept = np.argpartition(values, count - width, axis=1)[:, count - width :]
        hits = np.sort((kept + count * np.arange(len(values))[:, None]).reshape(-1))
    row = hits // count
    counts = np.bincount(row, minlength=len(values))
    touched = np.flatnonzero(counts)
    place_of = np.cumsum(counts > 0) - 1
    column = np.arange(len(hits)) - np.repeat(np.cumsum(counts) - counts, counts)
    most = int(counts.max())
    merged = np.full((len(touched), width + most), -np.inf, best.dtype)
    owners = np.full(merged.shape, -1, np.int64)
    merged[:, :width], owners[:, :width] = best[touched], places[touched]
    at = place_of[row], width + column
    merged[at] = values.reshape(-1)[hits]
    owners[at] = begin + hits - row * count
    kept = np.argpartition(merged, most, axis=1)[:, most:]
    best[touched] = np.take_along_axis(merged, kept, axis=1)
    places[touched] = np.take_along_axis(owners, kept, axis=1)
