"""``hpcembed compress``: the smallest k and network that keep the accuracy, with few trainings.

The baseline is the widest network of the job on all features. Every step of the search trains all
seeds of one network at one k; it is kept when the lower end of the Student-t interval of the paired
differences on validation rows is above minus the margin. The test rows are looked at for the answer
only.

Finished trainings are kept, as in a study: a search that is repeated trains nothing again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import threadpoolctl
from mpi4py import MPI

from hpcembed.data.matrix import DataMatrix
from hpcembed.data.settings import DataSettings
from hpcembed.jobs.compress.search import Answer, search
from hpcembed.jobs.compress.solution import export_answer, save_answer
from hpcembed.jobs.compress.trial_batches import Trainings
from hpcembed.jobs.configuration import (
    NETWORK_SIZES,
    ClassifierConfig,
    EmbeddingConfig,
    JobConfig,
    check_job,
    load_job,
)
from hpcembed.jobs.job import Job, place
from hpcembed.jobs.report import RunFolder, markdown_table, percent, points
from hpcembed.jobs.study.preparation import Begun, begin, open_folder
from hpcembed.jobs.study.resolution import too_few_rows
from hpcembed.jobs.study.statistics import Difference
from hpcembed.jobs.study.tables import network_name
from hpcembed.jobs.study.trials import Result, Unit
from hpcembed.runtime.environment import describe_environment
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.logging import show
from hpcembed.runtime.ranks import agreement, check_launcher, idle_while_root

__all__ = ["Request", "run_compress"]

#: The file that says a folder belongs to a search.
MARK = "compress.toml"
#: Largest k where data is given and not a job.
MOST_COMPONENTS = 64
#: Exit status when every network loses more than the margin at the largest k.
NOTHING_FOUND = 4


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes
    ----------
    source : Path
        A job file, or a data file.
    max_loss : float
        Points of accuracy that may be lost.
    label_column : str
        Of a data file.
    """

    source: Path
    max_loss: float
    seeds: int = 5
    confidence: float = 0.95
    label_column: str = ""
    scaling: Literal["none", "divide", "minmax", "standard"] = "standard"
    overrides: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse what cannot be asked for. Not collective."""
        if not (math.isfinite(self.max_loss) and self.max_loss > 0):
            raise ConfigError(f"--max-loss {self.max_loss}: give points of accuracy above 0")
        if not 2 <= self.seeds <= 1000:
            raise ConfigError(f"--seeds {self.seeds}: give 2 to 1000; one has no interval")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"--confidence {self.confidence} must lie between 0 and 1")

    def job(self) -> JobConfig:
        """The job of a job file, or one made for a data file. Not collective."""
        if self.source.suffix == ".toml":
            job = load_job(self.source, self.overrides)
            if not job.classifier.hidden:
                raise ConfigError(f"{self.source}: classifier.hidden names no network")
            job.training.check_default(("centred",), str(self.source), "hpcembed compress")
            return job
        if not self.source.exists():
            raise ConfigError(f"{self.source}: no such job file or data file")
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
        if self.overrides:
            raise ConfigError("--set changes keys of a job file: write one for this data")
        check_job(job, str(self.source))
        return job


def run_compress(
    request: Request, data_dir: Path | None, out: Path | None, comm: MPI.Intracomm
) -> int:
    """Search, explain, and leave the model in the output folder.

    Collective.

    Returns
    -------
    int
        Exit status: 0, or 4 when every network loses more than the margin at the largest k.

    Raises
    ------
    HpcembedError
        One line, on all ranks.
    """
    source = request.source
    config = JobConfig()
    with agreement(comm):
        check_launcher(comm)
        request.check()
        config = request.job()
    directory = out or Path(config.output.directory or f"runs/compress-{config.data.name}")
    job = place(config, source.parent, data_dir, directory, comm)
    folder = open_folder(job, MARK)
    with threadpoolctl.threadpool_limits(job.threads):
        job.log(f"{comm.size} ranks, {job.threads} threads each; results in {job.out}")

        def n_components(train: DataMatrix) -> int:
            wanted = config.embedding.n_components
            return wanted if source.suffix == ".toml" else min(wanted, train.n_features)

        begun = begin(job, n_components)
        with Trainings(job, begun, request.seeds, request.confidence) as trainings:
            spectrum = begun.embedding.spectrum_
            answer = search(
                trainings.networks,
                len(spectrum.values),
                spectrum.unexplained,
                request.max_loss / 100.0,
                trainings.difference,
            )
            environment = describe_environment(comm, job.threads)
            text = idle_while_root(
                comm, lambda: _finish(folder, job, request, begun, trainings, answer, environment)
            )
        begun.destroy()
    if text is not None:
        show(text)
    return 0 if answer.hidden is not None else NOTHING_FOUND


def _finish(
    folder: RunFolder,
    job: Job,
    request: Request,
    begun: Begun,
    trainings: Trainings,
    answer: Answer,
    environment: Mapping[str, Any],
) -> str:
    """Write the model and the reasons; rank 0 only, nothing is left to train but the model."""
    d = begun.train.n_features
    base = trainings.results("full", trainings.baseline, d)
    mine: list[Result] = []
    test: Difference | None = None
    if answer.hidden is not None:
        mine = trainings.results("spectral", answer.hidden, answer.n_inputs)
        test = trainings.test_difference(answer.hidden, answer.n_inputs)
        best = max(mine, key=lambda one: one.validation_accuracy)
        trained = trainings.trainer.train(Unit((best.cell,), 1.0)).classifier(0)
        save_answer(folder, job, begun, best, trained, environment)
        export_answer(folder, begun, mine, base)
    few = too_few_rows(
        begun.train.n_rows,
        begun.test.n_rows,
        trainings.trainer.recipe.validation_fraction,
        request.max_loss / 100.0,
    )
    text = "\n\n".join(filter(None, (_text(request, begun, answer, base, mine, test), few)))
    folder.write_text(MARK, job.resolved_toml())
    folder.write_text("compress.md", f"# {begun.dataset.name}\n\n{text}\n")
    folder.write_json(
        "compress.json",
        {
            "request": request,
            "dataset": begun.dataset.name,
            "n_features": d,
            "method": job.config.embedding.method,
            "explained_variance_ratio": begun.embedding.spectrum_.explained_variance_ratio,
            "baseline": base,
            "answer": answer,
            "results": mine,
            "test_difference": test,
        },
    )
    return text


def _text(
    request: Request,
    begun: Begun,
    answer: Answer,
    base: Sequence[Result],
    mine: Sequence[Result],
    test: Difference | None,
) -> str:
    d, embedding = begun.train.n_features, begun.embedding
    share = 100.0 * (1.0 - embedding.spectrum_.unexplained)
    is_known = embedding.spectrum_.share is not None
    rows = [
        (
            network_name(step.hidden),
            str(step.n_inputs),
            f"{share[step.n_inputs]:.1f}" if is_known else "-",
            points(step.difference.mean, step.difference.low, step.difference.high),
            "keeps" if step.holds else "loses",
        )
        for step in answer.steps
    ]
    share_of = embedding.spectrum_.share_of or "share"
    headings = ("network", "k", f"{share_of} %", "validation difference, points", "verdict")
    parts = [
        f"baseline: {network_name(base[0].cell.hidden)} on all {d} features, {len(base)} seeds, "
        f"validation {_mean(base, 'validation_accuracy')} %",
        markdown_table(headings, rows),
    ]
    if answer.hidden is None or test is None:
        parts.append(
            f"no network keeps the accuracy within {request.max_loss:g} points at k = "
            f"{answer.n_inputs}: raise embedding.n_components or --max-loss, or add seeds "
            "or wider networks"
        )
        return "\n\n".join(parts)
    small, large = mine[0].parameters, base[0].parameters
    projection = "without the embedding, which is no projection"
    if embedding.linear_map_ is not None:
        whole = small + answer.n_inputs * d
        projection = f"{large / whole:.1f}x with the projection, {whole:,}"
    parts.append(
        f"{network_name(answer.hidden)} at k = {answer.n_inputs}: {d / answer.n_inputs:.1f}x fewer "
        f"inputs, {large / small:.1f}x fewer parameters ({large:,} -> {small:,}; "
        f"{projection})\n"
        f"test accuracy {_mean(mine, 'test_accuracy')} %, baseline {_mean(base, 'test_accuracy')} %"
        f", difference {points(test.mean, test.low, test.high)} points: "
        f"{'within' if test.within(request.max_loss / 100) else 'NOT within'} {request.max_loss:g}"
    )
    return "\n\n".join(parts)


def _mean(results: Sequence[Result], name: str) -> str:
    values = np.array([getattr(one, name) for one in results])
    return percent(float(values.mean()), float(values.std(ddof=1)))
