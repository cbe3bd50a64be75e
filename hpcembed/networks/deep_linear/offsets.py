"""Offsets of a table: its mean, and damped deviations of users and items.

The value of user i and item j is modelled as ``mean + b_i + c_j``. Deviations are means of the
remainder, damped as if each user and item had some more entries with no remainder (Koren, "Factor
in the neighbors", ACM TKDD 4 (2010)); users and items alternate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["Offsets", "fit_offsets"]

_SWEEPS = 10
#: Entries without remainder that each user and each item has in addition.
_USER_DAMPING = 15.0
_ITEM_DAMPING = 10.0


@dataclass(frozen=True, eq=False)
class Offsets:
    """Offsets of a table.

    Attributes
    ----------
    mean : float
    users : ndarray of shape (m_local,)
        This rank's users; zero for those without entries.
    items : ndarray of shape (n,)
    """

    mean: float
    users: NDArray[np.float64]
    items: NDArray[np.float64]

    def at(
        self, rows: NDArray[np.integer[Any]], columns: NDArray[np.integer[Any]]
    ) -> NDArray[np.float64]:
        """Return the offsets of entries; rows are local."""
        return self.mean + self.users[rows] + self.items[columns]


def fit_offsets(
    comm: MPI.Intracomm,
    shape: tuple[int, int],
    rows: NDArray[np.integer[Any]],
    columns: NDArray[np.integer[Any]],
    values: NDArray[np.float64],
) -> Offsets:
    """Fit the offsets to this rank's entries.

    Collective.

    Parameters
    ----------
    shape : tuple of int
        Numbers of this rank's users and of all items.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> fit_offsets(MPI.COMM_SELF, (1, 1), np.array([0]), np.array([0]), np.array([3.0])).mean
    3.0
    """
    m, n = shape
    sums = sum_over_ranks(comm, np.array([values.sum(), float(len(values))]))
    mean = float(sums[0] / sums[1])
    user_counts = np.bincount(rows, minlength=m) + _USER_DAMPING
    item_counts = np.bincount(columns, minlength=n).astype(np.float64)
    item_counts = sum_over_ranks(comm, item_counts) + _ITEM_DAMPING
    centred = values - mean
    users, items = np.zeros(m), np.zeros(n)
    for _ in range(_SWEEPS):
        of_items = np.bincount(columns, centred - users[rows], n).astype(np.float64)
        items = sum_over_ranks(comm, of_items) / item_counts
        users = np.bincount(rows, weights=centred - items[columns], minlength=m) / user_counts
    return Offsets(mean, users, items)
