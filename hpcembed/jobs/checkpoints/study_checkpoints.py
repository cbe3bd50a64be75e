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
from hpcembed.data.matrix import DataMatrix
from hpcembed.jobs.checkpoints.errors import checkpoint_errors
from hpcembed.jobs.checkpoints.identity import run_identity
from hpcembed.jobs.checkpoints.run_checkpoints import FOLDER
from hpcembed.jobs.checkpoints.stored_embedding import restore_embedding, store_embedding
from hpcembed.jobs.checkpoints.stored_training import StoredTraining
from hpcembed.jobs.job import Job
from hpcembed.runtime.stopping import stop_flagged, stop_noticed
from miramns.checkpointing import CheckpointStore

__all__ = ["EmbeddingCheckpoints", "TrialCheckpoints", "remove_checkpoints"]

#: Sections that do not change an embedding.
_LATER = ("training", "classifier")


class EmbeddingCheckpoints:
    """The stored embedding of one job on its data; see :func:`hpcembed.jobs.run.fit`.

    Collective.
    """

    def __init__(self, job: Job) -> None:
        config = msgspec.structs.replace(job.config, data=job.placed_data())
        identity = run_identity(job, config, whole=False)
        for section in _LATER:
            identity["configuration"].pop(section, None)
        name = _digest(identity)
        with checkpoint_errors(job.comm):
            self.store = CheckpointStore(
                job.out / FOLDER / f"embedding-{name}",
                identity,
                job.comm,
                every=job.checkpoint_every,
                stop=stop_flagged,
            )
        self._comm = job.comm

    def __enter__(self) -> EmbeddingCheckpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def restore(self, embedding: Any, train: DataMatrix) -> bool:
        """Give an embedding its stored state; return False if there is none. Collective."""
        with checkpoint_errors(self._comm):
            return restore_embedding(self.store, embedding, train)

    def keep(self, embedding: Any, train: DataMatrix) -> None:
        """Store a fitted embedding. Collective."""
        with checkpoint_errors(self._comm):
            store_embedding(self.store, embedding, train)


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
