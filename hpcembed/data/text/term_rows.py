"""Rows of a document-term matrix in numpy alone, for installations without SciPy.

The arrays are those of a ``scipy.sparse.csr_array`` in canonical format, so weights and products
are the same to the last bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["TermRows"]


class TermRows:
    """Compressed sparse rows: the methods that weights and predictions use.

    Parameters
    ----------
    data : ndarray of float64, shape (nnz,)
    indices : ndarray of int, shape (nnz,)
        Columns, in ascending order in each row.
    indptr : ndarray of int, shape (n + 1,)
        Position of the first entry of each row.
    n_terms : int
        Number of columns.

    Examples
    --------
    >>> rows = TermRows.count(np.array([1, 0, 1]), np.array([0, 3, 3]), 2)
    >>> rows.toarray()
    array([[1., 2.],
           [0., 0.]])
    >>> rows[1:2].shape
    (1, 2)
    """

    def __init__(
        self,
        data: NDArray[np.float64],
        indices: NDArray[np.int64],
        indptr: NDArray[np.int64],
        n_terms: int,
    ) -> None:
        self.data, self.indices, self.indptr = data, indices, indptr
        self.shape = indptr.size - 1, n_terms

    @classmethod
    def count(cls, columns: NDArray[np.int64], starts: NDArray[np.int64], n_terms: int) -> TermRows:
        """Count the columns of each row.

        Parameters
        ----------
        columns : ndarray of int
            Columns of all rows, one after the other, with repetitions.
        starts : ndarray of int, shape (n + 1,)
            Position of the first column of each row.
        n_terms : int
        """
        n = starts.size - 1
        rows = np.repeat(np.arange(n, dtype=np.int64), np.diff(starts))
        keys, counts = np.unique(rows * n_terms + columns, return_counts=True)
        indptr = np.searchsorted(keys, np.arange(n + 1, dtype=np.int64) * n_terms)
        return cls(counts.astype(np.float64), keys % max(n_terms, 1), indptr, n_terms)

    def eliminate_zeros(self) -> None:
        """Remove stored zeros, in place."""
        kept = self.data != 0
        before = np.concatenate([[0], np.cumsum(kept)])
        self.data, self.indices = self.data[kept], self.indices[kept]
        self.indptr = before[self.indptr]

    def __getitem__(self, rows: slice) -> TermRows:
        first, last, _ = rows.indices(self.shape[0])
        indptr = self.indptr[first : last + 1]
        entries = slice(int(indptr[0]), int(indptr[-1]))
        return TermRows(
            self.data[entries], self.indices[entries], indptr - indptr[0], self.shape[1]
        )

    def toarray(self) -> NDArray[np.float64]:
        """Return the rows with their zeros."""
        dense = np.zeros(self.shape)
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))
        dense[rows, self.indices] = self.data
        return dense
