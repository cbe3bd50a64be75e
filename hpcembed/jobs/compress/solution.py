"""The answer of a search as a run that trained it alone, and as a model to take away."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from hpcembed.jobs.export.card import Accuracy, Uncompressed
from hpcembed.jobs.export.run_source import export_run
from hpcembed.jobs.job import Job
from hpcembed.jobs.report import RunFolder
from hpcembed.jobs.results import projection_arrays, run_record, write_terms
from hpcembed.jobs.study.preparation import Begun
from hpcembed.jobs.study.trials import Result

if TYPE_CHECKING:
    from hpcembed.networks.training.report import TrainedClassifier

__all__ = ["export_answer", "save_answer"]

_log = logging.getLogger(__name__)


def save_answer(
    folder: RunFolder,
    job: Job,
    begun: Begun,
    best: Result,
    trained: TrainedClassifier,
    environment: Mapping[str, Any],
) -> None:
    """Write what a run of the answer alone would: job, record, projection, network.

    Rank 0 only; not collective.

    Parameters
    ----------
    best : Result
        Of the seed whose network is kept.
    """
    from hpcembed.networks.training.serialise import save_classifier

    k, config = best.cell.n_inputs, job.config
    job = dataclasses.replace(
        job,
        config=replace(
            config,
            embedding=replace(config.embedding, n_components=k),
            classifier=replace(config.classifier, hidden=(best.cell.hidden,), seed=best.cell.seed),
        ),
    )
    folder.write_text("job.toml", job.resolved_toml())
    record = run_record(
        job.config, begun.dataset, begun.embedding, begun.seconds, [trained], environment, k
    )
    folder.write_json("run.json", record.to_dict())
    folder.save_arrays(
        "projection.safetensors", *projection_arrays(begun.dataset, begun.embedding, k)
    )
    write_terms(folder, begun.dataset)
    widths = "-".join(map(str, trained.report.hidden))
    for old in folder.path.glob("classifier-*.safetensors"):  # of a search with another answer
        old.unlink()
    with folder.new_file(f"classifier-embedded-{widths}.safetensors") as path:
        save_classifier(path, trained, class_names=begun.dataset.train.class_names)


def export_answer(
    folder: RunFolder, begun: Begun, mine: Sequence[Result], base: Sequence[Result]
) -> None:
    """Make the model to take away out of what :func:`save_answer` wrote; rank 0 only.

    Not collective. An embedding that is no projection gives no model, which a warning says.

    Parameters
    ----------
    mine, base : sequence of Result
        All seeds of the answer and of the baseline: their accuracies stand on the card.
    """
    if begun.embedding.linear_map_ is None:
        _log.warning("no model/: the coordinates are no projection, which a model would hold")
        return
    out = folder.path / "model"
    if (out / "model.json").is_file():  # of an earlier search in this folder
        shutil.rmtree(out)
    first = base[0]
    export_run(
        folder.path,
        out,
        accuracy=Accuracy(
            test=_average(mine, "test_accuracy"),
            validation=_average(mine, "validation_accuracy"),
            spread=float(np.std([one.test_accuracy for one in mine], ddof=1)),
            n_seeds=len(mine),
        ),
        uncompressed=Uncompressed(
            hidden=first.cell.hidden,
            parameters=first.parameters,
            test_accuracy=_average(base, "test_accuracy"),
            train_seconds=float(np.median([one.train_seconds for one in base])),
            n_seeds=len(base),
        ),
    )


def _average(results: Sequence[Result], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in results]))
