"""Statistics of a study over its seeds: means, deviations, paired differences, no loss.

A network on k inputs and its baseline (the same hidden layers on all features) are trained with the
same seeds, which determine held-out rows, order and first weights. Their differences are taken seed
by seed; the mean difference has a Student-t interval. A network is *without loss* at k if the lower
end of this interval, for the score (accuracy or R2) on validation rows, is above minus the margin.
The smallest k without loss is selected on validation rows; its loss is then measured on test rows,
which have no part in the selection.

One seed gives no interval, and nothing is selected.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.study.trials import INPUT_KINDS, InputKind, TrialResult
from hpcembed.networks.paired_intervals import Difference, paired

__all__ = [
    "Compression",
    "Difference",
    "SmallestDimension",
    "StudyPoint",
    "best_compression",
    "compare",
    "deviation",
    "paired",
    "smallest_without_loss",
    "summarise",
]

_Group = tuple[InputKind, tuple[int, ...], int]


@dataclass(frozen=True, slots=True)
class StudyPoint:
    """One network on one input, over all seeds.

    Attributes
    ----------
    seeds : tuple of int
    validation_mean, validation_deviation, test_mean, test_deviation : float
        Deviations are those of the sample; NaN for one seed.
    test_lowest, test_highest : float
    validation_difference, test_difference : Difference or None
        From the same network on all features with the same seeds.
    train_seconds : float
        Median over the seeds.
    """

    input: InputKind
    hidden: tuple[int, ...]
    n_inputs: int
    seeds: tuple[int, ...]
    parameters: int
    train_seconds: float
    validation_mean: float
    validation_deviation: float
    test_mean: float
    test_deviation: float
    test_lowest: float
    test_highest: float
    validation_difference: Difference | None
    test_difference: Difference | None


@dataclass(frozen=True, slots=True)
class SmallestDimension:
    """The smallest k at which a network is without loss on validation rows.

    Attributes
    ----------
    point, baseline : StudyPoint
        The network at that k (if every k has a loss, at the k with the highest lower end of the
        interval); the network on all features.
    holds : bool
        Whether there is a k without loss.
    confirmed : bool
        Whether the interval on test rows is above minus the margin as well.
    """

    point: StudyPoint
    baseline: StudyPoint
    holds: bool
    confirmed: bool


def compare(
    results: Iterable[TrialResult], baseline: Iterable[TrialResult], name: str, confidence: float
) -> Difference | None:
    """Compare a score of trials with that of baseline trials of the same seeds.

    Parameters
    ----------
    name : {"validation_score", "test_score"}

    Returns
    -------
    Difference or None
        None for fewer than two common seeds.
    """
    others = {one.trial.seed: float(getattr(one, name)) for one in baseline}
    values = {one.trial.seed: float(getattr(one, name)) for one in results}
    common = sorted(values.keys() & others.keys())
    return paired([values[seed] for seed in common], [others[seed] for seed in common], confidence)


def _groups(results: Iterable[TrialResult]) -> dict[_Group, list[TrialResult]]:
    """Group results by input, hidden layers and number of inputs, each ordered by seed."""
    groups: dict[_Group, dict[int, TrialResult]] = defaultdict(dict)
    for one in results:
        trial = one.trial
        groups[trial.input, trial.hidden, trial.n_inputs][trial.seed] = one
    return {key: [group[seed] for seed in sorted(group)] for key, group in groups.items()}


def summarise(results: Iterable[TrialResult], confidence: float) -> list[StudyPoint]:
    """Summarise the seeds of each network and input.

    Returns
    -------
    list of StudyPoint
        Ordered by input (all features first), hidden layers (widest first) and number of inputs.
    """
    groups = _groups(results)
    baselines = {hidden: group for (kind, hidden, _), group in groups.items() if kind == "full"}
    points = []
    for (kind, hidden, k), group in groups.items():
        baseline = baselines.get(hidden, []) if kind != "full" else []
        validation = np.array([one.validation_score for one in group])
        test = np.array([one.test_score for one in group])
        points.append(
            StudyPoint(
                input=kind,
                hidden=hidden,
                n_inputs=k,
                seeds=tuple(one.trial.seed for one in group),
                parameters=group[0].parameters,
                train_seconds=float(np.median([one.train_seconds for one in group])),
                validation_mean=float(validation.mean()),
                validation_deviation=deviation(validation),
                test_mean=float(test.mean()),
                test_deviation=deviation(test),
                test_lowest=float(test.min()),
                test_highest=float(test.max()),
                validation_difference=compare(group, baseline, "validation_score", confidence),
                test_difference=compare(group, baseline, "test_score", confidence),
            )
        )
    return sorted(points, key=_order)


def _order(point: StudyPoint) -> tuple[object, ...]:
    return INPUT_KINDS.index(point.input), [-width for width in point.hidden], point.n_inputs


def deviation(values: NDArray[np.float64]) -> float:
    """Compute the standard deviation of a sample; NaN for a single value."""
    return float(values.std(ddof=1)) if values.size > 1 else math.nan


def smallest_without_loss(points: Sequence[StudyPoint], margin: float) -> list[SmallestDimension]:
    """Select the smallest k without loss of each network and input.

    Parameters
    ----------
    margin : float
        Score that may be lost: 0.002 for 0.2 points.
    """
    baselines = {point.hidden: point for point in points if point.input == "full"}
    groups: dict[tuple[InputKind, tuple[int, ...]], list[StudyPoint]] = defaultdict(list)
    for point in points:
        if point.validation_difference is not None and point.hidden in baselines:
            groups[point.input, point.hidden].append(point)
    chosen = []
    for (_, hidden), group in groups.items():
        good = [point for point in group if _within(point.validation_difference, margin)]
        best = min(good, key=lambda point: point.n_inputs) if good else max(group, key=_lower_end)
        confirmed = bool(good) and _within(best.test_difference, margin)
        chosen.append(SmallestDimension(best, baselines[hidden], bool(good), confirmed))
    return chosen


def _within(difference: Difference | None, margin: float) -> bool:
    return difference is not None and difference.within(margin)


def _lower_end(point: StudyPoint) -> float:
    return point.validation_difference.low if point.validation_difference else -math.inf


@dataclass(frozen=True, slots=True)
class Compression:
    """The smallest model that is without loss compared with the best baseline.

    Attributes
    ----------
    point, baseline : StudyPoint
        The model, and the network on all features with the best mean on validation rows.
    validation_difference, test_difference : Difference
        Between the model and that baseline, which may have other hidden layers.
    same : StudyPoint or None
        The network of the model on all features; None if it is not trained yet.
    from_same, of_network : Difference or None
        On test rows: between the model and the same network on all features, which is the effect
        of the embedding; between this network and the baseline, which is that of its size.
    holds : bool
        Whether the model is without loss on validation rows; otherwise every model has a loss, and
        this is the one with the highest lower end of the interval.
    """

    point: StudyPoint
    baseline: StudyPoint
    validation_difference: Difference
    test_difference: Difference
    holds: bool
    same: StudyPoint | None = None
    from_same: Difference | None = None
    of_network: Difference | None = None


def best_compression(
    results: Sequence[TrialResult],
    points: Sequence[StudyPoint],
    n_features: int,
    margin: float,
    confidence: float,
) -> Compression | None:
    """Select the model without loss that stores the fewest numbers, its projection included.

    Returns
    -------
    Compression or None
        None without baselines, and with fewer than two seeds.
    """
    baselines = [point for point in points if point.input == "full"]
    if not baselines:
        return None
    best = max(baselines, key=lambda point: (point.validation_mean, -point.parameters))
    groups = _groups(results)
    base = groups[best.input, best.hidden, best.n_inputs]
    found = []
    for point in points:
        mine = groups[point.input, point.hidden, point.n_inputs]
        validation = compare(mine, base, "validation_score", confidence)
        test = compare(mine, base, "test_score", confidence)
        if point.input == "full" or validation is None or test is None:
            continue
        found.append(Compression(point, best, validation, test, validation.within(margin)))
    if not found:
        return None
    good = [one for one in found if one.holds]
    if good:
        chosen = min(good, key=lambda one: one.point.parameters + one.point.n_inputs * n_features)
    else:
        chosen = max(found, key=lambda one: one.validation_difference.low)
    same = next((one for one in baselines if one.hidden == chosen.point.hidden), None)
    if same is None:
        return chosen
    mine = groups[same.input, same.hidden, same.n_inputs]
    of_network = compare(mine, base, "test_score", confidence)
    return replace(chosen, same=same, from_same=chosen.point.test_difference, of_network=of_network)
