"""Search for the smallest network and k that keep the accuracy, with few trials.

Networks are tried from the smallest, first at the largest k; a network that does not keep the
accuracy there is replaced by the next one. If no network keeps it, more components are
computed, as far as the spectrum goes. For the first network that keeps the accuracy, the smallest k
is found by bisection guided by the spectrum. The first k explains nine tenths of the variance.
Then, between a k that does not keep the accuracy and one that does, the next k is where the
unexplained variance is the geometric mean of those at both ends, because accuracy follows the
unexplained variance more closely than the number of components. Every second step halves the
interval itself, so that a misleading spectrum costs at most twice a plain bisection.

A comparison that stays undecided counts as one that does not keep the accuracy. If no comparison
keeps it, the answer is the undecided network with the smallest possible loss; if all of them lose,
there is no answer.

Bisection assumes that the accuracy increases with k. If it does not, the answer is a k that keeps
the accuracy, but perhaps not the smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.compress.sequential import Decision, Verdict
from hpcembed.jobs.study.statistics import Difference

__all__ = ["Components", "SearchAnswer", "SearchStep", "next_dimension", "search"]

#: Share of the variance that the first k explains.
FIRST_SHARE = 0.9


class Components(Protocol):
    """The components that a search may use."""

    @property
    def largest(self) -> int:
        """Largest k that can be tried now."""

    @property
    def unexplained(self) -> NDArray[np.float64]:
        """Share of the variance that the first 0, 1, ..., `largest` components do not explain."""

    def extend(self) -> bool:
        """Compute more components; False if there are no more. May be collective."""


@dataclass(frozen=True, slots=True)
class SearchStep:
    """One network at one k: its verdict, the interval behind it, and the seeds it took."""

    hidden: tuple[int, ...]
    n_inputs: int
    verdict: Verdict
    difference: Difference
    n_seeds: int


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The smallest network and k that keep the accuracy, and the steps of the search.

    Attributes
    ----------
    verdict : {"keeps", "loses", "undecided"}
        Of the chosen network.
    hidden : tuple of int
    n_inputs : int
        The chosen network and its k: the smallest one that keeps the accuracy, else the
        undecided one, else the losing one, with the highest lower end of its interval.
    n_seeds : int
        Seeds of its comparison.
    steps : tuple of SearchStep
    """

    verdict: Verdict
    hidden: tuple[int, ...]
    n_inputs: int
    n_seeds: int
    steps: tuple[SearchStep, ...]


def search(
    networks: Sequence[tuple[int, ...]],
    components: Components,
    measure: Callable[[tuple[int, ...], int], Decision],
) -> SearchAnswer:
    """Find the first network that keeps the accuracy, and its smallest k.

    Collective if `measure` or `components` are.

    Parameters
    ----------
    networks : sequence of tuple of int
        Hidden layers, the smallest network first; at least one.
    components : Components
    measure : callable
        Trains a network on k components and compares it with the baseline on validation rows.

    Examples
    --------
    >>> class Ten:
    ...     largest, unexplained = 10, np.linspace(1, 0, 11)
    ...     def extend(self):
    ...         return False
    >>> def measure(hidden, k):
    ...     loss = 0.0 if k >= 3 else 0.1
    ...     verdict = "keeps" if k >= 3 else "loses"
    ...     return Decision(verdict, Difference(-loss, -loss - 0.001, -loss + 0.001), 5)
    >>> answer = search([(8,), (64,)], Ten(), measure)
    >>> answer.verdict, answer.hidden, answer.n_inputs, [step.n_inputs for step in answer.steps]
    ('keeps', (8,), 3, [10, 9, 7, 3, 2])
    """
    steps: list[SearchStep] = []

    def keeps(hidden: tuple[int, ...], k: int) -> bool:
        found = measure(hidden, k)
        steps.append(SearchStep(hidden, k, found.verdict, found.difference, found.n_seeds))
        return found.verdict == "keeps"

    while True:
        largest = components.largest
        chosen = next((hidden for hidden in networks if keeps(hidden, largest)), None)
        if chosen is not None:
            return _smallest(chosen, largest, components.unexplained, keeps, steps)
        if not components.extend():
            break
    undecided = [step for step in steps if step.verdict == "undecided"]
    return _answer(max(undecided or steps, key=lambda step: step.difference.low), steps)


def _smallest(
    hidden: tuple[int, ...],
    largest: int,
    unexplained: NDArray[np.float64],
    keeps: Callable[[tuple[int, ...], int], bool],
    steps: list[SearchStep],
) -> SearchAnswer:
    """Find the smallest k of a network that keeps the accuracy at the largest k."""
    low, high, turn = 0, largest, 0
    while high - low > 1:
        k = next_dimension(low, high, unexplained, turn)
        low, high = (low, k) if keeps(hidden, k) else (k, high)
        turn += 1
    found = next(step for step in steps if (step.hidden, step.n_inputs) == (hidden, high))
    return _answer(found, steps)


def _answer(step: SearchStep, steps: Sequence[SearchStep]) -> SearchAnswer:
    return SearchAnswer(step.verdict, step.hidden, step.n_inputs, step.n_seeds, tuple(steps))


def next_dimension(low: int, high: int, unexplained: NDArray[np.float64], turn: int) -> int:
    """Choose the next k between `low`, which loses accuracy, and `high`, which keeps it."""
    if turn == 0:
        k = int(np.searchsorted(-unexplained, -(1.0 - FIRST_SHARE)))
    elif turn % 2 == 0:
        k = (low + high) // 2
    else:
        logs = np.log(np.maximum(unexplained, 1e-12))
        k = int(np.searchsorted(-logs, -0.5 * (logs[low] + logs[high])))
    return min(max(k, low + 1), high - 1)
