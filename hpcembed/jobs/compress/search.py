"""Search for the smallest network and k that keep the accuracy, with few trials.

Networks are tried from the smallest, first at the largest k; a network with a loss there is
replaced by the next one. For the first network without loss, the smallest k is found by bisection
guided by the spectrum. The first k explains nine tenths of the variance. Then, between a k with
loss and one without, the next k is where the unexplained variance is the geometric mean of those at
both ends, because accuracy follows the unexplained variance more closely than the number of
components. Every second step halves the interval itself, so that a misleading spectrum costs at
most twice a plain bisection.

Bisection assumes that the accuracy increases with k. If it does not, the answer is a k without loss
that was tried, but perhaps not the smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.study.statistics import Difference

__all__ = ["SearchAnswer", "SearchStep", "next_dimension", "search"]

#: Share of the variance that the first k explains.
FIRST_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class SearchStep:
    """One network at one k over all seeds; `holds` if it is without loss."""

    hidden: tuple[int, ...]
    n_inputs: int
    difference: Difference
    holds: bool


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The smallest network and k that keep the accuracy, and the steps of the search.

    Attributes
    ----------
    hidden : tuple of int or None
        None if every network has a loss at the largest k.
    n_inputs : int
    steps : tuple of SearchStep
    """

    hidden: tuple[int, ...] | None
    n_inputs: int
    steps: tuple[SearchStep, ...]


def search(
    networks: Sequence[tuple[int, ...]],
    largest: int,
    unexplained: NDArray[np.float64],
    margin: float,
    difference: Callable[[tuple[int, ...], int], Difference],
) -> SearchAnswer:
    """Find the first network that keeps the accuracy, and its smallest k.

    Collective if `difference` is.

    Parameters
    ----------
    networks : sequence of tuple of int
        Hidden layers, the smallest network first.
    largest : int
        Number of components.
    unexplained : ndarray of shape (largest + 1,)
        Share of the variance that the first 0, 1, ..., `largest` components do not explain.
    margin : float
        Share of accuracy that may be lost.
    difference : callable
        Trains a network on k components and compares it with the baseline on validation rows.

    Examples
    --------
    >>> def difference(hidden, k):
    ...     loss = 0.0 if k >= 3 else 0.1
    ...     return Difference(-loss, -loss - 0.001, -loss + 0.001)
    >>> answer = search([(8,), (64,)], 10, np.linspace(1, 0, 11), 0.005, difference)
    >>> answer.hidden, answer.n_inputs, [step.n_inputs for step in answer.steps]
    ((8,), 3, [10, 9, 7, 3, 2])
    """
    steps: list[SearchStep] = []

    def holds(hidden: tuple[int, ...], k: int) -> bool:
        found = difference(hidden, k)
        steps.append(SearchStep(hidden, k, found, found.within(margin)))
        return steps[-1].holds

    for hidden in networks:
        if not holds(hidden, largest):
            continue
        low, high, turn = 0, largest, 0
        while high - low > 1:
            k = next_dimension(low, high, unexplained, turn)
            low, high = (low, k) if holds(hidden, k) else (k, high)
            turn += 1
        return SearchAnswer(hidden, high, tuple(steps))
    return SearchAnswer(None, largest, tuple(steps))


def next_dimension(low: int, high: int, unexplained: NDArray[np.float64], turn: int) -> int:
    """Choose the number of components to try between one with loss and one without."""
    if turn == 0:
        k = int(np.searchsorted(-unexplained, -(1.0 - FIRST_SHARE)))
    elif turn % 2 == 0:
        k = (low + high) // 2
    else:
        logs = np.log(np.maximum(unexplained, 1e-12))
        k = int(np.searchsorted(-logs, -0.5 * (logs[low] + logs[high])))
    return min(max(k, low + 1), high - 1)
