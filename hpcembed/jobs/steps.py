"""What a job and a study begin with: rows read into matrices, and their components found.

Each function is a stage that says what it does; rank 0 speaks.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from mpi4py import MPI

from hpcembed.data.dataset import Dataset, make_dataset
from hpcembed.data.matrix import DataMatrix
from hpcembed.data.reading import read_tables
from hpcembed.data.row_validation import copied_bytes
from hpcembed.data.table import Table
from hpcembed.embedding import Embedding, Machine
from hpcembed.jobs.embedding_methods import make_embedding
from hpcembed.jobs.job import Job
from hpcembed.operators.graph.smoothing import smooth
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.logging import Progress
from hpcembed.runtime.memory import check_fits
from miramns import Check

__all__ = ["data_line", "fit", "read", "say", "timed"]

_log = logging.getLogger(__name__)


def read(job: Job) -> tuple[Dataset, DataMatrix, DataMatrix]:
    """Training and test rows as matrices; the tables keep names, not rows. Collective."""
    dataset = _read_dataset(job)
    if job.config.classifier.enabled and not dataset.has_classes:
        raise ConfigError(
            f"{dataset.name}: the nodes have no labels: set classifier.enabled = false, or name "
            "their labels with data.train_labels"
        )
    # What was read goes as soon as it is taken over: one table at a time is there twice.
    train = _matrix(job, dataset, dataset.train)
    dataset = dataclasses.replace(dataset, train=_without_rows(dataset.train))
    test = _matrix(job, dataset, dataset.test)
    return dataclasses.replace(dataset, test=_without_rows(dataset.test)), train, test


def _read_dataset(job: Job) -> Dataset:
    """Read the tables of a job, smooth the attributes of graph nodes, then split and scale."""
    config, memory = job.config, job.available_bytes
    tables = read_tables(
        config.data, job.data_dir, job.comm, available_bytes=memory, graph=config.graph
    )
    if config.graph.smoothing:
        tables = tuple(_smoothed(job, table) for table in tables)
    return make_dataset(tables, config.data, job.comm, available_bytes=memory)


def _smoothed(job: Job, table: Table) -> Table:
    """Average the attributes of graph nodes over their neighbours; other tables are unchanged."""
    if table.nodes is None:
        return table
    steps, kind = job.config.graph.smoothing, job.config.graph.smoothing_operator
    rows = smooth(table.nodes.graph, table.rows, steps, kind=kind)
    return dataclasses.replace(table, rows=rows)


def _without_rows(table: Table) -> Table:
    return dataclasses.replace(table, rows=np.empty((0, table.rows.shape[1])))


def _matrix(job: Job, dataset: Dataset, table: Table) -> DataMatrix:
    copied = copied_bytes(table.rows, job.config.data.storage)
    held = sum(getattr(part.rows, "nbytes", 0) for part in (dataset.train, dataset.test))
    check_fits(
        job.comm.allreduce(copied, op=MPI.MAX),
        job.remaining(held),
        "a copy of the rows in double, beside those that were read,",
        "use more ranks, or data.storage = shell",
    )
    try:
        return DataMatrix(
            table.rows,
            table.labels.codes,
            job.comm,
            shift=dataset.scaling.shift,
            factor=dataset.scaling.factor,
            storage=job.config.data.storage,
            feature_names=table.feature_names,
            class_names=table.class_names,
            nodes=table.nodes,
        )
    except InputError:
        raise
    except ValueError as error:
        raise ConfigError(f"data.storage: {error}") from error


def fit(job: Job, train: DataMatrix) -> Embedding:
    """Find the embedding that the job asks for, certified or not. Collective."""
    config, k = job.config, job.config.embedding.n_components
    with Progress(f"eigenvectors, k = {k}", enabled=job.comm.rank == 0) as progress:

        def on_check(check: Check) -> None:
            note = f"products, {check.n_converged} of {k} converged, {check.measure:.1e}"
            progress.update(check.n_matvec, note)

        machine = Machine(job.comm.size, job.threads, job.available_bytes)
        embedding = make_embedding(config, machine, on_check=on_check).fit(train)
    say(job, embedding.result_.view())
    return embedding


@contextmanager
def timed(comm: MPI.Comm, seconds: dict[str, float], step: str) -> Iterator[None]:
    """Wall time of a step on the slowest rank. Collective."""
    began = time.perf_counter()
    yield
    seconds[step] = comm.allreduce(time.perf_counter() - began, op=MPI.MAX)


def say(job: Job, line: str) -> None:
    """Log a line on rank 0. Not collective."""
    if job.comm.rank == 0:
        _log.info(line)


def data_line(dataset: Dataset, seconds: float) -> str:
    """What was read, in one line. Not collective."""
    train, test = dataset.train, dataset.test
    return (
        f"{dataset.name}: {train.n_rows:,} training and {test.n_rows:,} test rows of "
        f"{train.rows.shape[1]:,} features, {len(train.class_names)} classes, read in "
        f"{seconds:.2f} s"
    )
