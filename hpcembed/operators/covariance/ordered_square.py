"""The assembled covariance with sums in the order of the rows, on any number of ranks.

Blocks of rows by global index (:mod:`hpcembed.data.row_blocks`) are centred and multiplied in
double precision, each by one call of BLAS on one thread, and added in a tree by block index
(:mod:`hpcembed.runtime.ordered_sums`). So the matrix has the same bits on any number of ranks that
run one BLAS on processors of one kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

from hpcembed.data.matrix import RowSource, reading
from hpcembed.data.row_blocks import global_block_rows, global_blocks
from hpcembed.operators.covariance.covariance_passes import Moments
from hpcembed.operators.covariance.moments import ordered_mean
from hpcembed.runtime.machine.threads import one_blas_thread
from hpcembed.runtime.ordered_sums import BlockOrderedSum

__all__ = ["LARGEST_ORDERED", "ordered_bytes", "ordered_triangle"]

#: Number of features up to which sums are made in the order of the rows: one rank solves for them.
LARGEST_ORDERED = 10_000

#: Sparse rows that are made dense at a time.
_DENSE_ROWS = 256


def ordered_triangle(X: RowSource, moments: Moments) -> NDArray[np.float64] | None:
    """Return the lower triangle of the covariance, or of ``X'X / (n - 1)``, on rank 0.

    Collective. Completes `moments`.

    Parameters
    ----------
    moments : Moments
        Its `centred` selects the operator.

    Returns
    -------
    ndarray of shape (d, d) on rank 0, column-major, None elsewhere
        Entries above the diagonal are zero.
    """
    d, weight = X.n_features, max(X.n_rows - 1, 1)
    blocks = global_blocks(X.comm, X.n_local, d, X.blocks)
    mean = ordered_mean(X, blocks) if moments.centred else None
    total = BlockOrderedSum()
    with one_blas_thread():
        with reading(X):
            for index, rows in blocks:
                total.add(index, _square(rows, mean))
        lower = total.on_root(X.comm)
    variances = np.empty(d)
    if lower is not None:
        lower /= weight
        variances[:] = np.maximum(lower.diagonal(), 0.0)
    X.comm.Bcast(variances, root=0)
    moments.mean = np.zeros(d) if mean is None else mean
    moments.variances = variances
    return lower


def ordered_bytes(n_rows: int, n_features: int) -> int:
    """Return the memory of :func:`ordered_triangle` on one rank: a square for each level."""
    n_blocks = -(-n_rows // global_block_rows(n_rows, n_features))
    buffers = 3 * 8 * n_features * global_block_rows(n_rows, n_features)
    return 8 * n_features**2 * (n_blocks.bit_length() + 2) + buffers


def _square(rows: Any, mean: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return the lower triangle of ``Z'Z`` for rows minus their mean, column-major."""
    if isinstance(rows, np.ndarray):
        Z = rows if mean is None else np.subtract(rows, mean, out=rows)
        # the transpose of row-major rows is column-major: BLAS reads it in place
        return np.asarray(dsyrk(1.0, Z.T, lower=1))
    lower = np.zeros((rows.shape[1],) * 2, order="F")
    for first in range(0, rows.shape[0], _DENSE_ROWS):
        Z = rows[first : first + _DENSE_ROWS].toarray()
        Z = Z if mean is None else np.subtract(Z, mean, out=Z)
        lower = dsyrk(1.0, Z.T, beta=1.0, c=lower, lower=1, overwrite_c=1)
    return lower
