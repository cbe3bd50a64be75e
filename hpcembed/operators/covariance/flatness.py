"""Whether the leading eigenvalues of the covariance stand out, from a sample of rows.

Iterations need many passes where the wanted eigenvalues are hardly larger than the others, as for
whitened rows, noise, and many embeddings. Then the whole square takes less time.

If all eigenvalues of the covariance were equal, the largest one of the covariance of m independent
rows would be near ``(1 + sqrt(d / m))^2`` times their mean, and hardly ever above it (Marchenko and
Pastur, "Distribution of eigenvalues for some sets of random matrices", 1967). So a sample of a few
hundred rows shows whether a spectrum is flat, without the matrix.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.runtime.ranks import allgather_rows
from hpcembed.runtime.threads import one_blas_thread

__all__ = ["is_flat", "leading_excess"]

#: Rows of the sample, of all ranks together, and the largest number of its entries.
_SAMPLE = 384
_ENTRIES = 2**22

#: Excess of the largest eigenvalue up to which a spectrum counts as flat.
_FLAT = 1.4


def is_flat(X: RowSource) -> bool:
    """Return whether the covariance of dense rows in memory has a flat spectrum. Collective."""
    if not isinstance(X, DataMatrix) or X.is_sparse:
        return False
    return leading_excess(X) < _FLAT


def leading_excess(X: DataMatrix) -> float:
    """Return the largest eigenvalue of a sample, relative to that of a flat spectrum.

    Collective: one gather of a few hundred rows. Near 1 for a flat spectrum; 0 for constant rows.
    """
    share = max(2, min(_SAMPLE, _ENTRIES // X.n_features) // X.comm.size)
    positions = np.unique(np.linspace(0, max(X.n_local - 1, 0), share).astype(int))
    rows, shift, factor = X.stored_rows
    mine = np.asarray(rows[positions[: X.n_local]], dtype=np.float64)
    mine -= 0.0 if shift is None else shift
    mine *= 1.0 if factor is None else factor
    sample = allgather_rows(X.comm, mine)
    sample -= sample.mean(axis=0)
    m, d = sample.shape
    with one_blas_thread():
        products = sample @ sample.T if m <= d else sample.T @ sample
        size = len(products)
        largest = scipy.linalg.eigvalsh(products, subset_by_index=(size - 1, size - 1))[0]
    mean = float(products.trace()) / ((m - 1) * d)
    edge = mean * (1 + np.sqrt(d / (m - 1))) ** 2
    return float(largest) / (m - 1) / edge if edge > 0 else 0.0
