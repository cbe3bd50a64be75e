"""The argument for checkpoints of functions: a folder, or a store that is already open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpi4py import MPI

from miramns.checkpointing.store import CheckpointStore
from miramns.errors import MiramnsError


@contextmanager
def opened_store(
    comm: MPI.Comm, checkpoint: CheckpointStore | Path | str | None, every: float | None
) -> Iterator[CheckpointStore | None]:
    """Provide the store of an argument, and close it in the end if it was opened here. Collective.

    Raises
    ------
    MiramnsError
        An interval was given for a store, which has its own.
    """
    if checkpoint is None or isinstance(checkpoint, CheckpointStore):
        if every is not None:
            raise MiramnsError("checkpoint_every is for a folder of checkpoints: give both")
        yield checkpoint
        return
    if every is not None and not every >= 0:
        raise MiramnsError(f"need checkpoint_every >= 0, got {every}")
    with CheckpointStore(checkpoint, {}, comm, every=every) as store:
        yield store
