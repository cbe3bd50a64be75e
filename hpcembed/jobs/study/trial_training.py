"""Training of trials on all ranks.

Each rank trains its share of the batches with its own threads and stores the results of a batch
when it is finished. The other ranks send their progress to rank 0 in small messages, which rank 0
receives between its own epochs. At the end each rank sleeps until all are finished.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mpi4py import MPI
from msgspec.structs import replace

from hpcembed.jobs.checkpoints.study_checkpoints import TrialCheckpoints
from hpcembed.jobs.job import Job
from hpcembed.jobs.study.embedded_data import EmbeddedData
from hpcembed.jobs.study.result_store import append_results
from hpcembed.jobs.study.trial_inputs import TrialInputs
from hpcembed.jobs.study.trials import TrialBatch, TrialResult, divide_batches
from hpcembed.networks.training.recipe import Recipe
from hpcembed.runtime.agreement import agree
from hpcembed.runtime.errors import HpcembedError
from hpcembed.runtime.logging import Progress
from hpcembed.runtime.stopping import pass_on, stop_alone

if TYPE_CHECKING:
    from hpcembed.networks.training.batched_training import TrainedBatch
    from hpcembed.networks.training.training_state import TrainingCheckpoint

__all__ = ["TrialTrainer", "train_trials"]

#: Classes beyond which a result has no confusion matrix.
MOST_CLASSES = 32
_TAG = 11


@dataclass(frozen=True, slots=True)
class TrialTrainer:
    """Trains batches of trials on one rank.

    Attributes
    ----------
    data : EmbeddedData
    inputs : TrialInputs
    recipe : Recipe
    threads : int
        Threads of this rank.
    device : {"auto", "cpu", "cuda"}
    """

    data: EmbeddedData
    inputs: TrialInputs
    recipe: Recipe
    threads: int
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def train(
        self,
        batch: TrialBatch,
        on_epoch: Callable[[int], None] | None = None,
        checkpoint: TrainingCheckpoint | None = None,
    ) -> TrainedBatch:
        """Train the trials of a batch together, from a checkpoint if there is one."""
        # PyTorch takes seconds and hundreds of megabytes: only ranks that train import it.
        from hpcembed.networks.training.batched_training import Member, train_batch
        from hpcembed.networks.training.samples import Samples

        first, recipe = batch.trials[0], self.recipe
        if first.input == "whitened":
            recipe = replace(recipe, input_scaling="standard")
        own = dict[str, Any]()
        if first.subspace:
            from hpcembed.networks.random_subspaces.stacked_subspace import SubspaceNetwork

            own["make_networks"] = functools.partial(SubspaceNetwork, dimension=first.subspace)
        train, test = self.inputs.rows(first)
        width = max(trial.n_inputs for trial in batch.trials)
        return train_batch(
            Samples(train[:, :width], self.inputs.train_labels),
            Samples(test[:, :width], self.inputs.test_labels),
            self.data.n_classes,
            first.hidden,
            recipe,
            [Member(trial.seed, trial.n_inputs) for trial in batch.trials],
            input_name="full" if first.input == "full" else "embedded",
            threads=self.threads,
            device=self.device,
            on_epoch=on_epoch,
            checkpoint=checkpoint,
            **own,
        )

    def digests(self, batch: TrialBatch) -> list[str]:
        """Return the names of the trials of a batch."""
        return [self.data.digest(trial, self.recipe) for trial in batch.trials]

    def results(self, batch: TrialBatch, trained: TrainedBatch) -> list[TrialResult]:
        """Collect the results of a trained batch."""
        few = self.data.n_classes <= MOST_CLASSES
        return [
            TrialResult(
                digest=self.data.digest(trial, self.recipe),
                trial=trial,
                parameters=outcome.parameters,
                train_seconds=outcome.train_seconds,
                train_loss=outcome.train_loss,
                validation_score=outcome.validation_score,
                test_score=outcome.test_score,
                best_epoch=outcome.best_epoch,
                confusion=tuple(map(tuple, outcome.confusion.tolist())) if few else (),
                test_rmse=outcome.test_rmse,
                test_mae=outcome.test_mae,
                predictions=tuple((y, p) for y, p in outcome.predictions.tolist()),
            )
            for trial, outcome in zip(batch.trials, trained.results, strict=True)
        ]


def train_trials(
    job: Job,
    trainer: TrialTrainer,
    batches: Sequence[TrialBatch],
    title: str,
    on_trained: Callable[[TrainedBatch, Sequence[TrialResult]], None] | None = None,
) -> dict[str, TrialResult]:
    """Train batches on all ranks and store their results.

    Collective.

    Parameters
    ----------
    job : Job
        Results are appended to the result store in its output folder.
    batches : sequence of TrialBatch
        The same on all ranks.
    title : str
        Title of the progress.
    on_trained : callable, optional
        Called on the rank of a batch with the networks and results of the batch.

    Returns
    -------
    dict of str to TrialResult
        Results of all batches by their digests, on every rank.

    Raises
    ------
    HpcembedError
        A training failed on some rank, or the job must stop; raised on all ranks. Batches that were
        finished before are stored, and the state of those in training if the job stops.
    """
    comm = job.comm
    if not batches:  # on all ranks
        return {}
    mine = divide_batches(batches, comm.size)[comm.rank]
    results: list[TrialResult] = []
    error: Exception | None = None
    checkpoints = None if job.tables else TrialCheckpoints(job.out, job.checkpoint_every)
    progress = _SharedProgress(comm, batches, title)
    with progress.bar:
        try:
            for batch in mine:
                stop_alone("between two batches of trials")
                share = batch.cost / trainer.recipe.epochs
                on_epoch = functools.partial(progress.epoch, share)
                trained, made = _train_batch(job, trainer, batch, on_epoch, checkpoints)
                if on_trained is not None:
                    on_trained(trained, made)
                append_results(job.out, comm.rank, made)
                if checkpoints is not None:
                    checkpoints.finished(trainer.digests(batch))
                results += made
                progress.finished(batch)
        except (HpcembedError, OSError, MemoryError) as caught:
            error = caught
        progress.wait()
    agree(comm, error)
    return {one.digest: one for part in comm.allgather(results) for one in part}


def _train_batch(
    job: Job,
    trainer: TrialTrainer,
    batch: TrialBatch,
    on_epoch: Callable[[int], None],
    checkpoints: TrialCheckpoints | None,
) -> tuple[TrainedBatch, list[TrialResult]]:
    """Train a batch on this rank, from its checkpoint if there is one."""
    if checkpoints is None:
        trained = trainer.train(batch, on_epoch)
        return trained, trainer.results(batch, trained)
    with checkpoints.training(trainer.digests(batch)) as checkpoint:
        trained = trainer.train(batch, on_epoch, checkpoint)
    return trained, trainer.results(batch, trained)


class _SharedProgress:
    """Progress of all ranks, shown by rank 0 with an estimate of the remaining time."""

    def __init__(self, comm: MPI.Intracomm, batches: Sequence[TrialBatch], title: str) -> None:
        self._comm = comm
        self._total = sum(batch.cost for batch in batches)
        # Work of finished batches, and of the current batch of rank 0.
        self._done, self._current = 0.0, 0.0
        self._n_finished, self._n_received = 0, 0
        self._sent: list[MPI.Request] = []
        n_trials = sum(len(batch.trials) for batch in batches)
        self.bar = Progress(title, n_trials, enabled=comm.rank == 0)

    def epoch(self, share: float, epoch: int) -> None:
        """Record that this rank finished an epoch of its batch; `share` is the work of one."""
        self._current = share * epoch
        self.receive()

    def receive(self) -> None:
        """Receive the messages of other ranks on rank 0."""
        if self._comm.rank:
            return
        while self._comm.iprobe(tag=_TAG):
            self._count(*self._comm.recv(tag=_TAG))
            self._n_received += 1
        self._show()

    def finished(self, batch: TrialBatch) -> None:
        """Record that this rank finished a batch."""
        message = (len(batch.trials), batch.cost)
        self._current = 0.0
        if self._comm.rank:
            self._sent.append(self._comm.isend(message, dest=0, tag=_TAG))
        else:
            self._count(*message)
            self._show()

    def wait(self) -> None:
        """Sleep until every rank is finished.

        Collective.
        """
        request = self._comm.Ibarrier()
        while not request.Test():
            pass_on()
            self.receive()
            time.sleep(0.02)
        # Every message was sent before its rank entered the barrier: receive the remaining ones.
        sent = self._comm.gather(len(self._sent))
        if sent is not None:
            while self._n_received < sum(sent):
                self.receive()
        MPI.Request.waitall(self._sent)

    def _count(self, n_trials: int, cost: float) -> None:
        self._n_finished += n_trials
        self._done += cost

    def _show(self) -> None:
        done = self._done + self._current
        self.bar.update(self._n_finished, "networks", share=done / self._total)
