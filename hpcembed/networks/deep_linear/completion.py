"""Completion: a matrix of which some entries are seen.

Small tables on one rank are held as a dense array with a mask. Others are held as this rank's rows
in CSR format: work and memory are proportional to the entries seen, and to the factors.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.deep_linear.problems import Matrix, Problem, Truth
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import communicator, place_rows, sum_over_ranks

__all__ = ["Completion", "entries_of_product"]

#: A table with at most this many cells, seen to at least `_DENSE_SHARE`, is held as a dense array.
_DENSE_CELLS = 10**6
_DENSE_SHARE = 0.05
#: Numbers of one block of gathered factor rows; the block stays in the cache.
_BLOCK_NUMBERS = 2**18


class Completion(Problem):
    """A matrix of which some entries are seen.

    Collective on `comm`.

    Parameters
    ----------
    seen : sparse array of shape (n_local, n)
        This rank's rows. Stored entries are the seen ones, zeros included.
    comm : MPI.Intracomm, optional
        Default: this process alone.
    truth : Truth, optional
    storage : {"auto", "dense", "sparse"}, default="auto"

    Raises
    ------
    InputError
        No entry is seen, a cell is given twice, or an entry is not finite; raised on all ranks.

    Attributes
    ----------
    rows : csr_array
        The seen entries of this rank.
    share : float
        Share of the cells that are seen.
    row_counts, column_counts : ndarray
        Seen entries of this rank's rows, and of all columns over all ranks.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse
    >>> table = scipy.sparse.coo_array(([1.0, 2.0], ([0, 1], [0, 1])), shape=(2, 2))
    >>> problem = Completion(table)
    >>> problem.share, problem.storage
    (0.5, 'dense')
    >>> problem.loss_and_products(np.zeros((2, 1)), np.ones((2, 1)))[0]
    1.25
    """

    name = "completion"

    def __init__(
        self,
        seen: Any,
        comm: MPI.Intracomm | None = None,
        *,
        truth: Truth | None = None,
        storage: Literal["auto", "dense", "sparse"] = "auto",
    ) -> None:
        self.comm = communicator(comm)
        with agreement(self.comm):
            self.rows = _checked(seen)
            if storage == "dense" and self.comm.size > 1:
                raise InputError("storage 'dense' is for one rank: use 'sparse' or 'auto'")
        n = self.rows.shape[1]
        if len(set(self.comm.allgather(n))) > 1:
            raise InputError(
                "ranks have tables with different numbers of columns: give all columns"
            )
        start, m = place_rows(self.rows.shape[0], self.comm)
        self.shape = (m, n)
        self.row_range = (start, start + self.rows.shape[0])
        self.n_measurements = int(self.comm.allreduce(int(self.rows.nnz)))
        if not self.n_measurements:
            raise InputError("no entry of the table is seen: nothing can be completed")
        self.share = self.n_measurements / (m * n)
        self.loss_factor = 1 / self.n_measurements
        self.surrogate_factor = 1 / self.share
        self.truth = truth
        self.row_counts = np.diff(self.rows.indptr)
        counts = np.bincount(self.rows.indices, minlength=n).astype(np.float64)
        self.column_counts = sum_over_ranks(self.comm, counts).astype(np.int64)
        small = m * n <= _DENSE_CELLS and self.share >= _DENSE_SHARE and self.comm.size == 1
        self.storage = ("dense" if small else "sparse") if storage == "auto" else storage
        self._mask: Matrix | None = None
        self.targets = self.rows.data
        if self.storage == "dense":
            self._mask = self._scatter(np.ones(self.rows.nnz))
            self.targets = self._scatter(self.rows.data)

    def measure(self, left: Matrix, right: Matrix) -> Matrix:
        """Return the seen entries of ``left @ right.T``; zero elsewhere if the table is dense."""
        if self._mask is not None:
            return np.multiply(product := left @ right.T, self._mask, out=product)
        return entries_of_product(self.rows.indptr, self.rows.indices, left, right)

    def adjoint_products(
        self, residual: Matrix, left: Matrix, right: Matrix
    ) -> tuple[Matrix, Matrix]:
        """Return products with the sparse matrix of residuals. Collective."""
        G = self.rows_with(residual)
        return G @ right, sum_over_ranks(self.comm, np.ascontiguousarray(G.T @ left))

    def measure_matrix(self, matrix: Matrix) -> Matrix:
        """Return the seen entries of a dense matrix."""
        if self._mask is not None:
            return matrix * self._mask
        return matrix[self.row_numbers(), self.rows.indices]

    def adjoint(self, residual: Matrix) -> Matrix:
        """Return the residuals as a dense matrix, zero where nothing is seen."""
        return residual if self._mask is not None else self._scatter(residual)

    def surrogate(self, residual: Matrix) -> Any:
        """Return this rank's rows of the sparse matrix of residuals over the seen share."""
        return self.rows_with(self.surrogate_factor * residual)

    def noise_edge(self, residual: Matrix) -> float:
        """Return the edge for entries seen independently of each other.

        Collective. The noise of entry x has variance ``x^2 (1 - p) / p``. The edge is that of a
        matrix of equal variances whose rows and columns have the mean squares of the seen entries,
        averaged with weights that are these mean squares: heavy rows raise the edge.
        """
        squares = self.rows_with(residual)
        squares = squares**2 if self._mask is not None else squares.power(2)
        n_local, n = self.rows.shape
        of_rows = squares @ np.ones(n)
        of_columns = sum_over_ranks(self.comm, np.asarray(squares.T @ np.ones(n_local)))
        own = np.array([float(of_rows.sum()), float(of_rows @ of_rows)])
        total, total_square = sum_over_ranks(self.comm, own)
        if total == 0:
            return 0.0
        typical = total_square / total, float(of_columns @ of_columns) / total
        rounding = float(np.finfo(float).eps) * math.sqrt(sum(self.shape) * total)
        factor = math.sqrt(1 - self.share) / self.share
        return factor * (math.sqrt(typical[0]) + math.sqrt(typical[1])) + rounding

    def rows_with(self, residual: Matrix) -> Any:
        """Return this rank's rows with these measurements: dense, or CSR with shared indices."""
        return residual if self._mask is not None else self.with_entries(residual)

    def with_entries(self, values: Matrix) -> Any:
        """Return this rank's rows with other values at the seen entries, indices shared."""
        return scipy.sparse.csr_array(
            (values, self.rows.indices, self.rows.indptr), shape=self.rows.shape, copy=False
        )

    def row_numbers(self) -> NDArray[np.int64]:
        """Return the local row of each seen entry."""
        return np.repeat(np.arange(self.rows.shape[0]), self.row_counts)

    def _scatter(self, values: Matrix) -> Matrix:
        found = np.zeros(self.rows.shape)
        found[self.row_numbers(), self.rows.indices] = values
        return found


def entries_of_product(
    indptr: NDArray[Any], indices: NDArray[Any], left: Matrix, right: Matrix
) -> Matrix:
    """Return the entries of ``left @ right.T`` at the places of a CSR pattern.

    Examples
    --------
    >>> import numpy as np
    >>> two = np.array([[1.0], [2.0]])
    >>> entries_of_product(np.array([0, 1, 2]), np.array([1, 0]), two, 10 * two)
    array([20., 20.])
    """
    found = np.empty(len(indices))
    rows = left.shape[0]
    step = max(1, _BLOCK_NUMBERS // max(1, left.shape[1]))
    first = 0
    while first < rows:
        # whole rows, of about `step` entries
        last = int(np.searchsorted(indptr, indptr[first] + step, side="right")) - 1
        last = min(max(last, first + 1), rows)
        entries = slice(indptr[first], indptr[last])
        numbers = np.repeat(np.arange(first, last), np.diff(indptr[first : last + 1]))
        np.einsum(
            "ij,ij->i", left.take(numbers, axis=0), right.take(indices[entries], axis=0),
            out=found[entries],
        )  # fmt: skip
        first = last
    return found


def _checked(seen: Any) -> Any:
    """Return CSR rows in double precision without duplicates, or raise InputError."""
    if not scipy.sparse.issparse(seen):
        raise InputError(
            f"seen entries of type {type(seen).__name__}: give a sparse array, in which stored "
            "entries are the seen ones"
        )
    if seen.ndim != 2:
        raise InputError(f"seen entries of shape {seen.shape}: give a table with two dimensions")
    rows = scipy.sparse.csr_array(seen, dtype=np.float64)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    if rows.nnz != seen.nnz:
        raise InputError(
            f"{seen.nnz - rows.nnz} cell(s) of the table are given twice: keep one value of each"
        )
    if not np.isfinite(rows.data).all():
        entry = int(np.flatnonzero(~np.isfinite(rows.data))[0])
        row = int(np.searchsorted(rows.indptr, entry, side="right")) - 1
        column = int(rows.indices[entry])
        raise InputError(f"row {row}, column {column}: {rows.data[entry]} is not finite: remove it")
    return rows
