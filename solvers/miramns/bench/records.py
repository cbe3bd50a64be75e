"""What is written of each case: one record per problem, method and k, as JSON lines and CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from miramns.bench.answer import Course

__all__ = ["Record", "append_json", "plain", "write_csv"]

#: Fields that are lists, so have no place in a table.
_LISTS = ("repeats_s", "eigenvalues", "course")


@dataclass
class Record:
    """One problem, method and k.

    Attributes
    ----------
    status : str
        ``ok``, ``wrong``, ``incomplete``, ``limit`` (took too long), ``refused`` (the method raised
        an error) or ``unfit`` (it does not apply); `why` says more.
    tol, tol_used : float
        What was asked for, and what the method was given so that its true residuals meet that.
    n_matvec, n_reductions, n_restarts : int or None
    seconds : float or None
        Median of the repeats; None unless the answer is right.
    repeats_s : list of float
        Seconds of each repeat of a right answer.
    worst_residual, orthogonality : float or None
        As measured, see :class:`~miramns.bench.judging.Measured`.
    n_found, n_missed : int or None
    reference : str
        Where the reference eigenvalues come from.
    product_s, pass_on_s : float
        Seconds of one product, and what a shell that passes it on adds: all products of SLEPc's
        solvers go through one, to be counted.
    floor_matvec, floor_s : int and float, or None
        Fewest products of a right answer by a fully orthogonal Krylov method, and their seconds.
    eigenvalues : list of [real, imaginary]
    course : Course
    """

    problem: str
    group: str
    n: int
    hermitian: bool
    which: str
    k: int
    method: str
    ranks: int
    tol: float
    status: str = "unfit"
    why: str = ""
    solver: str = ""
    timed: bool = True
    krylov: bool = False
    tol_used: float | None = None
    n_matvec: int | None = None
    n_reductions: int | None = None
    n_restarts: int | None = None
    seconds: float | None = None
    repeats_s: list[float] = field(default_factory=list)
    worst_residual: float | None = None
    orthogonality: float | None = None
    n_found: int | None = None
    n_missed: int | None = None
    reference: str = ""
    product_s: float = math.nan
    pass_on_s: float = math.nan
    floor_matvec: int | None = None
    floor_s: float | None = None
    eigenvalues: list[list[float]] = field(default_factory=list)
    course: Course = field(default_factory=Course)

    @property
    def ok(self) -> bool:
        """Whether the answer is right."""
        return self.status == "ok"


def plain(value: Any) -> Any:
    """Replace numbers that JSON has no word for by None, at any depth."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def append_json(path: Path, records: Sequence[Record]) -> None:
    """Add records to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(plain(asdict(record)), allow_nan=False) + "\n")


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """Write the fields of all records that are not lists."""
    names = [one.name for one in fields(Record) if one.name not in _LISTS]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for record in records:
            values = plain({name: getattr(record, name) for name in names})
            writer.writerow(["" if values[name] is None else values[name] for name in names])
