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
from hpcembed.runtime.machine.threads import one_blas_thread
from hpcembed.runtime.ranks import allgather_rows

__all__ = ["SLOW", "leading_excess", "pass_factor"]

#: Rows of the sample, of all ranks together, the largest number of its entries, and its largest
#: share of all entries; but at least 64 rows.
_SAMPLE = 384
_ENTRIES = 2**20
_SHARE = 1 / 4

#: Spectra by the excess of their largest eigenvalue up to a limit, with the passes that they take
#: relative to a decaying spectrum, as measured.
SLOW = ((1.4, 7.0, "flat"), (4.5, 2.0, "slowly decaying"))


def pass_factor(X: RowSource) -> tuple[float, str]:
    """Return the passes of an iteration, relative to a decaying spectrum, and the spectrum's name.

    Collective. 1 and "" for sparse rows and rows in files.
    """
    if isinstance(X, DataMatrix) and not X.is_sparse:
        excess = leading_excess(X)
        for limit, factor, name in SLOW:
            if excess < limit:
                return factor, name
    return 1.0, ""


def leading_excess(X: DataMatrix) -> float:
    """Return the largest eigenvalue of a sample, relative to that of a flat spectrum.

    Collective: one gather of a few hundred rows. Near 1 for a flat spectrum; 0 for constant rows.
    """
    most = min(_ENTRIES // X.n_features, int(_SHARE * X.n_rows))
    share = max(64, min(_SAMPLE, most)) // X.comm.size + 1
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
