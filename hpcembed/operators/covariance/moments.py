"""Mean and variance of every feature of distributed rows, in two reductions."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import RowSource, reading
from hpcembed.data.row_blocks import GlobalBlocks, global_blocks
from hpcembed.runtime.ordered_sums import BlockOrderedSum
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["column_moments", "ordered_mean", "ordered_moments"]


def column_moments(X: RowSource) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and sample variance of every feature, each of shape (d,), on every rank.

    Collective: two reductions.

    Notes
    -----
    Blocks are centred on their own means, and their results combined as in Chan, Golub, LeVeque,
    "Algorithms for computing the sample variance", The American Statistician 37 (1983). Means are
    relative to the first row, so that a large offset costs no digits.
    """
    origin = _origin(X)
    mean, spread, count = np.zeros(X.n_features), np.zeros(X.n_features), 0
    with reading(X):
        for _, block in X.blocks():
            b = block.shape[0]
            block_mean, block_spread = _block_moments(block if X.is_sparse else block - origin)
            difference = block_mean - mean
            spread += block_spread + difference**2 * (count * b / (count + b))
            mean += difference * (b / (count + b))
            count += b
    overall = sum_over_ranks(X.comm, mean * (count / X.n_rows))
    spread += count * (mean - overall) ** 2
    return origin + overall, sum_over_ranks(X.comm, spread) / max(X.n_rows - 1, 1)


def ordered_moments(X: RowSource) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and sample variance of every feature, with sums in the order of the rows.

    Collective. The same bits on any number of ranks; rows are read twice.
    """
    blocks = global_blocks(X.comm, X.n_local, X.n_features, X.blocks)
    mean, total = ordered_mean(X, blocks), BlockOrderedSum()
    with reading(X):
        for index, rows in blocks:
            block_mean, spread = _block_moments(rows)
            total.add(index, spread + rows.shape[0] * (block_mean - mean) ** 2)
    return mean, _from_root(X, total) / max(X.n_rows - 1, 1)


def ordered_mean(X: RowSource, blocks: GlobalBlocks) -> NDArray[np.float64]:
    """Return the mean of every feature on every rank, with sums in the order of the rows.

    Collective.
    """
    total = BlockOrderedSum()
    with reading(X):
        for index, rows in blocks:
            total.add(index, np.array(rows.sum(axis=0), dtype=np.float64).ravel())
    return _from_root(X, total) / X.n_rows


def _from_root(X: RowSource, total: BlockOrderedSum) -> NDArray[np.float64]:
    """Return a sum of vectors on every rank. Collective."""
    found = total.on_root(X.comm)
    whole = np.empty(X.n_features) if found is None else found
    X.comm.Bcast(whole, root=0)
    return whole


def _origin(X: RowSource) -> NDArray[np.float64]:
    """Return the first row of all on every rank; zero for sparse rows, which must stay sparse."""
    if X.is_sparse:
        return np.zeros(X.n_features)
    owner = X.comm.allreduce(X.comm.rank if X.n_local else X.comm.size, op=MPI.MIN)
    first = np.empty(X.n_features)
    with reading(X):
        if X.comm.rank == owner:
            first[:] = next(iter(X.blocks()))[1][0]
    X.comm.Bcast(first, root=owner)
    return first


def _block_moments(block: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if isinstance(block, np.ndarray):
        mean = block.mean(axis=0)
        return mean, np.square(block - mean).sum(axis=0)
    rows, d = block.shape
    mean = np.asarray(block.sum(axis=0)).ravel() / rows
    squares = np.bincount(
        block.indices, weights=(block.data - mean[block.indices]) ** 2, minlength=d
    )
    stored = np.bincount(block.indices, minlength=d)
    return mean, squares + (rows - stored) * mean**2
