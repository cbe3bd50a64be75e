"""``hpcembed study``: from the file of a study to its report.

The output folder may hold an earlier run of the same study or of another one. Finished trials with
the same digests are taken from it and not trained again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import threadpoolctl
from mpi4py import MPI
from msgspec.structs import replace

from hpcembed.jobs.checkpoints.study_checkpoints import remove_checkpoints
from hpcembed.jobs.dimensions import STUDY_WORK, measure_dimensions
from hpcembed.jobs.job import Job, place
from hpcembed.jobs.majority import majority_shares
from hpcembed.jobs.network_inputs import project
from hpcembed.jobs.network_sizes import check_networks
from hpcembed.jobs.results import write_embedding
from hpcembed.jobs.study.embedded_data import embed_data
from hpcembed.jobs.study.plan import describe_study
from hpcembed.jobs.study.published_accuracies import PublishedAccuracy, load_published
from hpcembed.jobs.study.report import write_study
from hpcembed.jobs.study.report_inputs import drawn_data, study_facts
from hpcembed.jobs.study.result_store import (
    check_folder,
    load_results,
    open_folder,
    write_mark,
)
from hpcembed.jobs.study.rivals.catalogue import rival_limits, rival_settings
from hpcembed.jobs.study.rivals.fits import load_fit_seconds
from hpcembed.jobs.study.settings import StudyConfig, image_shape, job_of, load_study
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.jobs.study.trial_results import NOTHING_FINISHED, collect_results
from hpcembed.runtime.agreement import agreement, idle_while_root
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.logging import show
from hpcembed.runtime.machine.environment import describe_environment
from hpcembed.runtime.output.lock import owned_output
from hpcembed.runtime.ranks import timed
from hpcembed.runtime.settings import to_toml
from hpcembed.runtime.wording import counted

__all__ = ["conduct_study", "run_study"]

#: File that identifies the output folder of a study.
MARK = "study.toml"


def run_study(
    path: Path,
    overrides: Sequence[str],
    data_dir: Path | None,
    out: Path | None,
    comm: MPI.Intracomm,
    *,
    report_only: bool = False,
    dry_run: bool = False,
    checkpoint_every: float | None = None,
) -> int:
    """Run a study, or its remaining trials, and write its report.

    Collective.

    Parameters
    ----------
    path : Path
        File of the study.
    overrides : sequence of str
        ``section.key=value``.
    data_dir : Path, optional
        Folder of the data; by default the folder of the file.
    out : Path, optional
        Output folder; by default the file states it.
    report_only : bool
        Train nothing, and report the finished trials in the output folder.
    dry_run : bool
        Read the headers of the data only, print the plan of the study, and write nothing.
    checkpoint_every : float, optional
        Seconds between checkpoints; default: so that they take at most 2 % of the time.

    Returns
    -------
    int
        Exit status 0.

    Raises
    ------
    ConvergenceError
        A component is not certified. Networks are trained on certified components only.
    HpcembedError
        Any other error, in one line; raised on all ranks.
    """
    with agreement(comm):
        study = load_study(path, overrides)
    job = place(job_of(study), path.parent, data_dir, out, comm, f"runs/{path.stem}")
    job = dataclasses.replace(job, checkpoint_every=checkpoint_every)
    if dry_run:
        check_folder(job, MARK, path)
        text = describe_study(job, study)
    else:
        with owned_output(comm, job.out):
            text = conduct_study(job, study, path, report_only=report_only)
    if comm.rank == 0:
        show(text)
    return 0


def conduct_study(
    job: Job,
    study: StudyConfig,
    source: Path | None = None,
    *,
    report_only: bool = False,
    allow_fewer: bool = False,
) -> str:
    """Run a study on the data of its job, and write its report.

    Collective.

    Parameters
    ----------
    job : Job
        Of :func:`~hpcembed.jobs.study.settings.job_of`, placed.
    source : Path, optional
        File of the study, which is never overwritten.
    report_only : bool
        Train nothing, and report the finished trials in the output folder.
    allow_fewer : bool
        Leave out the dimensions that the data do not have.

    Returns
    -------
    str
        Text for the terminal; empty on ranks other than 0.

    Raises
    ------
    HpcembedError
        As :func:`run_study`.
    """
    comm = job.comm
    published: Mapping[tuple[int, ...], PublishedAccuracy] = {}
    with agreement(comm):
        published = _published(job, study)
    finished = load_results(comm, job.out)
    if report_only and not finished:
        raise ConfigError(NOTHING_FINISHED.format(job.out))
    folder = open_folder(job, MARK, source)
    with threadpoolctl.threadpool_limits(job.threads):
        threads = counted(job.threads, "thread")
        job.log(f"{counted(comm.size, 'rank')}, {threads} each; results in {job.out}")
        data = embed_data(job, allow_fewer=allow_fewer)
        if allow_fewer:
            study = _with_dimensions_up_to(study, len(data.embedding.spectrum_.values))
        study = replace(study, training=study.training.for_rows(data.train.n_rows, data.n_classes))
        n_inputs = data.n_features if study.study.baseline else max(study.dimensions)
        check_networks(study.study.networks, n_inputs, data.n_outputs)
        shape = image_shape(study, data.n_features)
        rivals = rival_settings(study.study.rivals, shape)
        data = dataclasses.replace(data, rivals=rivals)
        limits = rival_limits(study.study.rivals, data.train, data.embedding)
        placed = to_toml(replace(study, data=job.placed_data()))

        def write() -> None:
            write_mark(folder, MARK, placed, source)
            write_embedding(folder, data.dataset, data.embedding)

        idle_while_root(comm, write)
        results = collect_results(job, study, data, finished, limits, report_only=report_only)
        fit_seconds = load_fit_seconds(comm, job.out, data) if limits else {}
        with timed(job.comm, job.seconds, "project"):
            coordinates = project(data.embedding, data.train, data.test)
        dimensions = measure_dimensions(job, data.embedding, coordinates[0], STUDY_WORK)
        drawn = drawn_data(data, coordinates[1], shape)
        majority = majority_shares(data.train, data.test)
        data.destroy()
    environment = describe_environment(comm, job.threads)
    facts = study_facts(job, data, environment)
    summary = StudySummary(
        study,
        results,
        data.n_features,
        published=published,
        embedding_seconds=sum(job.seconds[stage] for stage in ("operator", "solve", "project")),
        is_linear=facts["embedding"].is_linear,
        n_rows=(data.train.n_rows, data.test.n_rows),
        majority=majority,
        task=data.dataset.task,
        rival_limits=limits,
        fit_seconds=fit_seconds,
        dimensions=dimensions,
    )
    text = idle_while_root(comm, lambda: write_study(folder, summary, facts, drawn))
    if not report_only:
        remove_checkpoints(job)
    return text or ""


def _with_dimensions_up_to(study: StudyConfig, largest: int) -> StudyConfig:
    kept = tuple(k for k in study.dimensions if k < largest)
    sweep = replace(study.study, dimensions=(*kept, min(largest, max(study.dimensions))))
    return replace(study, study=sweep)


def _published(job: Job, study: StudyConfig) -> dict[tuple[int, ...], PublishedAccuracy]:
    if not study.study.published:
        return {}
    path = job.data_dir / study.study.published
    if not path.exists():
        job.log(f"{path}: no such file; the report has no published accuracies")
        return {}
    return load_published(path, study.data.name)
