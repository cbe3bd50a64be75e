"""Results of a study of heads: one record for each fitted head, and summaries over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcembed.networks.paired_intervals import Difference, paired
from hpcembed.runtime.wording import counted

__all__ = ["FULL", "HeadResult", "HeadStudy", "HeadSummary"]

#: Name of the head on all features.
FULL = "full"


@dataclass(frozen=True, slots=True)
class HeadResult:
    """One head on one projection with one seed.

    Attributes
    ----------
    projection : str
        Name of the projection; "full" for the head on all features.
    n_components, seed : int
        The seed selects the validation rows, and determines random projections.
    calibration_rows : int or None
        Training rows from which the projection was computed; None for all of them.
    l2 : float
        Penalty selected on validation rows.
    converged : bool
    validation_accuracy, test_accuracy : float
    projection_parameters, head_parameters : int
        Numbers that the projection and the head store.
    logit_error : float
        Largest difference from the logits of the full head on test rows, for fewer components than
        classes without the mean of each row; NaN for a head that was fitted.
    seconds : float
        Time of the projection and of all its heads.
    """

    projection: str
    n_components: int
    seed: int
    calibration_rows: int | None
    l2: float
    converged: bool
    validation_accuracy: float
    test_accuracy: float
    projection_parameters: int
    head_parameters: int
    logit_error: float
    seconds: float

    @property
    def key(self) -> tuple[str, int, int | None]:
        """Projection, components and calibration rows."""
        return self.projection, self.n_components, self.calibration_rows


@dataclass(frozen=True, slots=True)
class HeadSummary:
    """One projection over all seeds.

    Attributes
    ----------
    projection, n_components, calibration_rows
        As in :class:`HeadResult`.
    test_accuracies : tuple of float
        In the order of the seeds.
    test_mean, test_deviation : float
        The deviation is that of the sample; NaN for one seed.
    difference : Difference or None
        Test accuracy less that of the full head, paired by seed; None for one seed.
    parameters : int
        Numbers of projection and head; the largest over the seeds.
    logit_error : float
        The largest over the seeds, or NaN.
    """

    projection: str
    n_components: int
    calibration_rows: int | None
    test_accuracies: tuple[float, ...]
    test_mean: float
    test_deviation: float
    difference: Difference | None
    parameters: int
    logit_error: float


@dataclass(frozen=True, repr=False)
class HeadStudy:
    """All heads of a study.

    Attributes
    ----------
    results : tuple of HeadResult
    omitted : tuple of (str, int, str)
        Projections without so many components: name, components, reason.
    confidence : float
        Of the intervals.
    """

    results: tuple[HeadResult, ...]
    omitted: tuple[tuple[str, int, str], ...]
    confidence: float = 0.95

    def __repr__(self) -> str:
        projections = {one.projection for one in self.results} - {FULL}
        seeds = {one.seed for one in self.results}
        return (
            f"<HeadStudy: {counted(len(self.results), 'head')}, "
            f"{counted(len(projections), 'projection')}, {counted(len(seeds), 'seed')}>"
        )

    def __str__(self) -> str:
        lines = [*_full_lines(self.results), *_table_lines(self.results)] or ["no heads"]
        omitted = f"{len(self.omitted)} omitted: see omitted; " if self.omitted else ""
        return "\n".join([*lines, f"{omitted}intervals and parameters: see summary()"])

    def select(
        self, projection: str, n_components: int | None = None, calibration_rows: int | None = None
    ) -> list[HeadResult]:
        """Return the results of a projection in the order of the seeds.

        Raises
        ------
        KeyError
            If there are none.
        """
        found = [
            one
            for one in self.results
            if one.projection == projection
            and n_components in (None, one.n_components)
            and one.calibration_rows == calibration_rows
        ]
        if not found:
            raise KeyError(f"no results of {projection} with {n_components} components")
        return sorted(found, key=lambda one: one.seed)

    def compare(
        self, first: str, second: str, n_components: int, calibration_rows: int | None = None
    ) -> Difference | None:
        """Return the test accuracy of a projection less that of another one, paired by seed.

        `calibration_rows` is that of the first projection; the second one has all rows.
        """
        ours = self.select(first, n_components, calibration_rows)
        theirs = self.select(second, n_components if second != FULL else None)
        return paired(
            [one.test_accuracy for one in ours],
            [one.test_accuracy for one in theirs],
            self.confidence,
        )

    def summary(self) -> list[HeadSummary]:
        """Return a summary of each projection, in the order of the results."""
        full = [one.test_accuracy for one in self.select(FULL)]
        found = []
        for key in dict.fromkeys(one.key for one in self.results):
            group = sorted((one for one in self.results if one.key == key), key=lambda r: r.seed)
            accuracies = [one.test_accuracy for one in group]
            found.append(
                HeadSummary(
                    *key,
                    test_accuracies=tuple(accuracies),
                    test_mean=float(np.mean(accuracies)),
                    test_deviation=float(np.std(accuracies, ddof=1))
                    if len(group) > 1
                    else math.nan,
                    difference=paired(accuracies, full, self.confidence),
                    parameters=max(
                        one.projection_parameters + one.head_parameters for one in group
                    ),
                    logit_error=max(one.logit_error for one in group),
                )
            )
        return found


def _full_lines(results: Sequence[HeadResult]) -> list[str]:
    """Return the line of the head on all features."""
    full = [one for one in results if one.projection == FULL]
    if not full:
        return []
    accuracy = 100 * float(np.mean([one.test_accuracy for one in full]))
    parameters = max(one.projection_parameters + one.head_parameters for one in full)
    return [
        f"all {full[0].n_components} features: test accuracy {accuracy:.2f} %, "
        f"{parameters:,} parameters, {counted(len(full), 'seed')}"
    ]


def _table_lines(results: Sequence[HeadResult]) -> list[str]:
    """Return the mean test accuracies: a line for each projection, a column for each size."""
    cells: dict[str, dict[int, list[float]]] = {}
    for one in results:
        if one.projection != FULL:
            rows = "" if one.calibration_rows is None else f" ({one.calibration_rows:,} rows)"
            row = cells.setdefault(one.projection + rows, {})
            row.setdefault(one.n_components, []).append(one.test_accuracy)
    if not cells:
        return []
    sizes = sorted({k for row in cells.values() for k in row}, reverse=True)
    width = max(24, *map(len, cells))
    lines = [
        "mean test accuracy in % by number of components:",
        f"{'projection':{width}}" + "".join(f"{k:8}" for k in sizes),
    ]
    for name, row in cells.items():
        shown = (f"{100 * float(np.mean(row[k])):.2f}" if k in row else "-" for k in sizes)
        lines.append(f"{name:{width}}" + "".join(f"{text:>8}" for text in shown))
    return lines
