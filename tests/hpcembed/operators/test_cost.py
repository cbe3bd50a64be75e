"""The written cost model: what it chooses and when it refuses."""

import pytest

from hpcembed.operators.cost import Machine, Shape
from hpcembed.operators.covariance.covariance_plan import (
    COVARIANCE_BLOCKS,
    block_width,
    plan_covariance,
)
from hpcembed.runtime.errors import ConfigError, MemoryLimitError


def plan(n, d, k=10, **keywords):
    resources = {"ranks": 1, "threads": 1, "available_bytes": 2**40}
    machine = Machine(**{name: keywords.pop(name, value) for name, value in resources.items()})
    n_nonzeros, item = keywords.pop("n_nonzeros", None), keywords.pop("item_bytes", 8)
    shape = Shape(n, 0, d, n_nonzeros, item * d, item)
    return plan_covariance(shape, k, machine, **keywords)


def cost(chosen, engine):
    return next(each for each in chosen.costs if each.engine == engine)


def test_tall_and_narrow_is_assembled():
    chosen = plan(1_000_000, 100)
    assert chosen.engine == "assembled"
    assert chosen.bytes == cost(chosen, "assembled").bytes
    assert chosen.cost.seconds == min(each.seconds for each in chosen.costs)
    assert "assembled (fastest), double precision" in chosen.describe()


def test_images_in_single_precision_go_by_blocks():
    chosen = plan(50_000, 3_072, 50, item_bytes=4, tol=1e-6)
    assert (chosen.engine, chosen.single) == ("block", True)
    assert "block (fastest), single precision, certified in double" in chosen.describe()


def test_wide_goes_by_its_rows():
    chosen = plan(500, 300_000, 50, item_bytes=4, tol=1e-6)
    assert chosen.engine == "gram"
    assert chosen.bytes < cost(chosen, "assembled").bytes
    assert "gram" not in {each.engine for each in plan(300_000, 500, 50).costs}


def test_sparse_is_not_assembled():
    chosen = plan(200_000, 50_000, n_nonzeros=20_000_000)
    assert chosen.engine != "assembled"
    assert {each.engine for each in chosen.costs} == {"assembled", "matrix_free", "block"}


def test_other_solvers_get_operators_in_double():
    chosen = plan(50_000, 3_072, 50, item_bytes=4, tol=1e-6, single_vector=True)
    assert {each.engine for each in chosen.costs} == {"assembled", "matrix_free"}
    assert not chosen.single
    with pytest.raises(ConfigError, match="the block engine has its own solver"):
        plan(50, 30, single_vector=True, engine="block")


def test_more_ranks_and_threads_take_less():
    one, two = plan(50_000, 3_072, 50), plan(50_000, 3_072, 50, ranks=2)
    for engine in ("assembled", "matrix_free", "block"):
        assert cost(two, engine).seconds < cost(one, engine).seconds
    assert plan(50_000, 3_072, 50, threads=2).cost.seconds < one.cost.seconds


def test_a_tighter_tolerance_takes_longer():
    loose, tight = plan(50_000, 3_072, 50, tol=1e-6), plan(50_000, 3_072, 50, tol=1e-12)
    assert cost(loose, "block").seconds < cost(tight, "block").seconds


def test_square_that_does_not_fit():
    free = plan(200_000, 2_000, 400, available_bytes=2**40)
    assert free.engine == "assembled"
    tight = plan(200_000, 2_000, 400, available_bytes=free.bytes - 1)
    assert tight.engine != "assembled"
    assert "fastest engine that fits; assembled needs more memory" in tight.reason


def test_what_is_asked_for_is_done_or_refused():
    assert plan(60_000, 784, engine="matrix_free").engine == "matrix_free"
    assert plan(2_000, 10_000, engine="assembled").reason == "as requested"
    with pytest.raises(MemoryLimitError, match="set engine = matrix_free, which fits"):
        plan(2_000, 10_000, engine="assembled", available_bytes=2**25)
    with pytest.raises(MemoryLimitError, match="more ranks"):
        plan(2_000, 10_000_000, available_bytes=2**20)
    assert plan(2_000, 100, engine="gram").engine == "gram"
    with pytest.raises(ConfigError, match="fewer components than rows"):
        plan(10, 100, engine="gram")


@pytest.mark.parametrize(("k", "d"), [(1, 1), (1, 100), (10, 12), (50, 3072), (200, 210)])
def test_blocks_hold_what_is_wanted(k, d):
    width = block_width(k, d)
    sizes = COVARIANCE_BLOCKS.sizes(k, width, d)
    assert 1 <= width <= d
    assert all(size % width == 0 for size in sizes[:-1])
    assert sizes[-1] >= min(k + 2, d)
