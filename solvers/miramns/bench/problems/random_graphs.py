"""Adjacency matrices of random graphs: uniform pairs, blocks, power-law degrees.

Every edge is drawn from its own number. Each rank draws all edges, a piece at a time, and keeps
those at its own vertices: ranks exchange nothing, and the graph is the same on any number of ranks.
Loops are dropped; edges that are drawn twice count once.

Power-law degrees: vertex i of n is drawn with a probability proportional to
``(i + shift) ** (-1 / (exponent - 1))``. If both ends of every edge are drawn so, the number of
vertices of degree x falls as ``x ** -exponent``. The distribution is inverted in closed form, so
nothing of the size of the graph is stored. The shift limits the largest expected degree to the
square root of the number of ends: two vertices of larger degrees would be joined more than once.

References: Erdos, Renyi (1959) for uniform pairs; Holland, Laskey, Leinhardt (1983) for the
stochastic block model; Chung, Lu, Connected components in random graphs with given expected degree
sequences, Annals of Combinatorics 6 (2002).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse import csr_matrix

from miramns.bench.problems.distributed_matrices import aij_from_rows, own_rows, seeded_uniform

__all__ = ["power_law_graph", "power_law_vertices", "random_graph", "stochastic_block_graph"]

Ends = tuple[NDArray[Any], NDArray[Any]]

#: Number of edges drawn at a time, which bounds the memory of a rank.
_EDGES_PER_PIECE = 1 << 18
_GOLDEN = 0.6180339887498949


def random_graph(comm: MPI.Comm, n: int, degree: float, seed: int) -> PETSc.Mat:
    """Assemble a graph of uniform pairs: one eigenvalue near the mean degree, the others a bulk.

    Collective on `comm`.

    Parameters
    ----------
    degree : float
        Mean number of edges at a vertex, before repeated ones are merged.
    """

    def draw(start: int, stop: int) -> Ends:
        return _vertices(n, seed, 0, start, stop), _vertices(n, seed, 1, start, stop)

    return _adjacency(comm, n, round(n * degree / 2), draw)


def stochastic_block_graph(
    comm: MPI.Comm, n: int, blocks: int, inside: float, outside: float, seed: int
) -> PETSc.Mat:
    """Assemble a graph of equal blocks: as many eigenvalues as blocks lie outside the bulk.

    Collective on `comm`.

    Parameters
    ----------
    blocks : int
        Number of blocks; vertex i belongs to block ``i mod blocks``.
    inside, outside : float
        Mean number of edges from a vertex to its own block, and to any vertex.
    """
    n -= n % blocks
    share = inside / (inside + outside)

    def draw(start: int, stop: int) -> Ends:
        i = _vertices(n, seed, 0, start, stop)
        j = _vertices(n, seed, 1, start, stop)
        own = seeded_uniform(seed, 2, start, stop) < share
        return i, np.where(own, j - j % blocks + i % blocks, j)

    return _adjacency(comm, n, round(n * (inside + outside) / 2), draw)


def power_law_graph(comm: MPI.Comm, n: int, degree: float, exponent: float, seed: int) -> PETSc.Mat:
    """Assemble a graph with power-law degrees (Chung and Lu).

    Collective on `comm`. The dominant eigenvalues are near the square roots of the largest degrees
    or belong to the densest part of the graph; the gaps between them shrink slowly.

    Parameters
    ----------
    degree : float
        Mean of the expected degrees.
    exponent : float
        The number of vertices of degree x falls as ``x ** -exponent``; more than 2.
    """
    n_edges = round(n * degree / 2)

    def draw(start: int, stop: int) -> Ends:
        i, j = (
            power_law_vertices(seeded_uniform(seed, stream, start, stop), n, n_edges, exponent)
            for stream in (0, 1)
        )
        return i, j

    return _adjacency(comm, n, n_edges, draw)


def power_law_vertices(
    uniform: NDArray[np.float64], n: int, n_edges: int, exponent: float
) -> NDArray[np.int64]:
    """Map uniform random numbers to vertices; independent numbers give independent vertices.

    Parameters
    ----------
    uniform : ndarray
        Numbers between 0 and 1.
    n, n_edges : int
        Vertices and edges of the whole graph.
    exponent : float
        More than 2.

    Returns
    -------
    ndarray of the same shape
        Vertices from 0 to n - 1. Those of large degree are spread evenly over this range, so that
        every rank of a distributed graph has its share of the edges.

    Examples
    --------
    >>> power_law_vertices(np.array([0.0, 0.01, 0.5]), 1000, 5000, 2.5)
    array([  0,   0, 953])
    """
    power = 1.0 / (exponent - 1.0)
    shift = _shift(n, n_edges, power)
    low, high = shift ** (1 - power), (n + shift) ** (1 - power)
    rank = (low + uniform * (high - low)) ** (1 / (1 - power)) - shift
    place = np.clip(rank.astype(np.int64), 0, n - 1)
    return np.asarray((place * _stride(n)) % n)


def _shift(n: int, m: int, power: float) -> float:
    """Return the smallest shift with which no expected degree exceeds the square root of 2 m."""

    def largest(shift: float) -> float:
        total = ((n + shift) ** (1 - power) - shift ** (1 - power)) / (1 - power)
        return 2 * m * (shift + 0.5) ** -power / total

    low, high = 0.0, float(n)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if largest(middle) > math.sqrt(2 * m) else (low, middle)
    return high


def _stride(n: int) -> int:
    """Return a step that visits all of n places, each far from the one before."""
    step = min(max(1, round(_GOLDEN * n)), (2**63 - 1) // n)
    while math.gcd(step, n) != 1:
        step -= 1
    return step


def _vertices(n: int, seed: int, stream: int, start: int, stop: int) -> NDArray[Any]:
    return (seeded_uniform(seed, stream, start, stop) * n).astype(np.int64)


def _adjacency(comm: MPI.Comm, n: int, n_edges: int, draw: Callable[[int, int], Ends]) -> PETSc.Mat:
    """Assemble the adjacency matrix of the edges whose ends ``draw(start, stop)`` returns."""
    first, last = own_rows(comm, n)
    places = []
    for start in range(0, n_edges, _EDGES_PER_PIECE):
        i, j = draw(start, min(start + _EDGES_PER_PIECE, n_edges))
        for row, column in ((i, j), (j, i)):
            mine = (first <= row) & (row < last) & (row != column)
            places.append((row[mine] - first) * n + column[mine])
    entries = np.unique(np.concatenate(places)) if places else np.empty(0, dtype=np.int64)
    ends = np.searchsorted(entries, np.arange(last - first + 1) * n)
    local = csr_matrix(
        (np.ones(entries.size), entries % n, ends), shape=(last - first, n), dtype=np.float64
    )
    return aij_from_rows(comm, (n, n), local, hermitian=True)
