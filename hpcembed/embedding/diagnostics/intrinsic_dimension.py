"""Intrinsic dimension of rows from the distances to their nearest neighbours.

Rows near a surface of dimension m have neighbours whose number within a distance r grows as
``r^m``. Both estimates follow from this alone
(:mod:`hpcembed.embedding.diagnostics.neighbour_estimates`).

Equal rows have distance zero, which neither formula allows: the MLE omits these distances, TwoNN
these rows. Estimates are too low in high dimensions, where rows are too few for small distances,
and the more so the fewer rows there are. The estimates of both halves of the rows indicate this.

"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.embedding.diagnostics.dense_rows import local_rows
from hpcembed.embedding.diagnostics.neighbour_distances import nearest_distances
from hpcembed.embedding.diagnostics.neighbour_estimates import (
    inverse_mean,
    inverses,
    log_ratios,
    ratio_slope,
)
from hpcembed.runtime.agreement import same_on_all_ranks
from hpcembed.runtime.arguments import check_count, is_integer, is_number
from hpcembed.runtime.counter_random import permuted
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.ranks import allgather_rows, place_rows

__all__ = [
    "DimensionEstimate",
    "IntrinsicDimension",
    "intrinsic_dimension",
]

#: Groups of rows whose estimates give the standard error, and fewest rows of a group.
_GROUPS, _LEAST_GROUP = 10, 20


@dataclass(frozen=True, slots=True)
class DimensionEstimate:
    """An estimate of the intrinsic dimension, and its variation.

    Attributes
    ----------
    value : float
        NaN if too few rows have distances that differ.
    standard_error : float
        From ten disjoint groups of rows with neighbours among all rows; NaN for few rows.
    halves : tuple of float
        Estimates of two disjoint halves of the rows alone; NaN for few rows.
    """

    value: float
    standard_error: float
    halves: tuple[float, float]

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {self.standard_error:.1g}"


@dataclass(frozen=True, slots=True)
class IntrinsicDimension:
    """Estimates of the intrinsic dimension of rows.

    Attributes
    ----------
    mle, two_nn : DimensionEstimate
    n_neighbours : int
        Number of neighbours of the MLE.
    n_queries : int
        Rows whose neighbours were found.
    n_rows, n_all_rows : int
        Rows among which they were found, and all rows.
    n_columns : int
        Number of coordinates, which the dimension cannot exceed.
    n_duplicates : int
        Rows, of those whose neighbours were found, that are equal to another one.
    seconds : float
        Wall time on the slowest rank.
    """

    mle: DimensionEstimate
    two_nn: DimensionEstimate
    n_neighbours: int
    n_queries: int
    n_rows: int
    n_all_rows: int
    n_columns: int
    n_duplicates: int
    seconds: float

    def __repr__(self) -> str:
        return (
            f"<IntrinsicDimension: {self.mle} (MLE), {self.two_nn} (TwoNN), neighbours of "
            f"{self.n_queries:,} among {self.n_rows:,} rows>"
        )


def intrinsic_dimension(
    rows: Any,
    *,
    n_neighbours: int = 20,
    max_queries: int | None = None,
    max_rows: int | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    halves: bool = True,
    comm: MPI.Intracomm | None = None,
) -> IntrinsicDimension:
    """Estimate the intrinsic dimension of rows by MLE and TwoNN.

    Collective on `comm`, or on the communicator of a DataMatrix.

    Parameters
    ----------
    rows : DataMatrix, or ndarray of shape (n_local, d)
        Dense finite rows, for example ``pca.transform(X)``. The time grows as m n d for m queries.
    n_neighbours : int, default=20
        Number of neighbours of the MLE, at least 2.
    max_queries : int, optional
        Number of rows whose neighbours are found, which `seed` draws. Default: all. Fewer of them
        increase the standard error and leave the estimate unchanged otherwise.
    max_rows : int, optional
        Number of rows among which neighbours are found, which `seed` draws. Default: all. Fewer of
        them make the estimates smaller.
    seed : int, default=0
        Of the choice of rows, groups and halves, which does not depend on the number of ranks.
    tolerance : float, optional
        Distance up to which rows count as equal. Default: the rounding of the rows.
    halves : bool, default=True
        Estimate on halves of the rows as well, which takes half as long again.
    comm : MPI.Comm, optional
        If `rows` is an array: the ranks that hold the other rows.

    Returns
    -------
    IntrinsicDimension

    Raises
    ------
    InputError
        The rows are no dense table of finite numbers, or not more than `n_neighbours`.
    ConfigError
        A parameter is out of range, or differs between ranks.

    Examples
    --------
    Points of a curved surface in ten dimensions:

    >>> import numpy as np
    >>> a, b = np.random.default_rng(0).random((2, 1000))
    >>> rows = np.stack([a, b, np.sin(a), np.cos(b), a * b, a - b, a**2, b**2, a + b, a * a * b], 1)
    >>> found = intrinsic_dimension(rows)
    >>> f"{found.mle.value:.1f} {found.two_nn.value:.1f}"
    '1.9 2.0'
    """
    began = time.perf_counter()
    table, comm = local_rows(rows, comm)
    sizes = {"n_neighbours": n_neighbours, "max_queries": max_queries, "max_rows": max_rows}
    same_on_all_ranks(comm, **sizes, seed=seed, tolerance=tolerance, halves=halves)
    _check(n_neighbours, max_queries, max_rows, seed, tolerance)
    _, n_all = place_rows(len(table), comm)
    used = _drawn(table, comm, max_rows, seed)
    start, n_rows = place_rows(len(used), comm)
    place = permuted(seed + 1, n_rows, np.arange(start, start + len(used)))
    is_query = place < (n_rows if max_queries is None else max_queries)
    summary = _summary(used, is_query, n_neighbours, tolerance, comm)
    groups = allgather_rows(comm, place[is_query] % _GROUPS)
    estimates = [_estimates(summary, groups)]
    if halves and n_rows // 2 > n_neighbours:
        for half in (0, 1):
            part = place % 2 == half
            rows = np.ascontiguousarray(used[part])
            found = _summary(rows, is_query[part], n_neighbours, tolerance, comm)
            estimates.append(_estimates(found))
    mle, two_nn = (_with_halves(list(of_method)) for of_method in zip(*estimates, strict=True))
    return IntrinsicDimension(
        mle=mle,
        two_nn=two_nn,
        n_neighbours=n_neighbours,
        n_queries=len(summary),
        n_rows=n_rows,
        n_all_rows=n_all,
        n_columns=table.shape[1],
        n_duplicates=int(np.isnan(summary[:, 1]).sum()),
        seconds=float(comm.allreduce(time.perf_counter() - began, op=MPI.MAX)),
    )


def _check(n_neighbours: Any, max_queries: Any, max_rows: Any, seed: Any, tolerance: Any) -> None:
    check_count("n_neighbours", n_neighbours)
    check_count("max_queries", max_queries, optional=True)
    check_count("max_rows", max_rows, optional=True)
    if n_neighbours < 2:
        raise ConfigError("n_neighbours = 1: distances of at least 2 neighbours are compared")
    if not is_integer(seed) or seed < 0:
        raise ConfigError(f"seed = {seed!r}: give an integer of at least 0")
    if tolerance is not None and (not is_number(tolerance) or tolerance < 0):
        raise ConfigError(f"tolerance = {tolerance!r}: give a number of at least 0")


def _drawn(
    table: NDArray[Any], comm: MPI.Intracomm, max_rows: int | None, seed: int
) -> NDArray[Any]:
    """Return this rank's part of the rows in use. Collective."""
    start, n_rows = place_rows(len(table), comm)
    if max_rows is None or n_rows <= max_rows:
        return table
    place = permuted(seed, n_rows, np.arange(start, start + len(table)))
    return np.ascontiguousarray(table[place < max_rows])


def _summary(
    rows: NDArray[Any],
    is_query: NDArray[np.bool_],
    n_neighbours: int,
    tolerance: float | None,
    comm: MPI.Intracomm,
) -> NDArray[np.float64]:
    """Return the inverse estimate and the logarithm of the ratio of all queries, shape (m, 2).

    Collective. NaN where equal rows leave too few distances.
    """
    queries = np.flatnonzero(is_query)
    found = nearest_distances(rows, n_neighbours, queries=queries, comm=comm)
    tolerance = found.rounding if tolerance is None else tolerance
    values = inverses(found.distances, tolerance), log_ratios(found.distances, tolerance)
    return allgather_rows(comm, np.stack(values, axis=1))


def _with_halves(estimates: list[DimensionEstimate]) -> DimensionEstimate:
    """Return the first estimate with the values of the others, of halves of the rows."""
    whole, *halves = estimates
    if not halves:
        return whole
    return replace(whole, halves=(halves[0].value, halves[1].value))


def _estimates(
    summary: NDArray[np.float64], groups: NDArray[np.int64] | None = None
) -> tuple[DimensionEstimate, DimensionEstimate]:
    """Return both estimates of all rows, with their standard errors if groups are given."""
    found = []
    methods: tuple[Callable[[NDArray[np.float64]], float], ...] = (inverse_mean, ratio_slope)
    for values, estimate in zip(summary.T, methods, strict=True):
        error = math.nan
        if groups is not None and len(values) >= _GROUPS * _LEAST_GROUP:
            parts = [estimate(values[groups == group]) for group in range(_GROUPS)]
            error = float(np.std(parts, ddof=1)) / math.sqrt(_GROUPS)
        found.append(DimensionEstimate(estimate(values), error, (math.nan, math.nan)))
    return found[0], found[1]
