"""Ranks under a budget: against all combinations, and messages."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from hpcembed.networks.low_rank.choice import Curve, RankProblem, Unit
from hpcembed.networks.low_rank.shape import Cost, LayerShape, Ranks
from hpcembed.runtime.errors import ConfigError


def curve(name, seed, steps=7, layers=()):
    rng = np.random.default_rng(seed)
    ranks = np.append(0, np.arange(steps, 0, -1))
    costs = np.append(100.0, 10.0 * ranks[1:] + rng.integers(0, 3))
    loss = np.append(0.0, np.cumsum(rng.uniform(0.1, 2.0, steps)))
    shares = np.append(1.0, ranks[1:] / 10)
    return Curve(
        layers or (name,), np.zeros_like(ranks), ranks, shares, costs, 3 * costs, loss, 2 * costs
    )


def all_choices(curves, limit):
    best = np.inf
    for options in product(*(range(len(c.loss)) for c in curves)):
        cost = sum(c.parameters[o] for c, o in zip(curves, options, strict=True))
        if cost <= limit:
            best = min(best, sum(c.loss[o] for c, o in zip(curves, options, strict=True)))
    return best


@pytest.mark.parametrize("limit", [290, 240, 180, 120, 60])
def test_the_choice_is_close_to_the_best_of_all_combinations(limit):
    curves = [curve(name, seed) for seed, name in enumerate("abc")]
    problem = RankProblem([Unit(((c,),)) for c in curves], Cost(0, 0))
    choice = problem.within("parameters", limit, floor=False)
    best = all_choices(curves, limit)
    assert choice.cost.parameters <= limit
    # One price for all layers reaches the convex hull; the rest of the budget is spent greedily.
    assert best <= choice.loss <= best + 2.0
    assert choice.cost.macs == pytest.approx(3 * choice.cost.parameters)
    assert choice.cost.seconds == pytest.approx(2 * choice.cost.parameters)


def test_weights_move_ranks_to_the_layers_that_matter():
    problem = RankProblem([Unit(((curve(name, 1),),)) for name in "ab"], Cost(0, 0))
    problem.weights = {"a": 50.0}
    choice = problem.within("parameters", 120, floor=False)
    ranks = {name: r.outputs or 10 for name, r in choice.ranks.items()}
    assert ranks["a"] > ranks["b"]


def test_the_floor_is_half_of_the_uniform_share():
    cheap, dear = curve("cheap", 1), curve("dear", 1)
    cheap = replace(cheap, loss=cheap.loss * 1e-6)
    problem = RankProblem([Unit(((cheap,),)), Unit(((dear,),))], Cost(0, 0))
    free = problem.within("parameters", 130, floor=False)
    kept = problem.within("parameters", 130)
    assert free.ranks["cheap"].outputs < kept.ranks["cheap"].outputs
    assert kept.cost.parameters <= 130


def test_a_budget_that_cannot_be_met_states_the_least_one():
    problem = RankProblem([Unit(((curve("a", 0),),))], Cost(50, 0))
    least = 50 + curve("a", 0).parameters.min()
    with pytest.raises(ConfigError, match=f"the least is {least / 150:.3g}"):
        problem.within("parameters", 40)
    assert problem.within("parameters", least).cost.parameters == least


def test_the_frontier_goes_from_the_whole_to_the_smallest_without_a_step_back():
    problem = RankProblem([Unit(((curve(name, s),),)) for s, name in enumerate("abc")], Cost(7, 1))
    points = problem.frontier("parameters")
    costs = [p.cost.parameters for p in points]
    losses = [p.loss for p in points]
    assert costs == sorted(costs, reverse=True)
    assert losses == sorted(losses)
    assert (costs[0], losses[0]) == (307, 0)
    assert costs[-1] == 7 + sum(curve("", s).parameters.min() for s in range(3))


def test_a_shared_reduction_is_taken_where_it_loses_less():
    alone = curve("a", 0), curve("b", 1)
    shared = curve("", 2, layers=("a", "b"))
    better = replace(
        shared, r_in=shared.r_out, r_out=shared.r_in, parameters=shared.parameters * 1.5,
        loss=shared.loss * 0.01,
    )  # fmt: skip
    problem = RankProblem([Unit((alone, (better,)))], Cost(0, 0))
    choice = problem.within("parameters", 100)
    assert choice.shared == (("a", "b"),)
    assert choice.ranks["a"] == choice.ranks["b"]
    assert choice.ranks["a"].side == "input"
    assert problem.full().shared == ()


def test_ranks_that_a_layer_cannot_have_are_refused():
    problem = RankProblem([Unit(((curve("a", 0),),))], Cost(0, 0))
    assert problem.of_ranks({"a": Ranks(0, 3)}).ranks["a"].outputs == 3
    with pytest.raises(ConfigError, match="a cannot have rank 30: the largest useful one is 7"):
        problem.of_ranks({"a": Ranks(0, 30)})


def test_costs_of_a_grouped_convolution_by_hand():
    shape = LayerShape(8, 12, kernel=9, groups=2, bias=True, positions=16, input_positions=64)
    assert shape.cost() == Cost(8 * 6 * 9 + 8, 8 * 6 * 9 * 16)
    cut = shape.cost(Ranks(3, 2))
    core = 2 * 2 * 3 * 9
    assert cut == Cost(12 * 3 + core + 8 * 2 + 8, 12 * 3 * 64 + (core + 8 * 2) * 16)
    assert shape.full_ranks == (6, 4)
