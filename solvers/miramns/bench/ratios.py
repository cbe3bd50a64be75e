"""Ratios of the cost of MIRAMns to that of Krylov-Schur and to the floor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from miramns.bench.eigensolver_record import EigensolverRecord
from miramns.bench.harness.records import by_case

#: Costs that the cost of MIRAMns is divided by, and their names in tables.
REFERENCE_COSTS = {"ks": "Krylov-Schur", "ks-best": "best of its other ncv", "floor": "floor"}


@dataclass(frozen=True)
class Ratio:
    """Cost of MIRAMns over each reference cost, for one problem and k.

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


def ratios(records: Sequence[EigensolverRecord]) -> list[Ratio]:
    """Compare MIRAMns with Krylov-Schur and with the floor."""
    return [
        Ratio(
            problem, one.group, k,
            _ratios(members, "seconds", one.floor_s),
            _ratios(members, "n_matvec", one.floor_matvec),
        )
        for (problem, k), members in by_case(records).items()
        for one in members
        if one.method == "miramns"
    ]  # fmt: skip


def _ratios(
    records: Sequence[EigensolverRecord], cost: str, floor: float | None
) -> dict[str, float]:
    """Divide one cost of MIRAMns by each reference cost."""

    def least(pattern: str) -> float:
        """Return the least cost of the right answers of some methods; NaN without one."""
        right = [one for one in records if one.is_right and fnmatchcase(one.method, pattern)]
        return min((getattr(one, cost) or math.nan for one in right), default=math.nan)

    references = {"ks": least("ks"), "ks-best": least("ks-*"), "floor": floor or math.nan}
    return {name: least("miramns") / value for name, value in references.items()}
