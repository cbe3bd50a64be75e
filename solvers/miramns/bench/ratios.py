"""Ratios of the cost of MIRAMns to that of Krylov-Schur and to the floor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from miramns.bench.eigensolver_record import EigensolverRecord
from miramns.bench.harness.records import by_case

__all__ = ["RIVALS", "Ratio", "ratios"]

#: Rivals of MIRAMns, and their names in tables.
RIVALS = {"ks": "Krylov-Schur", "ks-best": "best of its other ncv", "floor": "floor"}


@dataclass(frozen=True)
class Ratio:
    """Cost of MIRAMns over that of its rivals, for one problem and k.

    Attributes
    ----------
    problem, group, k : str, str, int
    seconds, products : dict of str to float
        Ratio to Krylov-Schur with its default ncv (``ks``), to the best of its other ncv
        (``ks-best``), and to the floor (``floor``). NaN without two right answers.
    """

    problem: str
    group: str
    k: int
    seconds: Mapping[str, float]
    products: Mapping[str, float]


def ratios(records: Sequence[EigensolverRecord], method: str = "miramns") -> list[Ratio]:
    """Compare one method with Krylov-Schur and with the floor."""
    compared = []
    for (problem, k), members in by_case(records).items():
        for ours in (one for one in members if one.method == method):
            seconds = _relative(ours, members, "seconds", ours.floor_s)
            products = _relative(ours, members, "n_matvec", ours.floor_matvec)
            compared.append(Ratio(problem, ours.group, k, seconds, products))
    return compared


def _relative(
    ours: EigensolverRecord, records: Sequence[EigensolverRecord], cost: str, floor: float | None
) -> dict[str, float]:
    """Divide one cost of a record by that of each rival."""
    right = [one for one in records if one.is_right]
    rivals = {
        "ks": _least([one for one in right if one.method == "ks"], cost),
        "ks-best": _least([one for one in right if one.method.startswith("ks-")], cost),
        "floor": _number(floor),
    }
    mine = _number(getattr(ours, cost)) if ours.is_right else math.nan
    return {name: mine / value for name, value in rivals.items()}


def _number(value: float | None) -> float:
    return math.nan if not value else float(value)


def _least(records: Sequence[EigensolverRecord], cost: str) -> float:
    return min((_number(getattr(one, cost)) for one in records), default=math.nan)
