"""Search for the least dimension of a random subspace with a share of a network's own score.

A network of the study is trained in random subspaces of its parameters by the recipe of the study,
with its first seeds. A dimension reaches the threshold if the mean of the validation scores is at
least the share of the mean of the same network with all parameters and the same seeds. The
dimension of all parameters reaches it by definition, and is not trained. A bisection on the
logarithmic scale ends when the interval is as narrow as the tolerance. Test rows decide nothing.

Reference: Li, Farkhoor, Liu, Yosinski, "Measuring the intrinsic dimension of objective landscapes",
ICLR 2018 (arXiv 1804.08838). Their accuracies are those of test rows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from hpcembed.jobs.job import Job
from hpcembed.jobs.report.scores import score_of
from hpcembed.jobs.report.wording import network_name
from hpcembed.jobs.study.embedded_data import EmbeddedData
from hpcembed.jobs.study.intrinsic.record import SubspacePoint, SubspaceSearch
from hpcembed.jobs.study.settings import StudyConfig
from hpcembed.jobs.study.statistics import StudyPoint, deviation
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.jobs.study.trial_inputs import TrialInputs
from hpcembed.jobs.study.trial_training import TrialTrainer, train_trials
from hpcembed.jobs.study.trials import InputKind, Trial, TrialBatch, TrialResult, trial_cost
from hpcembed.runtime.wording import counted

__all__ = ["measure_intrinsic", "middle"]

#: Seeds of a study with which a subspace is trained, at most.
MOST_SEEDS = 3


def middle(below: int, dimension: int, tolerance: float) -> int | None:
    """Return the dimension that divides an interval, or None if the interval is narrow enough.

    Parameters
    ----------
    below, dimension : int
        The largest dimension that misses the threshold, or 0, and the least that reaches it.

    Examples
    --------
    >>> middle(0, 3466, 0.1), middle(0, 58, 0.1), middle(100, 400, 0.1)
    (58, 7, 200)
    >>> middle(100, 110, 0.1), middle(3, 4, 0.1), middle(0, 1, 0.1), middle(0, 2, 0.1)
    (None, None, None, 1)
    """
    if dimension - below <= max(1, tolerance * below):
        return None
    centre = math.isqrt(max(below, 1) * dimension)
    return min(max(centre, below + 1), dimension - 1)


def measure_intrinsic(
    job: Job,
    study: StudyConfig,
    data: EmbeddedData,
    results: Sequence[TrialResult],
    finished: Mapping[str, TrialResult],
    majority: tuple[float, float] | None,
    *,
    report_only: bool,
) -> tuple[SubspaceSearch, ...]:
    """Search for the least dimension of the chosen network, or of the widest one.

    Collective. The trainings of one dimension are shared by the ranks and stored as those of the
    study are. One search is for the network on all features, one for that on its coordinates.

    Parameters
    ----------
    results : sequence of TrialResult
        Of the trials of the study.
    finished : mapping of str to TrialResult
        Stored results by their digests.
    majority : tuple of float or None
        Shares of the largest class among training and test rows; None for a regression.
    report_only : bool
        Train nothing.

    Returns
    -------
    tuple of SubspaceSearch
        Empty unless ``study.intrinsic`` is set, and if no network is trained yet.

    Raises
    ------
    HpcembedError
        A training failed on some rank, or the job must stop; raised on all ranks.
    """
    if not study.study.intrinsic:
        return ()
    trainings = _Trainings(job, study, data, finished, report_only=report_only)
    task = data.dataset.task
    found = []
    for point in _networks(StudySummary(study, results, data.n_features, task=task)):
        start = _start(study, data, point, results, majority[0] if majority else math.nan)
        found.append(start if start.fault else _search(start, trainings))
    trainings.destroy()
    return tuple(found)


def _networks(summary: StudySummary) -> list[StudyPoint]:
    """Return the network of the answer, else the widest one: on all features, on coordinates."""
    one = summary.compression
    full = [point for point in summary.points if point.input == "full"]
    if one is not None:
        hidden = one.point.hidden
    elif full:
        hidden = max(full, key=lambda point: point.parameters).hidden
    else:
        return []
    own = [point for point in summary.points if point.input != "full" and point.hidden == hidden]
    own.sort(key=lambda point: (point.input == "spectral", point.n_inputs))
    chosen = [one.point] if one is not None else own[-1:]
    return [point for point in full if point.hidden == hidden] + chosen


def _start(
    study: StudyConfig,
    data: EmbeddedData,
    point: StudyPoint,
    results: Sequence[TrialResult],
    majority: float,
) -> SubspaceSearch:
    """Return a search without any training."""
    share, seeds = study.study.intrinsic_share, sorted(point.seeds)[:MOST_SEEDS]
    key = point.input, point.hidden, point.n_inputs
    own = [one for one in results if _key(one.trial) == key and one.trial.seed in seeds]
    baseline = float(np.mean([one.validation_score for one in own]))
    threshold, score = share * baseline, score_of(data.dataset.task)
    fault = ""
    if not baseline > 0:
        text = score.with_unit(baseline)
        fault = f"its validation score, {text}, is not positive: a share of it has no meaning"
    elif threshold <= majority:
        fault = (
            f"the largest class has {score.with_unit(majority)} of the training rows, so a "
            f"constant prediction reaches the threshold, {score.with_unit(threshold)}: raise "
            "study.intrinsic_share"
        )
    return SubspaceSearch(
        *key, point.parameters, tuple(seeds), baseline, share, threshold, 0, point.parameters,
        fault=fault,
    )  # fmt: skip


def _key(trial: Trial) -> tuple[InputKind, tuple[int, ...], int]:
    return trial.input, trial.hidden, trial.n_inputs


def _search(start: SubspaceSearch, trainings: _Trainings) -> SubspaceSearch:
    """Divide the interval until it is narrow enough, or no more results are known. Collective."""
    below, dimension, points = start.below, start.dimension, list[SubspacePoint]()
    tolerance = trainings.study.study.intrinsic_tolerance
    while (d := middle(below, dimension, tolerance)) is not None:
        made = trainings.results(start, d)
        if made is None:
            break
        scores = np.array([one.validation_score for one in made])
        mean = float(scores.mean())
        reaches = mean >= start.threshold
        spread = deviation(scores) if len(scores) > 1 else math.nan
        tested = float(np.mean([one.test_score for one in made]))
        points.append(SubspacePoint(d, mean, spread, tested, reaches))
        below, dimension = (below, d) if reaches else (d, dimension)
    points.sort(key=lambda point: point.dimension)
    return dataclasses.replace(
        start, below=below, dimension=dimension, finished=d is None, points=tuple(points)
    )


class _Trainings:
    """Trainings in random subspaces, from the store or made."""

    def __init__(
        self,
        job: Job,
        study: StudyConfig,
        data: EmbeddedData,
        finished: Mapping[str, TrialResult],
        *,
        report_only: bool,
    ) -> None:
        self.job, self.study, self.data = job, study, data
        self._finished, self._report_only = finished, report_only
        self._inputs: dict[tuple[InputKind, tuple[int, ...], int], TrialInputs] = {}

    def results(self, search: SubspaceSearch, dimension: int) -> list[TrialResult] | None:
        """Return the results of one dimension; None if they may not be made. Collective."""
        key = search.input, search.hidden, search.n_inputs
        recipe = self.study.training
        trials = [Trial(*key, seed, dimension) for seed in search.seeds]
        names = {trial: self.data.digest(trial, recipe) for trial in trials}
        pending = [trial for trial in trials if names[trial] not in self._finished]
        if pending and self._report_only:
            return None
        made: dict[str, TrialResult] = {}
        if pending:
            if key not in self._inputs:
                self.destroy()
                prepared = [replace(trial, subspace=0) for trial in trials]
                self._inputs[key] = TrialInputs(
                    self.job, self.data, prepared, centred=recipe.centred
                )
            inputs, sweep = self._inputs[key], self.study.study
            trainer = TrialTrainer(self.data, inputs, recipe, self.job.threads, sweep.device)
            cost = trial_cost(trials[0], self.data.n_classes)
            batches = [TrialBatch((trial,), cost) for trial in pending]
            name = f"{network_name(search.hidden)} on {counted(search.n_inputs, 'input')}"
            title = f"{name}, random subspace of {counted(dimension, 'dimension')}"
            made = train_trials(self.job, trainer, batches, title)
        return [(made.get(names[trial]) or self._finished[names[trial]]) for trial in trials]

    def destroy(self) -> None:
        """Free the rows. Collective."""
        for inputs in self._inputs.values():
            inputs.destroy()
        self._inputs.clear()
