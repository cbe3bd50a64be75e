"""Answer of a search, written as a run of its own and as a deployable model."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from hpcembed.jobs.compress.wording import AnswerComparison
from hpcembed.jobs.export.card import Accuracy, Uncompressed
from hpcembed.jobs.export.run_export import export_run
from hpcembed.jobs.job import Job
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.run_json import RunRecord
from hpcembed.jobs.report.scores import Score
from hpcembed.jobs.results import run_record, write_networks, write_projection
from hpcembed.jobs.study.embedded_data import EmbeddedData
from hpcembed.jobs.study.trials import TrialResult

if TYPE_CHECKING:
    from hpcembed.networks.training.report import ClassifierReport, TrainedClassifier

__all__ = ["WrittenModel", "export_answer", "remove_model", "save_answer"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WrittenModel:
    """The model that is written: a trial of the answer, and the report of its network."""

    result: TrialResult
    report: ClassifierReport

    @property
    def is_trial(self) -> bool:
        """Whether the network is that of the trial, or an equal one."""
        scores = (self.result.validation_score, self.result.test_score)
        return scores == (self.report.validation_score, self.report.test_score)

    def record(self) -> dict[str, Any]:
        """Return the entry of ``compress.json``."""
        return {
            "seed": self.result.trial.seed,
            "validation_score": self.report.validation_score,
            "test_score": self.report.test_score,
            "is_trial": self.is_trial,
        }

    def text(self, score: Score) -> str:
        """State seed and test score."""
        again = "" if self.is_trial else ", trained again"
        kind = "accuracy " if score.is_accuracy else ""
        tested = score.with_unit(self.report.test_score)
        return f"the written model (seed {self.result.trial.seed}{again}): test {kind}{tested}"


def remove_model(folder: RunFolder) -> None:
    """Remove the network and the model of an earlier search in the folder; rank 0 only."""
    for kind in ("classifier", "regressor"):
        for old in folder.path.glob(f"{kind}-*.safetensors"):
            old.unlink()
    if (folder.path / "model" / "model.json").is_file():
        shutil.rmtree(folder.path / "model")


def save_answer(
    folder: RunFolder,
    job: Job,
    data: EmbeddedData,
    best: TrialResult,
    trained: TrainedClassifier,
    environment: Mapping[str, Any],
) -> RunRecord:
    """Write the files of a run that trains the answer alone: job, projection, network.

    Rank 0 only. The record of an earlier search is removed; :func:`export_answer` writes the new
    one when the folder is complete.

    Parameters
    ----------
    best : TrialResult
        Result of the seed whose network is kept.
    trained : TrainedClassifier
        That network.

    Returns
    -------
    RunRecord
        For ``run.json``.
    """
    (folder.path / "run.json").unlink(missing_ok=True)
    trial, config, dataset = best.trial, job.config, data.dataset
    config = replace(
        config,
        embedding=replace(config.embedding, n_components=trial.n_inputs),
        classifier=replace(config.classifier, hidden=(trial.hidden,), seed=trial.seed),
    )
    job = dataclasses.replace(job, config=config)
    folder.write_text("job.toml", job.resolved_toml())
    write_projection(folder, dataset, data.embedding, trial.n_inputs)
    write_networks(folder, dataset, [trained])
    return run_record(job, dataset, data.embedding, [trained], environment, trial.n_inputs)


def export_answer(
    folder: RunFolder,
    data: EmbeddedData,
    record: RunRecord,
    comparison: AnswerComparison,
) -> None:
    """Export the model from the files of :func:`save_answer`, then write its record; rank 0 only.

    An embedding that is not a projection has no model: a warning is logged.

    Parameters
    ----------
    record : RunRecord
    comparison : AnswerComparison
        Scores over all seeds, for the card.
    """
    if data.embedding.linear_map_ is None:
        _log.warning("no model/: a model contains a projection, and this embedding is not one")
    else:
        _export(folder, record, comparison)
    folder.write_json("run.json", record)


def _export(folder: RunFolder, record: RunRecord, comparison: AnswerComparison) -> None:
    answer, baseline, results = comparison.point, comparison.baseline, comparison.results
    out = folder.path / "model"
    export_run(
        folder.path,
        out,
        accuracy=Accuracy(
            test=answer.test_mean,
            validation=answer.validation_mean,
            spread=answer.test_deviation,
            n_seeds=len(answer.seeds),
            rmse=_mean([one.test_rmse for one in results]),
            mae=_mean([one.test_mae for one in results]),
        ),
        uncompressed=Uncompressed(
            hidden=baseline.hidden,
            parameters=baseline.parameters,
            test_accuracy=baseline.test_mean,
            train_seconds=baseline.train_seconds,
            n_seeds=len(baseline.seeds),
        ),
        record=record,
    )


def _mean(errors: Sequence[float]) -> float | None:
    """Return the mean of the errors of a regression; None for classes."""
    mean = math.fsum(errors) / max(len(errors), 1)
    return mean if errors and math.isfinite(mean) else None
