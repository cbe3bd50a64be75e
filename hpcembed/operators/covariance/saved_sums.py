"""Sums over the rows of a data set, part by part, saved between the parts.

With checkpoints each rank takes its rows in parts of fixed size. Between two parts the ranks
communicate, and the sums are saved when that is due: those of each rank, and the number of its rows
that are in. A run that is killed continues with the next part, and adds the same numbers in the
same order. On another number of ranks the sums begin anew, as each rank has other rows. Sums that
are not finite are never saved.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.matrix import DataMatrix, RowSource, reading
from miramns.checkpointing import (
    CheckpointMismatchError,
    CheckpointStore,
    Snapshot,
    restoring,
)

__all__ = ["add_rows"]

_log = logging.getLogger(__name__)

#: Name of the checkpoints.
_NAME = "covariance"

#: Multiply-adds of a part, about a second's work, and its least number of rows. Adding the square
#: of a part takes as long as a few rows.
_PART_WORK = 2e10
_LEAST_ROWS = 2304

#: Rows at each end of a rank's part of the data that identify it.
_ENDS = 16


def add_rows(
    X: RowSource,
    add: Callable[[int, int], int],
    sums: Mapping[str, NDArray[np.float64]],
    checkpoint: CheckpointStore | None,
    **identity: Any,
) -> None:
    """Add all rows to the sums.

    Collective if rows are read from files, or if there are checkpoints.

    Parameters
    ----------
    add : callable
        ``add(first, last)`` adds this rank's rows from `first` to `last` - 1, or some more where
        blocks do not end there, and returns the row after the last one. Not collective.
    sums : mapping of str to ndarray
        The arrays that `add` changes, in place.
    checkpoint : CheckpointStore or None
    **identity : JSON values
        Whatever the sums depend on beside the rows.

    Raises
    ------
    CheckpointMismatchError
        The sums that were saved are of other rows.
    """
    if checkpoint is None:
        with reading(X):
            add(0, X.n_local)
        return
    whole = _identity(X, identity)
    step = max(_LEAST_ROWS, int(2 * _PART_WORK / X.n_features**2))
    part, done = _restored(X.comm, X.n_local, sums, checkpoint, whole)
    n_parts = X.comm.allreduce(-(-X.n_local // step), op=MPI.MAX)

    def snapshot() -> Snapshot | None:
        is_finite = all(bool(np.isfinite(array).all()) for array in sums.values())
        if not X.comm.allreduce(is_finite, op=MPI.LAND):
            return None
        # a row for each rank
        of_rank = {name: array[None] for name, array in sums.items()}
        return Snapshot(of_rank | {"rows_in": np.array([done])}, state={"part": part})

    size = X.comm.size * sum(array.nbytes for array in sums.values())
    while part < n_parts:
        part += 1
        with reading(X):
            last = min(part * step, X.n_local)
            if done < last:
                done = add(done, last)
        checkpoint.offer(_NAME, snapshot, size, identity=whole)


def _restored(
    comm: MPI.Comm,
    n_local: int,
    sums: Mapping[str, NDArray[np.float64]],
    checkpoint: CheckpointStore,
    identity: dict[str, Any],
) -> tuple[int, int]:
    """Restore the sums; return the parts and the rows of this rank that are in. Collective."""
    try:
        saved = checkpoint.newest(_NAME, identity=identity)
    except CheckpointMismatchError as error:
        if "rows.counts" not in error.differences:
            raise
        if comm.rank == 0:
            _log.warning("rows are distributed otherwise than before: the sums begin anew")
        return 0, 0
    if saved is None:
        return 0, 0
    with restoring(saved.path):
        for name, array in sums.items():
            saved.read_into(name, comm.rank, array[None])
        part = int(saved.state["part"])
        rows_in = saved.rows("rows_in", comm.rank, comm.rank + 1)[0]
        is_count = bool(0 <= rows_in <= n_local)  # also false for NaN, on this rank alone
        if part < 0 or not comm.allreduce(is_count, op=MPI.LAND):
            raise ValueError(f"part {part} of the rows, {rows_in} of {n_local} rows")
    return part, int(rows_in)


def _identity(X: RowSource, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the identity of the rows with that of the sums. Collective."""
    counts, ends = zip(*X.comm.allgather((X.n_local, _ends(X))), strict=True)
    return {
        **identity,
        "n_features": X.n_features,
        "type": X.stored_type.str,
        "rows": {"counts": list(counts), "ends": list(ends)},
    }


def _ends(X: RowSource) -> str:
    """Return a digest of the first and the last rows of this rank, if they are in memory."""
    if not isinstance(X, DataMatrix):
        return ""
    rows, *scaling = X.stored_rows
    digest = hashlib.sha256()
    for part in (rows[:_ENDS], rows[-_ENDS:]):
        dense = part if isinstance(part, np.ndarray) else part.toarray()
        digest.update(np.ascontiguousarray(dense).tobytes())
    for array in scaling:
        digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
