"""Rival projections compared with the embedding: paired differences of test scores.

A network on the k coordinates of a rival and the same network on k coordinates of the embedding are
trained with the same seeds. The mean of their differences on test rows has a Student-t interval.
With m rivals the confidence of each interval is ``1 - (1 - c) / m`` (Bonferroni), so that all of
them hold together with the confidence c. Test rows are used, because a rival may have been fitted
with the labels of the validation rows.

A rival with fewer coordinates than k (discriminants: classes less one) is compared with all that it
has.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpcembed.jobs.study.statistics import compare, deviation
from hpcembed.jobs.study.trials import InputKind, RivalKind, TrialResult
from hpcembed.networks.paired_intervals import Difference

__all__ = ["RivalComparison", "RivalPoint", "compare_rivals"]


@dataclass(frozen=True, slots=True)
class RivalPoint:
    """One network on one rival in place of k coordinates of the embedding, over all seeds.

    Attributes
    ----------
    input : str
        The rival; "spectral" for the embedding itself.
    hidden : tuple of int
    dimension : int
        The number k of coordinates of the embedding.
    n_inputs : int
        Coordinates of the rival, at most k.
    n_seeds : int
    test_mean, test_deviation : float
        NaN for a deviation of one seed.
    difference : Difference or None
        From the embedding, on test rows; None for the embedding, and for fewer than two seeds.
    """

    input: InputKind
    hidden: tuple[int, ...]
    dimension: int
    n_inputs: int
    n_seeds: int
    test_mean: float
    test_deviation: float
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class RivalComparison:
    """All rivals beside the embedding.

    Attributes
    ----------
    points : tuple of RivalPoint
        By network and k; the embedding first, then the rivals, best mean first.
    hidden : tuple of int
        Network of the answer.
    dimension : int
        k of the answer.
    confidence : float
        Of all intervals of one network and k together.
    """

    points: tuple[RivalPoint, ...]
    hidden: tuple[int, ...]
    dimension: int
    confidence: float

    @property
    def answer(self) -> tuple[RivalPoint, ...]:
        """The rivals at the network and the k of the answer, without the embedding."""
        return tuple(
            point
            for point in self.points
            if (point.hidden, point.dimension) == (self.hidden, self.dimension)
            and point.input != "spectral"
        )

    @property
    def of_network(self) -> tuple[RivalPoint, ...]:
        """All points of the network of the answer."""
        return tuple(point for point in self.points if point.hidden == self.hidden)


def compare_rivals(
    results: Iterable[TrialResult],
    rivals: Sequence[RivalKind],
    dimensions: Sequence[int],
    limits: Mapping[str, int],
    confidence: float,
    *,
    shown: tuple[tuple[int, ...], int] | None = None,
) -> RivalComparison | None:
    """Compare every rival with the embedding, for each network and k.

    Parameters
    ----------
    limits : mapping of str to int
        Largest number of coordinates of each rival.
    shown : tuple, optional
        Network and k of the answer. Default: the widest network and the largest k.

    Returns
    -------
    RivalComparison or None
        None if no network was trained on the embedding.
    """
    groups: dict[tuple[str, tuple[int, ...], int], list[TrialResult]] = defaultdict(list)
    for one in results:
        groups[one.trial.input, one.trial.hidden, one.trial.n_inputs].append(one)
    networks = sorted({hidden for kind, hidden, _ in groups if kind == "spectral"}, reverse=True)
    points = list[RivalPoint]()
    for hidden in networks:
        for k in sorted(dimensions):
            base = groups.get(("spectral", hidden, k), [])
            if not base:
                continue
            pairs = [(kind, min(k, limits.get(kind, k))) for kind in dict.fromkeys(rivals)]
            found = [(kind, groups.get((kind, hidden, n), [])) for kind, n in pairs]
            found = [(kind, group) for kind, group in found if group]
            each = 1.0 - (1.0 - confidence) / max(len(found), 1)
            of_rivals = [_point(kind, k, group, base, each) for kind, group in found]
            of_rivals.sort(key=lambda point: -point.test_mean)
            points += [_point("spectral", k, base, [], each), *of_rivals]
    if not points:
        return None
    hidden, k = shown or (points[0].hidden, max(point.dimension for point in points))
    return RivalComparison(tuple(points), hidden, k, confidence)


def _point(
    kind: InputKind,
    k: int,
    group: Sequence[TrialResult],
    base: Sequence[TrialResult],
    confidence: float,
) -> RivalPoint:
    scores = np.array([one.test_score for one in group])
    trial = group[0].trial
    return RivalPoint(
        kind,
        trial.hidden,
        k,
        trial.n_inputs,
        len(group),
        float(scores.mean()),
        deviation(scores) if len(group) > 1 else math.nan,
        compare(group, base, "test_score", confidence),
    )
