"""Graph of the nearest rows of a table, exact.

Distances come from products of blocks of rows with all rows. Rows whose distances to a row differ
by rounding alone are equally near: of those at the distance of the last neighbour the ones of
lowest index are taken. So the graph is the same on any number of ranks, for equal rows as well.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import allgather_rows

__all__ = ["nearest_rows", "symmetric_neighbours"]

#: Bytes of a block of distances.
_BLOCK_BYTES = 2**25
#: Difference of squared distances, relative to them and to the largest squared norm, that counts
#: as rounding.
_EQUAL, _ROUNDING = 1e-6, 1e-11


def nearest_rows(
    rows: NDArray[np.float64], first: int, last: int, n_neighbors: int
) -> NDArray[np.int64]:
    """Return the nearest other rows of some rows, by Euclidean distance.

    Not collective.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        All rows.
    first, last : int
        First and one past last row whose neighbours are wanted.
    n_neighbors : int
        Less than n.

    Returns
    -------
    ndarray of int64, shape (last - first, n_neighbors)
        In increasing order of their indices.

    Raises
    ------
    InputError
        There are too few rows.

    Examples
    --------
    >>> nearest_rows(np.array([[0.0], [1.0], [1.0], [3.0]]), 0, 4, 2)
    array([[1, 2],
           [0, 2],
           [0, 1],
           [1, 2]])
    """
    n = len(rows)
    if n <= n_neighbors:
        raise InputError(
            f"{n_neighbors} neighbours are wanted of {n} rows: give more rows, or lower n_neighbors"
        )
    centred = rows - rows.mean(axis=0)
    squares = np.square(centred).sum(axis=1)
    rounding = _ROUNDING * float(squares.max(initial=0.0))
    found = np.empty((last - first, n_neighbors), np.int64)
    step = max(1, _BLOCK_BYTES // (8 * n))
    for begin in range(first, last, step):
        own = np.arange(begin, min(begin + step, last))
        distances = squares - 2.0 * (centred[own] @ centred.T) + squares[own, np.newaxis]
        distances[np.arange(len(own)), own] = np.inf
        farthest = np.partition(distances, n_neighbors - 1, axis=1)[
            :, n_neighbors - 1 : n_neighbors
        ]
        margin = _EQUAL * np.maximum(farthest, 0.0) + rounding
        nearer = distances < farthest - margin
        equal = (distances <= farthest + margin) & ~nearer
        room = n_neighbors - nearer.sum(axis=1, keepdims=True)
        chosen = nearer | (equal & (np.cumsum(equal, axis=1) <= room))
        found[begin - first : begin - first + len(own)] = np.nonzero(chosen)[1].reshape(
            len(own), n_neighbors
        )
    return found


def symmetric_neighbours(
    comm: MPI.Comm, neighbours: NDArray[np.int64], first: int
) -> scipy.sparse.csr_array:
    """Return this rank's rows of the graph in which one of two rows is a neighbour of the other.

    Collective.

    Parameters
    ----------
    neighbours : ndarray of int64, shape (n_local, k)
        Of this rank's rows, which follow those of the ranks before it.
    first : int
        Global index of the first one.

    Returns
    -------
    csr_array of shape (n_local, n)
        Entries 1.
    """
    n_local, k = neighbours.shape
    whole = allgather_rows(comm, np.ascontiguousarray(neighbours))
    n = len(whole)
    indptr = np.arange(0, n * k + 1, k)
    directed = scipy.sparse.csr_array((np.ones(n * k), whole.reshape(-1), indptr), shape=(n, n))
    return scipy.sparse.csr_array(directed.maximum(directed.T))[first : first + n_local]
