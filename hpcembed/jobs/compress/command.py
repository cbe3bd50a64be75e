"""``hpcembed compress``: the smallest k and network that keep the accuracy, with few trials.

The baseline is the largest network of the job on all features. Every step of the search trains all
seeds of one network at one k. The network keeps the accuracy if the lower end of the Student-t
interval of the paired differences on validation rows is above minus the margin. Test rows are used
for the answer only.

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
from hpcembed.jobs.compress.search import SearchAnswer, search
from hpcembed.jobs.compress.search_result import export_answer, save_answer
from hpcembed.jobs.compress.search_trials import SearchTrials
from hpcembed.jobs.configuration import (
    ClassifierConfig,
    EmbeddingConfig,
    JobConfig,
    check_job,
    load_job,
)
from hpcembed.jobs.job import Job, place
from hpcembed.jobs.network_sizes import NETWORK_SIZES
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.scores import score_of, worse_than_mean_warning
from hpcembed.jobs.report.tables import TextTable
from hpcembed.jobs.report.wording import few_rows_warning, network_name, points
from hpcembed.jobs.study.embedded_data import EmbeddedData, embed_data
from hpcembed.jobs.study.result_store import open_folder
from hpcembed.jobs.study.statistics import Difference, StudyPoint, summarise
from hpcembed.jobs.study.trials import TrialBatch, TrialResult
from hpcembed.runtime.agreement import agreement, idle_while_root
from hpcembed.runtime.environment import describe_environment
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.logging import show

__all__ = ["CompressRequest", "run_compress"]

#: File that identifies the output folder of a search.
MARK = "compress.toml"
#: Largest k for a data file, which states none.
MOST_COMPONENTS = 64
#: Exit status if every network loses more than the margin at the largest k.
NOTHING_FOUND = 4


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
    confidence : float
        Of the intervals.
    label_column, scaling : str
        Settings of a data file.
    overrides : tuple of str
        ``section.key=value``, for a job file.
    """

    source: Path
    max_loss: float
    seeds: int = 5
    confidence: float = 0.95
    label_column: str = ""
    scaling: Literal["none", "divide", "minmax", "standard"] = "standard"
    overrides: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise ConfigError for values out of range."""
        if not (math.isfinite(self.max_loss) and self.max_loss > 0):
            raise ConfigError(f"--max-loss {self.max_loss}: give points of accuracy above 0")
        if not 2 <= self.seeds <= 1000:
            raise ConfigError(f"--seeds {self.seeds}: give 2 to 1000; one has no interval")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"--confidence {self.confidence} must lie between 0 and 1")

    def job(self) -> JobConfig:
        """Read the job file, or make a job for the data file."""
        if self.source.suffix == ".toml":
            job = load_job(self.source, self.overrides)
            if not job.classifier.hidden:
                raise ConfigError(f"{self.source}: classifier.hidden names no network")
            job.training.check_default(("centred",), str(self.source), "hpcembed compress")
            return job
        if not self.source.exists():
            raise ConfigError(f"{self.source}: no such job file or data file")
        if self.overrides:
            raise ConfigError("--set changes keys of a job file: write one for this data")
        data = DataSettings(
            name=self.source.name.partition(".")[0],
            train=(self.source.name,),
            label_column=self.label_column,
            scaling=self.scaling,
        )
        job = JobConfig(
            data=data,
            embedding=EmbeddingConfig(n_components=MOST_COMPONENTS),
            classifier=ClassifierConfig(hidden=tuple(NETWORK_SIZES)),
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
        Exit status: 0, or 4 if every network loses more than the margin at the largest k.

    Raises
    ------
    HpcembedError
        Any error, in one line; raised on all ranks.
    """
    source, config = request.source, JobConfig()
    with agreement(comm):
        request.check()
        config = request.job()
    default = f"runs/compress-{config.data.name}"
    job = place(config, source.parent, data_dir, out, comm, default)
    folder = open_folder(job, MARK)
    with threadpoolctl.threadpool_limits(job.threads):
        job.log(f"{comm.size} ranks, {job.threads} threads each; results in {job.out}")
        data = embed_data(job, allow_fewer=source.suffix != ".toml")
        with SearchTrials(job, data, request.seeds, request.confidence) as trials:
            spectrum = data.embedding.spectrum_
            answer = search(
                trials.networks,
                len(spectrum.values),
                spectrum.unexplained,
                request.max_loss / 100.0,
                trials.difference,
            )
            environment = describe_environment(comm, job.threads)
            idle_while_root(
                comm, lambda: show(_write(folder, job, request, trials, answer, environment))
            )
        data.destroy()
    return 0 if answer.hidden is not None else NOTHING_FOUND


def _write(
    folder: RunFolder,
    job: Job,
    request: CompressRequest,
    trials: SearchTrials,
    answer: SearchAnswer,
    environment: Mapping[str, Any],
) -> str:
    """Write the model and the steps of the search; only the model is trained. Rank 0 only."""
    data, recipe = trials.data, trials.trainer.recipe
    baseline = trials.results("full", trials.baseline, data.n_features)
    (base,) = summarise(baseline, request.confidence)
    results: list[TrialResult] = []
    point, test = None, None
    if answer.hidden is not None:
        results = trials.results("spectral", answer.hidden, answer.n_inputs)
        (point,) = summarise(results, request.confidence)
        test = trials.difference(answer.hidden, answer.n_inputs, "test_score")
        best = max(results, key=lambda one: one.validation_score)
        trained = trials.trainer.train(TrialBatch((best.trial,), 1.0)).classifier(0)
        save_answer(folder, job, data, best, trained, environment)
        export_answer(folder, data, point, base, results)
    parts = [
        _steps_text(data, answer, base),
        _answer_text(request, data, answer.n_inputs, base, point, test),
        worse_than_mean_warning(_baseline_score(data, base)),
        ""
        if data.dataset.task == "regression"
        else few_rows_warning(
            data.train.n_rows,
            data.test.n_rows,
            recipe.validation_fraction,
            request.max_loss / 100.0,
        ),
    ]
    text = "\n\n".join(filter(None, parts))
    folder.write_text(MARK, job.resolved_toml())
    folder.write_text("compress.md", f"# {data.dataset.name}\n\n{text}\n")
    folder.write_json(
        "compress.json",
        {
            "request": request,
            "dataset": data.dataset.name,
            "n_features": data.n_features,
            "method": job.config.embedding.method,
            "explained_variance_ratio": data.embedding.spectrum_.explained_variance_ratio,
            "baseline": baseline,
            "answer": answer,
            "results": results,
            "test_difference": test,
        },
    )
    return text


def _baseline_score(data: EmbeddedData, base: StudyPoint) -> list[tuple[str, float]]:
    """Return the name and R2 of the baseline of a regression; empty for classes."""
    name = f"all features, {network_name(base.hidden)}"
    return [(name, base.validation_mean)] if data.dataset.task == "regression" else []


def _steps_text(data: EmbeddedData, answer: SearchAnswer, baseline: StudyPoint) -> str:
    spectrum = data.embedding.spectrum_
    share = 100.0 * (1.0 - spectrum.unexplained)
    rows = [
        (
            network_name(step.hidden),
            str(step.n_inputs),
            f"{share[step.n_inputs]:.1f}" if spectrum.share is not None else "-",
            points(step.difference.mean, step.difference.low, step.difference.high),
            "keeps" if step.holds else "loses",
        )
        for step in answer.steps
    ]
    share_of = spectrum.share_of or "share"
    score = score_of(data.dataset.task)
    point = f"; {score.point}" if score.point else ""
    headings = ("network", "k", f"{share_of} %", "validation difference, points", "verdict")
    return (
        f"baseline: {network_name(baseline.hidden)} on all {data.n_features} features, "
        f"{len(baseline.seeds)} seeds, validation "
        f"{score.with_unit(baseline.validation_mean, baseline.validation_deviation)}"
        f"{point}\n\n" + TextTable(headings, rows).markdown()
    )


def _answer_text(
    request: CompressRequest,
    data: EmbeddedData,
    k: int,
    baseline: StudyPoint,
    point: StudyPoint | None,
    test: Difference | None,
) -> str:
    d, score = data.n_features, score_of(data.dataset.task)
    if point is None or test is None:
        return (
            f"no network keeps the {score.name} within {request.max_loss:g} points at k = {k}: "
            "raise embedding.n_components or --max-loss, or add seeds or wider networks"
        )
    small, large = point.parameters, baseline.parameters
    projection = "without the embedding, which is not a projection"
    if data.embedding.linear_map_ is not None:
        stored = small + k * d
        projection = f"{large / stored:.1f}x with the projection, {stored:,}"
    verdict = "within" if test.within(request.max_loss / 100) else "NOT within"
    return (
        f"{network_name(point.hidden)} at k = {k}: {d / k:.1f}x fewer inputs, "
        f"{large / small:.1f}x fewer parameters ({large:,} -> {small:,}; {projection})\n"
        f"test {'accuracy ' if score.is_accuracy else ''}"
        f"{score.with_unit(point.test_mean, point.test_deviation)}, baseline "
        f"{score.with_unit(baseline.test_mean, baseline.test_deviation)}, difference "
        f"{points(test.mean, test.low, test.high)} points: {verdict} {request.max_loss:g}"
        + (f" ({score.point})" if score.point else "")
    )
