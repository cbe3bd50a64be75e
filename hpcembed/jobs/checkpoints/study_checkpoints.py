"""Checkpoints of a study or a search: its embedding, and the batches of trials in training.

Finished trials are in the result store. An embedding is stored under the digest of everything that
determines it, and a batch under the digests of its trials, so that another study in the same folder
finds none of another one. A batch may continue on another rank than that which began it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from mpi4py import MPI

import hpcembed
from hpcembed.jobs.checkpoints.errors import checkpoint_errors
from hpcembed.jobs.checkpoints.identity import run_identity
from hpcembed.jobs.checkpoints.run_checkpoints import FOLDER
from hpcembed.jobs.checkpoints.stored_embedding import FitCheckpoints
from hpcembed.jobs.checkpoints.stored_training import StoredTraining
from hpcembed.jobs.job import Job
from hpcembed.runtime.stopping import stop_flagged, stop_noticed
from miramns.checkpointing import CheckpointStore

__all__ = ["TrialCheckpoints", "fit_checkpoints", "remove_checkpoints"]

#: Sections that do not change an embedding.
_LATER = ("training", "classifier")


@contextlib.contextmanager
def fit_checkpoints(job: Job) -> Iterator[FitCheckpoints]:
    """Yield the checkpoints of the fit of a study or search. Collective."""
    config = msgspec.structs.replace(job.config, data=job.placed_data())
    identity = run_identity(job, config, whole=False)
    for section in _LATER:
        identity["configuration"].pop(section, None)
    folder = job.out / FOLDER / f"embedding-{_digest(identity)}"
    every, comm = job.checkpoint_every, job.comm
    with checkpoint_errors(comm):
        store = CheckpointStore(folder, identity, comm, every=every, stop=stop_flagged)
    with store:
        yield FitCheckpoints(store, comm)


class TrialCheckpoints:
    """The states of batches of trials in training. Not collective: each rank has its batches.

    Parameters
    ----------
    out : Path
        Output folder of the study.
    every : float or None
        Seconds between checkpoints.
    """

    def __init__(self, out: Path, every: float | None) -> None:
        self._folder, self._every = out / FOLDER / "trials", every

    @contextlib.contextmanager
    def training(self, digests: Sequence[str]) -> Iterator[StoredTraining]:
        """Yield the place of the state of a batch; it is removed by :meth:`finished`."""
        folder = self._of(digests)
        with (
            checkpoint_errors(MPI.COMM_SELF),
            CheckpointStore(
                folder, {"digests": list(digests)}, MPI.COMM_SELF,
                every=self._every, stop=stop_noticed,
            ) as store,
        ):  # fmt: skip
            yield StoredTraining(store, "batch", MPI.COMM_SELF)

    def finished(self, digests: Sequence[str]) -> None:
        """Remove the state of a batch whose results are stored."""
        shutil.rmtree(self._of(digests), ignore_errors=True)

    def _of(self, digests: Sequence[str]) -> Path:
        return self._folder / _digest([hpcembed.__version__, *sorted(digests)])


def remove_checkpoints(job: Job) -> None:
    """Remove the checkpoints of a study or search that is finished, on rank 0."""
    if job.comm.rank == 0 and not job.tables:
        shutil.rmtree(job.out / FOLDER, ignore_errors=True)


def _digest(content: Any) -> str:
    text = json.dumps(msgspec.to_builtins(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
