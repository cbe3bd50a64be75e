"""Answer of a search, written as a run of its own and as a deployable model."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from hpcembed.jobs.export.card import Accuracy, Uncompressed
from hpcembed.jobs.export.run_export import export_run
from hpcembed.jobs.job import Job
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.wording import network_name
from hpcembed.jobs.results import run_record, write_projection
from hpcembed.jobs.study.embedded_data import EmbeddedData
from hpcembed.jobs.study.trials import TrialResult

if TYPE_CHECKING:
    from hpcembed.networks.training.report import TrainedClassifier

__all__ = ["export_answer", "save_answer"]

_log = logging.getLogger(__name__)


def save_answer(
    folder: RunFolder,
    job: Job,
    data: EmbeddedData,
    best: TrialResult,
    trained: TrainedClassifier,
    environment: Mapping[str, Any],
) -> None:
    """Write the files of a run that trains the answer alone: job, record, projection, network.

    Rank 0 only.

    Parameters
    ----------
    best : TrialResult
        Result of the seed whose network is kept.
    trained : TrainedClassifier
        That network.
    """
    from hpcembed.networks.training.serialise import save_classifier

    trial, config, dataset = best.trial, job.config, data.dataset
    config = replace(
        config,
        embedding=replace(config.embedding, n_components=trial.n_inputs),
        classifier=replace(config.classifier, hidden=(trial.hidden,), seed=trial.seed),
    )
    folder.write_text("job.toml", dataclasses.replace(job, config=config).resolved_toml())
    record = run_record(
        config, dataset, data.embedding, job.seconds, [trained], environment, trial.n_inputs
    )
    folder.write_json("run.json", record)
    write_projection(folder, dataset, data.embedding, trial.n_inputs)
    for old in folder.path.glob("classifier-*.safetensors"):  # of a search with another answer
        old.unlink()
    name = f"classifier-embedded-{network_name(trained.report.hidden)}.safetensors"
    with folder.new_file(name) as path:
        save_classifier(path, trained, class_names=dataset.train.class_names)


def export_answer(
    folder: RunFolder,
    data: EmbeddedData,
    results: Sequence[TrialResult],
    baseline: Sequence[TrialResult],
) -> None:
    """Export the model of the answer from the files of :func:`save_answer`; rank 0 only.

    An embedding that is no projection has no model: a warning is logged.

    Parameters
    ----------
    results, baseline : sequence of TrialResult
        All seeds of the answer and of the baseline, for the accuracies on the card.
    """
    if data.embedding.linear_map_ is None:
        _log.warning("no model/: a model holds a projection, and this embedding is none")
        return
    out = folder.path / "model"
    if (out / "model.json").is_file():  # of an earlier search in this folder
        shutil.rmtree(out)
    first = baseline[0]
    export_run(
        folder.path,
        out,
        accuracy=Accuracy(
            test=_mean(results, "test_accuracy"),
            validation=_mean(results, "validation_accuracy"),
            spread=float(np.std([one.test_accuracy for one in results], ddof=1)),
            n_seeds=len(results),
        ),
        uncompressed=Uncompressed(
            hidden=first.trial.hidden,
            parameters=first.parameters,
            test_accuracy=_mean(baseline, "test_accuracy"),
            train_seconds=float(np.median([one.train_seconds for one in baseline])),
            n_seeds=len(baseline),
        ),
    )


def _mean(results: Sequence[TrialResult], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in results]))
