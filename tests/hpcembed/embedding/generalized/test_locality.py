"""Locality preserving projection: scipy and scikit-learn's graph as oracles, ties, ranks."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from sklearn.datasets import load_digits, load_iris
from sklearn.neighbors import NearestNeighbors, kneighbors_graph
from sklearn.utils.estimator_checks import parametrize_with_checks

from hpcembed import DataMatrix, LocalityPreservingProjection
from hpcembed.embedding import Embedding, Machine, Shape, SolverSettings
from hpcembed.operators.graph.row_neighbours import nearest_rows, symmetric_neighbours
from hpcembed.runtime.errors import ConfigError, InputError, MemoryLimitError
from hpcembed.runtime.ranks import ownership_range

DIGITS = load_digits().data[:500]


@parametrize_with_checks([LocalityPreservingProjection(1, n_neighbors=1)])
@pytest.mark.filterwarnings("default")
def test_estimator_checks(estimator, check):
    check(estimator)


def test_nearest_rows_against_scikit_learn():
    rows = np.random.default_rng(0).standard_normal((300, 7)) + 100.0
    theirs = NearestNeighbors(n_neighbors=6).fit(rows).kneighbors(return_distance=False)
    np.testing.assert_array_equal(nearest_rows(rows, 0, 300, 6), np.sort(theirs, axis=1))
    np.testing.assert_array_equal(nearest_rows(rows, 70, 90, 6), np.sort(theirs[70:90], axis=1))


def test_equally_near_rows_are_taken_in_their_order():
    # every row has four nearest rows at the same distance
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij")).reshape(2, -1).T
    turned = grid @ scipy.linalg.expm(np.array([[0, -0.7], [0.7, 0]]))
    found = nearest_rows(grid, 0, 81, 2)
    np.testing.assert_array_equal(nearest_rows(turned, 0, 81, 2), found)
    assert found[40].tolist() == [31, 39]
    equal = np.zeros((5, 3))
    assert nearest_rows(equal, 0, 5, 2).tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]
    with pytest.raises(InputError, match="5 neighbours are wanted of 5 rows"):
        nearest_rows(equal, 0, 5, 5)


def dense_solution(X, n_neighbors, k):
    """Return values and directions by dense matrices of all features."""
    directed = kneighbors_graph(X, n_neighbors).toarray()
    W = np.maximum(directed, directed.T)
    D = np.diag(W.sum(axis=1))
    centred = X - X.mean(axis=0)
    values, vectors = scipy.linalg.eigh(centred.T @ (D - W) @ centred, centred.T @ D @ centred)
    return values[:k], vectors[:, :k].T


def sin_angle(a, b):
    return np.sin(scipy.linalg.subspace_angles(a.T, b.T)).max()


@pytest.mark.parametrize("n_neighbors", [3, 8])
def test_against_dense_matrices(n_neighbors):
    X = np.random.default_rng(1).standard_normal((200, 12)) * np.geomspace(1, 0.2, 12)
    values, vectors = dense_solution(X, n_neighbors, 5)
    ours = LocalityPreservingProjection(5, n_neighbors=n_neighbors).fit(X)
    np.testing.assert_allclose(1 - ours.eigenvalues_, values, atol=1e-10)
    assert sin_angle(ours.components_, vectors) < 1e-7
    assert ours.certified_
    assert isinstance(ours, Embedding)
    assert (ours.n_graph_rows_, ours.n_components_) == (200, 5)
    edges = kneighbors_graph(X, n_neighbors)
    assert ours.n_edges_ == edges.maximum(edges.T).nnz // 2
    coordinates = ours.transform(X)
    np.testing.assert_allclose(coordinates.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(ours.coordinate_deviations_, coordinates.std(axis=0), rtol=1e-9)
    reference = LocalityPreservingProjection(
        5, n_neighbors=n_neighbors, solver=SolverSettings(reference=True)
    ).fit(X)
    assert reference.reference_sin_angle_ < 1e-7


def test_neighbours_in_principal_components():
    ours = LocalityPreservingProjection(4, pca_components=20).fit(DIGITS)
    assert ours.pca_.n_components_ == 20
    projected = ours.pca_.transform(DIGITS)
    values, _ = dense_solution(projected, 5, 4)
    np.testing.assert_allclose(1 - ours.eigenvalues_, values, atol=1e-9)
    # the directions lie in the span of the components
    left = ours.components_ - ours.components_ @ ours.pca_.components_.T @ ours.pca_.components_
    assert np.abs(left).max() < 1e-12


def test_neighbours_stay_nearer_than_in_random_directions():
    ours = LocalityPreservingProjection(5).fit(DIGITS)
    graph = kneighbors_graph(DIGITS, 5)

    def spread(coordinates):
        difference = coordinates[graph.indices] - np.repeat(coordinates, 5, axis=0)
        return np.square(difference).sum() / np.square(coordinates - coordinates.mean(0)).sum()

    other = DIGITS @ np.random.default_rng(0).standard_normal((64, 5))
    assert spread(ours.transform(DIGITS)) < 0.5 * spread(other)


def test_a_stated_part_of_the_rows():
    X = load_iris().data
    ours = LocalityPreservingProjection(2, max_rows=50).fit(X)
    assert ours.n_graph_rows_ == 50
    values, _ = dense_solution(
        ours.pca_.transform(X)[(np.arange(50) * 150) // 50] @ ours.pca_.components_, 5, 2
    )
    # rows of the graph are centred on the mean of all rows
    assert np.abs((1 - ours.eigenvalues_) / values - 1).max() < 0.05


def test_bad_input_is_one_line():
    cases = [
        (LocalityPreservingProjection(99), InputError, "need n_components <= "),
        (LocalityPreservingProjection(2, n_neighbors=500), InputError, "500 neighbours are wanted"),
        (LocalityPreservingProjection(2, n_neighbors=0), ConfigError, "n_neighbors must be"),
        (LocalityPreservingProjection(2, memory_limit=9), MemoryLimitError, "9 B are available"),
    ]
    for estimator, kind, text in cases:
        with pytest.raises(kind, match=text):
            estimator.fit(DIGITS)
    with pytest.raises(InputError, match="need n_components <= 0"):
        LocalityPreservingProjection(1).fit(np.ones((9, 2)))


def test_plan():
    shape = Shape(n_train=50_000, n_test=0, n_features=64, n_nonzeros=None, row_bytes=512)
    plan = LocalityPreservingProjection().plan(shape, Machine(1, 1, 2**33))
    assert plan.dimension == 64
    assert plan.bytes > 20_000 * 64 * 8


@pytest.mark.mpi
def test_the_same_on_any_number_of_ranks(comm):
    first, last = ownership_range(len(DIGITS), comm)
    neighbours = nearest_rows(DIGITS, first, last, 4)
    graph = symmetric_neighbours(comm, neighbours, first)
    whole = symmetric_neighbours(comm.Split(comm.rank), nearest_rows(DIGITS, 0, 500, 4), 0)
    assert (graph != whole[first:last]).nnz == 0
    assert (whole != whole.T).nnz == 0
    for rows in (DIGITS, np.round(DIGITS / 8), scipy.sparse.csr_array(DIGITS)):
        # rounded images have many rows that are equally near
        for extra in ({}, {"max_rows": 123}):
            alone = LocalityPreservingProjection(3, **extra).fit(rows)
            shared = LocalityPreservingProjection(3, **extra).fit(rows[first:last], comm=comm)
            assert shared.n_edges_ == alone.n_edges_
            np.testing.assert_allclose(shared.eigenvalues_, alone.eigenvalues_, rtol=1e-8)
            assert sin_angle(shared.components_, alone.components_) < 1e-6
    with pytest.raises(InputError, match="500 neighbours are wanted of 500 rows"):
        LocalityPreservingProjection(2, n_neighbors=500).fit(DIGITS[first:last], comm=comm)
    X = DataMatrix(DIGITS[first:last].astype(np.uint8), np.zeros(last - first, np.int64), comm)
    same = LocalityPreservingProjection(3).fit(X)
    np.testing.assert_allclose(
        same.eigenvalues_, LocalityPreservingProjection(3).fit(DIGITS).eigenvalues_, rtol=1e-8
    )
    X.destroy()
