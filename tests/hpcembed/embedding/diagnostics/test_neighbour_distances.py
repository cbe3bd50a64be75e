"""Distances to nearest rows: against all differences, on any number of ranks."""

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI
from scipy.spatial.distance import cdist

from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding.diagnostics import nearest_distances, neighbour_distances
from hpcembed.embedding.diagnostics.largest_values import keep_largest
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import allgather_rows, ownership_range

pytestmark = pytest.mark.mpi


def by_differences(rows, k):
    distances = cdist(rows.astype(float), rows.astype(float))
    np.fill_diagonal(distances, np.inf)
    return np.sort(distances, axis=1)[:, :k]


def tables():
    rng = np.random.default_rng(2)
    normal = rng.standard_normal((700, 5))
    clusters = rng.standard_normal((20, 3))[rng.integers(0, 20, 400)] * 1e3
    outlier = normal.copy()
    outlier[13] = 1e7
    return {
        "normal": normal,
        "single precision": normal.astype(np.float32),
        "short integers": rng.integers(0, 4, (300, 6)).astype(np.uint8),
        "equal rows": normal[rng.integers(0, 30, 400)],
        "one row": np.ones((50, 2)),
        "clusters": clusters + 1e-6 * rng.standard_normal((400, 3)),
        "far from the origin": normal[:300] + 1e6,
        "outlier": outlier,
        "sorted": np.sort(rng.random((900, 1)), axis=0),
        "wide": rng.standard_normal((90, 400)),
    }


TABLES = tables()


def distributed(rows, k, comm):
    first, last = ownership_range(len(rows), comm)
    found = nearest_distances(rows[first:last], k, comm=comm)
    assert found.queries.tolist() == list(range(first, last))
    assert found.n_rows == len(rows)
    return allgather_rows(comm, found.distances), found.rounding


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("k", [1, 20])
def test_against_all_differences(comm, monkeypatch, name, k):
    for constant, value in (("_TILE", 37), ("_PANEL", 64)):
        monkeypatch.setattr(neighbour_distances, constant, value)
    rows = TABLES[name]
    found, rounding = distributed(rows, k, comm)
    np.testing.assert_allclose(found, by_differences(rows, k), rtol=1e-8, atol=0)
    assert (rounding > 0) == (rows.dtype.kind == "f")
    assert rounding < 1e-5 * np.abs(rows.astype(float)).max() * rows.shape[1]


def test_all_other_rows_and_uneven_ranks(comm):
    rows = TABLES["normal"][:31]
    found, _ = distributed(rows, 30, comm)
    np.testing.assert_allclose(found, by_differences(rows, 30), rtol=1e-12)
    mine = rows if comm.rank == comm.size - 1 else rows[:0]
    last = nearest_distances(mine, 4, comm=comm)
    whole = by_differences(rows, 4)
    np.testing.assert_allclose(last.distances, whole if len(mine) else whole[:0], rtol=1e-12)


def test_rows_in_the_matrix_of_a_job(comm):
    rows = TABLES["short integers"]
    first, last = ownership_range(len(rows), comm)
    X = DataMatrix(rows[first:last], np.zeros(last - first, int), comm, factor=np.full(6, 0.25))
    found = nearest_distances(X, 3)
    whole = by_differences(rows * 0.25, 3)
    np.testing.assert_allclose(found.distances, whole[first:last], rtol=1e-12)
    with pytest.raises(ConfigError, match="a communicator of their own"):
        nearest_distances(X, 3, comm=MPI.COMM_SELF if comm.size > 1 else comm.Dup())
    X.destroy()


def test_some_rows_among_all(comm):
    for name in ("normal", "clusters"):  # by products, and by differences
        rows = TABLES[name]
        first, last = ownership_range(len(rows), comm)
        some = np.arange(last - first)[::7][::-1]
        found = nearest_distances(rows[first:last], 4, queries=some, comm=comm)
        assert (found.queries == some + first).all()
        expected = by_differences(rows, 4)[some + first]
        np.testing.assert_allclose(found.distances, expected, rtol=1e-8)
    none = nearest_distances(rows[first:last], 4, queries=[], comm=comm)
    assert none.distances.shape == (0, 4)
    with pytest.raises(InputError, match=r"queries: give indices of this rank's \d+ rows"):
        nearest_distances(rows[first:last], 4, queries=[last - first], comm=comm)


def test_refusals(comm):
    rows = TABLES["normal"][:12]
    first, last = ownership_range(len(rows), comm)
    mine = rows[first:last]
    with pytest.raises(InputError, match="12 neighbours are wanted of 12 rows"):
        nearest_distances(mine, 12, comm=comm)
    for k in (0, 2.5):
        with pytest.raises(ConfigError, match="k must be a positive integer"):
            nearest_distances(mine, k, comm=comm)
    with pytest.raises(InputError, match="sparse rows"):
        nearest_distances(scipy.sparse.csr_array(mine), 1, comm=comm)
    for wrong in (np.ones(4), np.ones((4, 0)), np.array([["a"]])):
        with pytest.raises(InputError, match="a table of real numbers"):
            nearest_distances(wrong, 1, comm=comm)
    broken = mine.copy()
    if comm.rank == comm.size - 1:
        broken[-1, 1] = np.nan
    with pytest.raises(InputError, match="row 11: not a finite number"):
        nearest_distances(broken, 1, comm=comm)
    if comm.size > 1:
        with pytest.raises(ConfigError, match="k differs between ranks"):
            nearest_distances(mine, 1 + comm.rank, comm=comm)
        with pytest.raises(ConfigError, match="type differs between ranks"):
            nearest_distances(mine.astype([np.float32, np.float64][comm.rank % 2]), 1, comm=comm)


def test_largest_values_of_blocks():
    values = np.random.default_rng(0).permuted(np.tile(np.arange(200.0), (7, 1)), axis=1)
    best, places = np.full((7, 5), -np.inf), np.full((7, 5), -1)
    for begin in range(0, 200, 25):
        keep_largest(best, places, values[:, begin : begin + 25], begin)
    assert (np.sort(best, axis=1) == np.arange(195, 200)).all()
    assert (np.take_along_axis(values, places, axis=1) == best).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_scales_whose_squares_are_no_numbers(comm, scale):
    rows = np.random.default_rng(4).standard_normal((150, 4))
    rows[77] = rows[3]
    mine = slice(*ownership_range(len(rows), comm))
    found = nearest_distances(scale * rows[mine], 5, comm=comm)
    expected = nearest_distances(rows[mine], 5, comm=comm)
    np.testing.assert_allclose(found.distances / scale, expected.distances, rtol=1e-12)
    assert found.rounding == pytest.approx(scale * expected.rounding, rel=1e-12)


def test_queries_and_rows_of_other_types(comm):
    last = comm.rank == comm.size - 1
    rows = np.random.default_rng(4).standard_normal((20, 4))
    for queries in ([0.5], ["a"], [True]):
        with pytest.raises(InputError, match=r"queries of type .*: give integers"):
            nearest_distances(rows, 2, queries=queries if last else None, comm=comm)
    with pytest.raises(InputError, match="rows: this is no array of numbers"):
        nearest_distances([[1.0, 2.0], [3.0]] if last else rows, 2, comm=comm)


def test_integers_beyond_doubles_are_rounded():
    rows = np.array([[2**62], [2**62 + 1], [2**62 + 2**40], [0]])
    found = nearest_distances(rows, 2)
    assert 0 == found.distances[0, 0] <= found.rounding < 2**40
    assert nearest_distances(rows // 2**12, 2).rounding == 0
