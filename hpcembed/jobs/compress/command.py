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

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import threadpoolctl
from mpi4py import MPI

from hpcembed.data.settings import DataSettings
from hpcembed.data.targets import Task
from hpcembed.jobs.compress.search import SearchAnswer, search
from hpcembed.jobs.compress.search_components import SearchComponents
from hpcembed.jobs.compress.search_result import export_answer, remove_model, save_answer
from hpcembed.jobs.compress.search_trials import SearchTrials
from hpcembed.jobs.compress.wording import AnswerComparison, compare_answer, search_text
from hpcembed.jobs.configuration import (
    REPRODUCIBLE,
    ClassifierConfig,
    JobConfig,
    ResourcesConfig,
    check_job,
    load_job,
)
from hpcembed.jobs.job import Job, place
from hpcembed.jobs.majority import majority_shares
from hpcembed.jobs.network_sizes import NETWORK_SIZES
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.wording import few_rows_warning
from hpcembed.jobs.study.result_store import open_folder, write_mark
from hpcembed.jobs.study.trials import TrialBatch
from hpcembed.runtime.agreement import agreement, idle_while_root
from hpcembed.runtime.environment import describe_environment
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.logging import show
from hpcembed.runtime.output_lock import owned_output
from hpcembed.runtime.settings import read_table
from hpcembed.runtime.wording import counted

__all__ = ["CompressRequest", "SearchOutcome", "run_compress", "search_job"]

#: File that identifies the output folder of a search.
MARK = "compress.toml"
#: Seeds of a comparison, at most, if no number is given.
MOST_SEEDS = 30
#: Exit status of each verdict: the model keeps the accuracy, every network loses more than the
#: margin, or the best comparison is undecided.
EXIT_STATUS: Mapping[str, int] = {"keeps": 0, "loses": 4, "undecided": 5}


@dataclass(frozen=True, slots=True)
class CompressRequest:
    """Arguments of ``hpcembed compress``.

    Attributes
    ----------
    source : Path
        A job file or a data file.
    max_loss : float
        Points of accuracy, or of R2 (0.01 each), that may be lost.
    seeds : int
        Of a comparison at first.
    max_seeds : int
        Of a comparison at last; 0: 30, or `seeds` if that is more.
    max_components : int
        Largest k; 0: that of the job file, else as far as the spectrum goes.
    confidence : float
        Of the intervals.
    label_column, task, scaling : str
        Settings of a data file.
    labels : Path, optional
        File of the labels of a data file that has none.
    overrides : tuple of str
        ``section.key=value``, for a job file; of these, a data file takes
        ``resources.reproducible=true`` alone.
    keeps_model_of_loss : bool
        Write the model with the smallest loss also if it loses more than the margin.
    """

    source: Path
    max_loss: float
    seeds: int = 5
    max_seeds: int = 0
    max_components: int = 0
    confidence: float = 0.95
    label_column: str = ""
    task: Literal["auto", "classification", "regression"] = "auto"
    scaling: Literal["none", "divide", "minmax", "standard"] = "standard"
    overrides: tuple[str, ...] = ()
    keeps_model_of_loss: bool = False
    labels: Path | None = None

    def check(self) -> None:
        """Raise ConfigError for values out of range."""
        if not (math.isfinite(self.max_loss) and self.max_loss > 0):
            raise ConfigError(f"--max-loss {self.max_loss}: give points of accuracy above 0")
        if not 2 <= self.seeds <= 1000:
            raise ConfigError(f"--seeds {self.seeds}: give 2 to 1000; one has no interval")
        if self.max_seeds and not self.seeds <= self.max_seeds <= 1000:
            raise ConfigError(f"--max-seeds {self.max_seeds}: give {self.seeds} (--seeds) to 1000")
        if not 0 <= self.max_components <= 2**20:
            raise ConfigError(f"--max-components {self.max_components}: give a k of at least 1")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"--confidence {self.confidence} must lie between 0 and 1")

    @property
    def most_seeds(self) -> int:
        """Seeds of a comparison, at most."""
        return self.max_seeds or max(MOST_SEEDS, self.seeds)

    def most_components(self) -> int:
        """Return the largest k that is given, in the options or in the job file; 0 if none is."""
        if self.max_components or self.source.suffix != ".toml":
            return self.max_components
        section = read_table(self.source, self.overrides).get("embedding", {})
        return int(section.get("n_components", 0))

    def job(self) -> JobConfig:
        """Read the job file, or make a job for the data file."""
        if self.source.suffix == ".toml":
            job = load_job(self.source, self.overrides)
            if not job.classifier.hidden:
                raise ConfigError(f"{self.source}: classifier.hidden names no network")
            if self.task != "auto":
                raise ConfigError(
                    f"--task {self.task}: for a job file use --set data.task={self.task}"
                )
            job.training.check_default(("centred",), str(self.source), "hpcembed compress")
            if self.labels is not None:
                raise ConfigError("--labels: a job names its labels, data.train_labels")
            return job
        if not self.source.exists():
            raise ConfigError(f"{self.source}: no such job file or data file")
        if set(self.overrides) - {REPRODUCIBLE}:
            raise ConfigError("--set changes keys of a job file: write one for this data")
        data = DataSettings(
            name=self.source.name.partition(".")[0],
            train=(self.source.name,),
            train_labels="" if self.labels is None else str(self.labels.absolute()),
            label_column=self.label_column,
            task=self.task,
            scaling=self.scaling,
        )
        job = JobConfig(
            data=data,
            classifier=ClassifierConfig(hidden=tuple(NETWORK_SIZES)),
            resources=ResourcesConfig(reproducible=REPRODUCIBLE in self.overrides),
        )
        check_job(job, str(self.source))
        return job


def run_compress(
    request: CompressRequest, data_dir: Path | None, out: Path | None, comm: MPI.Intracomm
) -> int:
    """Search, and write the answer and its model into the output folder.

    Collective.

    Parameters
    ----------
    data_dir : Path, optional
        Folder of the data; by default the folder of the source.
    out : Path, optional
        Output folder; by default the job states it.

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
            majority = majority_shares(components.data.train, components.data.test)
            environment = describe_environment(comm, job.threads)
            text = idle_while_root(
                comm,
                lambda: _write(
                    folder, job, request, trials, answer, comparison, majority, environment
                ),
            )
        class_names = tuple(components.data.train.class_names)
        task = components.data.dataset.task
        components.data.destroy()
    return SearchOutcome(answer, text or "", task, class_names)


def _write(
    folder: RunFolder,
    job: Job,
    request: CompressRequest,
    trials: SearchTrials,
    answer: SearchAnswer,
    comparison: AnswerComparison,
    majority: tuple[float, float] | None,
    environment: Mapping[str, Any],
) -> str:
    """Write the model and the steps of the search; only the model is trained. Rank 0 only."""
    data = trials.components.data
    remove_model(folder)
    if answer.verdict != "loses" or request.keeps_model_of_loss:
        best = max(comparison.results, key=lambda one: one.validation_score)
        batch = TrialBatch((best.trial,), 1.0)
        trained = trials.trainer("spectral").train(batch).classifier(0)
        record = save_answer(folder, job, data, best, trained, environment)
        export_answer(folder, data, record, comparison)
    warning = ""
    if trials.score.is_accuracy:  # R2 has no steps of one row
        # Every seed holds out rows of its own, so that together they validate more rows.
        held_out = min(1.0, answer.n_seeds * trials.recipe.validation_fraction)
        rows = data.train.n_rows, data.test.n_rows
        warning = few_rows_warning(*rows, held_out, trials.margin)
    text = search_text(trials, answer, comparison, majority)
    text = "\n\n".join(filter(None, (text, warning)))
    write_mark(folder, MARK, job.resolved_toml(), request.source)
    folder.write_text("compress.md", f"# {data.dataset.name}\n\n{text}\n")
    folder.write_json(
        "compress.json",
        {
            "request": request,
            "dataset": data.dataset.name,
            "task": data.dataset.task,
            "n_features": data.n_features,
            "method": job.config.embedding.method,
            "explained_variance_ratio": data.embedding.spectrum_.explained_variance_ratio,
            "majority": majority and {"train": majority[0], "test": majority[1]},
            "answer": answer,
            **comparison.record(),
        },
    )
    return text
