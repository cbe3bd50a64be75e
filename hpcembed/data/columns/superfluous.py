"""Columns of numbers that carry no information: constants, counters of the rows, identifiers.

In mixed tables such columns are left out (:mod:`hpcembed.data.columns.kinds`). A table of numbers
alone is taken as it is; its superfluous columns are named, so that the user can drop them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.runtime.ranks import allgather_rows, place_rows

__all__ = ["superfluous_columns", "superfluous_line"]

#: Smallest number of rows from which a column is called a counter or an identifier.
_MANY = 20
#: Largest number of rows whose identifiers are searched for.
_MOST_ROWS = 1_000_000
_BLOCK = 4096
_MOST_NAMES = 5


def superfluous_columns(
    rows: NDArray[np.float64], names: Sequence[str], comm: MPI.Comm
) -> dict[str, list[str]]:
    """Find constant columns, columns that count the rows, and identifiers.

    Collective.

    Parameters
    ----------
    rows : ndarray of shape (n_local, d)
        This rank's consecutive share of the rows.
    names : sequence of str
        Names of the columns.

    Returns
    -------
    dict of str to list of str
        Names by reason: ``constant``, ``count the rows``, ``a different integer in each row``.

    Examples
    --------
    >>> rows = np.array([[float(i), 3.0, i % 7 / 2] for i in range(30)])
    >>> superfluous_columns(rows, ["id", "unit", "size"], MPI.COMM_SELF)
    {'constant': ['unit'], 'count the rows': ['id'], 'a different integer in each row': []}
    """
    start, n_rows = place_rows(len(rows), comm)
    d = rows.shape[1]
    # Largest values, smallest values with the other sign, and the same of value minus row number.
    ends = np.full((4, d), -np.inf)
    has_fractions = np.zeros(d, dtype=bool)
    for first in range(0, len(rows), _BLOCK):
        block = rows[first : first + _BLOCK].astype(np.float64)
        offsets = block - (start + first + np.arange(len(block)))[:, None]
        found = (block.max(0), (-block).max(0), offsets.max(0), (-offsets).max(0))
        np.maximum(ends, found, out=ends)
        has_fractions |= (block != np.floor(block)).any(0)
    comm.Allreduce(MPI.IN_PLACE, ends, op=MPI.MAX)
    comm.Allreduce(MPI.IN_PLACE, has_fractions, op=MPI.LOR)
    constant = (ends[0] == -ends[1]) & (n_rows > 1)
    counter = (ends[2] == -ends[3]) & ~constant & (n_rows >= _MANY)
    candidates = np.flatnonzero(~(constant | counter | has_fractions))
    identifiers = [j for j in candidates.tolist() if _all_differ(rows[:, j], n_rows, comm)]
    return {
        "constant": [names[j] for j in np.flatnonzero(constant).tolist()],
        "count the rows": [names[j] for j in np.flatnonzero(counter).tolist()],
        "a different integer in each row": [names[j] for j in identifiers],
    }


def superfluous_line(found: dict[str, list[str]]) -> str:
    """Return a line that names superfluous columns; empty without any.

    Examples
    --------
    >>> superfluous_line({"constant": ["unit"], "count the rows": []})
    'columns without information: unit (constant): leave them out with data.drop_columns'
    """
    parts = []
    for reason, names in found.items():
        if names:
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            parts.append(f"{', '.join(names[:_MOST_NAMES])}{more} ({reason})")
    if not parts:
        return ""
    return f"columns without information: {'; '.join(parts)}: leave them out with data.drop_columns"


def _all_differ(column: NDArray[np.float64], n_rows: int, comm: MPI.Comm) -> bool:
    """Return whether no two rows of all ranks have the same value. Collective."""
    if not _MANY <= n_rows <= _MOST_ROWS:
        return False
    differ = len(np.unique(column[:_BLOCK])) == len(column[:_BLOCK])
    if not comm.allreduce(differ, op=MPI.LAND):
        return False
    own = np.unique(column)
    if not comm.allreduce(len(own) == len(column), op=MPI.LAND):
        return False
    return len(np.unique(allgather_rows(comm, own))) == n_rows
