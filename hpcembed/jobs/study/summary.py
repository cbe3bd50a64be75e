"""Summary of a study: the values that its tables, figures and files show."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.report.dimensions import DimensionsRecord
from hpcembed.jobs.report.rendering import markdown_html
from hpcembed.jobs.report.scores import Score, score_of, worse_than_mean_warning
from hpcembed.jobs.report.wording import few_rows_warning, majority_warning, network_name
from hpcembed.jobs.study.intrinsic.record import SubspaceSearch
from hpcembed.jobs.study.published_accuracies import PublishedAccuracy
from hpcembed.jobs.study.rivals.comparison import RivalComparison, compare_rivals
from hpcembed.jobs.study.settings import StudyConfig
from hpcembed.jobs.study.statistics import (
    Compression,
    SmallestDimension,
    StudyPoint,
    best_compression,
    smallest_without_loss,
    summarise,
)
from hpcembed.jobs.study.trials import TrialResult
from hpcembed.runtime.wording import counted

__all__ = ["StudySummary"]


@dataclass(frozen=True, repr=False)
class StudySummary:
    """Results of a study, with everything that is derived from them.

    Attributes
    ----------
    study : StudyConfig
    results : sequence of TrialResult
    n_features : int
    published : mapping of tuple of int to PublishedAccuracy
        Published accuracies by hidden layers.
    embedding_seconds : float
        Of operator, solver and projection, which a compressed network needs before its training.
    is_linear : bool
        Whether the embedding is a projection, whose numbers can be counted.
    n_rows : tuple of int, optional
        Numbers of training and test rows, for the warning about too few of them.
    majority : tuple of float or None
        Shares of the largest class among training and test rows, for the warning about networks
        that have not learnt; None for a regression, or if they are not known.
    task : {"classification", "regression"}
    rival_limits : mapping of str to int
        Largest number of coordinates of each rival projection.
    fit_seconds : mapping
        Seconds of a fit of a rival, by its number of coordinates.
    dimensions : DimensionsRecord or None
        Diagnostics of the dimension, which are shown beside the smallest k without loss.
    intrinsic : tuple of SubspaceSearch
        Least dimensions of random subspaces; empty without a search.
    """

    study: StudyConfig
    results: Sequence[TrialResult]
    n_features: int
    published: Mapping[tuple[int, ...], PublishedAccuracy] = field(default_factory=dict)
    embedding_seconds: float = math.nan
    is_linear: bool = True
    n_rows: tuple[int, int] | None = None
    majority: tuple[float, float] | None = None
    task: Literal["classification", "regression"] = "classification"
    rival_limits: Mapping[str, int] = field(default_factory=dict)
    fit_seconds: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    dimensions: DimensionsRecord | None = None
    intrinsic: tuple[SubspaceSearch, ...] = ()

    @property
    def score(self) -> Score:
        """Accuracy or R2."""
        return score_of(self.task)

    def __repr__(self) -> str:
        name, n = self.study.data.name, len(self.results)
        return f"<StudySummary: {name}, {n} trained networks, {self.n_features} features>"

    def _repr_html_(self) -> str:
        from hpcembed.jobs.study.wording import study_markdown  # which imports this module

        return markdown_html(study_markdown(self))

    @property
    def margin(self) -> float:
        """Score that may be lost: 0.01 for one point."""
        return self.study.study.margin / 100.0

    @property
    def confidence(self) -> float:
        """Confidence of the intervals."""
        return self.study.study.confidence

    @property
    def few_rows(self) -> str:
        """Warning about data with fewer rows than the margin needs; may be empty.

        Accuracies have steps of one row, R2 has none.
        """
        if self.task == "regression":
            return ""
        share = self.study.training.validation_fraction
        return "" if self.n_rows is None else few_rows_warning(*self.n_rows, share, self.margin)

    @property
    def not_learnt(self) -> list[str]:
        """Warnings about networks that are not better than a constant prediction."""
        named = [
            (f"{network_name(one.hidden)} on {counted(one.n_inputs, 'input')} ({one.input})", one)
            for one in self.points
        ]
        found = []
        if self.task == "regression":
            scores = ((name, point.validation_mean) for name, point in named)
            found.append(worse_than_mean_warning(scores))
        elif self.majority is not None:
            found += [
                majority_warning(
                    name,
                    point.validation_mean,
                    point.test_mean,
                    self.majority,
                    is_baseline=point.input == "full",
                )
                for name, point in named
            ]
        return [text for text in found if text]

    @cached_property
    def points(self) -> list[StudyPoint]:
        """Each network on each input but rival projections, over all seeds."""
        own = {"full", *self.study.study.embeddings}
        chosen = [one for one in self.results if one.trial.input in own]
        return summarise(chosen, self.confidence)

    @cached_property
    def rivals(self) -> RivalComparison | None:
        """Rival projections beside the embedding; None if the study has none."""
        sweep, one = self.study.study, self.compression
        if not sweep.rivals:
            return None
        shown = None
        if one is not None and one.point.input == "spectral":
            shown = one.point.hidden, one.point.n_inputs
        return compare_rivals(
            self.results,
            sweep.rivals,
            self.study.dimensions,
            self.rival_limits,
            self.confidence,
            shown=shown,
        )

    @cached_property
    def smallest(self) -> list[SmallestDimension]:
        """The smallest k without loss of each network and input."""
        return smallest_without_loss(self.points, self.margin)

    @cached_property
    def compression(self) -> Compression | None:
        """The smallest model without loss, compared with the best baseline."""
        return best_compression(
            self.results, self.points, self.n_features, self.margin, self.confidence
        )

    @property
    def networks(self) -> dict[tuple[int, ...], list[StudyPoint]]:
        """Points of each network, by its hidden layers."""
        groups = defaultdict(list)
        for point in self.points:
            groups[point.hidden].append(point)
        return dict(groups)

    def stored_numbers(self, point: StudyPoint) -> int | None:
        """Count the numbers of a model with its projection, k x d; None without a projection."""
        if point.input == "full":
            return point.parameters
        if point.input in ("spectral", "whitened") and not self.is_linear:
            return None
        return point.parameters + point.n_inputs * self.n_features

    def published_accuracy(self, point: StudyPoint) -> float:
        """Return the published accuracy of a point; NaN if there is none."""
        other = self.published.get(point.hidden)
        if other is None:
            return math.nan
        known = {"full": other.baseline, "spectral": other.at(point.n_inputs)}
        accuracy = known.get(point.input)
        return math.nan if accuracy is None else accuracy

    def row(self, point: StudyPoint) -> dict[str, Any]:
        """Return a point as one flat row of columns; scores are at most 1."""
        row = {
            "input": point.input,
            "hidden": network_name(point.hidden),
            "n_inputs": point.n_inputs,
            "n_seeds": len(point.seeds),
            "parameters": point.parameters,
            "parameters_with_projection": self.stored_numbers(point),
        }
        names = ["train_seconds", "validation_mean", "validation_deviation"]
        names += ["test_mean", "test_deviation", "test_lowest", "test_highest"]
        row |= {name: getattr(point, name) for name in names}
        for name in ("validation_difference", "test_difference"):
            difference = getattr(point, name)
            for part, key in (("mean", name), ("low", f"{name}_low"), ("high", f"{name}_high")):
                row[key] = getattr(difference, part) if difference else math.nan
        within = point.validation_difference
        row["without_loss"] = bool(within and within.within(self.margin))
        row["published"] = self.published_accuracy(point)
        return row

    def predictions(self) -> NDArray[np.float64]:
        """Return targets and predictions of test rows at the chosen model, of its first seed.

        Returns
        -------
        ndarray of shape (m, 2)
            Empty if there is no chosen model, and for classes.
        """
        one = self.compression
        for result in sorted(self.results, key=lambda result: result.trial):
            trial = result.trial
            if one is not None and (trial.input, trial.hidden, trial.n_inputs) == (
                one.point.input,
                one.point.hidden,
                one.point.n_inputs,
            ):
                return np.array(result.predictions, dtype=np.float64).reshape(-1, 2)
        return np.empty((0, 2))

    def confusion(self) -> NDArray[np.int64]:
        """Return test rows by class and prediction at the chosen model, summed over the seeds.

        Returns
        -------
        ndarray of shape (n_classes, n_classes)
            Empty if there is no chosen model, and for data with many classes.
        """
        one = self.compression
        chosen = [
            np.array(result.confusion)
            for result in self.results
            if one is not None
            and (result.trial.input, result.trial.hidden, result.trial.n_inputs)
            == (one.point.input, one.point.hidden, one.point.n_inputs)
            and result.confusion
        ]
        return np.sum(chosen, axis=0) if chosen else np.empty((0, 0), dtype=np.int64)
