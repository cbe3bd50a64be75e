"""Effective number of eigenvalues of the covariance, from a sample of rows.

The participation ratio ``tr(C)^2 / tr(C^2)`` is 1 for a matrix of rank one and d for a multiple of
the identity. Iterations need few passes where it is small. Where it is near the dimension, as for
whitened rows, noise, or many embeddings, the wanted eigenvalues are hardly larger than the others,
and an iteration takes more time than the whole square.

For independent centred rows x and y, the expectation of ``(x'y)^2`` is ``tr(C^2)``: pairs of a few
hundred rows estimate it without the matrix.
"""

from __future__ import annotations

import numpy as np

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.runtime.ranks import allgather_rows

__all__ = ["is_flat", "participation_ratio"]

#: Rows of the sample, of all ranks together, and the largest number of its entries.
_SAMPLE = 256
_ENTRIES = 2**22

#: Share of the dimension from which a spectrum counts as flat.
_FLAT = 0.2


def is_flat(X: RowSource) -> bool:
    """Return whether the covariance of dense rows in memory has a flat spectrum. Collective."""
    if not isinstance(X, DataMatrix) or X.is_sparse:
        return False
    return participation_ratio(X) > _FLAT * min(X.n_rows, X.n_features)


def participation_ratio(X: DataMatrix) -> float:
    """Return an estimate of ``tr(C)^2 / tr(C^2)`` for the centred covariance of dense rows.

    Collective: one gather of a few hundred rows.
    """
    share = max(2, min(_SAMPLE, _ENTRIES // X.n_features) // X.comm.size)
    positions = np.unique(np.linspace(0, max(X.n_local - 1, 0), share).astype(int))
    rows, shift, factor = X.stored_rows
    mine = np.asarray(rows[positions[: X.n_local]], dtype=np.float64)
    mine -= 0.0 if shift is None else shift
    mine *= 1.0 if factor is None else factor
    sample = allgather_rows(X.comm, mine)
    sample -= sample.mean(axis=0)
    m = len(sample)
    if m < 2:
        return 1.0
    products = sample @ sample.T
    trace = float(products.trace()) / (m - 1)
    np.fill_diagonal(products, 0.0)
    squares = float(np.square(products).sum()) / (m * (m - 1))
    return trace**2 / squares if squares > 0 else 1.0
