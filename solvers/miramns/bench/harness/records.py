"""Records of a benchmark: one for each problem, k and method, as JSON lines and as CSV."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar


@dataclass(kw_only=True)
class Record:
    """Result of one method on one problem for one k.

    Attributes
    ----------
    problem : str
    n : int
        Size of the problem.
    k : int
        Number of eigenpairs or components requested.
    method : str
    status : str
        One of `right_statuses`, ``wrong``, ``limit`` (over the time limit), ``refused`` (the method
        raised an error) or ``unfit`` (the method does not apply to the problem).
    why : str
        Reason of the status.
    reference : str
        Source of the reference that the answer is compared with.
    seconds : float or None
        Median of `repeats_s`; None unless the answer is right.
    repeats_s : list of float
        Seconds of each timed run.
    """

    #: Statuses of answers that may be timed.
    right_statuses: ClassVar[tuple[str, ...]] = ("ok",)

    problem: str
    n: int
    k: int
    method: str
    status: str = "unfit"
    why: str = ""
    reference: str = ""
    seconds: float | None = None
    repeats_s: list[float] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether the answer is right."""
        return self.status in self.right_statuses

    @property
    def verdict(self) -> str:
        """Status and reason in one text."""
        return self.status + (f": {self.why}" if self.why else "")

    def add_run(self, seconds: float) -> None:
        """Add one timed run."""
        self.repeats_s.append(seconds)
        self.seconds = statistics.median(self.repeats_s)


R = TypeVar("R", bound=Record)


def by_case(records: Sequence[R]) -> dict[tuple[str, int], list[R]]:
    """Group records by problem and k, in their order."""
    cases: dict[tuple[str, int], list[R]] = {}
    for record in records:
        cases.setdefault((record.problem, record.k), []).append(record)
    return cases


def fastest(records: Sequence[R]) -> R | None:
    """Return the record with the fewest seconds; None if none is timed."""
    timed = [one for one in records if one.seconds]
    return min(timed, key=lambda one: one.seconds or math.inf, default=None)


def json_value(value: Any) -> Any:
    """Replace numbers that JSON cannot represent by None, at any depth."""
    if isinstance(value, dict):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def append_json_lines(path: Path, records: Sequence[Record]) -> None:
    """Append records to a file, one JSON object per line."""
    with path.open("a", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(json_value(asdict(record)), allow_nan=False) + "\n")


def _not_a_formula(value: object) -> object:
    """Put an apostrophe before text that a spreadsheet would execute as a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """Write the fields of all records that are neither lists nor structures."""
    rows = [
        {name: _not_a_formula(value) for name, value in json_value(asdict(record)).items()
         if not isinstance(value, list | dict)}
        for record in records
    ]  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
