"""``hpcembed study``: a study from its file to its tables, resumable.

The output folder may hold an earlier run of the same or of another study: its finished cells are
taken over where their digests agree, and never trained again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import threadpoolctl
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.jobs.configuration import check_network, layers_of
from hpcembed.jobs.job import Job, place
from hpcembed.jobs.network_inputs import project
from hpcembed.jobs.report import RunFolder
from hpcembed.jobs.results import words_of, write_embedding
from hpcembed.jobs.study.drawing import Pictures
from hpcembed.jobs.study.inputs import StudyInputs
from hpcembed.jobs.study.preparation import MARK, Begun, begin, open_folder
from hpcembed.jobs.study.published import Published, load_published
from hpcembed.jobs.study.result_store import read_results
from hpcembed.jobs.study.results import summarise_study, write_study
from hpcembed.jobs.study.settings import StudyConfig, image_shape, job_of, load_study
from hpcembed.jobs.study.sweep import Trainer, train_units
from hpcembed.jobs.study.trials import Cell, Result, plan_units
from hpcembed.runtime.environment import describe_environment
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.logging import show
from hpcembed.runtime.ranks import agreement, check_launcher, gather_rows, idle_while_root
from hpcembed.runtime.settings import to_toml

__all__ = ["cells_of", "run_study"]

NOTHING_FINISHED = (
    "{}: no network of this study is finished there: run it without --report-only, or give the "
    "folder of its run with --out"
)
#: Test rows whose first three components are drawn.
SCATTERED = 2000


def run_study(
    path: Path,
    overrides: Sequence[str],
    data_dir: Path | None,
    out: Path | None,
    comm: MPI.Intracomm,
    *,
    report_only: bool = False,
) -> int:
    """Run a study, or what is left of it, and write its tables.

    Collective.

    Parameters
    ----------
    report_only : bool
        Train nothing: report what is finished in the output folder, as of a study that still runs.

    Returns
    -------
    int
        Exit status 0.

    Raises
    ------
    ConvergenceError
        A component missed its tolerance: nothing is trained on what is not certified.
    HpcembedError
        One line, on all ranks.
    """
    with agreement(comm):
        check_launcher(comm)
        study = load_study(path, overrides)
    directory = out or Path(study.output.directory or f"runs/{path.stem}")
    job = place(job_of(study), path.parent, data_dir, directory, comm)
    published: Mapping[tuple[int, ...], Published] = {}
    with agreement(comm):
        published = _published(job, study)
    with agreement(comm):
        if report_only and comm.rank == 0 and not read_results(job.out):
            raise ConfigError(NOTHING_FINISHED.format(job.out))
    folder = open_folder(job)
    with threadpoolctl.threadpool_limits(job.threads):
        job.log(f"{comm.size} ranks, {job.threads} threads each; results in {job.out}")
        begun = begin(job)
        n_classes = len(begun.train.class_names)
        _check_networks(study, begun.train.n_features, n_classes)
        shape = image_shape(study, begun.train.n_features)
        placed = to_toml(msgspec.structs.replace(study, data=job.placed_data()))
        idle_while_root(
            comm, lambda: write_embedding(folder, placed, begun.dataset, begun.embedding, MARK)
        )
        cells = cells_of(study, begun.train.n_features)
        results = _train(job, study, begun, cells, n_classes, report_only=report_only)
        with job.timed("project"):
            coordinates = project(begun.embedding, begun.train, begun.test)
        begun.seconds.update(job.seconds)
        pictures = _pictures(begun, coordinates[1], shape)
        begun.destroy()
    environment = describe_environment(comm, job.threads)
    text = idle_while_root(
        comm,
        lambda: _write(folder, study, begun, results, published, environment, pictures),
    )
    if text is not None:
        show(text)
    return 0


def _published(job: Job, study: StudyConfig) -> dict[tuple[int, ...], Published]:
    if not study.study.published:
        return {}
    path = job.data_dir / study.study.published
    if not path.exists():
        job.log(f"{path} is not there: no published accuracies beside ours")
        return {}
    return load_published(path, study.data.name)


def _check_networks(study: StudyConfig, n_features: int, n_classes: int) -> None:
    for network in study.study.networks:
        n_inputs = n_features if study.study.baseline else max(study.dimensions)
        check_network((n_inputs, *layers_of(network), n_classes), "this data")


def cells_of(study: StudyConfig, n_features: int) -> list[Cell]:
    """Every cell of a study. Not collective."""
    cells = []
    for network in study.study.networks:
        hidden = layers_of(network)
        for seed in study.seeds:
            for kind in study.study.embeddings:
                cells += [Cell(kind, hidden, k, seed) for k in study.dimensions]
            if study.study.baseline:
                cells.append(Cell("full", hidden, n_features, seed))
    return sorted(set(cells))


def _train(
    job: Job,
    study: StudyConfig,
    begun: Begun,
    cells: Sequence[Cell],
    n_classes: int,
    *,
    report_only: bool,
) -> list[Result]:
    """Results of all cells: those on disk, and those that are trained now. Collective."""
    comm, recipe = job.comm, study.training
    finished: dict[str, Result] = {}
    with agreement(comm):
        if comm.rank == 0:
            finished = read_results(job.out)
    finished = comm.bcast(finished)
    blank = Trainer(
        _NOTHING,
        recipe,
        begun.data,
        n_classes,
        job.threads,
        study.study.device,
        embedding=begun.settings,
    )
    names = {cell: blank.digest(cell) for cell in cells}
    pending = [cell for cell in cells if names[cell] not in finished]
    job.log(f"{len(cells)} networks, {len(cells) - len(pending)} of them trained already")
    if report_only:
        if len(pending) == len(cells):
            raise ConfigError(NOTHING_FINISHED.format(job.out))
        return [finished[names[cell]] for cell in cells if names[cell] in finished]
    inputs = StudyInputs(
        job, begun.embedding, begun.train, begun.test, pending, centred=recipe.centred
    )
    trainer = dataclasses.replace(blank, inputs=inputs)
    units = plan_units(pending, n_classes, recipe.batch_size, study.study.batch)
    made = train_units(comm, trainer, units, job.out, "training")
    # Not in a finally: it is collective, and an error may be that of one rank alone.
    inputs.destroy()
    finished |= {result.digest: result for result in made}
    return [finished[names[cell]] for cell in cells]


_NOTHING: Any = None


def _pictures(begun: Begun, coordinates: NDArray[Any], shape: tuple[int, ...]) -> Pictures:
    """What the report draws of the data; whole on rank 0 alone. Collective."""
    test, linear = begun.test, begun.embedding.linear_map_
    share = -(-SCATTERED // test.comm.size)
    rows = np.ascontiguousarray(coordinates[:share, :3], dtype=np.float64)
    gathered = gather_rows(test.comm, rows)
    labels = gather_rows(test.comm, np.asarray(test.labels[:share]))
    classes = [] if labels is None else [test.class_names[label] for label in labels]
    return Pictures(
        spectrum=begun.embedding.spectrum_,
        components=np.empty((0, 0)) if linear is None else linear.components,
        class_names=tuple(test.class_names),
        image_shape=shape,
        scatter=np.empty((0, 0)) if gathered is None else gathered,
        scatter_classes=classes,
        words=words_of(begun.dataset, begun.embedding),
    )


def _write(
    folder: RunFolder,
    study: StudyConfig,
    begun: Begun,
    results: Sequence[Result],
    published: Mapping[tuple[int, ...], Published],
    environment: Mapping[str, object],
    pictures: Pictures,
) -> str:
    dataset, result, spectrum = begun.dataset, begun.embedding.result_, begun.embedding.spectrum_
    is_linear = begun.embedding.linear_map_ is not None
    facts = {
        "dataset": {
            "name": dataset.name,
            "n_train": begun.train.n_rows,
            "n_test": begun.test.n_rows,
            "n_features": begun.train.n_features,
            "class_names": begun.train.class_names,
            **{key: begun.data[key] for key in ("labels", "mean", "variance")},
        },
        "embedding": {
            "method": study.embedding.method,
            "components": begun.embedding.components_name,
            "operator": begun.embedding.operator_,
            "is_linear": is_linear,
            "solver": result.solver,
            "eigenvalues": spectrum.values,
            "eigenvalue_meaning": spectrum.meaning,
            "explained_variance_ratio": spectrum.explained_variance_ratio,
            "residual_norms": result.relative_residuals,
            "orthogonality": result.orthogonality,
        },
        "seconds": begun.seconds,
        "environment": environment,
    }
    embedding = sum(begun.seconds[stage] for stage in ("operator", "solve", "project"))
    summary = summarise_study(
        study,
        results,
        begun.train.n_features,
        embedding,
        is_linear=is_linear,
        n_rows=(begun.train.n_rows, begun.test.n_rows),
    )
    return write_study(folder, study, summary, results, published, facts, pictures)
