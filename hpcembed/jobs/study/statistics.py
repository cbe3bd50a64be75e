"""What the seeds of a study say: means, spreads, paired differences, and where nothing is lost.

A network on k inputs and its baseline (the same hidden layers on all features) are trained with the
same seeds, which decide held-out rows, order and first weights; their differences are taken seed by
seed, and a Student-t interval is put around the mean difference. "No loss" at k means that the
lower end of this interval, for the accuracy on validation rows, is above minus the margin. The
smallest such k is a choice, so it is made on validation rows; what it costs is then read off the
test rows, which had no part in it.

With one seed there is no interval, and nothing is claimed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hpcembed.jobs.study.trials import Cell, InputKind, Result

__all__ = [
    "Compression",
    "Difference",
    "Point",
    "Smallest",
    "best_compression",
    "paired",
    "smallest_without_loss",
    "summarise",
]


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean of paired differences and its interval; accuracies, so 0.01 is a point."""

    mean: float
    low: float
    high: float

    def within(self, margin: float) -> bool:
        """Whether at most `margin` is lost: the lower end lies above its negative."""
        return self.low > -margin


@dataclass(frozen=True, slots=True)
class Point:
    """One network on one input over all seeds.

    Attributes
    ----------
    seeds : tuple of int
    validation_mean, validation_deviation, test_mean, test_deviation : float
        Deviation of the sample; NaN with one seed.
    test_lowest, test_highest : float
    validation_difference, test_difference : Difference or None
        Against the same network on all features with the same seeds.
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
class Smallest:
    """The smallest k at which a network loses nothing on validation rows, or None.

    Attributes
    ----------
    point, baseline : Point
        At that k, or at the k that came nearest; and on all features.
    holds : bool
        There is such a k.
    confirmed : bool
        The interval on test rows says the same.
    """

    input: InputKind
    hidden: tuple[int, ...]
    point: Point
    baseline: Point
    holds: bool
    confirmed: bool


def paired(
    values: Sequence[float], baseline: Sequence[float], confidence: float
) -> Difference | None:
    """Mean difference of pairs with its Student-t interval; None for fewer than two pairs.

    Not collective.
    """
    difference = np.asarray(values) - np.asarray(baseline)
    n = difference.size
    if n < 2 or not np.isfinite(difference).all():
        return None
    mean = float(difference.mean())
    quantile = float(special.stdtrit(n - 1, 0.5 + 0.5 * confidence))
    half = quantile * float(difference.std(ddof=1)) / math.sqrt(n)
    return Difference(mean, mean - half, mean + half)


def summarise(results: Iterable[Result], confidence: float) -> list[Point]:
    """Put the seeds of each network and input together. Not collective.

    Returns
    -------
    list of Point
        Ordered by input (all features first), hidden layers (widest first) and number of inputs.
    """
    groups: dict[tuple[InputKind, tuple[int, ...], int], dict[int, Result]] = defaultdict(dict)
    for one in results:
        groups[one.cell.input, one.cell.hidden, one.cell.n_inputs][one.cell.seed] = one
    baselines = {hidden: group for (kind, hidden, _), group in groups.items() if kind == "full"}
    points = []
    for (kind, hidden, k), group in groups.items():
        other = baselines.get(hidden, {}) if kind != "full" else {}
        points.append(_point(kind, hidden, k, group, other, confidence))
    return sorted(points, key=_order)


def _order(point: Point) -> tuple[object, ...]:
    kinds = ("full", "spectral", "whitened", "gaussian", "sparse")
    return kinds.index(point.input), [-width for width in point.hidden], point.n_inputs


def _point(
    kind: InputKind,
    hidden: tuple[int, ...],
    k: int,
    group: dict[int, Result],
    baseline: dict[int, Result],
    confidence: float,
) -> Point:
    seeds = tuple(sorted(group))
    validation = np.array([group[seed].validation_accuracy for seed in seeds])
    test = np.array([group[seed].test_accuracy for seed in seeds])
    shared = [seed for seed in seeds if seed in baseline]

    def difference(name: str) -> Difference | None:
        mine = [float(getattr(group[seed], name)) for seed in shared]
        return paired(mine, [float(getattr(baseline[s], name)) for s in shared], confidence)

    return Point(
        input=kind,
        hidden=hidden,
        n_inputs=k,
        seeds=seeds,
        parameters=group[seeds[0]].parameters,
        train_seconds=float(np.median([group[seed].train_seconds for seed in seeds])),
        validation_mean=float(validation.mean()),
        validation_deviation=_deviation(validation),
        test_mean=float(test.mean()),
        test_deviation=_deviation(test),
        test_lowest=float(test.min()),
        test_highest=float(test.max()),
        validation_difference=difference("validation_accuracy"),
        test_difference=difference("test_accuracy"),
    )


def _deviation(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else math.nan


def smallest_without_loss(points: Sequence[Point], margin: float) -> list[Smallest]:
    """Choose the smallest k without loss of each network and input. Not collective.

    Parameters
    ----------
    margin : float
        Accuracy that may be lost, as a share: 0.002 for 0.2 points.
    """
    baselines = {point.hidden: point for point in points if point.input == "full"}
    groups: dict[tuple[InputKind, tuple[int, ...]], list[Point]] = defaultdict(list)
    for point in points:
        if point.validation_difference is not None and point.hidden in baselines:
            groups[point.input, point.hidden].append(point)
    chosen = []
    for (kind, hidden), group in groups.items():
        good = [
            p for p in group if p.validation_difference and p.validation_difference.within(margin)
        ]
        best = min(good, key=lambda p: p.n_inputs) if good else max(group, key=_lower_end)
        test = best.test_difference
        confirmed = bool(good) and test is not None and test.within(margin)
        chosen.append(Smallest(kind, hidden, best, baselines[hidden], bool(good), confirmed))
    return chosen


def _lower_end(point: Point) -> float:
    return point.validation_difference.low if point.validation_difference else -math.inf


@dataclass(frozen=True, slots=True)
class Compression:
    """The smallest model that keeps the accuracy of the best baseline within the margin.

    Attributes
    ----------
    point, baseline : Point
        The model, and the network on all features with the best mean on validation rows.
    validation_difference, test_difference : Difference
        Of the model to that baseline, whatever its hidden layers.
    holds : bool
        On validation rows, by which the model was chosen; else it is the one that came nearest.
    """

    point: Point
    baseline: Point
    validation_difference: Difference
    test_difference: Difference
    holds: bool


def best_compression(
    results: Sequence[Result],
    points: Sequence[Point],
    n_features: int,
    margin: float,
    confidence: float,
) -> Compression | None:
    """Choose the model with the fewest numbers, the projection counted, that loses nothing.

    Not collective. None without baselines, or with fewer than two seeds.
    """
    baselines = [point for point in points if point.input == "full"]
    if not baselines:
        return None
    best = max(baselines, key=lambda point: (point.validation_mean, -point.parameters))
    by_cell = {one.cell: one for one in results}

    def difference(point: Point, name: str) -> Difference | None:
        pairs = [
            [
                float(getattr(by_cell[replace(_cell(p), seed=seed)], name))
                for seed in point.seeds
                if seed in best.seeds
            ]
            for p in (point, best)
        ]
        return paired(pairs[0], pairs[1], confidence)

    found = []
    for point in points:
        validation = difference(point, "validation_accuracy")
        test = difference(point, "test_accuracy")
        if point.input == "full" or validation is None or test is None:
            continue
        found.append(Compression(point, best, validation, test, validation.within(margin)))
    if not found:
        return None
    good = [one for one in found if one.holds]
    if good:
        return min(good, key=lambda one: one.point.parameters + one.point.n_inputs * n_features)
    return max(found, key=lambda one: one.validation_difference.low)


def _cell(point: Point) -> Cell:
    return Cell(point.input, point.hidden, point.n_inputs, point.seeds[0])
