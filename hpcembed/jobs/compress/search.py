"""The smallest k and network that keep the accuracy, with few trainings.

Networks are tried from the smallest: first at the largest k; one that loses too much even there
gives way to the next. For the first that does not, the smallest k is found by bisection. Its steps
follow the spectrum: between a k that loses and one that does not, the next is where the unexplained
variance is the geometric mean of those at both ends, because accuracy follows what the components
left out explain more closely than their number; every second step halves the interval itself, so
that a misleading spectrum costs no more than twice a plain bisection. The first is where nine
tenths of the variance are explained.

Bisection takes the accuracy for increasing in k; where it is not, the answer is a k that was tried
and held, perhaps not the smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.study.statistics import Difference

__all__ = ["Answer", "Step", "next_dimension", "search"]

#: Share of the variance that the first k explains.
FIRST_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Step:
    """One network at one k, over all seeds."""

    hidden: tuple[int, ...]
    n_inputs: int
    difference: Difference
    holds: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The smallest network and k that keep the accuracy, or None, and how they were found."""

    hidden: tuple[int, ...] | None
    n_inputs: int
    steps: tuple[Step, ...]


def search(
    networks: Sequence[tuple[int, ...]],
    largest: int,
    unexplained: NDArray[np.float64],
    margin: float,
    difference: Callable[[tuple[int, ...], int], Difference],
) -> Answer:
    """Find the first network that keeps the accuracy, and its smallest k.

    Collective where `difference` is.

    Parameters
    ----------
    networks : sequence of tuple of int
        Hidden layers, the smallest network first.
    largest : int
        Number of components that there are.
    unexplained : ndarray of shape (largest + 1,)
        Share of the variance that the first 0, 1, ..., `largest` components leave.
    margin : float
        Share of accuracy that may be lost.
    difference : callable
        Trains a network on k inputs and says what it loses to the baseline on validation rows.
    """
    steps: list[Step] = []

    def holds(hidden: tuple[int, ...], k: int) -> bool:
        found = difference(hidden, k)
        steps.append(Step(hidden, k, found, found.within(margin)))
        return steps[-1].holds

    for hidden in networks:
        if not holds(hidden, largest):
            continue
        low, high, turn = 0, largest, 0
        while high - low > 1:
            k = next_dimension(low, high, unexplained, turn)
            low, high = (low, k) if holds(hidden, k) else (k, high)
            turn += 1
        return Answer(hidden, high, tuple(steps))
    return Answer(None, largest, tuple(steps))


def next_dimension(low: int, high: int, unexplained: NDArray[np.float64], turn: int) -> int:
    """Number of components to try between one that loses and one that does not. Not collective."""
    if turn == 0:
        k = int(np.searchsorted(-unexplained, -(1.0 - FIRST_SHARE)))
    elif turn % 2 == 0:
        k = (low + high) // 2
    else:
        logs = np.log(np.maximum(unexplained, 1e-12))
        k = int(np.searchsorted(-logs, -0.5 * (logs[low] + logs[high])))
    return min(max(k, low + 1), high - 1)
