"""Adjacency matrices of random graphs: uniform pairs, blocks, power-law degrees.

Every edge is drawn from its own number. Each rank draws all edges, a piece at a time, and keeps
those at its own graph nodes: ranks exchange nothing, and the graph is the same on any number of
ranks. Loops are dropped; edges that are drawn twice count once.

References: Erdos, Renyi (1959) for uniform pairs; Holland, Laskey, Leinhardt (1983) for the
stochastic block model; :mod:`miramns.power_law` for power-law degrees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse import csr_matrix

from miramns.bench.problems.distributed_matrices import aij_from_rows, own_rows, seeded_uniform
from miramns.power_law import power_law_vertices

Ends = tuple[NDArray[Any], NDArray[Any]]

#: Number of edges drawn at a time, which bounds the memory of a rank.
_EDGES_PER_PIECE = 1 << 18


def random_graph(comm: MPI.Comm, n: int, degree: float, seed: int) -> PETSc.Mat:
    """Assemble a graph of uniform pairs: one eigenvalue near the mean degree, the others a bulk.

    Collective on `comm`.

    Parameters
    ----------
    degree : float
        Mean number of edges at a graph node, before repeated ones are merged.
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
        Number of blocks; graph node i belongs to block ``i mod blocks``.
    inside, outside : float
        Mean number of edges from a graph node to its own block, and to any node.
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
        The number of graph nodes of degree x falls as ``x ** -exponent``; more than 2.
    """
    n_edges = round(n * degree / 2)

    def draw(start: int, stop: int) -> Ends:
        i, j = (
            power_law_vertices(seeded_uniform(seed, stream, start, stop), n, n_edges, exponent)
            for stream in (0, 1)
        )
        return i, j

    return _adjacency(comm, n, n_edges, draw)


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
