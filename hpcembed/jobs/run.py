"""One job, start to end: read, plan, fit, project, gather, train, write.

All ranks run :func:`run_job` together. Rank 0 alone writes, and trains the networks whose rows it
holds, while the other ranks sleep. The eigenpairs are written before the networks are trained. A
run with unconverged eigenpairs still writes all its results, but ends with a non-zero exit status.

Until all results are written, the output folder has checkpoints
(:mod:`hpcembed.jobs.checkpoints.run_checkpoints`), from which the same job continues. A run that
fails before the first of them leaves the folder empty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import threadpoolctl
from mpi4py import MPI

from hpcembed.data.dataset import Dataset, make_dataset
from hpcembed.data.matrix import DataMatrix
from hpcembed.data.reading import read_tables
from hpcembed.data.row_validation import copied_bytes
from hpcembed.data.table import Table
from hpcembed.embedding import Embedding, Machine, shape_of
from hpcembed.jobs.checkpoints.run_checkpoints import RunCheckpoints
from hpcembed.jobs.checkpoints.stored_embedding import FitCheckpoints
from hpcembed.jobs.dimensions import RUN_WORK, measure_dimensions
from hpcembed.jobs.embedding_methods import make_embedding
from hpcembed.jobs.job import Job
from hpcembed.jobs.majority import majority_shares
from hpcembed.jobs.memory_plan import Budget, job_budget
from hpcembed.jobs.network_inputs import gather, project
from hpcembed.jobs.network_similarity import compare_networks
from hpcembed.jobs.network_sizes import check_networks
from hpcembed.jobs.network_training import train_networks
from hpcembed.jobs.node_coordinates import NODES_FILE, gather_nodes
from hpcembed.jobs.results import write_embedding, write_results
from hpcembed.operators.graph.smoothing import smooth
from hpcembed.runtime.agreement import idle_while_root
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError
from hpcembed.runtime.fault_injection import inject
from hpcembed.runtime.logging import Progress, show
from hpcembed.runtime.machine.environment import describe_environment
from hpcembed.runtime.machine.memory import check_fits, peak_bytes
from hpcembed.runtime.output.lock import owned_output
from hpcembed.runtime.ranks import timed
from hpcembed.runtime.stopping import stop_together
from hpcembed.runtime.wording import counted
from miramns import IterationRecord

__all__ = ["fit", "plan", "read", "run_job"]


def run_job(job: Job) -> int:
    """Run a job and write its results to ``job.out``.

    Collective.

    Returns
    -------
    int
        Exit status: 0.

    Raises
    ------
    OutputExistsError
        The output folder is not empty, or another job writes to it.
    StoppedError
        After a signal or before a time limit: the run can be continued.
    ConvergenceError
        After all results are written: an eigenpair is unconverged, or contradicts the reference.
    HpcembedError
        One line, on all ranks.
    """
    with owned_output(job.comm, job.out), RunCheckpoints(job) as checkpoints:
        return _run_steps(job, checkpoints)


def _run_steps(job: Job, checkpoints: RunCheckpoints) -> int:
    comm = job.comm
    with threadpoolctl.threadpool_limits(job.threads):
        threads = counted(job.threads, "BLAS thread")
        job.log(f"{counted(comm.size, 'rank')}, {threads} each; results in {job.out}")
        dataset, train, test = read(job)
        budget = plan(job, train, test)
        folder = checkpoints.begin()
        stop_together(comm, "after reading the data")
        embedding = fit(job, train, test, checkpoints.of_fit)
        stop_together(comm, "after the eigenpairs")
        # Written before the next step, which may fail: the eigenpairs took most of the time.

        nodes = gather_nodes(embedding, train)

        def write() -> None:
            write_embedding(folder, dataset, embedding)
            if nodes is not None:
                folder.write_csv(NODES_FILE, nodes.columns(dataset.train.class_names))
            folder.write_text("job.toml", job.resolved_toml())

        idle_while_root(comm, write)
        with timed(job.comm, job.seconds, "project"):
            projected = project(embedding, train, test)
        dimensions = measure_dimensions(job, embedding, projected[0], RUN_WORK)
        with timed(job.comm, job.seconds, "gather"):
            inputs = gather(job, train, test, embedding, projected, budget.training)
    peaks = comm.gather(peak_bytes())
    majority = majority_shares(train, test) if job.config.classifier.enabled else None
    train.destroy()
    test.destroy()
    n_classes = len(dataset.train.class_names)
    trained = train_networks(job, inputs, n_classes, folder, checkpoints)
    similarity = compare_networks(job, inputs, trained)
    environment = describe_environment(comm, job.threads)
    environment["peak_bytes_per_rank"] = peaks
    environment["training"] = inputs.training()
    inject("export", comm)
    idle_while_root(
        comm,
        lambda: show(
            write_results(
                folder,
                job,
                dataset,
                embedding,
                trained,
                environment,
                majority,
                similarity,
                dimensions,
            )
        ),
    )
    checkpoints.remove()
    if not embedding.certified_:
        raise ConvergenceError(embedding.failure_text(), embedding.result_)
    return 0


def read(
    job: Job, inspect: Callable[[Sequence[Table]], None] = lambda tables: None
) -> tuple[Dataset, DataMatrix, DataMatrix]:
    """Read training and test rows into matrices; the tables keep names, not rows.

    Collective.

    Parameters
    ----------
    inspect : callable
        Is called with the tables while they hold their rows of numbers, which are not scaled. The
        attributes of graph nodes are those before they are smoothed.

    Raises
    ------
    HpcembedError
        One line, on all ranks.
    """
    with timed(job.comm, job.seconds, "read"):
        dataset = _read_dataset(job, inspect)
        if job.config.classifier.enabled and not dataset.has_labels:
            raise ConfigError(
                f"{dataset.name}: the nodes have no labels: set classifier.enabled = false, or "
                "name their labels with data.train_labels"
            )
        # Each table is freed once its matrix is made: one of them at a time is in memory twice.
        train = _matrix(job, dataset, dataset.train)
        dataset = dataclasses.replace(dataset, train=_without_rows(dataset.train))
        test = _matrix(job, dataset, dataset.test)
        dataset = dataclasses.replace(dataset, test=_without_rows(dataset.test))
        inject("read", job.comm)
    job.log(
        f"{dataset.name}: {train.n_rows:,} training and {counted(test.n_rows, 'test row')} of "
        f"{counted(train.n_features, 'feature')}, {_labels_text(dataset)}, read in "
        f"{job.seconds['read']:.2f} s"
    )
    if dataset.task_reason and dataset.has_labels:
        job.log(f"{dataset.task}: {dataset.task_reason}")
    return dataset, train, test


def _labels_text(dataset: Dataset) -> str:
    n_classes = len(dataset.train.class_names)
    return "a numeric target" if dataset.task == "regression" else f"{n_classes} classes"


def _read_dataset(job: Job, inspect: Callable[[Sequence[Table]], None]) -> Dataset:
    """Read the tables of a job, smooth the attributes of graph nodes, then split and scale."""
    config, memory = job.config, job.available_bytes
    tables: Sequence[Table] = job.tables or read_tables(
        config.data, job.data_dir, job.comm, available_bytes=memory, graph=config.graph
    )
    has_smoothing = config.graph.smoothing > 0 and any(table.nodes for table in tables)
    if has_smoothing:
        inspect(tables)  # products with the graph differ between numbers of ranks by rounding
        tables = tuple(_smoothed(job, table) for table in tables)
    dataset = make_dataset(
        tables,
        config.data,
        job.comm,
        available_bytes=memory,
        reproducible=config.resources.reproducible,
    )
    if not has_smoothing:
        inspect((dataset.train, dataset.test))
    return dataset


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
        "a copy of the rows in double precision, in addition to those that were read,",
        "use more ranks, or data.storage = shell",
    )
    try:
        return DataMatrix(
            table.rows,
            table.label_array,
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


def plan(job: Job, train: DataMatrix, test: DataMatrix) -> Budget:
    """Plan the memory of the rest of the job.

    Collective.

    Raises
    ------
    MemoryLimitError, ConfigError
        The rest does not fit in memory, or a network is too large.
    """
    available = job.remaining(train.stored_bytes + test.stored_bytes)
    machine = Machine(job.comm.size, job.threads, available)
    budget = job_budget(job.config, shape_of(train, test), machine)
    job.log(budget.operator.describe())
    classifier = job.config.classifier
    if classifier.enabled:
        n_inputs = train.n_features if classifier.baseline else 1
        check_networks(classifier.hidden, n_inputs, len(train.class_names))
    for line in (budget.describe(), *budget.left_in_place()):
        job.log(line)
    budget.check()
    return budget


def fit(
    job: Job,
    train: DataMatrix,
    test: DataMatrix,
    checkpoints: FitCheckpoints | None = None,
) -> Embedding:
    """Fit the embedding of a job, certified or not, and store the seconds of its steps in the job.

    Collective.

    Parameters
    ----------
    test : DataMatrix
        Test rows, which are in memory in addition to the training rows.
    checkpoints : FitCheckpoints, optional
        The fit continues from there; a finished one is taken as it is.
    """
    k = job.config.embedding.n_components
    inject("operator", job.comm)
    with Progress(f"eigenvectors, k = {k}", enabled=job.comm.rank == 0) as progress:

        def monitor(record: IterationRecord) -> None:
            note = f"products, {record.n_converged} of {k} converged, {record.measure:.1e}"
            progress.update(record.n_matvec, note)

        available = job.remaining(train.stored_bytes + test.stored_bytes)
        machine = Machine(job.comm.size, job.threads, available)
        store = None if checkpoints is None else checkpoints.solver_store
        embedding = make_embedding(job.config, machine, monitor=monitor, checkpoint=store)
        if checkpoints is None:
            embedding.fit(train)
        else:
            checkpoints.fit(embedding, train)
    job.seconds.update(embedding.seconds_)
    job.log(embedding.result_.view())
    return embedding
