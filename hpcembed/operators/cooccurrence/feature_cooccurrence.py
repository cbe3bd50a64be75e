"""Co-occurrence of features: ``X'X`` without centring, and the correlation matrix.

For a binary table, an entry of ``X'X`` is the number of rows that have both features; for counts or
weights of documents, it measures how often two terms share a document. Sparse rows give a sparse
matrix: each rank multiplies blocks of its rows, and the products are summed by the owners of the
features (:mod:`hpcembed.operators.cooccurrence.distributed_sum`). Dense rows give a dense matrix,
by the products of :mod:`hpcembed.operators.covariance.covariance`.

The correlation matrix is the covariance matrix divided by the standard deviations; for two binary
features it is the phi coefficient. It is dense, for sparse rows too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from hpcembed.data.matrix import DataMatrix, RowSource, reading
from hpcembed.operators.cooccurrence.cooccurrence_matrix import CooccurrenceMatrix
from hpcembed.operators.cooccurrence.distributed_sum import (
    BUFFER_BYTES,
    balanced_bounds,
    sum_contributions,
)
from hpcembed.operators.cooccurrence.windows import PAIR_BYTES
from hpcembed.operators.covariance.covariance import (
    CovarianceOperator,
    covariance_triangle,
    shifted_triangle,
    symmetric_mat,
)
from hpcembed.operators.covariance.covariance_passes import Moments
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.runtime.agreement import same_on_all_ranks
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["correlation", "feature_cooccurrence", "sparse_feature_cooccurrence"]


def feature_cooccurrence(
    X: RowSource, *, binary: bool = False, buffer_bytes: int = BUFFER_BYTES
) -> PETSc.Mat:
    """Return ``X'X`` as a symmetric Mat of shape (d, d).

    Collective.

    Parameters
    ----------
    X : DataMatrix or RowStream
    binary : bool
        Count the rows in which both features are not zero.
    buffer_bytes : int
        Memory of a rank for products that are not summed yet; sparse rows only.

    Returns
    -------
    PETSc.Mat
        AIJ for sparse rows, dense otherwise; to be destroyed by the caller. Entries are not
        centred: a mean that is large compared to the deviations costs digits.

    Examples
    --------
    >>> rows = scipy.sparse.csr_array([[1.0, 1.0], [0.0, 2.0]])
    >>> mat = feature_cooccurrence(DataMatrix(rows, np.zeros(2, int), MPI.COMM_SELF))
    >>> mat.getValues([0, 1], [0, 1])
    array([[1., 1.],
           [1., 5.]])
    >>> _ = mat.destroy()
    """
    if X.is_sparse:
        return sparse_feature_cooccurrence(X, binary=binary, buffer_bytes=buffer_bytes).create_mat()
    rows = _presence(X) if binary else X
    lower = shifted_triangle(rows, Moments(rows, centred=False), np.float64)
    lower *= max(X.n_rows - 1, 1)
    return symmetric_mat(X.comm, lower)


def sparse_feature_cooccurrence(
    X: RowSource, *, binary: bool = False, buffer_bytes: int = BUFFER_BYTES
) -> CooccurrenceMatrix:
    """Return ``X'X`` as a sparse matrix, for dense rows too.

    Collective. Parameters as for :func:`feature_cooccurrence`.

    Returns
    -------
    CooccurrenceMatrix
        Exact for whole numbers; otherwise the same to rounding on any number of ranks.

    Raises
    ------
    ConfigError
        A buffer that is too small for the longest row.
    """
    same_on_all_ranks(X.comm, binary=binary, buffer_bytes=buffer_bytes)
    stored = np.zeros(X.n_features)
    longest = 0
    with reading(X):
        for block in _sparse_blocks(X):
            lengths = np.diff(block.indptr)
            longest = max(longest, int(lengths.max(initial=0)))
            # upper bound for a feature: the summed lengths of the rows that have it
            stored += np.repeat(lengths, lengths) @ _entries_to_features(block)
    longest = X.comm.allreduce(longest, op=MPI.MAX)
    if buffer_bytes < PAIR_BYTES * longest:
        raise ConfigError(
            f"buffer_bytes = {buffer_bytes}: a row with {longest} entries needs "
            f"{PAIR_BYTES * longest}"
        )
    X.comm.Allreduce(MPI.IN_PLACE, stored)
    bounds = balanced_bounds(np.minimum(stored, X.n_features), X.comm.size)
    n_pairs = buffer_bytes // PAIR_BYTES
    rows = sum_contributions(X.comm, _products(X, binary, n_pairs), bounds, n_pairs)
    own = (int(bounds[X.comm.rank]), int(bounds[X.comm.rank + 1]))
    return CooccurrenceMatrix(rows, own, X.comm, True)


def _sparse_blocks(X: RowSource) -> Iterator[Any]:
    """Yield copies of this rank's rows without stored zeros, block by block."""
    for _, block in X.blocks():
        rows = scipy.sparse.csr_array(block, copy=True)
        rows.eliminate_zeros()
        yield rows


def _entries_to_features(block: Any) -> Any:
    """Return the 0-1 matrix (nnz, d) that maps each entry of a block to its feature."""
    entries = np.arange(block.nnz + 1)
    return scipy.sparse.csr_array(
        (np.ones(block.nnz), block.indices, entries), shape=(block.nnz, block.shape[1])
    )


def _products(X: RowSource, binary: bool, n_pairs: int) -> Iterator[Any]:
    """Yield the contributions of this rank's rows, each of at most `n_pairs` products."""
    for rows in _sparse_blocks(X):
        if binary:
            rows.data = (rows.data != 0).astype(np.float64)
        pairs = np.cumsum(np.diff(rows.indptr).astype(np.float64) ** 2)
        begin = 0
        while begin < rows.shape[0]:
            done = pairs[begin - 1] if begin else 0.0
            end = int(np.searchsorted(pairs, done + n_pairs, side="right"))
            if end > begin:
                yield _product(rows[begin:end], rows[begin:end])
            else:  # a single row with too many products
                end = begin + 1
                yield from _by_columns(rows[begin:end], n_pairs)
            begin = end


def _by_columns(row: Any, n_pairs: int) -> Iterator[Any]:
    """Yield the contribution of one row, a part of its entries times all at a time."""
    step = n_pairs // row.nnz
    for first in range(0, row.nnz, step):
        part = slice(first, min(first + step, row.nnz))
        some = scipy.sparse.csr_array(
            (row.data[part], row.indices[part], [0, part.stop - part.start]), shape=row.shape
        )
        yield _product(some, row)


def _product(left: Any, right: Any) -> Any:
    """Return ``left' right`` with sorted rows."""
    return (left.T.tocsr() @ right).tocsc().tocsr()


def _presence(X: RowSource) -> DataMatrix:
    """Return the table of nonzero entries: a byte 1 or 0 each."""
    rows = np.empty((X.n_local, X.n_features), np.uint8)
    with reading(X):
        for first, block in X.blocks():
            rows[first : first + len(block)] = block != 0
    return DataMatrix(rows, np.zeros(X.n_local, np.int64), X.comm)


def correlation(X: RowSource) -> CovarianceOperator:
    """Return the correlation matrix of the features, a dense Mat of shape (d, d).

    Collective: three reductions.

    Returns
    -------
    CovarianceOperator
        ``variances`` is the diagonal: 1, or 0 for constant features. Their correlation is not
        defined, and their rows and columns are zero.

    Raises
    ------
    InputError
        Fewer than two rows.

    Examples
    --------
    >>> rows = np.array([[1.0, 2.0], [2.0, 0.0], [3.0, 4.0]])
    >>> operator = correlation(DataMatrix(rows, np.zeros(3, int), MPI.COMM_SELF))
    >>> operator.mat.getValues([0, 1], [0, 1])
    array([[1. , 0.5],
           [0.5, 1. ]])
    >>> operator.destroy()
    """
    if X.n_rows < 2:
        raise InputError(f"a correlation needs at least 2 rows, got {X.n_rows}")
    mean, variances = column_moments(X)
    lower = _scaled(covariance_triangle(X, mean), mean, variances)
    diagonal = lower.diagonal().copy()
    return CovarianceOperator(symmetric_mat(X.comm, lower), "assembled", mean, diagonal)


def _scaled(
    lower: NDArray[np.float64], mean: NDArray[np.float64], variances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Divide the triangle by the standard deviations of both features, in place."""
    # constant to rounding: the deviation is of the size of the rounding error of the mean
    varies = variances > (8 * np.finfo(float).eps * np.abs(mean)) ** 2
    inverse = np.where(varies, 1 / np.sqrt(np.where(varies, variances, 1.0)), 0.0)
    lower *= inverse[:, None]
    lower *= inverse
    np.clip(lower, -1.0, 1.0, out=lower)
    np.fill_diagonal(lower, varies.astype(np.float64))
    return lower
