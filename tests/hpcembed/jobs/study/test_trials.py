"""Which networks are trained together, by whom, and what they are called."""

import dataclasses
from itertools import product

import msgspec
import pytest

from hpcembed.jobs.study.trials import Cell, digest, divide, plan_units
from hpcembed.networks.training.recipe import Recipe

DATA = {"n_rows": [10, 5], "mean": "1.0e+00"}


def sweep(kinds=("spectral",), widths=((32, 32), (512, 512)), ks=range(1, 21), seeds=range(3)):
    return [Cell(i, h, k, s) for i, h, k, s in product(kinds, widths, ks, seeds)]


def test_every_cell_is_in_one_unit():
    cells = sweep(("full", "spectral", "whitened", "gaussian"))
    units = plan_units(cells + cells, 10, 128)
    assert sorted(cell for unit in units for cell in unit.cells) == sorted(cells)
    assert [unit.cost for unit in units] == sorted((unit.cost for unit in units), reverse=True)
    for unit in units:
        assert len({(cell.input, cell.hidden) for cell in unit.cells}) == 1
        assert len(unit.cells) <= (16 if unit.cells[0].hidden == (32, 32) else 2)
        if unit.cells[0].input == "gaussian":  # each seed has a projection of its own
            assert len({cell.seed for cell in unit.cells}) == 1


def test_one_number_of_inputs_puts_seeds_together():
    (unit,) = plan_units(sweep(widths=((32, 32),), ks=[7], seeds=range(5)), 10, 128)
    assert [cell.seed for cell in unit.cells] == [0, 1, 2, 3, 4]
    wide = [Cell("full", (32, 32), 3072, seed) for seed in range(5)]
    assert {len(unit.cells) for unit in plan_units(wide, 10, 256)} == {1}
    assert {len(unit.cells) for unit in plan_units(sweep(), 10, 128, together=1)} == {1}


def test_the_plan_does_not_depend_on_the_order():
    cells = sweep(("full", "spectral"))
    assert plan_units(cells, 10, 128) == plan_units(cells[::-1], 10, 128)


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_shares_are_even(ranks):
    units = plan_units(sweep(), 10, 128)
    shares = divide(units, ranks)
    assert sorted(u.cells for share in shares for u in share) == sorted(u.cells for u in units)
    loads = [sum(unit.cost for unit in share) for share in shares]
    assert max(loads) - min(loads) <= max(unit.cost for unit in units)


def test_nothing_to_do():
    assert plan_units([], 10, 128) == []
    assert divide([], 2) == [[], []]


def test_a_digest_tells_what_decides_the_result():
    cell, recipe = Cell("spectral", (32, 32), 5, 0), Recipe()
    name = digest(cell, recipe, DATA)
    assert len(name) == 32
    assert name == digest(Cell("spectral", (32, 32), 5, 0), Recipe(), dict(DATA))
    others = {
        digest(dataclasses.replace(cell, **change), recipe, DATA)
        for change in ({"seed": 1}, {"n_inputs": 6}, {"hidden": (32,)}, {"input": "whitened"})
    }
    others.add(digest(cell, msgspec.structs.replace(recipe, epochs=16), DATA))
    others.add(digest(cell, recipe, DATA | {"mean": "1.1e+00"}))
    assert len(others | {name}) == 7
