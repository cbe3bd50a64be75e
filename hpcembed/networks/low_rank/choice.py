"""Choice of ranks: least predicted loss under a budget, for all layers together.

Every layer has a curve: the options for its ranks, each with its cost and its predicted loss, from
eigenvalues alone. Layers that read the same tensor may share one reduction; then the unit of the
choice is their group, with two alternatives: each layer by itself, or all with the shared one.

Method. For a price ``p`` of one unit of cost, each unit takes the option of least
``loss + p cost``; bisection on the price meets the budget, and the rest of it buys the options
that reduce the loss most. All prices together give the frontier of loss against cost.

A floor keeps every rank above half of the uniform rank, the one that would meet the budget if all
layers had the same share: predicted losses are least reliable for the strongest cuts.
Reference: Swift-SVD (2026), on ranks from Frobenius losses alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpcembed.networks.low_rank.shape import Cost, Ranks
from hpcembed.runtime.errors import ConfigError

__all__ = ["Choice", "Curve", "RankProblem", "Unit"]

Floats = NDArray[np.float64]

_PRICE_STEPS = 60
_FRONTIER_POINTS = 40


@dataclass(frozen=True)
class Curve:
    """Options of one layer, or of a group of layers with a shared reduction.

    Attributes
    ----------
    layers : tuple of str
        One name, or those of the group.
    r_in, r_out : ndarray of int, shape (n,)
        Ranks of each option; the first option is the layer as it is.
    shares : ndarray of shape (n,)
        Smaller of the two ranks relative to its full rank; 1 where nothing is cut.
    parameters, macs, seconds, loss : ndarray of shape (n,)
    """

    layers: tuple[str, ...]
    r_in: NDArray[np.int64]
    r_out: NDArray[np.int64]
    shares: Floats
    parameters: Floats
    macs: Floats
    loss: Floats
    seconds: Floats

    def cost(self, measure: str) -> Floats:
        """Return parameters, macs or seconds of all options."""
        costs: Floats = getattr(self, measure)
        return costs

    def ranks(self, option: int) -> Ranks:
        """Return the ranks of one option."""
        return Ranks(int(self.r_in[option]), int(self.r_out[option]))

    def option(self, ranks: Ranks) -> int | None:
        """Return the option with these ranks, or None."""
        at = np.flatnonzero((self.r_in == ranks.inputs) & (self.r_out == ranks.outputs))
        return int(at[0]) if at.size else None


@dataclass(frozen=True)
class Unit:
    """Curves that are chosen together: alternatives, each a set of independent curves."""

    alternatives: tuple[tuple[Curve, ...], ...]


@dataclass(frozen=True)
class Choice:
    """Ranks of all layers, with their cost and predicted loss.

    Attributes
    ----------
    ranks : dict of str to Ranks
    shared : tuple of tuples of str
        Groups of layers with one reduction.
    cost : Cost
        Of the whole network.
    loss : float
        Predicted loss.
    """

    ranks: Mapping[str, Ranks]
    shared: tuple[tuple[str, ...], ...]
    cost: Cost
    loss: float


#: A chosen option: curve and position.
_Pick = tuple[Curve, int]


@dataclass
class RankProblem:
    """All units of a network, and the cost of everything that is not chosen.

    Parameters
    ----------
    units : sequence of Unit
    fixed : Cost
        Cost of the layers that are left alone.
    weights : dict of str to float
        Factor of the predicted loss of each layer; default 1.
    """

    units: Sequence[Unit]
    fixed: Cost
    weights: Mapping[str, float] = field(default_factory=dict)

    def full(self) -> Choice:
        """Return the network as it is."""
        return self._choice([(c, 0) for unit in self.units for c in unit.alternatives[0]])

    def within(self, measure: str, limit: float, floor: bool = True) -> Choice:
        """Return the ranks of least predicted loss at a cost of at most `limit`.

        Parameters
        ----------
        measure : {"parameters", "macs", "seconds"}
        limit : float
            Largest cost of the whole network.
        floor : bool
            Keep ranks above half of the uniform rank, if the budget permits it.

        Raises
        ------
        ConfigError
            If no ranks meet the budget; the message states the least cost.
        """
        if self.full().cost.of(measure) <= limit:
            return self.full()
        share = 0.5 * self._uniform_share(measure, limit) if floor else 0.0
        for least_share in (share, 0.0):
            picks = self._cheapest(measure, least_share)
            least = self._choice(picks)
            if least.cost.of(measure) <= limit:
                return self._bisect(measure, limit, least_share)
        full = self.full().cost.of(measure)
        raise ConfigError(
            f"budget: {limit / full:.3g} of the {measure} cannot be met; the least is "
            f"{least.cost.of(measure) / full:.3g}, with rank 1 in every layer that may be cut"
        )

    def frontier(self, measure: str) -> list[Choice]:
        """Return the choices of all prices, from the whole network to the smallest one."""
        found: dict[tuple[float, float], Choice] = {}
        for price in self._prices(measure, _FRONTIER_POINTS):
            limit = self._choice(self._at(price, measure, 0.0)).cost.of(measure)
            # With the floor of :meth:`within`: the points are results of budgets.
            floor = 0.5 * self._uniform_share(measure, limit)
            choice = self._choice(self._at(price, measure, floor))
            found[(choice.cost.of(measure), choice.loss)] = choice
        return [found[key] for key in sorted(found, reverse=True)]

    def of_ranks(self, ranks: Mapping[str, Ranks]) -> Choice:
        """Return the choice with given ranks; layers that are not named stay as they are.

        Layers that read the same tensor share a reduction if their inputs alone are reduced, all
        to the same rank.

        Raises
        ------
        ConfigError
            If a rank is outside of the range of its layer.
        """
        picks: list[_Pick] = []
        for unit in self.units:
            shared = _shared_pick(unit, ranks)
            if shared is not None:
                picks.append(shared)
                continue
            for curve in unit.alternatives[0]:
                wanted = ranks.get(curve.layers[0], Ranks())
                option = curve.option(wanted)
                if option is None:
                    raise ConfigError(_no_option(curve, wanted))
                picks.append((curve, option))
        return self._choice(picks)

    def _bisect(self, measure: str, limit: float, least_share: float) -> Choice:
        prices = self._prices(measure, 2)
        low, high = prices[0], prices[-1]
        best = self._cheapest(measure, least_share)
        for _ in range(_PRICE_STEPS):
            price = float(np.sqrt(low) * np.sqrt(high))
            picks = self._at(price, measure, least_share)
            if self._choice(picks).cost.of(measure) <= limit:
                best, high = picks, price
            else:
                low = price
        return self._choice(self._spend(best, measure, limit, least_share))

    def _spend(
        self, picks: list[_Pick], measure: str, limit: float, least_share: float
    ) -> list[_Pick]:
        """Use the rest of the budget for the option that reduces the loss most, repeatedly."""
        picks = list(picks)
        room = limit - self._choice(picks).cost.of(measure)
        while True:
            best: tuple[float, int, int] | None = None
            for place, (curve, at) in enumerate(picks):
                costs = curve.cost(measure)
                gains = self._weighted(curve)[at] - self._weighted(curve)
                allowed = (costs - costs[at] <= room) & (gains > 0) & (curve.shares >= least_share)
                if allowed.any():
                    option = int(np.argmax(np.where(allowed, gains, -np.inf)))
                    if best is None or gains[option] > best[0]:
                        best = float(gains[option]), place, option
            if best is None:
                return picks
            _, place, option = best
            curve, at = picks[place]
            room -= float(curve.cost(measure)[option] - curve.cost(measure)[at])
            picks[place] = (curve, option)

    def _at(self, price: float, measure: str, least_share: float) -> list[_Pick]:
        picks: list[_Pick] = []
        for unit in self.units:
            best, best_value = [], np.inf
            for curves in unit.alternatives:
                chosen, value = [], 0.0
                for curve in curves:
                    total = self._weighted(curve) + price * curve.cost(measure)
                    total = np.where(curve.shares >= least_share, total, np.inf)
                    at = int(np.argmin(total))
                    chosen.append((curve, at))
                    value += float(total[at])
                if value < best_value:
                    best, best_value = chosen, value
            picks += best
        return picks

    def _cheapest(self, measure: str, least_share: float) -> list[_Pick]:
        return self._at(self._prices(measure, 2)[-1], measure, least_share)

    def _weighted(self, curve: Curve) -> Floats:
        return curve.loss * self.weights.get(curve.layers[0], 1.0)

    def _prices(self, measure: str, count: int) -> list[float]:
        """Return prices from one that cuts nothing to one at which only the cost counts."""
        losses = np.concatenate([self._weighted(c) for c in self._curves()] or [np.ones(1)])
        costs = np.concatenate([c.cost(measure) for c in self._curves()] or [np.ones(1)])
        top = max(float(losses.max()), 1e-30)
        steps = np.unique(costs[costs > 0])
        least = float(np.diff(steps).min()) if len(steps) > 1 else 1.0
        low, high = 1e-9 * top / float(costs.max()), 1e3 * top / max(least, 1e-12)
        return [float(price) for price in np.geomspace(low, high, count)]

    def _curves(self) -> Iterator[Curve]:
        for unit in self.units:
            for curves in unit.alternatives:
                yield from curves

    def _uniform_share(self, measure: str, limit: float) -> float:
        """Return the share of the full rank with which every layer meets the budget."""
        low, high = 0.0, 1.0
        for _ in range(20):
            share = (low + high) / 2
            cost = self.fixed.of(measure)
            for unit in self.units:
                for curve in unit.alternatives[0]:
                    allowed = curve.shares >= share
                    cost += float(curve.cost(measure)[allowed].min())
            low, high = (share, high) if cost <= limit else (low, share)
        return low

    def _choice(self, picks: Sequence[_Pick]) -> Choice:
        cost, loss = self.fixed, 0.0
        ranks: dict[str, Ranks] = {}
        shared = []
        for curve, at in picks:
            cost += Cost(
                float(curve.parameters[at]), float(curve.macs[at]), float(curve.seconds[at])
            )
            loss += float(self._weighted(curve)[at])
            ranks.update(dict.fromkeys(curve.layers, curve.ranks(at)))
            if len(curve.layers) > 1 and at > 0:
                shared.append(curve.layers)
        return Choice(ranks, tuple(shared), cost, loss)


def _shared_pick(unit: Unit, ranks: Mapping[str, Ranks]) -> _Pick | None:
    """Return the option of the shared reduction that has these ranks, or None."""
    for curves in unit.alternatives[1:]:
        (curve,) = curves
        wanted = {ranks.get(name, Ranks()) for name in curve.layers}
        if len(wanted) == 1:
            (one,) = wanted
            option = curve.option(one)
            if one.side == "input" and option is not None:
                return curve, option
    return None


def _no_option(curve: Curve, wanted: Ranks) -> str:
    """Return the message for ranks that a layer cannot have."""
    name, most_in, most_out = curve.layers[0], int(curve.r_in.max()), int(curve.r_out.max())
    if not most_in and not most_out:
        return f"ranks: {name} has no rank that saves parameters or multiply-adds"
    if wanted.side == "both":
        return (
            f"ranks: {name} cannot have the ranks {wanted.inputs} (inputs) and {wanted.outputs} "
            f"(outputs); the largest useful ones are {most_in} and {most_out}, or the grid of "
            "ranks does not have this pair"
        )
    most = most_in if wanted.inputs else most_out
    side = "inputs" if wanted.inputs else "outputs"
    if not most:
        return f"ranks: the {side} of {name} cannot be reduced; look at side"
    return (
        f"ranks: {name} cannot have rank {wanted.inputs or wanted.outputs}: the largest useful "
        f"one is {most}"
    )
