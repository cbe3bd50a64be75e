"""Batches of trials, their distribution over ranks, and digests."""

from itertools import product

import msgspec
import pytest

from hpcembed.jobs.study.trials import Trial, digest, divide_batches, plan_batches
from hpcembed.networks.training.recipe import Recipe

DATA = {"n_rows": [10, 5], "mean": "1.0e+00"}


def sweep(kinds=("spectral",), widths=((32, 32), (512, 512)), ks=range(1, 21), seeds=range(3)):
    return [Trial(i, h, k, s) for i, h, k, s in product(kinds, widths, ks, seeds)]


def test_every_trial_is_in_one_batch():
    trials = sweep(("full", "spectral", "whitened", "gaussian"))
    batches = plan_batches(trials + trials, 10, 128)
    assert sorted(trial for batch in batches for trial in batch.trials) == sorted(trials)
    assert [batch.cost for batch in batches] == sorted(
        (batch.cost for batch in batches), reverse=True
    )
    for batch in batches:
        assert len({(trial.input, trial.hidden) for trial in batch.trials}) == 1
        assert len(batch.trials) <= (16 if batch.trials[0].hidden == (32, 32) else 2)
        if batch.trials[0].input == "gaussian":  # each seed has a projection of its own
            assert len({trial.seed for trial in batch.trials}) == 1


def test_one_number_of_inputs_puts_seeds_together():
    (batch,) = plan_batches(sweep(widths=((32, 32),), ks=[7], seeds=range(5)), 10, 128)
    assert [trial.seed for trial in batch.trials] == [0, 1, 2, 3, 4]
    wide = [Trial("full", (32, 32), 3072, seed) for seed in range(5)]
    assert {len(batch.trials) for batch in plan_batches(wide, 10, 256)} == {1}
    assert {len(batch.trials) for batch in plan_batches(sweep(), 10, 128, size=1)} == {1}


def test_the_plan_does_not_depend_on_the_order():
    trials = sweep(("full", "spectral"))
    assert plan_batches(trials, 10, 128) == plan_batches(trials[::-1], 10, 128)


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_shares_are_even(ranks):
    batches = plan_batches(sweep(), 10, 128)
    shares = divide_batches(batches, ranks)
    assert sorted(one.trials for share in shares for one in share) == sorted(
        one.trials for one in batches
    )
    loads = [sum(batch.cost for batch in share) for share in shares]
    assert max(loads) - min(loads) <= max(batch.cost for batch in batches)


def test_nothing_to_do():
    assert plan_batches([], 10, 128) == []
    assert divide_batches([], 2) == [[], []]


def test_a_digest_tells_what_decides_the_result():
    trial, recipe = Trial("spectral", (32, 32), 5, 0), Recipe()
    name = digest(trial, recipe, DATA)
    assert len(name) == 32
    assert name == digest(Trial("spectral", (32, 32), 5, 0), Recipe(), dict(DATA))
    others = {
        digest(msgspec.structs.replace(trial, **change), recipe, DATA)
        for change in ({"seed": 1}, {"n_inputs": 6}, {"hidden": (32,)}, {"input": "whitened"})
    }
    others.add(digest(trial, msgspec.structs.replace(recipe, epochs=16), DATA))
    others.add(digest(trial, recipe, DATA | {"mean": "1.1e+00"}))
    assert len(others | {name}) == 7
