"""Exact distances to the nearest rows, of rows that are distributed over ranks.

Rows are compared with all others by matrix products: with the origin in the mean of the rows,
``|x - y|^2 = |x|^2 - 2 g`` and ``g = x'y - |y|^2 / 2``, which is one product of the rows with one
further column each. Ranks broadcast their rows in turn, a panel at a time, and each rank compares
its own queries. A product that is not larger than the smallest g kept of its row is discarded by
one comparison.

Products in single precision keep k + 8 candidates of each row, whose distances are then computed
in double precision from the differences. The k smallest of them are the nearest rows if no row left
out can be nearer. A rounding error bound of the products decides this: with d features, unit
roundoff u and rows scaled to norms of at most 1, the error of g is at most
``(d + 8) u (|x| + 1/2)``. The other rows are compared again in double precision, and at last by
differences. So distances are exact to 1e-9, also of rows that are close to each other and far from
the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from hpcembed.embedding.diagnostics.dense_rows import local_rows
from hpcembed.embedding.diagnostics.largest_values import keep_largest
from hpcembed.operators.kernel.row_panels import broadcast_array
from hpcembed.runtime.agreement import agreement, same_on_all_ranks
from hpcembed.runtime.arguments import as_array, check_count
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import place_rows

__all__ = ["NearestDistances", "nearest_distances"]

#: Candidates beyond the number of neighbours.
_SPARE = 8
#: Rows of a tile of products, and most rows of a panel: the tile fits the cache.
_TILE, _PANEL = 512, 2048
#: Bytes of a panel, at most, unless it has few rows.
_PANEL_BYTES = 16 * 2**20
#: Differences that are formed at once.
_DIFFERENCES = 2**20
#: Largest moduli between which squares neither over- nor underflow.
_SAFE = 1e-100, 1e100
#: Relative error of a squared distance that is as good as none.
_NEGLIGIBLE = 1e-9

Closeness = Callable[[NDArray[np.int64], NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class NearestDistances:
    """Distances of some of this rank's rows to their nearest rows on all ranks.

    Attributes
    ----------
    distances : ndarray of shape (m_local, k)
        In ascending order; the row itself is left out, other rows equal to it are not.
    queries : ndarray of int64, shape (m_local,)
        Global indices of the rows whose neighbours were found.
    n_rows : int
        Rows of all ranks.
    rounding : float
        Largest distance that the rounding of equal rows may cause; 0 for integers up to 2^53.
    """

    distances: NDArray[np.float64]
    queries: NDArray[np.int64]
    n_rows: int
    rounding: float


def nearest_distances(
    rows: Any, k: int, *, queries: Any = None, comm: MPI.Intracomm | None = None
) -> NearestDistances:
    """Compute the distances of rows to their k nearest rows.

    Collective on `comm`, or on the communicator of a DataMatrix.

    Parameters
    ----------
    rows : DataMatrix, or ndarray of shape (n_local, d)
        Dense finite rows; n rows on all ranks. Those of a DataMatrix are scaled, in single
        precision.
    k : int
        Number of neighbours, less than n.
    queries : array_like of int, optional
        Local indices of the rows whose neighbours are found, among the rows of all ranks. Default:
        all.
    comm : MPI.Comm, optional
        If `rows` is an array: the ranks that hold the other rows.

    Returns
    -------
    NearestDistances

    Raises
    ------
    InputError
        The rows are no dense table of finite numbers, there are not more than k of them, or a
        query is no row of this rank.
    ConfigError
        `k` is no positive integer, or differs between ranks.

    Examples
    --------
    >>> import numpy as np
    >>> found = nearest_distances(np.array([[0.0], [1.0], [3.0], [3.0]]), 2)
    >>> found.distances
    array([[1., 3.],
           [1., 2.],
           [0., 2.],
           [0., 2.]])
    """
    table, comm = local_rows(rows, comm)
    same_on_all_ranks(comm, k=k)
    check_count("k", k)
    start, n_rows = place_rows(len(table), comm)
    if n_rows <= k:
        raise InputError(f"{k} neighbours are wanted of {n_rows} rows: give more rows")
    chosen = np.arange(len(table))
    with agreement(comm):
        if queries is not None:
            chosen = as_array("queries", queries).reshape(-1)
            if chosen.size and chosen.dtype.kind not in "iu":
                raise InputError(f"queries of type {chosen.dtype}: give integers, indices of rows")
            chosen = chosen.astype(np.int64)
            if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(table):
                raise InputError(f"queries: give indices of this rank's {len(table)} rows")
    largest = float(comm.allreduce(_largest_modulus(table), op=MPI.MAX))
    exponent = 0
    if table.dtype == np.float64 and largest > 0 and not _SAFE[0] <= largest <= _SAFE[1]:
        # a power of two, so that it changes no digit
        exponent = int(np.frexp(largest)[1])
        table = np.ldexp(table, -exponent)
    search = _Search(table, comm, start, n_rows, k)
    squares = search.run(chosen)
    rounding = 0.0
    if table.dtype.kind == "f" or largest > 2**53:
        digits = table.dtype if table.dtype.kind == "f" else np.float64
        spread = search.scale + float(np.linalg.norm(search.origin))
        rounding = 4 * np.sqrt(table.shape[1]) * float(np.finfo(digits).eps) * spread
    distances, tolerance = np.ldexp(np.sqrt(squares), exponent), np.ldexp(rounding, exponent)
    return NearestDistances(distances, chosen + start, n_rows, float(tolerance))


def _largest_modulus(table: NDArray[Any]) -> float:
    """Return the largest modulus of a table, 0 for an empty one."""
    if not table.size:
        return 0.0
    return max(abs(float(table.max())), abs(float(table.min())))


class _Search:
    """Search for the k nearest rows of rows of this rank."""

    def __init__(self, rows: NDArray[Any], comm: MPI.Comm, start: int, n_rows: int, k: int) -> None:
        self.rows, self.comm, self.start, self.n_rows, self.k = rows, comm, start, n_rows, k
        self.counts = comm.allgather(len(rows))
        self.width = min(k + _SPARE, n_rows - 1)
        d = rows.shape[1]
        self.panel_rows = int(np.clip(_PANEL_BYTES // (8 * d), 64, _PANEL))
        total = np.zeros(d)
        for part in self._parts():
            total += part.sum(axis=0)
        self.origin: NDArray[np.float64] = comm.allreduce(total) / n_rows
        longest = 0.0
        for part in self._parts():
            squares = np.square(part - self.origin).sum(axis=1)
            longest = max(longest, float(squares.max()))
        self.scale = float(np.sqrt(comm.allreduce(longest, op=MPI.MAX))) or 1.0

    def _parts(self) -> Iterator[NDArray[np.float64]]:
        """Yield this rank's rows in double precision, a few at a time."""
        for first in range(0, len(self.rows), self.panel_rows):
            yield self.rows[first : first + self.panel_rows].astype(np.float64)

    def run(self, queries: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return squared distances of queries in ascending order, shape (m, k). Collective."""
        found = np.empty((0, self.k))
        with agreement(self.comm):
            found = np.full((len(queries), self.k), np.inf)
        left = np.arange(len(queries))
        for dtype in (np.float32, np.float64):
            if not self.comm.allreduce(len(left)):
                return found
            squares, proven = self._by_products(queries[left], dtype)
            found[left[proven]] = squares[proven]
            left = left[~proven]
        if self.comm.allreduce(len(left)):
            found[left] = self._by_differences(queries[left])
        return found

    def _by_products(
        self, queries: NDArray[np.int64], dtype: type[np.floating[Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return squared distances, and whether they are known to be the smallest. Collective."""
        augmented = np.empty((0, 0), dtype)
        norms = np.empty(0)
        with agreement(self.comm):
            augmented, norms = self._prepared(queries, dtype)

        def closeness(some: NDArray[np.int64], panel: NDArray[Any]) -> NDArray[Any]:
            return augmented[some] @ panel.T

        def prepare(panel: NDArray[Any]) -> NDArray[Any]:
            scaled = (panel - self.origin) / self.scale
            table = np.empty((len(scaled), scaled.shape[1] + 1), dtype)
            table[:, :-1] = scaled
            table[:, -1] = -0.5 * np.square(scaled).sum(axis=1)
            return table

        best, places = self._largest(queries, self.width, dtype, prepare, closeness)
        squares = np.sort(self._exact(queries, places), axis=1)[:, : self.k]
        if self.width == self.n_rows - 1:
            return squares, np.ones(len(queries), bool)
        u = float(np.finfo(dtype).eps) / 2
        error = (self.rows.shape[1] + 8) * u * (np.sqrt(norms) + 0.5)
        outside = norms - 2 * (best.min(axis=1, initial=np.inf).astype(np.float64) + error)
        last = squares[:, -1] / self.scale**2
        return squares, (outside >= (1 - _NEGLIGIBLE) * last) | (last == 0)

    def _prepared(
        self, queries: NDArray[np.int64], dtype: type[np.floating[Any]]
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return scaled rows with a column of ones, and their squared norms."""
        augmented = np.ones((len(queries), self.rows.shape[1] + 1), dtype)
        norms = np.empty(len(queries))
        for first in range(0, len(queries), self.panel_rows):
            part = slice(first, first + self.panel_rows)
            scaled = (self.rows[queries[part]] - self.origin) / self.scale
            augmented[part, :-1] = scaled
            norms[part] = np.square(scaled).sum(axis=1)
        return augmented, norms

    def _by_differences(self, queries: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the smallest squared distances, all by differences. Collective."""

        def closeness(some: NDArray[np.int64], panel: NDArray[Any]) -> NDArray[Any]:
            mine = self.rows[queries[some]].astype(np.float64)
            return -cdist(mine, panel, "sqeuclidean")

        def prepare(panel: NDArray[Any]) -> NDArray[Any]:
            return panel.astype(np.float64)

        _, places = self._largest(queries, self.k, np.float64, prepare, closeness)
        return np.sort(self._exact(queries, places), axis=1)

    def _panels(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the rows of all ranks, a panel at a time: global index of the first, rows.

        Collective: a broadcast for each panel.
        """
        begin = 0
        for owner, count in enumerate(self.counts):
            for first in range(0, count, self.panel_rows):
                last = min(first + self.panel_rows, count)
                if owner == self.comm.rank:
                    panel = self.rows[first:last]
                else:
                    panel = np.empty((last - first, self.rows.shape[1]), self.rows.dtype)
                if self.comm.size > 1:
                    broadcast_array(self.comm, panel, owner)
                yield begin + first, panel
            begin += count

    def _largest(
        self,
        queries: NDArray[np.int64],
        width: int,
        dtype: type[np.floating[Any]],
        prepare: Callable[[NDArray[Any]], NDArray[Any]],
        closeness: Closeness,
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the largest values of a function of each query and all rows, and their rows.

        Collective.

        Parameters
        ----------
        queries : ndarray of int64
            Local indices.
        width : int
            Number of values that are kept.
        prepare : callable
            Called with each panel of rows.
        closeness : callable
            Called with positions in `queries` and a prepared panel.
        """
        best, places = np.empty((0, width), dtype), np.empty((0, width), np.int64)
        with agreement(self.comm):
            best = np.full((len(queries), width), -np.inf, dtype)
            places = np.full((len(queries), width), -1, np.int64)
        own = queries + self.start
        for begin, panel in self._panels():
            if not len(queries):
                continue
            prepared = prepare(panel)
            for first in range(0, len(queries), _TILE):
                some = np.arange(first, min(first + _TILE, len(queries)))
                values = closeness(some, prepared)
                at = own[some] - begin
                inside = np.flatnonzero((at >= 0) & (at < len(panel)))
                values[inside, at[inside]] = -np.inf
                part = slice(first, first + len(some))
                keep_largest(best[part], places[part], values, begin)
        return best, places

    def _exact(self, queries: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return squared distances to some rows, from differences. Collective."""
        squares = np.full(places.shape, np.inf)
        order = np.argsort(places, axis=None, kind="stable")
        sorted_places = places.reshape(-1)[order]
        step = max(1, _DIFFERENCES // self.rows.shape[1])
        for begin, panel in self._panels():
            first, last = np.searchsorted(sorted_places, (begin, begin + len(panel)))
            for at in range(first, last, step):
                pairs = order[at : min(at + step, last)]
                mine = self.rows[queries[pairs // places.shape[1]]]
                other = panel[places.reshape(-1)[pairs] - begin]
                difference = mine.astype(np.float64) - other
                squares.reshape(-1)[pairs] = np.einsum("ij,ij->i", difference, difference)
        return squares
