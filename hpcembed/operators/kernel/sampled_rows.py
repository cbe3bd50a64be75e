"""Rows of distributed data sampled by a seed: the same on every rank and on any number of ranks.

Every row has a 64-bit key, a function of (seed, global index). The sample consists of the rows with
the smallest keys, in the order of their keys; a sample of 10 is the beginning of a sample of 20.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource, reading
from hpcembed.runtime.counter_random import row_keys
from hpcembed.runtime.ranks import allgather_rows

__all__ = ["sampled_rows"]


def sampled_rows(X: RowSource, count: int, seed: int) -> Any:
    """Return sampled rows on every rank, in double precision; sparse if `X` is.

    Collective: some gathers; each rank reads its rows once.

    Parameters
    ----------
    count : int
        At most the number of rows.

    Returns
    -------
    ndarray or csr_array of shape (count, d)
    """
    first, last = X.row_range
    keys = row_keys(seed, np.arange(first, last))
    # at most `count` rows of one rank are in the sample
    mine = np.argsort(keys, kind="stable")[:count]
    offered = allgather_rows(X.comm, keys[mine])
    chosen = np.sort(offered)[:count]
    mine = np.sort(mine[np.isin(keys[mine], chosen)])
    found = _picked(X, mine)
    order = np.searchsorted(chosen, allgather_rows(X.comm, keys[mine]))
    places = np.argsort(order)
    if isinstance(found, np.ndarray):
        return allgather_rows(X.comm, found)[places]
    lengths = allgather_rows(X.comm, np.diff(found.indptr).astype(np.int64))
    parts = (
        allgather_rows(X.comm, found.data),
        allgather_rows(X.comm, found.indices.astype(np.int64)),
        np.concatenate([[0], np.cumsum(lengths)]),
    )
    return scipy.sparse.csr_array(parts, shape=(count, X.n_features))[places]


def _picked(X: RowSource, indices: NDArray[np.int64]) -> Any:
    """Return rows of this rank by ascending local index. Collective for rows in files."""
    parts: list[Any] = []
    with reading(X):
        for first, block in X.blocks():
            low, high = np.searchsorted(indices, (first, first + block.shape[0]))
            parts.append(block[indices[low:high] - first].copy())
    if X.is_sparse:
        empty = scipy.sparse.csr_array((0, X.n_features))
        return scipy.sparse.csr_array(scipy.sparse.vstack([empty, *parts], format="csr"))
    return np.concatenate([np.empty((0, X.n_features)), *parts])
