"""Centred sample covariance ``C = (X - 1 m')'(X - 1 m') / (n - 1)`` of distributed rows.

Assembled: each rank accumulates one triangle of its rows' contribution by symmetric rank-b updates
of centred blocks (BLAS-3). One reduction adds the triangles. The other half is copied, which makes
the matrix symmetric to the last bit.

Matrix-free: passes over the rows, see :mod:`hpcembed.operators.covariance.covariance_passes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg.blas import dsyr, dsyrk

from hpcembed.data.matrix import RowSource, reading
from hpcembed.operators.block_shell import block_shell
from hpcembed.operators.covariance.covariance_passes import CovariancePasses, Moments
from hpcembed.operators.covariance.moments import column_moments
from hpcembed.operators.covariance.saved_sums import add_rows
from hpcembed.operators.native.dense_square import LARGEST_SQUARE, dense_square
from hpcembed.operators.native.stored_rows import StoredRows, compiled_rows
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import sum_over_ranks
from miramns.checkpointing import CheckpointStore

__all__ = [
    "CovarianceOperator",
    "covariance",
    "covariance_triangle",
    "reduce_triangle",
    "shifted_triangle",
    "symmetric_mat",
]

#: Rows whose products are added at once: more would cost digits in single precision, fewer would
#: cost time, as adding a square takes as long as a few hundred rows.
_MOST_ROWS = {np.dtype(np.float32): 4096, np.dtype(np.float64): 2**15}
#: Size of the buffer of converted blocks.
_BUFFER = 24 * 2**20

#: Sparse rows made dense at a time: at least so many rows, or so many entries.
_DENSE_ROWS = 256
_DENSE_ENTRIES = 2**22


@dataclass(frozen=True, slots=True)
class CovarianceOperator:
    """The covariance as a PETSc Mat, with mean and variances of the features.

    Attributes
    ----------
    mat : PETSc.Mat
        Shape (d, d), rows distributed as PETSc divides d.
    engine : {"assembled", "matrix_free"}
    mean : ndarray of shape (d,)
        Mean of the scaled rows, on every rank.
    variances : ndarray of shape (d,)
        Diagonal of the covariance, on every rank.
    is_hermitian : bool
        True.
    """

    mat: PETSc.Mat
    engine: Literal["assembled", "matrix_free"]
    mean: NDArray[np.float64]
    variances: NDArray[np.float64]
    is_hermitian: bool = True

    @property
    def total_variance(self) -> float:
        """Trace of the covariance."""
        return float(self.variances.sum())

    def destroy(self) -> None:
        """Free the PETSc Mat. Collective."""
        self.mat.destroy()


def covariance(X: RowSource, engine: Literal["assembled", "matrix_free"]) -> CovarianceOperator:
    """Form the centred sample covariance of the rows of `X` in double precision.

    Collective: two reductions for mean and variances, one more when assembled.

    Parameters
    ----------
    X : DataMatrix or RowStream
        n >= 2 rows; keep it while a matrix-free operator is in use.
    engine : {"assembled", "matrix_free"}

    Returns
    -------
    CovarianceOperator
        Call its ``destroy`` when it is no longer needed.

    Raises
    ------
    InputError
        If there are fewer than two rows.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> from hpcembed.data.matrix import DataMatrix
    >>> from hpcembed.operators.covariance.covariance import covariance
    >>> rows = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 8.0]])
    >>> X = DataMatrix(rows, np.zeros(3, int), MPI.COMM_SELF)
    >>> operator = covariance(X, "assembled")
    >>> operator.variances.tolist(), operator.total_variance
    ([4.0, 13.0], 17.0)
    >>> operator.mat.getValue(0, 1)
    7.0
    >>> operator.destroy()
    """
    if X.n_rows < 2:
        raise InputError(f"a covariance needs at least 2 training rows, got {X.n_rows}")
    mean, variances = column_moments(X)
    if engine == "assembled":
        mat = symmetric_mat(X.comm, covariance_triangle(X, mean))
        return CovarianceOperator(mat, "assembled", mean, variances)
    moments = Moments(X)
    moments.mean, moments.variances = mean, variances
    mat = block_shell(CovariancePasses(X, moments))
    return CovarianceOperator(mat, "matrix_free", mean, variances)


def covariance_triangle(X: RowSource, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lower triangle of the covariance, (d, d) column-major, on every rank.

    Collective: one reduction of d (d + 1) / 2 numbers.
    """
    d = X.n_features
    lower = np.zeros((d, d), order="F")
    with reading(X):
        for _, block in X.blocks():
            for rows in _dense_parts(block):
                # the transpose of row-major rows is column-major: BLAS reads it in place
                centred = np.subtract(rows, mean, order="C")
                lower = dsyrk(1.0, centred.T, beta=1.0, c=lower, lower=1, overwrite_c=1)
    return _averaged(X, lower)


def shifted_triangle(
    X: RowSource,
    moments: Moments,
    dtype: type[np.floating[Any]],
    threads: int = 1,
    checkpoint: CheckpointStore | None = None,
) -> NDArray[np.float64]:
    """Return the lower triangle in one pass, rows shifted by `moments.shift` where that is large.

    Collective: two reductions. Products of a few hundred or thousand rows are computed in the given
    precision and added in double precision. Completes `moments`: the mean, and the variances in
    double precision.

    Parameters
    ----------
    threads : int
        Threads of the compiled square.
    checkpoint : CheckpointStore, optional
        Where sums are saved between parts of the rows.
    """
    kind = np.dtype(dtype)
    shift = moments.shift if moments.is_offset(kind, square=True) else None
    with agreement(X.comm):
        stored = compiled_rows(X) if X.n_features <= LARGEST_SQUARE else None
    square, sums = np.zeros((X.n_features,) * 2), np.zeros(X.n_features)
    if stored is None:
        add = _numpy_square(X, shift, kind, square, sums)
    else:
        add = _compiled_square(stored.shifted(shift), dtype, threads, square, sums)
    origin = "" if shift is None else hashlib.sha256(shift.tobytes()).hexdigest()
    add_rows(
        X, add, {"square": square, "sums": sums}, checkpoint, precision=kind.str, shift=origin,
        compiled=stored is not None,
    )  # fmt: skip
    # the whole square is symmetric, or its upper triangle is complete
    lower = square.T
    offset = sum_over_ranks(X.comm, sums) / X.n_rows
    if moments.centred:
        moments.mean = offset if shift is None else offset + shift
        # each rank subtracts its share: one reduction serves both terms
        weight = -X.n_local
        lower = dsyr(weight, offset, a=lower, lower=1, overwrite_a=1)
    lower = _averaged(X, lower)
    if kind == np.float64:
        moments.variances = np.maximum(lower.diagonal(), 0.0)
    return lower


def _compiled_square(
    stored: StoredRows,
    dtype: type[np.floating[Any]],
    threads: int,
    square: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> Callable[[int, int], int]:
    """Return the function that adds rows to their square and to the sums of their columns."""

    def add(first: int, last: int) -> int:
        rows = replace(stored, rows=stored.rows[first:last])
        lower, columns = dense_square(rows, dtype, threads=threads)
        np.add(square, lower.T, out=square)
        np.add(sums, columns, out=sums)
        return last

    return add


def _numpy_square(
    X: RowSource,
    shift: NDArray[np.float64] | None,
    kind: np.dtype[Any],
    square: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> Callable[[int, int], int]:
    """Return the function that adds rows to their square and to the sums of their columns."""
    d = X.n_features
    part: NDArray[Any] = np.empty((d, d), dtype=kind)
    # rows that are used in place need no buffer
    in_place = X.stored_type == kind and not (shift is not None or X.is_streamed)
    block_bytes = _MOST_ROWS[kind] * kind.itemsize * d
    blocks = X.blocks(kind.type, block_bytes if in_place else min(_BUFFER, block_bytes))

    def add(first: int, last: int) -> int:
        place = first
        while place < last:
            start, block = next(blocks)
            place = start + block.shape[0]
            if start < first:
                continue  # is in already
            for rows in _dense_parts(block):
                rows = rows if shift is None else rows - shift.astype(kind)
                # numpy calls the symmetric update, with the threads of the other products
                np.matmul(rows.T, rows, out=part)
                np.add(square, part, out=square)
                np.add(sums, rows.sum(axis=0, dtype=np.float64), out=sums)
        return place

    return add


def _averaged(X: RowSource, lower: NDArray[np.float64]) -> NDArray[np.float64]:
    reduce_triangle(X.comm, lower)
    lower /= max(X.n_rows - 1, 1)
    return lower


def symmetric_mat(comm: MPI.Comm, lower: NDArray[np.float64]) -> PETSc.Mat:
    """Return a dense Mat, symmetric to the last bit, from the whole triangle. Collective."""
    d = len(lower)
    mat = PETSc.Mat().createDense(((None, d), (None, d)), comm=comm)
    mat.setUp()
    first, last = mat.getOwnershipRange()
    rows = mat.getDenseArray()
    rows[:] = lower[first:last]
    for i in range(first, last):
        rows[i - first, i + 1 :] = lower[i + 1 :, i]
    del rows
    mat.assemble()
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    return mat


def _dense_parts(block: Any) -> Iterator[NDArray[Any]]:
    """Yield a dense block, or sparse rows converted to dense ones a few at a time."""
    if isinstance(block, np.ndarray):
        yield block
        return
    step = max(_DENSE_ROWS, _DENSE_ENTRIES // block.shape[1])
    for first in range(0, block.shape[0], step):
        yield block[first : first + step].toarray()


def reduce_triangle(comm: MPI.Comm, lower: NDArray[np.float64]) -> None:
    """Sum the lower triangles of all ranks in place. Collective: d (d + 1) / 2 numbers."""
    if comm.size == 1:
        return
    d = lower.shape[0]
    packed = np.empty(d * (d + 1) // 2)
    offset = 0
    for j in range(d):
        packed[offset : offset + d - j] = lower[j:, j]
        offset += d - j
    sum_over_ranks(comm, packed)
    offset = 0
    for j in range(d):
        lower[j:, j] = packed[offset : offset + d - j]
        offset += d - j
