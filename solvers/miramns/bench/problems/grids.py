"""Operators on grids: Laplacians, whose eigenvalues are known, and a random walk on a triangle.

The Laplacian of a d-dimensional grid with zero boundary values has the eigenvalues
``sum_i (2 - 2 cos(pi j_i / (n_i + 1)))`` for all ``1 <= j_i <= n_i``. The dominant ones are close
to one another, and those of a square grid are double; both make them hard to compute.

The random walk on a triangular grid is the nonsymmetric model problem of Saad, Numerical Methods
for Large Eigenvalue Problems, section 2.5.1, and of SLEPc's examples. Its dominant eigenvalues are
+1 and -1, and all come in pairs of opposite sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.bench.problems.distributed_matrices import aij_from_entries, own_rows


def laplacian(comm: MPI.Comm, shape: Sequence[int]) -> PETSc.Mat:
    """Assemble the Laplacian of a grid with zero boundary values, mesh width 1.

    Collective on `comm`.

    Parameters
    ----------
    shape : sequence of int
        Points along each direction.
    """
    n = int(np.prod(shape))
    first, last = own_rows(comm, n)
    row = np.arange(first, last)
    places = np.unravel_index(row, shape)
    rows, columns, values = [row], [row], [np.full(row.size, 2.0 * len(shape))]
    stride = n
    for points, place in zip(shape, places, strict=True):
        stride //= points
        for step, inside in ((-stride, place > 0), (stride, place < points - 1)):
            rows.append(row[inside])
            columns.append(row[inside] + step)
            values.append(np.full(int(inside.sum()), -1.0))
    entries = (np.concatenate(rows), np.concatenate(columns), np.concatenate(values))
    return aij_from_entries(comm, (n, n), *entries, hermitian=True)


def laplacian_eigenvalues(shape: Sequence[int]) -> NDArray[np.float64]:
    """Return all eigenvalues of :func:`laplacian`, shape (n,), in no particular order."""
    total = np.zeros(1)
    for points in shape:
        one = 2.0 - 2.0 * np.cos(np.pi * np.arange(1, points + 1) / (points + 1))
        total = np.add.outer(total, one).ravel()
    return total


def random_walk(comm: MPI.Comm, side: int) -> PETSc.Mat:
    """Assemble the transposed transition matrix of a random walk on a triangle.

    Collective on `comm`. The states are the points (a, b) with a, b >= 0 and s = a + b < `side`,
    numbered along lines of equal a. Each coordinate decreases with probability s / (2 (side - 1)),
    or twice that if the other one is 0, and increases with probability 1/2 - s / (2 (side - 1)).

    Parameters
    ----------
    side : int
        Points along an edge, at least 2. The number of states is side (side + 1) / 2.
    """
    n = side * (side + 1) // 2
    first, last = own_rows(comm, n)
    lines = np.arange(side + 1)
    begins = lines * side - lines * (lines - 1) // 2  # first state of each line

    row = np.arange(first, last)
    a = np.searchsorted(begins, row, side="right") - 1
    b = row - begins[a]
    decrease = (a + b + 1) / (2.0 * (side - 1))  # from the points one step further out
    increase = 0.5 - (a + b - 1) / (2.0 * (side - 1))  # from the points one step further in
    inside = a + b + 1 < side
    sources = (
        (inside, a + 1, b, np.where(b == 0, 2.0, 1.0) * decrease),
        (inside, a, b + 1, np.where(a == 0, 2.0, 1.0) * decrease),
        (a > 0, a - 1, b, increase),
        (b > 0, a, b - 1, increase),
    )
    rows, columns, values = [], [], []
    for exists, from_a, from_b, probability in sources:
        rows.append(row[exists])
        columns.append(begins[from_a[exists]] + from_b[exists])
        values.append(probability[exists])
    entries = (np.concatenate(rows), np.concatenate(columns), np.concatenate(values))
    return aij_from_entries(comm, (n, n), *entries)
