"""Train the networks of a run on the ranks that hold their inputs: rank 0, or all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpcembed.jobs.checkpoints.run_checkpoints import RunCheckpoints
from hpcembed.jobs.job import Job
from hpcembed.jobs.network_inputs import NetworkInputs
from hpcembed.jobs.network_sizes import layers_of
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.scores import ACCURACY, R2, Score
from hpcembed.jobs.report.wording import network_name
from hpcembed.runtime.agreement import idle_while_root
from hpcembed.runtime.fault_injection import inject
from hpcembed.runtime.logging import Progress
from hpcembed.runtime.machine.threads import training_threads
from hpcembed.runtime.stopping import stop_together

if TYPE_CHECKING:
    from hpcembed.networks.training.epochs import Epoch
    from hpcembed.networks.training.report import TrainedClassifier

__all__ = ["train_networks"]


def train_networks(
    job: Job,
    inputs: NetworkInputs,
    n_classes: int,
    folder: RunFolder,
    checkpoints: RunCheckpoints,
) -> list[TrainedClassifier]:
    """Train every network of a job on each of its inputs.

    Collective.

    Parameters
    ----------
    n_classes : int
        0 for a regression.
    folder : RunFolder
        Output folder, for metrics.jsonl.
    checkpoints : RunCheckpoints
        Trainings continue from there; a finished one is only tested again.

    Returns
    -------
    list of TrainedClassifier
        All of them on rank 0; empty on ranks that trained none.
    """
    trained = []
    for network in job.config.classifier.hidden:
        hidden = layers_of(network)
        for name in inputs.names:
            stop_together(job.comm, f"before the training of {name} {network_name(hidden)}")
            one = _train(job, inputs, name, n_classes, hidden, folder, checkpoints)
            if one is not None:
                trained.append(one)
    return trained


def _train(
    job: Job,
    inputs: NetworkInputs,
    name: str,
    n_classes: int,
    hidden: tuple[int, ...],
    folder: RunFolder,
    checkpoints: RunCheckpoints,
) -> TrainedClassifier | None:
    """Train one network on one input. Collective.

    Returns None on ranks that do not train, and for an input without columns: no eigenpair was
    found then, which the end of the run reports.
    """
    inject("train", job.comm, *inputs.arrays(name))

    def trained() -> TrainedClassifier | None:
        from hpcembed.networks.training.samples import Samples, check_local_samples, check_samples

        is_local = name in inputs.local
        parts = inputs.local[name] if is_local else inputs.gathered[name]
        train, test = (Samples(*part) for part in parts)
        if train.n_features == 0:
            return None
        # an error of the rows does not wait for PyTorch
        for samples, title in ((train, "training"), (test, "test")):
            if is_local:
                check_local_samples(job.comm, samples, n_classes, title)
            else:
                check_samples(samples, n_classes, title)
        # PyTorch takes seconds and hundreds of megabytes: only the ranks that train import it.
        from hpcembed.networks.training.data_parallel.training import train_data_parallel
        from hpcembed.networks.training.gathered_training import train_classifier

        n_rows = len(train.labels)
        n_rows = job.comm.allreduce(n_rows) if is_local else n_rows
        recipe = job.config.training.for_rows(n_rows, n_classes)
        score, title = ACCURACY if n_classes else R2, f"{name} {network_name(hidden)}"

        def on_restored(n_epochs: int) -> None:
            if job.comm.rank == 0 and checkpoints.is_resumed:
                folder.keep_metrics(title, n_epochs)

        with _progress(job, name, hidden, folder, recipe.epochs, score) as on_epoch:
            settings: dict[str, Any] = {
                "input_name": "full" if name == "full" else "embedded",
                "seed": job.config.classifier.seed,
                "device": job.config.classifier.device,
                "on_epoch": on_epoch if job.comm.rank == 0 else None,
                "checkpoint": checkpoints.training(
                    f"{name}-{network_name(hidden)}", on_restored, alone=not is_local
                ),
            }
            resources = job.config.resources
            threads = training_threads(job.threads if resources.reproducible else resources.threads)
            arguments = (train, test, n_classes, hidden, recipe)
            if is_local:
                return train_data_parallel(*arguments, job.comm, threads=job.threads, **settings)
            return train_classifier(*arguments, threads=threads, **settings)

    return trained() if name in inputs.local else idle_while_root(job.comm, trained)


@contextmanager
def _progress(
    job: Job, name: str, hidden: tuple[int, ...], folder: RunFolder, n_epochs: int, score: Score
) -> Iterator[Callable[[Epoch], None]]:
    """Yield the callback of each epoch: it shows the progress and writes metrics.jsonl."""
    title = f"{name} {network_name(hidden)}"
    enabled = job.comm.rank == 0
    with Progress(title, n_epochs, enabled=enabled) as progress:

        def on_epoch(epoch: Epoch) -> None:
            note = f"epochs, validation {score.with_unit(epoch.validation_score)}"
            progress.update(epoch.epoch, note)
            folder.append_metric({"network": title, "input": name, "epoch": epoch})

        yield on_epoch
