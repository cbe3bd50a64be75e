"""Comparing methods over many problems: performance profiles, ratios, geometric means.

The profile of a method is the share of problems that it solves within a factor of the best method,
as a function of the factor. At factor 1 it says how often the method is the best, far to the right
how many problems it solves at all. A wrong answer is an infinite cost.

Reference: Dolan, More, "Benchmarking optimization software with performance profiles", Mathematical
Programming 91 (2002).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miramns.bench.records import Record

__all__ = ["Ratio", "cost_table", "geometric_mean", "performance_profile", "ratios"]


def performance_profile(
    costs: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute performance profiles. Not collective.

    Parameters
    ----------
    costs : ndarray of shape (problems, methods)
        Positive; infinite or NaN where a method has no right answer. Problems that no method solves
        are left out.

    Returns
    -------
    factors : ndarray of shape (steps,)
        Increasing, from 1: the places where a profile steps.
    shares : ndarray of shape (steps, methods)
        Share of the problems solved within each factor of the best.
    """
    costs = np.where(np.isfinite(costs), costs, np.inf)
    costs = costs[np.isfinite(costs).any(axis=1)]
    if not costs.size:
        return np.ones(1), np.zeros((1, costs.shape[1]))
    relative = costs / costs.min(axis=1, keepdims=True)
    factors = np.unique(np.append(relative[np.isfinite(relative)], 1.0))
    shares = (relative[None, :, :] <= factors[:, None, None]).mean(axis=1)
    return factors, shares


def cost_table(
    records: Sequence[Record], what: str
) -> tuple[list[tuple[str, int]], list[str], NDArray[np.float64]]:
    """Arrange one cost of all timed methods by problem and method. Not collective.

    Parameters
    ----------
    what : {"n_matvec", "seconds"}

    Returns
    -------
    problems : list of (problem, k)
    methods : list of str
        Those that apply to at least one of the problems.
    costs : ndarray of shape (problems, methods)
        NaN without a right answer.
    """
    records = [one for one in records if one.timed]
    problems = list(dict.fromkeys((one.problem, one.k) for one in records))
    methods = list(dict.fromkeys(one.method for one in records if one.status != "unfit"))
    costs = np.full((len(problems), len(methods)), np.nan)
    for one in records:
        value = getattr(one, what)
        if one.ok and value is not None and one.method in methods:
            costs[problems.index((one.problem, one.k)), methods.index(one.method)] = value
    return problems, methods, costs


@dataclass(frozen=True)
class Ratio:
    """Cost of MIRAMns over that of another, for one problem and k.

    Attributes
    ----------
    problem, group, k : str, str, int
    seconds, products : dict of str to float
        Over Krylov-Schur with its default ncv (``ks``), with the best of the other ncv
        (``ks-best``), and over the floor (``floor``). NaN without two right answers.
    """

    problem: str
    group: str
    k: int
    seconds: Mapping[str, float]
    products: Mapping[str, float]


#: What MIRAMns is compared with.
RIVALS = ("ks", "ks-best", "floor")


def ratios(records: Sequence[Record], method: str = "miramns") -> list[Ratio]:
    """Compare one method with Krylov-Schur and with the floor. Not collective."""
    cases: dict[tuple[str, int], dict[str, Record]] = {}
    for one in records:
        cases.setdefault((one.problem, one.k), {})[one.method] = one
    compared = []
    for (problem, k), by_name in cases.items():
        ours = by_name.get(method)
        if ours is None:
            continue
        others = [one for name, one in by_name.items() if name.startswith("ks-") and one.ok]
        own = [by_name["ks"]] if "ks" in by_name and by_name["ks"].ok else []
        seconds = {
            "ks": _least(own, "seconds"),
            "ks-best": _least(others, "seconds"),
            "floor": _number(ours.floor_s),
        }
        products = {
            "ks": _least(own, "n_matvec"),
            "ks-best": _least(others, "n_matvec"),
            "floor": _number(ours.floor_matvec),
        }
        mine = (_number(ours.seconds), _number(ours.n_matvec)) if ours.ok else (math.nan, math.nan)
        compared.append(
            Ratio(
                problem,
                ours.group,
                k,
                {name: mine[0] / value for name, value in seconds.items()},
                {name: mine[1] / value for name, value in products.items()},
            )
        )
    return compared


def geometric_mean(values: Sequence[float]) -> tuple[float, int]:
    """Geometric mean of the numbers among `values`, and how many there are. Not collective."""
    numbers = [value for value in values if math.isfinite(value) and value > 0]
    if not numbers:
        return math.nan, 0
    return math.exp(sum(map(math.log, numbers)) / len(numbers)), len(numbers)


def _number(value: float | None) -> float:
    return math.nan if not value else float(value)


def _least(records: Sequence[Record], what: str) -> float:
    return min((_number(getattr(one, what)) for one in records), default=math.nan)
