"""Approximate inverse of kernel coordinates: kernel ridge regression of the rows on them.

A row of given coordinates is estimated by a combination of the training rows, whose coefficients
are the kernel of these coordinates with those of the training rows times
``(K + alpha I)^-1 X``, where K is the kernel of the training coordinates.

Reference: Bakir, Weston, Schoelkopf, "Learning to find pre-images", NIPS 16 (2003).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix
from hpcembed.operators.kernel.kernel_functions import Kernel
from hpcembed.operators.kernel.row_panels import broadcast_array
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.machine.memory import check_fits
from hpcembed.runtime.ranks import gather_rows

__all__ = ["inverse_coefficients"]


def inverse_coefficients(
    X: DataMatrix,
    coordinates: NDArray[np.float64],
    kernel: Kernel,
    alpha: float,
    available_bytes: int,
) -> NDArray[np.float64]:
    """Return this rank's rows of ``(K + alpha I)^-1 X``, for the kernel K of coordinates.

    Collective. Rank 0 holds the kernel and solves.

    Parameters
    ----------
    X : DataMatrix
    coordinates : ndarray of shape (n_local, k)
    alpha : float
        Ridge, at least 0.
    available_bytes : int
        Memory that one rank may take.

    Returns
    -------
    ndarray of shape (n_local, d)

    Raises
    ------
    MemoryLimitError
        On all ranks, if the kernel does not fit.
    ConfigError
        On all ranks, if the kernel is not positive with this ridge.
    """
    comm, n, d = X.comm, X.n_rows, X.n_features
    check_fits(
        8 * n * (n + 2 * d),
        available_bytes,
        f"the inverse of the kernel of {n} rows",
        "leave fit_inverse_transform at False, or fit fewer rows",
    )
    rows, points = gather_rows(comm, X.dense_rows(np.float64)), gather_rows(comm, coordinates)
    solved = np.empty((0, d))
    with agreement(comm):
        if rows is not None and points is not None:
            prepared = kernel.prepare(points)
            K = kernel.tile(prepared, prepared)
            K.flat[:: n + 1] += alpha
            try:
                solved = scipy.linalg.solve(K, rows, assume_a="pos", overwrite_a=True)
            except np.linalg.LinAlgError as error:
                raise ConfigError(
                    f"alpha = {alpha:g}: the kernel of the coordinates is not positive with this "
                    "ridge: raise alpha"
                ) from error
    first, mine = 0, np.empty((0, d))
    for owner, count in enumerate(comm.allgather(X.n_local)):
        part = np.ascontiguousarray(solved[first : first + count])
        part = part if comm.rank == 0 else np.empty((count, d))
        broadcast_array(comm, part, 0)
        mine = part if owner == comm.rank else mine
        first += count
    return mine
