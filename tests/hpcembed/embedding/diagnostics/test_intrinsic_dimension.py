"""Intrinsic dimension: against scikit-dimension, known surfaces, on any number of ranks."""

import math

import numpy as np
import pytest
from mpi4py import MPI
from scipy.spatial.distance import cdist

from hpcembed.embedding.diagnostics import intrinsic_dimension, mle_dimension, two_nn_dimension
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import ownership_range
from oracle_values import SURFACES, stored, surface, surface_values

pytestmark = pytest.mark.mpi


def neighbours(rows, k):
    distances = cdist(rows, rows)
    np.fill_diagonal(distances, np.inf)
    return np.sort(distances, axis=1)[:, :k]


def on_ranks(rows, comm, **settings):
    first, last = ownership_range(len(rows), comm)
    return intrinsic_dimension(rows[first:last], comm=comm, **settings)


def test_estimates_by_hand():
    distances = np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 6.0]])
    # of each row: [log 4 + log 2] / 2, [log 2 + log 2] / 2
    expected = 1 / np.mean([1.5 * math.log(2), math.log(2)])
    assert mle_dimension(distances) == pytest.approx(expected, rel=1e-14)
    with_zero = np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 4.0], [0.0, 0.0, 1.0]])
    # zeros are omitted: log 2 of two distances; the last row has one distance only
    expected = 1 / np.mean([math.log(2), 1.5 * math.log(2)])
    assert mle_dimension(with_zero) == pytest.approx(expected, rel=1e-14)
    assert math.isnan(mle_dimension(np.zeros((4, 3))))
    assert math.isnan(mle_dimension(np.ones((4, 3))))
    ratios = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 8.0], [1.0, 16.0], [0.0, 1.0]])
    x, y = np.log([2.0, 4.0, 8.0]), -np.log([0.75, 0.5, 0.25])
    assert two_nn_dimension(ratios) == pytest.approx(x @ y / (x @ x), rel=1e-14)
    assert math.isnan(two_nn_dimension(np.ones((9, 2))))
    with pytest.raises(InputError, match="those to 2 rows or more"):
        two_nn_dimension(np.ones((9, 1)))


@pytest.mark.parametrize(("dimension", "columns"), SURFACES)
def test_as_scikit_dimension(comm, dimension, columns):
    found = on_ranks(surface(400, dimension, columns), comm)
    expected = stored()["surfaces"][f"{dimension} of {columns}"]
    assert found.mle.value == pytest.approx(expected["mle"], rel=1e-6)
    assert found.two_nn.value == pytest.approx(expected["two_nn"], rel=1e-6)


@pytest.mark.parametrize(("dimension", "columns"), SURFACES)
def test_stored_values_are_those_of_scikit_dimension(dimension, columns):
    pytest.importorskip("skdim")
    expected = stored()["surfaces"][f"{dimension} of {columns}"]
    assert surface_values(dimension, columns) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_dimension_of_a_surface(comm, dimension):
    rows = surface(1500, dimension, 10)
    found = on_ranks(rows, comm)
    near = neighbours(rows, 20)
    assert found.mle.value == pytest.approx(mle_dimension(near), rel=1e-8)
    assert found.two_nn.value == pytest.approx(two_nn_dimension(near), rel=1e-8)
    for one in (found.mle, found.two_nn):
        assert one.value == pytest.approx(dimension, rel=0.1)
        assert 0 < one.standard_error < 0.1 * dimension
        assert np.allclose(one.halves, dimension, rtol=0.15)
        assert one.halves[0] != one.halves[1]
    assert (found.n_queries, found.n_rows, found.n_all_rows) == (1500, 1500, 1500)
    assert found.n_columns == 10
    assert (found.n_duplicates, found.n_neighbours) == (0, 20)
    assert found.seconds > 0


def test_the_same_on_any_number_of_ranks(comm):
    rows = surface(600, 3, 8)
    for settings in ({}, {"max_rows": 400, "seed": 3}, {"max_queries": 250, "seed": 1}):
        alone = intrinsic_dimension(rows, comm=MPI.COMM_SELF, n_neighbours=7, **settings)
        found = on_ranks(rows, comm, n_neighbours=7, **settings)
        for one, other in ((found.mle, alone.mle), (found.two_nn, alone.two_nn)):
            assert one.value == pytest.approx(other.value, rel=1e-12)
            assert one.standard_error == pytest.approx(other.standard_error, rel=1e-9)
            assert one.halves == pytest.approx(other.halves, rel=1e-12)
        assert found.n_rows == alone.n_rows == settings.get("max_rows", 600)
        assert found.n_queries == alone.n_queries
        assert found.n_queries == settings.get("max_queries", found.n_rows)
        assert found.n_all_rows == 600


def test_rows_in_use_are_drawn_by_the_seed(comm):
    rows = surface(500, 2, 5)
    first, again, other = (
        on_ranks(rows, comm, max_rows=300, seed=seed, halves=False) for seed in (0, 0, 1)
    )
    assert first.mle == again.mle or math.isnan(first.mle.halves[0])
    assert first.mle.value == again.mle.value != other.mle.value
    assert math.isnan(first.mle.halves[0])
    # fewer queries change the estimate by its standard error, fewer rows by more
    whole = on_ranks(rows, comm, halves=False).mle
    queries = on_ranks(rows, comm, max_queries=250, halves=False).mle
    assert queries.value != whole.value
    assert abs(queries.value - whole.value) < 3 * queries.standard_error
    few = on_ranks(rows, comm, max_rows=30)
    assert few.n_rows == 30
    assert math.isnan(few.mle.standard_error)
    assert math.isnan(few.mle.halves[0])
    assert few.mle.value > 0


def test_equal_rows(comm):
    rows = surface(400, 2, 5)
    doubled = np.concatenate([rows, rows[:100]])
    found = on_ranks(doubled, comm)
    assert found.n_duplicates == 200
    near = neighbours(doubled, 20)
    assert found.mle.value == pytest.approx(mle_dimension(near), rel=1e-8)
    assert found.two_nn.value == pytest.approx(two_nn_dimension(near), rel=1e-8)
    assert found.mle.value == pytest.approx(2, rel=0.1)
    # equal rows whose coordinates differ by rounding are equal as well
    shaken = doubled * (1 + 2.3e-16 * (np.arange(500)[:, None] % 3))
    assert on_ranks(shaken, comm).n_duplicates == 200
    single = on_ranks(doubled.astype(np.float32), comm)
    assert single.n_duplicates == 200
    assert single.mle.value == pytest.approx(found.mle.value, rel=1e-4)
    assert on_ranks(doubled, comm, tolerance=10.0).n_duplicates == 500
    same = on_ranks(np.ones((60, 3)), comm)
    assert math.isnan(same.mle.value)
    assert math.isnan(same.two_nn.value)
    assert same.n_duplicates == 60


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"n_neighbours": 1}, "at least 2 neighbours"),
        ({"n_neighbours": 0}, "n_neighbours"),
        ({"max_rows": 0}, "max_rows"),
        ({"max_queries": 2.5}, "max_queries"),
        ({"seed": -1}, "seed = -1"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"max_rows": 20}, "20 neighbours are wanted of 20 rows"),
    ],
)
def test_refusals(comm, settings, text):
    with pytest.raises((ConfigError, InputError), match=text):
        on_ranks(surface(60, 2, 5), comm, **settings)


def test_distances_that_are_no_table():
    good = np.array([[1.0, 2.0], [0.5, 1.0], [0.2, 0.3]])
    assert np.isfinite(two_nn_dimension(good, discard=0.0))
    for discard in (-0.5, 1.0, np.nan, "a"):
        with pytest.raises(ConfigError, match=r"discard = .*: give a number of at least 0 and"):
            two_nn_dimension(good, discard=discard)
    for estimate in (mle_dimension, two_nn_dimension):
        for wrong in (good[:, 0], good[:, :1], good.astype(str)):
            with pytest.raises(InputError, match="distances of shape"):
                estimate(wrong)
        for wrong in (good[:, ::-1], -good[:, ::-1], np.full((3, 2), np.nan)):
            with pytest.raises(InputError, match="finite numbers of at least 0, in ascending"):
                estimate(wrong)


def test_a_result_is_one_line():
    found = intrinsic_dimension(np.random.default_rng(0).random((1500, 2)), max_queries=400)
    mle, two_nn = (one.value for one in (found.mle, found.two_nn))
    assert repr(found) == (
        f"<IntrinsicDimension: {mle:.3g} ± {found.mle.standard_error:.1g} (MLE), "
        f"{two_nn:.3g} ± {found.two_nn.standard_error:.1g} (TwoNN), "
        "neighbours of 400 among 1,500 rows>"
    )
