"""Record of one PCA on one table for one k."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import ClassVar

from miramns.bench.harness.records import Record


@dataclass(kw_only=True)
class PcaRecord(Record):
    """Record of a PCA: `seconds` and `repeats_s` are those of its fit, `n` counts the rows.

    The status of a right answer is ``exact``, ``approximate`` (its captured variance is below
    :data:`~hpcembed.bench.verdict.EXACT` of the optimum) or ``bound`` (a step that every PCA of its
    kind includes, which has no components).

    Attributes
    ----------
    d : int
        Number of features.
    dtype : str
    nonzeros : int or None
        Entries of sparse rows.
    data_bytes : int
        Memory of the rows.
    group : {"hpcembed", "peer", "bound"}
    threads : int
    detail : str
        Details reported by the method.
    transform_s : float or None
        Median of `transform_repeats_s`.
    captured : float or None
        Variance along the components, relative to the largest variance along k directions.
    deficit : float or None
        One minus `captured`, to full precision.
    sin_angle : float or None
        Sine of the largest angle between the components and the optimal ones.
    residual : float or None
        Largest ``||C v - lambda v||`` over the largest eigenvalue, in double precision, where
        lambda is the variance that the method reports, or the variance along v.
    orthogonality : float or None
        Largest entry of ``|V'V - I|``.
    peak_bytes : int or None
        Largest resident memory during a fit in a process of its own, less that before it.
    transform_repeats_s : list of float
    """

    right_statuses: ClassVar[tuple[str, ...]] = ("exact", "approximate", "bound")

    d: int
    dtype: str
    nonzeros: int | None
    data_bytes: int
    group: str
    threads: int
    detail: str = ""
    transform_s: float | None = None
    captured: float | None = None
    deficit: float | None = None
    sin_angle: float | None = None
    residual: float | None = None
    orthogonality: float | None = None
    peak_bytes: int | None = None
    transform_repeats_s: list[float] = field(default_factory=list)

    def add_transform(self, seconds: float) -> None:
        """Add one timed transform."""
        self.transform_repeats_s.append(seconds)
        self.transform_s = statistics.median(self.transform_repeats_s)

    def remove_runs(self) -> None:
        """Remove all times."""
        self.seconds = self.transform_s = None
        self.repeats_s.clear()
        self.transform_repeats_s.clear()
