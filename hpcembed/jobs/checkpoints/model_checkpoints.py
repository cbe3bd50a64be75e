"""Checkpoints of ``hpcembed compress-model``: the moments of the layers, on each rank.

The pass over the calibration rows takes most of the time. Every rank stores the sums of its own
rows, in a folder ``.NAME.checkpoints`` beside the output, under the digest of everything that
determines them. The folder is removed with the end of the command.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mpi4py import MPI
from numpy.typing import NDArray

import hpcembed
from hpcembed.jobs.checkpoints.errors import checkpoint_errors
from hpcembed.jobs.checkpoints.identity import described_file
from hpcembed.jobs.checkpoints.stored_training import StoredTraining
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import HpcembedError, OutputError
from hpcembed.runtime.output.files import output_error
from hpcembed.runtime.stopping import StoppedError, stop_noticed
from miramns.checkpointing import CheckpointStore

__all__ = ["StoredSums", "model_checkpoints"]


class StoredSums:
    """Place of the moments of this rank's rows: a ``SumsCheckpoint``. Not collective."""

    def __init__(self, store: CheckpointStore) -> None:
        self._place = StoredTraining(store, "moments", MPI.COMM_SELF)

    def restore(self, into: Callable[[dict[str, NDArray[Any]]], None]) -> bool:
        """Call `into` with the last sums that were stored; return False if there are none."""
        return self._place.restore(into)

    def batch_done(self, state: Callable[[], dict[str, NDArray[Any]]], *, ended: bool) -> None:
        """Store the sums if that is due or they are complete; then stop if the job is asked to."""
        self._place.epoch_done(state, ended=ended)


@contextlib.contextmanager
def model_checkpoints(
    comm: MPI.Intracomm,
    target: Path,
    files: Sequence[Path | None],
    settings: Sequence[Any],
    every: float | None,
) -> Iterator[StoredSums]:
    """Yield the place of the moments, and remove it at the end of the block.

    Collective. After a stop and where the disk is full it stays, for the next attempt.

    Parameters
    ----------
    target : Path
        Output of the command.
    files : sequence of Path or None
        Model and data.
    settings : sequence of JSON values
        Further arguments that determine the moments.
    every : float or None
        Seconds between checkpoints.
    """
    folder = target.with_name(f".{target.name}.checkpoints")
    name, store = "", None
    with agreement(comm):
        if comm.rank == 0:
            facts = [None if file is None else described_file(file) for file in files]
            content = json.dumps([hpcembed.__version__, facts, *settings])
            name = hashlib.sha256(content.encode()).hexdigest()[:32]
    name = comm.bcast(name)
    with agreement(comm), checkpoint_errors(MPI.COMM_SELF):
        part = folder / name / f"rank-{comm.rank}-of-{comm.size}"
        store = CheckpointStore(part, {}, MPI.COMM_SELF, every=every, stop=stop_noticed)
    assert store is not None  # else all ranks have raised
    try:
        with store:
            yield StoredSums(store)
    except (StoppedError, OutputError):
        raise
    except HpcembedError:  # another attempt has other arguments
        if comm.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    comm.Barrier()
    with agreement(comm):
        if comm.rank == 0:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise output_error(folder, error) from error
