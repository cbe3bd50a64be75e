"""Size of the compressed network, as the user states it, and the search for a largest loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hpcembed.networks.low_rank.choice import Choice, RankProblem
from hpcembed.networks.low_rank.shape import Ranks
from hpcembed.runtime.arguments import is_integer, is_number
from hpcembed.runtime.errors import ConfigError

__all__ = ["Request", "smallest_within"]

Built = TypeVar("Built")

#: Steps of the bisection; the last one changes the budget by less than a point.
_SEARCH_STEPS = 7


@dataclass(frozen=True)
class Request:
    """One of `max_loss`, `budget` and `ranks`, as in :func:`hpcembed.compress_model`."""

    max_loss: float | None = None
    budget: Mapping[str, float] | None = None
    ranks: Mapping[str, int | Ranks] | None = None
    measure: str = "parameters"

    @property
    def needs_seconds(self) -> bool:
        """Seconds of the layers must be measured."""
        return "seconds" in (self.budget or {}) or (
            self.max_loss is not None and self.measure == "seconds"
        )

    def check(
        self, has_validation: bool, measures: tuple[str, ...] = ("parameters", "macs", "seconds"),
        data: str = "batches",
    ) -> None:  # fmt: skip
        """Raise a ConfigError if the request cannot be carried out.

        Parameters
        ----------
        has_validation : bool
            There is data on which a loss can be measured.
        measures : tuple of str
            Costs that can be a budget.
        data : str
            Name of the validation data in messages.
        """
        given = [n for n in ("max_loss", "budget", "ranks") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ConfigError(
                "give one of max_loss, budget and ranks"
                + (f", not {' and '.join(given)}" if given else "")
            )
        if self.measure not in measures:
            raise ConfigError(f"measure: {self.measure!r} is not one of {', '.join(measures)}")
        if self.max_loss is not None:
            if not (is_number(self.max_loss) and 0 <= self.max_loss < math.inf):
                raise ConfigError(f"max_loss: {self.max_loss} is not a number from 0 on")
            if not has_validation:
                raise ConfigError(f"max_loss: validation {data} are needed to measure the loss")
        self._check_budget(measures)
        self._check_ranks()

    def _check_budget(self, measures: tuple[str, ...]) -> None:
        if self.budget is None:
            return
        if (
            not isinstance(self.budget, Mapping)
            or len(self.budget) != 1
            or next(iter(self.budget)) not in measures
        ):
            raise ConfigError(
                f'budget: one of {", ".join(measures)} is needed, for example {{"parameters": 0.5}}'
            )
        share = next(iter(self.budget.values()))
        if not is_number(share) or not 0 < share <= 1:
            raise ConfigError(f"budget: {share} is not a share between 0 and 1")

    def _check_ranks(self) -> None:
        if self.ranks is None:
            return
        if not isinstance(self.ranks, Mapping):
            raise ConfigError('ranks: a dictionary is needed, for example {"fc1": 8}')
        for name, rank in self.ranks.items():
            pair = (rank.inputs, rank.outputs) if isinstance(rank, Ranks) else (0, rank)
            if not all(is_integer(each) and each >= 0 for each in pair) or not any(pair):
                raise ConfigError(
                    f"ranks: {name} has rank {rank!r}; a positive integer, or Ranks(inputs, "
                    "outputs), is needed"
                )

    def as_dict(self) -> dict[str, Any]:
        """Return the arguments that are given, in types that JSON has."""
        entries = {name: value for name, value in vars(self).items() if value is not None}
        if self.ranks is not None:
            entries["ranks"] = {
                name: [rank.inputs, rank.outputs] if isinstance(rank, Ranks) else int(rank)
                for name, rank in self.ranks.items()
            }
        return entries


def smallest_within(
    problem: RankProblem, measure: str, full: float, build: Callable[[Choice], Built],
    accept: Callable[[Built], bool],
) -> tuple[Choice, Built | None]:  # fmt: skip
    """Return the choice of least cost that is accepted, and its network, by bisection.

    Collective if `build` or `accept` is. Networks of larger cost are taken to lose less.

    Parameters
    ----------
    full : float
        Cost of the whole network.

    Returns
    -------
    choice : Choice
        The whole network if none is accepted.
    built : object or None
        None for the whole network.
    """
    least = problem.frontier(measure)[-1].cost.of(measure) / full
    low, high = least, 1.0
    best: tuple[Choice, Built | None] = problem.full(), None
    for _ in range(_SEARCH_STEPS):
        share = (low + high) / 2
        choice = problem.within(measure, share * full)
        built = build(choice)
        if accept(built):
            best, high = (choice, built), share
        else:
            low = share
    return best
