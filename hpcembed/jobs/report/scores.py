"""The score of networks in words and numbers: accuracy of classifiers, R2 of regressions.

Accuracies are shown in percent, R2 as a number up to 1. Differences of both are shown in points of
0.01.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hpcembed.jobs.report.wording import percent

__all__ = ["ACCURACY", "R2", "Score", "score_of", "worse_than_mean_warning"]


@dataclass(frozen=True, slots=True)
class Score:
    """Names and number format of a score.

    Attributes
    ----------
    name : str
    file_name : str
        For names of files and columns.
    factor : float
        Of values in figures.
    point : str
        Explanation of a point where it is not a percent; else empty.

    Examples
    --------
    >>> ACCURACY.heading("test"), ACCURACY.text(0.97123, 0.0008)
    ('test %', '97.12 ± 0.08')
    >>> R2.heading("test"), R2.text(0.97123, 0.0008), R2.axis("test")
    ('test R2', '0.9712 ± 0.0008', 'test R2')
    """

    name: str
    file_name: str
    factor: float
    point: str

    @property
    def is_accuracy(self) -> bool:
        """Whether this is the score of classifiers."""
        return self.factor == 100.0

    @property
    def title(self) -> str:
        """Return the name as the first word of a title."""
        return self.name[:1].upper() + self.name[1:]

    def heading(self, part: str) -> str:
        """Return the heading of a column of a table."""
        return f"{part} %" if self.is_accuracy else f"{part} {self.name}"

    def axis(self, part: str) -> str:
        """Return the label of an axis."""
        return f"{part} accuracy (%)" if self.is_accuracy else f"{part} {self.name}"

    def text(self, mean: float, deviation: float = math.nan) -> str:
        """Format a score, with its standard deviation if there is one."""
        if self.is_accuracy:
            return percent(mean, deviation)
        if not math.isfinite(mean):
            return "-"
        return f"{mean:.4f}" + (f" ± {deviation:.4f}" if math.isfinite(deviation) else "")

    def with_unit(self, mean: float, deviation: float = math.nan) -> str:
        """Format a score for a sentence: ``97.12 ± 0.08 %`` or ``R2 0.9712 ± 0.0008``."""
        text = self.text(mean, deviation)
        return f"{text} %" if self.is_accuracy else f"{self.name} {text}"


ACCURACY = Score("accuracy", "accuracy", 100.0, "")
R2 = Score("R2", "r2", 1.0, "a point is 0.01 of R2")


def score_of(task: Literal["classification", "regression"]) -> Score:
    """Return the score of a task."""
    return R2 if task == "regression" else ACCURACY


def worse_than_mean_warning(networks: Iterable[tuple[str, float]]) -> str:
    """Warn of networks that predict no better than the mean of the target; empty if there are none.

    Parameters
    ----------
    networks : iterable of (str, float)
        Names, and R2 on rows that were not used for training.

    Examples
    --------
    >>> worse_than_mean_warning([("full 8-8", 0.4), ("embedded 8-8", 0.9)])
    ''
    """
    poor = [f"{name} ({score:.4f})" for name, score in networks if score <= 0]
    if not poor:
        return ""
    return (
        f"warning: R2 is not above 0, so the mean of the target predicts as well: {', '.join(poor)}"
        ": use more epochs, another scaling, or check the target"
    )
