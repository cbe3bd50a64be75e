"""Components and coordinates with the same bits on any number of ranks.

The covariance is assembled on rank 0 with sums in the order of the rows
(:mod:`hpcembed.operators.covariance.ordered_square`; sums of short integers are exact in any
order). Rank 0 alone solves its eigenproblem, with one thread of BLAS and sizes that follow from no
measurement, and broadcasts the pairs. Products of rows with components have one shape, and each row
the same place in it: its global index, modulo the rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowSource
from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.operators.cost import EnginePlan, Machine, Shape
from hpcembed.operators.covariance.covariance import symmetric_mat
from hpcembed.operators.covariance.covariance_passes import Moments
from hpcembed.operators.covariance.covariance_plan import block_width
from hpcembed.operators.covariance.integer_covariance import has_integers, integer_triangle
from hpcembed.operators.covariance.ordered_square import (
    LARGEST_ORDERED,
    ordered_bytes,
    ordered_triangle,
)
from hpcembed.runtime.agreement import idle_while_root
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.machine.memory import check_fits
from hpcembed.runtime.machine.threads import one_blas_thread
from hpcembed.runtime.ranks import ownership_range, timed
from miramns import EigenResult

__all__ = ["reproducible_pairs", "reproducible_plan", "row_products"]

#: Rows of a product of rows with components.
_ROWS = 256

Pairs = tuple[EigenResult, EigenResult | None]


def reproducible_plan(plan: EnginePlan, shape: Shape, machine: Machine) -> EnginePlan:
    """Return the plan of an assembled covariance with the memory of sums in the order of the rows.

    Raises
    ------
    ConfigError
        There are too many features.
    MemoryLimitError
    """
    d = shape.n_features
    if d > LARGEST_ORDERED:
        raise ConfigError(
            f"reproducible: {d} features: one rank solves the eigenproblem of at most "
            f"{LARGEST_ORDERED}: use reproducible = false"
        )
    more = ordered_bytes(shape.n_train, d)
    cost = replace(plan.cost, bytes=plan.cost.bytes + more)
    check_fits(
        cost.bytes,
        machine.available_bytes,
        "the covariance with sums in the order of the rows",
        "use fewer ranks on a compute node, or reproducible = false",
    )
    return replace(plan, single=False, reason="reproducible", costs=(cost,), in_single=())


def reproducible_pairs(
    X: RowSource, solver: Eigensolver, moments: Moments, threads: int, seconds: dict[str, float]
) -> tuple[EigenResult, EigenResult | None, bool]:
    """Find eigenpairs of the covariance of rows, the same bits on any number of ranks.

    Collective. Completes `moments`.

    Parameters
    ----------
    threads : int
        Threads of a square that is exact.

    Returns
    -------
    result : EigenResult
        Rows of the vectors distributed as PETSc divides d.
    reference : EigenResult or None
    is_exact : bool
        Whether the square of the rows has no rounding errors.

    Raises
    ------
    InputError
        If the square is not finite.
    """
    comm, d = X.comm, X.n_features
    with timed(comm, seconds, "operator"):
        is_exact = isinstance(X, DataMatrix) and has_integers(X, centred=moments.centred)
        if is_exact:
            assert isinstance(X, DataMatrix)
            square = integer_triangle(X, moments, threads)
            if moments.variances is None:
                moments.variances = square.diagonal().copy()
            lower: NDArray[np.float64] | None = square
        else:
            lower = ordered_triangle(X, moments)

    def pairs() -> Pairs:
        assert lower is not None  # on rank 0
        if not np.isfinite(lower).all():
            raise InputError(
                "the covariance has entries that are not finite: check the data for NaN or Inf"
            )
        with one_blas_thread():
            return _solved(solver, lower)

    with timed(comm, seconds, "solve"):
        found: Pairs = comm.bcast(idle_while_root(comm, pairs))
    first, last = ownership_range(d, comm)
    result, reference = found
    if reference is not None:
        reference = _part(reference, first, last)
    return _part(result, first, last), reference, is_exact


def _solved(solver: Eigensolver, lower: NDArray[np.float64]) -> Pairs:
    """Solve on this rank alone, with all columns of the basis that there may be."""
    d = len(lower)
    settings = replace(solver.settings, checkpoint=None)
    alone = replace(solver, settings=settings, checkpoint=None, available_bytes=16 * d * (d + 2))
    mat = symmetric_mat(MPI.COMM_SELF, lower)
    try:
        if alone.suits_lapack(d):
            found = alone.lapack(mat, lower)
        elif settings.needs_single_vectors:
            found = alone.solve(mat)
        else:
            found = alone.solve_by_blocks(mat, block_width(alone.k, d))
        return found, alone.reference(mat)
    finally:
        mat.destroy()


def _part(result: EigenResult, first: int, last: int) -> EigenResult:
    """Return a result with some rows of its vectors."""
    vectors = np.asfortranarray(result.eigenvectors[first:last])
    return replace(result, eigenvectors=vectors, ownership_range=(first, last))


def row_products(
    X: RowSource,
    V: NDArray[Any],
    work: type[np.floating[Any]],
    mean: NDArray[np.float64] | None,
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield products of this rank's rows with `V`, which depend on each row and its index alone.

    Not collective. Rows of arrays, which have no global index, are counted from 0.

    Parameters
    ----------
    V : ndarray of shape (d, k)
    work : {float64, float32}
        Type of the products.
    mean : ndarray of shape (d,), optional
        Subtracted from dense rows.

    Yields
    ------
    first : int
        Local index of the first row.
    product : ndarray of shape (b, k)
    """
    if X.is_sparse:  # scipy multiplies each row by itself
        for first, block in X.blocks(work):
            yield first, block @ V
        return
    start = X.row_range[0]
    rows = np.zeros((_ROWS, X.n_features), dtype=work)
    begin = end = 0  # local indices of the rows that are held
    for first, block in X.blocks(work):
        done = 0
        while done < len(block):
            place = (start + first + done) % _ROWS
            count = min(_ROWS - place, len(block) - done)
            part = block[done : done + count]
            rows[place : place + count] = part if mean is None else part - mean
            done, end = done + count, end + count
            if place + count == _ROWS:
                yield begin, _held(rows, V, place + count, end - begin)
                begin = end
    if begin < end:
        yield begin, _held(rows, V, (start + end - 1) % _ROWS + 1, end - begin)


def _held(rows: NDArray[Any], V: NDArray[Any], last: int, count: int) -> NDArray[Any]:
    """Return the product of `count` rows before `last`; other rows have no meaning."""
    with one_blas_thread():
        return np.asarray((rows @ V)[last - count : last])
