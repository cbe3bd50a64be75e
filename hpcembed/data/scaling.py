"""Scaling of the features, computed from the training rows in one reduction.

``standard`` needs mean and variance of every feature over the rows of all ranks. Sums of squares
lose digits if the mean is large, so each rank computes (count, mean, M2), where M2 is the sum of
squared deviations from its own mean. An MPI operation merges two of these records:

    mean = (n1 mean1 + n2 mean2) / n,    M2 = M2_1 + M2_2 + (mean2 - mean1)^2 n1 n2 / n

The mean is held as a pivot near it (the value of the first row) and a small offset: rounded to one
number, the difference of two means near 1e9 has an error of 1e-7. A record is one MPI type, so an
MPI implementation may divide the buffer between features but not inside a record. The result is
broadcast from one rank, so all ranks hold the same bits.

Sparse rows are never shifted, because a shift would fill them: the factor of ``standard`` is then
1 / deviation and that of ``minmax`` 1 / (max - min); entries that are not stored count as zeros.
Principal components do not depend on a shift, because the covariance is centred; singular vectors
do, and are those of the divided rows.

Reference: T. F. Chan, G. H. Golub, R. J. LeVeque, Algorithms for computing the sample variance,
The American Statistician 37 (1983). Constant features have factor 1, as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.file_validation import BLOCK_BYTES
from hpcembed.data.row_blocks import global_blocks
from hpcembed.data.table import Rows
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ordered_sums import BlockOrderedSum

__all__ = ["Scaling", "fit_scaling"]

_RECORD = 4  # count, pivot, mean - pivot, M2
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Scaling per feature: scaled = (x - shift) * factor.

    Attributes
    ----------
    shift, factor : ndarray of float64, shape (d,)
    kind : str
        none, divide, minmax or standard.
    """

    shift: NDArray[np.float64]
    factor: NDArray[np.float64]
    kind: str


def fit_scaling(
    kind: str,
    divisor: float,
    rows: Rows,
    n_rows: int,
    comm: MPI.Comm,
    *,
    reproducible: bool = False,
) -> Scaling:
    """Compute the scaling from the training rows. Collective: at most one reduction.

    Parameters
    ----------
    kind : {"none", "divide", "minmax", "standard"}
        divide: by `divisor`. minmax: to [0, 1]. standard: zero mean, unit variance (ddof = 0).
        A constant feature has factor 1; for minmax, a feature is constant if its range is at most
        ten times the rounding error of its largest magnitude.
    rows : ndarray or csr_array of shape (n_local, d)
        This rank's training rows.
    n_rows : int
        Training rows on all ranks.
    reproducible : bool
        Add in the order of the rows: the same bits on any number of ranks. Then one rank adds the
        records of blocks.

    Returns
    -------
    Scaling
        For sparse rows the shift is 0.

    Raises
    ------
    InputError
        The variance or the range of a feature overflows.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> rows = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> fit_scaling("minmax", 255.0, rows, 2, MPI.COMM_SELF).factor
    array([0.5, 1. ])
    """
    n_features = rows.shape[1]
    shift = np.zeros(n_features)
    if kind == "none":
        return Scaling(shift, np.ones(n_features), kind)
    if kind == "divide":
        return Scaling(shift, np.full(n_features, 1.0 / divisor), kind)
    if kind == "standard":
        with np.errstate(over="ignore", invalid="ignore"):
            mean, variance = _moments(rows, comm, reproducible)
        _check_range(variance, kind)
        # scikit-learn's bound of the rounding error in the variance of a constant.
        noise = n_rows * _EPSILON * variance + (n_rows * mean * _EPSILON) ** 2
        factor = _inverse(np.sqrt(variance), variance <= noise)
        return Scaling(shift if scipy.sparse.issparse(rows) else mean, factor, kind)
    if kind == "minmax":
        low, high = _extremes(rows, comm)
        with np.errstate(over="ignore"):
            width = high - low
        _check_range(width, kind)
        largest = np.maximum(np.abs(low), np.abs(high))
        factor = _inverse(width, width <= 10 * _EPSILON * largest)
        return Scaling(shift if scipy.sparse.issparse(rows) else low, factor, kind)
    raise ConfigError(f"data.scaling: {kind!r} is not one of none, divide, minmax, standard")


def _check_range(width: NDArray[np.float64], kind: str) -> None:
    # The width has the same bits on all ranks, so all raise.
    beyond = np.flatnonzero(~np.isfinite(width))
    if beyond.size:
        raise InputError(
            f"data.scaling = {kind}: the values of feature {int(beyond[0]) + 1} are too large for "
            "double precision: change their unit"
        )


def _inverse(width: NDArray[np.float64], is_constant: NDArray[np.bool_]) -> NDArray[np.float64]:
    return 1.0 / np.where(is_constant, 1.0, width)


def _blocks(rows: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    step = max(1, BLOCK_BYTES // max(8 * rows.shape[1], 1))
    for first in range(0, rows.shape[0], step):
        yield rows[first : first + step].astype(np.float64)


def _moments(
    rows: Rows, comm: MPI.Comm, reproducible: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of every feature over all ranks."""
    total = _ordered_records(rows, comm) if reproducible else _reduced_records(rows, comm)
    comm.Bcast(total)
    return total[:, 1] + total[:, 2], total[:, 3] / total[:, 0]


def _reduced_records(rows: Rows, comm: MPI.Comm) -> NDArray[np.float64]:
    """Records of all rows on rank 0, in the order of the ranks."""
    if scipy.sparse.issparse(rows):
        records = _sparse_records(rows)
    else:
        records = np.zeros((rows.shape[1], _RECORD))
        for block in _blocks(rows):
            _merge(_dense_records(block), records)
    total = np.empty_like(records)
    record = MPI.DOUBLE.Create_contiguous(_RECORD).Commit()
    operation = MPI.Op.Create(_merge_buffers, commute=True)
    try:
        comm.Reduce([records, rows.shape[1], record], [total, rows.shape[1], record], operation)
    finally:
        operation.Free()
        record.Free()
    return total


def _ordered_records(rows: Rows, comm: MPI.Comm) -> NDArray[np.float64]:
    """Records of all rows on rank 0, in the order of blocks by global index."""
    is_sparse = scipy.sparse.issparse(rows)

    def read() -> Iterator[tuple[int, Any]]:
        first = 0
        for block in [rows] if is_sparse else _blocks(rows):
            yield first, block
            first += block.shape[0]

    def merged(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
        _merge(right, left)
        return left

    total = BlockOrderedSum(merged)
    for index, block in global_blocks(comm, rows.shape[0], rows.shape[1], read):
        total.add(index, _sparse_records(block) if is_sparse else _dense_records(block))
    found = total.on_root(comm)
    return np.empty((rows.shape[1], _RECORD)) if found is None else found


def _dense_records(block: NDArray[np.float64]) -> NDArray[np.float64]:
    """Records of some rows, which are overwritten."""
    own = np.empty((block.shape[1], _RECORD))
    own[:, 0] = len(block)
    # Differences from a row are small for any offset of the feature.
    pivot = block[0].copy()
    block -= pivot
    mean = block.mean(axis=0)
    block -= mean
    own[:, 1] = pivot
    own[:, 2] = mean
    own[:, 3] = np.einsum("ij,ij->j", block, block)
    return own


def _sparse_records(rows: Any) -> NDArray[np.float64]:
    n_local, n_features = rows.shape
    stored = np.bincount(rows.indices, minlength=n_features).astype(np.float64)
    sums = np.bincount(rows.indices, weights=rows.data, minlength=n_features)
    mean = sums / np.maximum(stored, 1)
    deviations = (rows.data - mean[rows.indices]) ** 2
    spread = np.bincount(rows.indices, weights=deviations, minlength=n_features)
    records = np.column_stack([stored, np.zeros(n_features), mean, spread])
    zeros = np.zeros_like(records)
    zeros[:, 0] = n_local - stored
    _merge(zeros, records)
    return records


def _merge(source: NDArray[np.float64], target: NDArray[np.float64]) -> None:
    """Merge (count, pivot, mean - pivot, M2) per row of `source` into `target`."""
    n1, pivot1, offset1, spread1 = target.T
    n2, pivot2, offset2, spread2 = source.T
    n = n1 + n2
    share = n2 / np.maximum(n, 1)
    gap = (pivot2 - pivot1) + (offset2 - offset1)
    spread = spread1 + spread2 + gap * gap * n1 * share
    merged = np.column_stack([n, pivot1, offset1 + gap * share, spread])
    # Two empty records give an empty one; an empty record leaves the other one exactly as it is.
    target[...] = np.where((n1 == 0)[:, None], source, merged)


def _merge_buffers(source: Any, target: Any, datatype: MPI.Datatype) -> None:
    _merge(
        np.frombuffer(source, dtype=np.float64).reshape(-1, _RECORD),
        np.frombuffer(target, dtype=np.float64).reshape(-1, _RECORD),
    )


def _extremes(rows: Rows, comm: MPI.Comm) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest value of every feature over all ranks."""
    n_features = rows.shape[1]
    # The minimum is the maximum of the negatives: one reduction for both.
    bounds = np.full((2, n_features), -np.inf)
    if scipy.sparse.issparse(rows):
        np.maximum.at(bounds[0], rows.indices, rows.data)
        np.maximum.at(bounds[1], rows.indices, -rows.data)
        has_zeros = np.bincount(rows.indices, minlength=n_features) < rows.shape[0]
        np.maximum(bounds, 0.0, out=bounds, where=np.vstack([has_zeros, has_zeros]))
    elif rows.shape[0]:
        bounds[0] = rows.max(axis=0)
        bounds[1] = -rows.min(axis=0).astype(np.float64)
    comm.Allreduce(MPI.IN_PLACE, bounds, op=MPI.MAX)
    return -bounds[1], bounds[0]
