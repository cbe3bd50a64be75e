"""``hpcembed compress``: the smallest k and network that keep the accuracy, with few trials.

The baseline is the largest network of the job on all features. Every step of the search compares
one network at one k with the baseline on validation rows, and adds seeds until the interval of the
paired differences decides (:mod:`hpcembed.jobs.compress.sequential`). Test rows are used for the
answer only, which is also compared with the same network on all features: the smaller network and
the embedding have separate effects.

The model of the answer is written if it keeps the accuracy, and if the comparison is undecided.

Finished trials are stored, as in a study: a search that is repeated trains nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import threadpoolctl
from mpi4py import MPI

from hpcembed.data.targets import Task
from hpcembed.jobs.checkpoints.study_checkpoints import remove_checkpoints
from hpcembed.jobs.compress.kept_networks import best_of
from hpcembed.jobs.compress.request import CompressRequest
from hpcembed.jobs.compress.search import SearchAnswer, search
from hpcembed.jobs.compress.search_components import SearchComponents
from hpcembed.jobs.compress.search_result import (
    WrittenModel,
    export_answer,
    remove_model,
    save_answer,
)
from hpcembed.jobs.compress.search_trials import SearchTrials
from hpcembed.jobs.compress.wording import (
    AnswerComparison,
    compare_answer,
    dimensions_text,
    search_text,
)
from hpcembed.jobs.configuration import JobConfig
from hpcembed.jobs.dimensions import RUN_WORK, measure_dimensions
from hpcembed.jobs.job import Job, place
from hpcembed.jobs.majority import majority_shares
from hpcembed.jobs.network_inputs import project
from hpcembed.jobs.report.dimensions import DimensionsRecord, dimensions_line
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.tables import TextTable
from hpcembed.jobs.report.wording import few_rows_warning
from hpcembed.jobs.study.result_store import open_folder, write_mark
from hpcembed.runtime.agreement import agreement, idle_while_root
from hpcembed.runtime.logging import show
from hpcembed.runtime.machine.environment import describe_environment
from hpcembed.runtime.output.lock import owned_output
from hpcembed.runtime.wording import counted

__all__ = ["CompressRequest", "SearchOutcome", "run_compress", "search_job"]

#: File that identifies the output folder of a search.
MARK = "compress.toml"
#: Exit status of each verdict: the model keeps the accuracy, every network loses more than the
#: margin, or the best comparison is undecided.
EXIT_STATUS: Mapping[str, int] = {"keeps": 0, "loses": 4, "undecided": 5}


def run_compress(
    request: CompressRequest,
    data_dir: Path | None,
    out: Path | None,
    comm: MPI.Intracomm,
    *,
    checkpoint_every: float | None = None,
) -> int:
    """Search, and write the answer and its model into the output folder.

    Collective.

    Parameters
    ----------
    data_dir : Path, optional
        Folder of the data; by default the folder of the source.
    out : Path, optional
        Output folder; by default the job states it.
    checkpoint_every : float, optional
        Seconds between checkpoints; default: so that they take at most 2 % of the time.

    Returns
    -------
    int
        Exit status: 0 if a model keeps the accuracy, 4 if every network loses more than the margin,
        5 if the best comparison is undecided.

    Raises
    ------
    HpcembedError
        Any error, in one line; raised on all ranks.
    """
    source, config, limit = request.source, JobConfig(), 0
    with agreement(comm):
        request.check()
        config, limit = request.job(), request.most_components()
    default = f"runs/compress-{config.data.name}"
    job = place(config, source.parent, data_dir, out, comm, default)
    job = replace(job, checkpoint_every=checkpoint_every)
    with owned_output(comm, job.out):
        found = search_job(request, job, limit)
    if comm.rank == 0:
        show(found.text)
    return EXIT_STATUS[found.answer.verdict]


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """Result of a search: its answer, its text (on rank 0), the task, and the names of classes."""

    answer: SearchAnswer
    text: str
    task: Task
    class_names: tuple[str, ...]


def search_job(request: CompressRequest, job: Job, limit: int) -> SearchOutcome:
    """Search with the data of a job, and write the answer and its model into its output folder.

    Collective.

    Parameters
    ----------
    limit : int
        Largest number of components; 0: as far as the spectrum goes.

    Raises
    ------
    HpcembedError
        Any error, in one line; raised on all ranks.
    """
    comm = job.comm
    folder = open_folder(job, MARK, request.source)
    with threadpoolctl.threadpool_limits(job.threads):
        threads = counted(job.threads, "thread")
        job.log(f"{counted(comm.size, 'rank')}, {threads} each; results in {job.out}")
        components = SearchComponents(job, limit)
        seeds, margin = (request.seeds, request.most_seeds), request.max_loss / 100.0
        with SearchTrials(job, components, *seeds, request.confidence, margin) as trials:
            answer = search(trials.networks, components, trials.decide)
            comparison = compare_answer(trials, answer)
            data = components.data
            coordinates = project(data.embedding, data.train, data.test)[0]
            dimensions = measure_dimensions(job, data.embedding, coordinates, RUN_WORK)
            majority = majority_shares(data.train, data.test)
            environment = describe_environment(comm, job.threads)
            text = idle_while_root(
                comm,
                lambda: _write(
                    folder, job, request, trials, answer, comparison, dimensions, majority,
                    environment,
                ),
            )  # fmt: skip
        remove_checkpoints(job)
        class_names, task = tuple(data.train.class_names), data.dataset.task
        data.destroy()
    return SearchOutcome(answer, text or "", task, class_names)


def _write(
    folder: RunFolder,
    job: Job,
    request: CompressRequest,
    trials: SearchTrials,
    answer: SearchAnswer,
    comparison: AnswerComparison,
    dimensions: DimensionsRecord | None,
    majority: tuple[float, float] | None,
    environment: Mapping[str, Any],
) -> str:
    """Write the model and the steps of the search, and return the text for the terminal.

    Rank 0 only.
    """
    data = trials.components.data
    remove_model(folder)
    written = None
    if answer.verdict != "loses" or request.keeps_model_of_loss:
        best = best_of(comparison.results)
        trained = trials.kept.network(best, trials.trainer("spectral").train)
        written = WrittenModel(best, trained.report)
        record = save_answer(folder, job, data, best, trained, environment)
        export_answer(folder, data, record, comparison)
    warning, line = "", "" if written is None else written.text(trials.score)
    if trials.score.is_accuracy:  # R2 has no steps of one row
        # Every seed holds out rows of its own, so that together they validate more rows.
        held_out = min(1.0, answer.n_seeds * trials.recipe.validation_fraction)
        rows = data.train.n_rows, data.test.n_rows
        warning = few_rows_warning(*rows, held_out, trials.margin)
    shown, text = (
        "\n\n".join(
            filter(None, (search_text(trials, answer, comparison, majority, line, form), warning))
        )
        for form in (TextTable.terminal, TextTable.markdown)
    )
    write_mark(folder, MARK, job.resolved_toml(), request.source)
    panel = dimensions_text(dimensions, answer, trials.components.largest)
    parts = f"# {data.dataset.name}", panel, "## Search" if panel else "", text
    folder.write_text("compress.md", "\n\n".join(filter(None, parts)) + "\n")
    folder.write_json(
        "compress.json",
        {
            "request": request,
            "dataset": data.dataset.name,
            "task": data.dataset.task,
            "n_features": data.n_features,
            "method": job.config.embedding.method,
            "explained_variance_ratio": data.embedding.spectrum_.explained_variance_ratio,
            "dimensions": dimensions,
            "majority": majority and {"train": majority[0], "test": majority[1]},
            "answer": answer,
            "written": written and written.record(),
            **comparison.record(),
        },
    )
    return "\n\n".join(filter(None, (shown, dimensions_line(dimensions))))
