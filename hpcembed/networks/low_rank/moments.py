"""Sums over rows from which covariances follow, in double precision and exactly symmetric.

The rows are the vectors that enter or leave a layer: one per sample for a matrix, one per sample
and position for a convolution or a sequence. Rows are added block by block, on every rank its own,
and one reduction adds the ranks. Rows are never stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg.blas
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["ROUNDING", "Moments"]

#: Entries of a block that is converted to double precision at a time.
_BLOCK_ENTRIES = 4 * 2**20
#: Variances below this share of the mean square are differences of equal numbers: they count as 0.
ROUNDING = 1e-13


class Moments:
    """Count, sum and second moments of rows of length `d`.

    Attributes
    ----------
    count : int
        Number of rows.
    total : ndarray of shape (d,)
        Sum of the rows.
    second : ndarray of shape (d, d)
        Sum of the outer products; symmetric bit by bit.

    Examples
    --------
    >>> import numpy as np
    >>> moments = Moments(2)
    >>> moments.add_rows(np.array([[1.0, 0.0], [3.0, 0.0]]))
    >>> moments.covariance()
    array([[1., 0.],
           [0., 0.]])
    """

    def __init__(self, d: int) -> None:
        self.count = 0
        self.total = np.zeros(d)
        self.second = np.zeros((d, d))

    def add_rows(self, rows: NDArray[np.floating[Any]]) -> None:
        """Add rows, an array of shape (n, d) of any floating type."""
        block = max(1, _BLOCK_ENTRIES // max(1, rows.shape[1]))
        for start in range(0, len(rows), block):
            part = np.ascontiguousarray(rows[start : start + block], dtype=np.float64)
            self.total += part.sum(axis=0)
            # The transpose of rows in C order is in Fortran order: BLAS makes no copy.
            lower = scipy.linalg.blas.dsyrk(1.0, part.T, lower=1)
            self.second += lower + np.tril(lower, -1).T
        self.count += len(rows)

    def add_sums(self, count: int, total: NDArray[np.float64], second: NDArray[np.float64]) -> None:
        """Add sums that another library has formed; `second` is made symmetric."""
        self.count += count
        self.total += total
        self.second += (second + second.T) / 2

    def reduce(self, comm: MPI.Comm) -> None:
        """Replace the sums of this rank by the sums of all ranks.

        Collective.
        """
        if comm.size == 1:
            return
        self.count = int(comm.allreduce(self.count))
        self.total = sum_over_ranks(comm, self.total)
        self.second = sum_over_ranks(comm, self.second)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean row, shape (d,)."""
        return self.total / max(self.count, 1)

    def covariance(self, about: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the mean outer product of the rows less a point, shape (d, d).

        Parameters
        ----------
        about : ndarray of shape (d,), optional
            The point; default the mean row. The divisor is the number of rows. Columns whose
            deviations are rounding errors of their values are 0.
        """
        mean = self.mean
        point = mean if about is None else about
        product = self.second / max(self.count, 1)
        crossed = np.outer(point, mean)
        covariance: NDArray[np.float64] = product - crossed - crossed.T + np.outer(point, point)
        squares = np.diagonal(product) + point**2
        constant = np.diagonal(covariance) <= ROUNDING * squares
        covariance[constant] = 0.0
        covariance[:, constant] = 0.0
        return covariance
