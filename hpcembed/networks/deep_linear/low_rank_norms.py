"""Frobenius norms of products of tall factors with distributed rows, without forming the products.

``||L R'|| = ||T_L T_R'||`` with the triangular factors of L and R. The triangular factor of
distributed rows is that of all ranks' triangular factors. Unlike inner products of the factors,
this has no cancellation: a difference of 1e-12 of the norm is exact to 1e-3 of itself.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

__all__ = ["difference_norm", "product_norm", "triangular_factor"]


def triangular_factor(comm: MPI.Intracomm, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a triangular T with ``T'T = rows' rows`` for the rows of all ranks. Collective."""
    k = rows.shape[1]
    padded = rows if rows.shape[0] else np.zeros((1, k))
    own = np.asarray(np.linalg.qr(padded, mode="r"))
    if comm.size == 1:
        return own
    return np.asarray(np.linalg.qr(np.vstack(comm.allgather(own)), mode="r"))


def product_norm(
    comm: MPI.Intracomm, left: NDArray[np.float64], right: NDArray[np.float64]
) -> float:
    """Return the norm of ``left @ right.T``; rows of `left` are distributed. Collective.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> round(product_norm(MPI.COMM_SELF, np.full((4, 1), 2.0), np.ones((9, 1))), 6)
    12.0
    """
    if not left.shape[1]:
        return 0.0
    T = triangular_factor(comm, left)
    return float(np.linalg.norm(T @ np.asarray(np.linalg.qr(right, mode="r")).T))


def difference_norm(
    comm: MPI.Intracomm,
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    other_left: NDArray[np.float64],
    other_right: NDArray[np.float64],
) -> float:
    """Return the norm of ``left @ right.T - other_left @ other_right.T``. Collective."""
    return product_norm(comm, np.hstack([left, -other_left]), np.hstack([right, other_right]))
