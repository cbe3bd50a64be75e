"""Performance profiles and geometric means: summaries of one cost over many problems.

The profile of a method is the share of the problems that it solves within a factor of the best
method, as a function of the factor. Its value at factor 1 is the share of the problems on which the
method is the best; its limit is the share of the problems that it solves. A wrong answer has an
infinite cost.

Reference: Dolan, More, "Benchmarking optimization software with performance profiles", Mathematical
Programming 91 (2002).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from miramns.bench.harness.records import Record


def performance_profile(
    costs: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute performance profiles.

    Parameters
    ----------
    costs : ndarray of shape (n_problems, n_methods)
        Positive; infinite or NaN where a method has no right answer. Problems that no method solves
        are left out.

    Returns
    -------
    factors : ndarray of shape (n_steps,)
        The factors at which a profile steps, increasing from 1.
    shares : ndarray of shape (n_steps, n_methods)
        Share of the problems solved within each factor of the best method.

    Examples
    --------
    >>> factors, shares = performance_profile(np.array([[1.0, 2.0], [3.0, np.nan]]))
    >>> factors
    array([1., 2.])
    >>> shares
    array([[1. , 0. ],
           [1. , 0.5]])
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
    records: Sequence[Record], cost: str
) -> tuple[list[tuple[str, int]], list[str], NDArray[np.float64]]:
    """Arrange one cost of all methods by problem and method.

    Parameters
    ----------
    cost : str
        Field of the records, such as ``"seconds"``.

    Returns
    -------
    problems : list of (problem, k)
    methods : list of str
        The methods that apply to at least one of the problems.
    costs : ndarray of shape (n_problems, n_methods)
        NaN if there is no right answer.
    """
    problems = list(dict.fromkeys((one.problem, one.k) for one in records))
    methods = list(dict.fromkeys(one.method for one in records if one.status != "unfit"))
    costs = np.full((len(problems), len(methods)), np.nan)
    for one in records:
        value = getattr(one, cost)
        if one.is_right and value is not None:
            costs[problems.index((one.problem, one.k)), methods.index(one.method)] = value
    return problems, methods, costs


def geometric_mean(values: Sequence[float]) -> tuple[float, int]:
    """Return the geometric mean of the positive finite values, and their number.

    Examples
    --------
    >>> geometric_mean([2.0, 8.0, float("nan")])
    (4.0, 2)
    """
    numbers = [value for value in values if math.isfinite(value) and value > 0]
    if not numbers:
        return math.nan, 0
    return math.exp(sum(map(math.log, numbers)) / len(numbers)), len(numbers)
