"""Co-occurrence of features: ``X'X`` without centring, and the correlation.

For counts or weights of documents, ``X'X`` says which terms share documents; for binary tables its
entries are the numbers of rows that have both features. Sparse rows give a sparse matrix: blocks
of rows are multiplied on each rank and summed up at the owners of the features
(:mod:`.term_rows`). Dense rows give a dense matrix by the engine of the covariance.

The correlation is that of the covariance of :mod:`.covariance`, scaled by the deviations; of two
binary features it is the phi coefficient. It is dense, also for sparse rows.
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
from hpcembed.operators.cooccurrence.count_matrix import TermRows, balanced_bounds
from hpcembed.operators.cooccurrence.counts import BUFFER_BYTES, same_on_all_ranks, summed_parts
from hpcembed.operators.cooccurrence.windows import PAIR_BYTES
from hpcembed.operators.covariance.covariance import (
    CovarianceOperator,
    covariance_triangle,
    shifted_triangle,
    symmetric_mat,
)
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.operators.covariance.passes import Moments
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["correlation", "feature_cooccurrence", "shared_rows"]


def feature_cooccurrence(
    X: RowSource, *, binary: bool = False, buffer_bytes: int = BUFFER_BYTES
) -> PETSc.Mat:
    """``X'X`` as a symmetric Mat of shape (d, d).

    Collective.

    Parameters
    ----------
    X : DataMatrix or RowStream
    binary : bool
        Count the rows in which both features are not zero.
    buffer_bytes : int
        Memory of a rank for products that are not summed up yet; sparse rows only.

    Returns
    -------
    PETSc.Mat
        AIJ for sparse rows, dense otherwise; to be destroyed by the caller. The dense one is not
        centred either: rows with a large mean lose digits of what is beside it.
    """
    if X.is_sparse:
        return shared_rows(X, binary=binary, buffer_bytes=buffer_bytes).create_mat()
    rows = _presence(X) if binary else X
    lower = shifted_triangle(rows, Moments(rows, centred=False), np.float64)
    lower *= max(X.n_rows - 1, 1)
    return symmetric_mat(X.comm, lower)


def shared_rows(
    X: RowSource, *, binary: bool = False, buffer_bytes: int = BUFFER_BYTES
) -> TermRows:
    """``X'X`` as sparse counts that :func:`.positive_information` takes.

    Collective. Arguments as for :func:`feature_cooccurrence`; dense rows are taken as sparse ones,
    for tables with many zeros.

    Returns
    -------
    TermRows
        Whole numbers are exact; others the same to rounding on any number of ranks.

    Raises
    ------
    ConfigError
        A buffer that has no room for the longest row.
    """
    same_on_all_ranks(X.comm, binary=binary, buffer_bytes=buffer_bytes)
    stored = np.zeros(X.n_features)
    longest = 0
    with reading(X):
        for block in _sparse_blocks(X):
            lengths = np.diff(block.indptr)
            longest = max(longest, int(lengths.max(initial=0)))
            # a feature meets as many features as the rows that have it hold
            stored += np.repeat(lengths, lengths) @ _onto(block)
    longest = X.comm.allreduce(longest, op=MPI.MAX)
    if buffer_bytes < PAIR_BYTES * longest:
        raise ConfigError(
            f"buffer_bytes = {buffer_bytes}: a row with {longest} entries needs "
            f"{PAIR_BYTES * longest}"
        )
    X.comm.Allreduce(MPI.IN_PLACE, stored)
    bounds = balanced_bounds(np.minimum(stored, X.n_features), X.comm.size)
    n_pairs = buffer_bytes // PAIR_BYTES
    rows = summed_parts(X.comm, _products(X, binary, n_pairs), bounds, n_pairs)
    own = (int(bounds[X.comm.rank]), int(bounds[X.comm.rank + 1]))
    return TermRows(rows, own, X.comm, True)


def _sparse_blocks(X: RowSource) -> Iterator[Any]:
    """This rank's rows without their zeros, some at a time; to be changed at will."""
    for _, block in X.blocks():
        rows = scipy.sparse.csr_array(block, copy=True)
        rows.eliminate_zeros()
        yield rows


def _onto(block: Any) -> Any:
    """Matrix that adds up numbers of entries into numbers of features."""
    entries = np.arange(block.nnz + 1)
    return scipy.sparse.csr_array(
        (np.ones(block.nnz), block.indices, entries), shape=(block.nnz, block.shape[1])
    )


def _products(X: RowSource, binary: bool, n_pairs: int) -> Iterator[Any]:
    """Contributions of this rank's rows, each of at most that many products."""
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
            else:  # a row that is too long by itself
                end = begin + 1
                yield from _by_columns(rows[begin:end], n_pairs)
            begin = end


def _by_columns(row: Any, n_pairs: int) -> Iterator[Any]:
    """Contribution of one row, some of its entries with all at a time."""
    step = n_pairs // row.nnz
    for first in range(0, row.nnz, step):
        part = slice(first, min(first + step, row.nnz))
        some = scipy.sparse.csr_array(
            (row.data[part], row.indices[part], [0, part.stop - part.start]), shape=row.shape
        )
        yield _product(some, row)


def _product(left: Any, right: Any) -> Any:
    """``left' right``, rows sorted."""
    return (left.T.tocsr() @ right).tocsc().tocsr()


def _presence(X: RowSource) -> DataMatrix:
    """A byte for each entry: 1 where it is not zero."""
    rows = np.empty((X.n_local, X.n_features), np.uint8)
    with reading(X):
        for first, block in X.blocks():
            rows[first : first + len(block)] = block != 0
    return DataMatrix(rows, np.zeros(X.n_local, np.int64), X.comm)


def correlation(X: RowSource) -> CovarianceOperator:
    """Correlations of the features, as a dense Mat of shape (d, d).

    Collective: three reductions.

    Returns
    -------
    CovarianceOperator
        ``variances`` are the diagonal: 1, but 0 for constant features, whose correlation with
        others is not defined; their rows and columns are zero.

    Raises
    ------
    InputError
        When there are fewer than two rows.
    """
    if X.n_rows < 2:
        raise InputError(f"a correlation needs at least 2 rows, got {X.n_rows}")
    mean, variances = column_moments(X)
    with reading(X):
        lower = _scaled(covariance_triangle(X, mean), mean, variances)
    diagonal = lower.diagonal().copy()
    return CovarianceOperator(symmetric_mat(X.comm, lower), "assembled", mean, diagonal)


def _scaled(
    lower: NDArray[np.float64], mean: NDArray[np.float64], variances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The triangle over the deviations of both features, in place."""
    # constant to rounding: what is left is of the size of the rounding of the mean
    varies = variances > (8 * np.finfo(float).eps * np.abs(mean)) ** 2
    inverse = np.where(varies, 1 / np.sqrt(np.where(varies, variances, 1.0)), 0.0)
    lower *= inverse[:, None]
    lower *= inverse
    np.clip(lower, -1.0, 1.0, out=lower)
    np.fill_diagonal(lower, varies.astype(np.float64))
    return lower
