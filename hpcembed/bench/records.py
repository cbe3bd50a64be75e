"""What is written of each case: one record per table, k and method, as JSON lines and CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

__all__ = ["Record", "append_json", "plain", "write_csv"]

_LISTS = ("fit_repeats_s", "transform_repeats_s")


@dataclass
class Record:
    """One table, k and method.

    Attributes
    ----------
    nonzeros : int or None
        Of sparse rows.
    group : {"ours", "peer", "bound"}
    status : str
        ``exact`` or ``approximate`` (captured variance below :data:`~.judging.EXACT` of the
        optimum), ``bound`` (no PCA, but what one has to take), ``wrong``, ``limit`` (took too
        long), ``refused`` (the method raised an error) or ``unfit`` (it does not apply); `why`
        says more. Only the first three have times.
    detail : str
        What the method did, in its own words.
    fit_s, transform_s : float or None
        Medians of the repeats.
    captured : float or None
        Variance along the components over the most that k components can have.
    deficit : float or None
        One minus that, to all its digits.
    sin_angle : float or None
        Of the largest angle between the components and the optimal ones.
    residual : float or None
        Largest ``||C v - lambda v||`` over the largest eigenvalue, with the variance that the
        method claims (that along v, where it claims none), in double.
    orthogonality : float or None
        Largest entry of ``|V'V - I|``.
    peak_bytes : int or None
        Rise of the resident memory during fit, at its peak, in a run of its own.
    data_bytes : int
        Of the rows themselves.
    """

    data: str
    n: int
    d: int
    dtype: str
    nonzeros: int | None
    data_bytes: int
    k: int
    method: str
    group: str
    threads: int
    status: str = "unfit"
    why: str = ""
    detail: str = ""
    fit_s: float | None = None
    transform_s: float | None = None
    captured: float | None = None
    deficit: float | None = None
    sin_angle: float | None = None
    residual: float | None = None
    orthogonality: float | None = None
    peak_bytes: int | None = None
    reference: str = ""
    fit_repeats_s: list[float] = field(default_factory=list)
    transform_repeats_s: list[float] = field(default_factory=list)

    @property
    def timed(self) -> bool:
        """Whether there are times."""
        return self.status in ("exact", "approximate", "bound")


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
