"""One job, start to end: data, operator, eigenvectors, projection, gather, networks, report.

All ranks walk through :func:`run_job` together; rank 0 alone writes, and trains where it holds all
rows, while the others sleep. The output folder stays empty until the eigenpairs are there, which
are then written before the networks are trained. A run whose eigenpairs miss their tolerance still
leaves everything it found, but ends with a non-zero exit status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import threadpoolctl

from hpcembed.data.matrix import DataMatrix
from hpcembed.data.table import Table
from hpcembed.jobs.configuration import check_network, layers_of
from hpcembed.jobs.job import Job
from hpcembed.jobs.memory_plan import Budget, Shape, job_budget
from hpcembed.jobs.network_inputs import Gathered, project
from hpcembed.jobs.network_inputs import gather as _gather
from hpcembed.jobs.report import RunFolder
from hpcembed.jobs.results import write_embedding, write_results
from hpcembed.jobs.steps import data_line as _data_line
from hpcembed.jobs.steps import fit as _fit
from hpcembed.jobs.steps import read as _read
from hpcembed.jobs.steps import say as _say
from hpcembed.jobs.steps import timed as _timed
from hpcembed.runtime.environment import describe_environment
from hpcembed.runtime.errors import ConvergenceError
from hpcembed.runtime.logging import Progress, show
from hpcembed.runtime.memory import peak_bytes
from hpcembed.runtime.ranks import agreement, idle_while_root
from hpcembed.runtime.threads import available_cores

if TYPE_CHECKING:
    from hpcembed.networks.training.training import Epoch, TrainedClassifier

__all__ = ["run_job"]


def run_job(job: Job) -> int:
    """Run a job and leave its results in ``job.out``.

    Collective.

    Returns
    -------
    int
        Exit status: 0. A requested eigenpair that missed its tolerance, or that the reference
        contradicts, raises :class:`ConvergenceError` (3) when everything is written.
    """
    comm, config = job.comm, job.config
    job.check_out()
    folder: RunFolder | None = None
    with threadpoolctl.threadpool_limits(job.threads):
        _say(job, f"{comm.size} ranks, {job.threads} BLAS threads each; results in {job.out}")
        seconds: dict[str, float] = {}
        with _timed(comm, seconds, "read"):
            dataset, train, test = _read(job)
        _say(job, _data_line(dataset, seconds["read"]))
        budget = _plan(job, train, test)
        with agreement(comm):
            if comm.rank == 0:  # empty until there is an answer, so that it stays free for a retry
                folder = RunFolder.create(job.out)
        embedding = _fit(job, train)
        seconds.update(embedding.seconds_)
        # Before anything else may fail or be killed: the eigenpairs are what took the time.
        toml = job.resolved_toml()
        idle_while_root(comm, lambda: write_embedding(folder, toml, dataset, embedding))
        with _timed(comm, seconds, "project"):
            projected = project(embedding, train, test)
        with _timed(comm, seconds, "gather"):
            gathered = _gather(job, train, test, embedding, projected, budget.training)
    peaks = comm.gather(peak_bytes())
    train.destroy()
    test.destroy()
    trained = _train(job, gathered, dataset.train, folder)
    environment = describe_environment(comm, job.threads)
    environment["peak_bytes_per_rank"] = peaks
    environment["training"] = {
        name: "data_parallel" if name in gathered.local else "gather" for name in gathered.names
    }
    text = idle_while_root(
        comm,
        lambda: write_results(folder, config, dataset, embedding, seconds, trained, environment),
    )
    if text is not None:
        show(text)
    if not embedding.certified_:
        raise ConvergenceError(embedding.failure_text(), embedding.result_)
    return 0


def _plan(job: Job, train: DataMatrix, test: DataMatrix) -> Budget:
    """Say what the rest of the job will take, and refuse what will not fit."""
    stored = job.comm.allreduce(train.stored_bytes + test.stored_bytes)
    n_nonzeros = train.n_nonzeros if train.is_sparse else None
    rows = train.n_rows + test.n_rows
    shape = Shape(train.n_rows, test.n_rows, train.n_features, n_nonzeros, -(-stored // rows))
    available = job.remaining(train.stored_bytes + test.stored_bytes)
    budget = job_budget(
        job.config,
        shape,
        ranks=job.comm.size,
        threads=job.threads,
        available_bytes=available,
        say=lambda line: _say(job, line),
    )
    if job.config.classifier.enabled:
        n_inputs = train.n_features if job.config.classifier.baseline else 1
        for network in job.config.classifier.hidden:
            check_network((n_inputs, *layers_of(network), len(train.class_names)), "this data")
    _say(job, budget.describe(available))
    for line in budget.left_in_place(job.comm.size, available):
        _say(job, line)
    budget.check(available)
    return budget


def _train(
    job: Job, gathered: Gathered, table: Table, folder: RunFolder | None
) -> list[TrainedClassifier]:
    """Train every network of the job, by rank 0 or by all ranks as its input is held. Collective.

    Returns
    -------
    list of TrainedClassifier
        All of them on rank 0.
    """
    config, n_classes = job.config.classifier, len(table.class_names)
    trained = []
    for network in config.hidden:
        layers = layers_of(network)
        for name in gathered.names:
            if name in gathered.local:
                one = _train_in_place(job, gathered, name, n_classes, layers, folder)
            else:
                train = partial(_train_gathered, job, gathered, name, n_classes, layers, folder)
                one = idle_while_root(job.comm, train)
            if one is not None:
                trained.append(one)
    return trained


def _train_gathered(
    job: Job,
    gathered: Gathered,
    name: str,
    n_classes: int,
    layers: tuple[int, ...],
    folder: RunFolder | None,
) -> TrainedClassifier | None:
    """Train a network on gathered rows; rank 0 alone, on all cores that it may use."""
    # PyTorch takes seconds and hundreds of megabytes: only the ranks that train import it.
    from hpcembed.networks.training.training import Samples, train_classifier

    assert gathered.train_labels is not None and gathered.test_labels is not None  # noqa: PT018
    train, test = gathered.inputs[name]
    if train.shape[1] == 0:  # no eigenpair was found, which the run's end says
        return None
    with _watched(job, name, layers, folder) as on_epoch:
        return train_classifier(
            Samples(train, gathered.train_labels),
            Samples(test, gathered.test_labels),
            n_classes,
            layers,
            job.config.training,
            input_name="full" if name == "full" else "embedded",
            threads=len(available_cores()),
            seed=job.config.classifier.seed,
            device=job.config.classifier.device,
            on_epoch=on_epoch,
        )


def _train_in_place(
    job: Job,
    gathered: Gathered,
    name: str,
    n_classes: int,
    layers: tuple[int, ...],
    folder: RunFolder | None,
) -> TrainedClassifier | None:
    """Train a network on rows that stay on their ranks. Collective."""
    from hpcembed.networks.training.data_parallel import LocalSamples, train_data_parallel

    train, test = (
        LocalSamples(rows, labels)
        for rows, labels in zip(gathered.local[name], gathered.local_labels, strict=True)
    )
    if train.n_features == 0:
        return None
    with _watched(job, name, layers, folder) as on_epoch:
        return train_data_parallel(
            train,
            test,
            n_classes,
            layers,
            job.config.training,
            job.comm,
            input_name="full" if name == "full" else "embedded",
            threads=job.threads,
            seed=job.config.classifier.seed,
            device=job.config.classifier.device,
            on_epoch=on_epoch if job.comm.rank == 0 else None,
        )


@contextmanager
def _watched(
    job: Job, name: str, layers: tuple[int, ...], folder: RunFolder | None
) -> Iterator[Callable[[Epoch], None]]:
    """Give what is called after each epoch of a network: the progress shown, and metrics.jsonl."""
    title = f"{name} {'-'.join(map(str, layers))}"
    speaks = job.comm.rank == 0
    with Progress(title, job.config.training.epochs, enabled=speaks) as progress:

        def on_epoch(epoch: Epoch) -> None:
            assert folder is not None  # rank 0 made it
            note = f"epochs, validation {100 * epoch.validation_accuracy:.2f} %"
            progress.update(epoch.epoch, note)
            folder.append_metric({"network": title, "input": name, "epoch": epoch})

        yield on_epoch
