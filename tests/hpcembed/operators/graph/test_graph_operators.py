"""Operators of graphs against closed forms and dense matrices; smoothing against products."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI

import miramns
from hpcembed.data.graphs.assembly import build_graph
from hpcembed.data.graphs.graph import GraphOptions, LocalEdges
from hpcembed.operators.graph.graph_operators import GRAPH_OPERATORS, graph_operator
from hpcembed.operators.graph.smoothing import smooth
from hpcembed.operators.sparse_matrix import aij_mat
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import allgather_rows, ownership_range

pytestmark = pytest.mark.mpi


def graph_of(comm, pairs, n, weights=None, **options):
    """Build a graph whose edges are dealt to the ranks in turn."""
    i, j = np.array(pairs, dtype=np.int64).reshape(-1, 2)[comm.rank :: comm.size].T
    w = None if weights is None else np.asarray(weights, dtype=float)[comm.rank :: comm.size]
    return build_graph(LocalEdges(i, j, w, n, "made"), comm, GraphOptions(**options))


def path(n):
    return [(i, i + 1) for i in range(n - 1)]


def star(n):
    return [(0, i) for i in range(1, n)]


def cycle(n):
    return [*path(n), (n - 1, 0)]


def complete_bipartite(a, b):
    return [(i, a + j) for i in range(a) for j in range(b)]


def values(graph, kind, k, which="LA", tau=0.0):
    operator = graph_operator(graph, kind, tau)
    result = miramns.solve(operator.mat, k, which=which, hermitian=True, tol=1e-10)
    assert result.converged
    answer = operator.eigenvalues(result.eigenvalues)
    norms = operator.residual_norms(result.eigenvalues, result.eigenvectors)
    operator.destroy()
    assert norms.max() < 1e-8
    return answer


def test_closed_forms(comm):
    n = 12
    # path: A has 2 cos(pi j / (n + 1)); cycle: L has 1 - cos(2 pi j / n), each twice
    found = values(graph_of(comm, path(n), n), "adjacency", 4)
    np.testing.assert_allclose(found, 2 * np.cos(np.pi * np.arange(1, 5) / (n + 1)), atol=1e-9)
    found = values(graph_of(comm, cycle(n), n), "laplacian", 5)
    j = np.array([0, 1, 1, 2, 2])
    np.testing.assert_allclose(found, 1 - np.cos(2 * np.pi * j / n), atol=1e-9)
    # path: N has cos(pi j / (n - 1))
    found = values(graph_of(comm, path(n), n), "random_walk", 3)
    np.testing.assert_allclose(found, 1 - np.cos(np.pi * np.arange(3) / (n - 1)), atol=1e-9)
    # star: A has +-sqrt(n - 1); bipartite graphs: N has -1
    found = values(graph_of(comm, star(n), n), "adjacency", 2, "LM")
    np.testing.assert_allclose(np.sort(found), [-np.sqrt(n - 1), np.sqrt(n - 1)], atol=1e-9)
    found = values(graph_of(comm, complete_bipartite(3, 5), 8), "normalized", 2, "LM")
    np.testing.assert_allclose(np.sort(found), [-1, 1], atol=1e-9)
    # two complete graphs of 4: modularity of the split is the eigenvalue 3
    two = [(a + i, a + j) for a in (0, 4) for i in range(4) for j in range(i)]
    found = values(graph_of(comm, two, 8), "modularity", 1)
    np.testing.assert_allclose(found, 3, atol=1e-9)
    np.testing.assert_allclose(values(graph_of(comm, two, 8), "laplacian", 3)[:2], 0, atol=1e-9)


@pytest.mark.parametrize("n", [1, 2])
def test_more_ranks_than_nodes(comm, n):
    graph = graph_of(comm, path(n), n)
    found = values(graph, "laplacian", 1)
    np.testing.assert_allclose(found, 0, atol=1e-12)
    assert graph.n_isolated == (n == 1)


def test_nodes_without_edges_have_zero_rows(comm):
    graph = graph_of(comm, [(0, 1), (1, 2)], 5)
    for kind in GRAPH_OPERATORS:
        operator = graph_operator(graph, kind)
        dense = gathered(comm, operator.mat)
        expected = 2 * np.eye(5)[3:] if operator.is_laplacian else np.zeros((2, 5))
        np.testing.assert_allclose(dense[3:], expected, atol=1e-15)
        operator.destroy()
    # each is a component: three eigenvalues are zero, and there is no division by zero
    found = values(graph, "random_walk", 4)
    np.testing.assert_allclose(found, [0, 0, 0, 1], atol=1e-9)


def gathered(comm, mat):
    """Return all columns of an operator, by products."""
    x, y = mat.createVecs()
    n = mat.getSize()[0]
    columns = []
    for j in range(n):
        x.set(0.0)
        if x.getOwnershipRange()[0] <= j < x.getOwnershipRange()[1]:
            x.setValue(j, 1.0)
        x.assemble()
        mat.mult(x, y)
        columns.append(allgather_rows(comm, np.array(y.getArray(readonly=1))))
    x.destroy()
    y.destroy()
    return np.column_stack(columns)


@pytest.mark.parametrize("tau", [0.0, 0.7, "mean"])
def test_operators_equal_their_definitions(comm, tau):
    rng = np.random.default_rng(5)
    n, m = 30, 60
    i, j, w = rng.integers(0, n, m), rng.integers(0, n, m), rng.integers(1, 4, m)
    graph = graph_of(comm, np.column_stack([i, j]), n, w, loops="keep")
    A = allgather_rows(comm, graph.rows.toarray())
    d = A.sum(axis=1)
    t = d.mean() if tau == "mean" else tau
    with np.errstate(divide="ignore"):
        roots = np.where(d + t > 0, (d + t) ** -0.5, 0)
    N = roots[:, None] * (A + t / n) * roots
    exact = {"normalized": N, "laplacian": N + np.diag(np.where(d + t > 0, 1.0, 2.0))}
    exact["random_walk"] = exact["laplacian"]
    if not tau:
        exact |= {"adjacency": A, "modularity": A - np.outer(d, d) / d.sum()}
    for kind, dense in exact.items():
        operator = graph_operator(graph, kind, tau)
        np.testing.assert_allclose(gathered(comm, operator.mat), dense, atol=1e-13)
        assert operator.mat.isHermitianKnown() == (True, True)
        assert operator.tau == pytest.approx(t)
        np.testing.assert_allclose(allgather_rows(comm, operator.degrees), d + t)
        assert operator.total == pytest.approx(d.sum())
        operator.destroy()


def test_residuals_of_the_random_walk(comm):
    n = 20
    graph = graph_of(comm, star(n), n)
    operator = graph_operator(graph, "random_walk")
    start, stop = ownership_range(n, comm)
    u = np.random.default_rng(0).standard_normal((n, 2))
    found = operator.residual_norms(np.array([1.5, 0.3]), u[start:stop])
    A = np.zeros((n, n))
    A[0, 1:] = A[1:, 0] = 1
    d = A.sum(axis=1)
    v = u / np.sqrt(d)[:, None]
    walk = np.eye(n) - A / d[:, None]
    rest = walk @ v - v * (2 - np.array([1.5, 0.3]))
    np.testing.assert_allclose(found, np.linalg.norm(rest, axis=0) / np.linalg.norm(v, axis=0))
    np.testing.assert_allclose(operator.eigenvectors(u[start:stop]), v[start:stop])
    operator.destroy()


@pytest.mark.parametrize("kind", ["random_walk", "normalized"])
@pytest.mark.parametrize("loops", [0.0, 1.0])
def test_smoothing(comm, kind, loops):
    rng = np.random.default_rng(2)
    n, d = 25, 4
    graph = graph_of(comm, rng.integers(0, n - 3, (40, 2)), n)  # the last nodes have no edge
    rows = scipy.sparse.random_array((n, d), density=0.4, rng=rng, format="csr")
    A = allgather_rows(comm, graph.rows.toarray()) + loops * np.eye(n)
    degree = A.sum(axis=1)
    inverse = np.divide(1.0, degree, out=np.zeros(n), where=degree > 0)
    left, right = (inverse, np.ones(n)) if kind == "random_walk" else (inverse**0.5, inverse**0.5)
    P = left[:, None] * A * right
    mine = slice(graph.start, graph.start + graph.n_local)
    for steps in (0, 1, 3):
        expected = np.linalg.matrix_power(P, steps) @ rows.toarray()
        sparse = smooth(graph, rows[mine], steps, kind=kind, loops=loops)
        assert scipy.sparse.issparse(sparse)
        np.testing.assert_allclose(sparse.toarray(), expected[mine], atol=1e-14)
        dense = smooth(graph, rows[mine].toarray(), steps, kind=kind, loops=loops)
        np.testing.assert_allclose(dense, expected[mine], atol=1e-14)
    kept = smooth(graph, rows[mine], 2, kind=kind).toarray()
    lone = np.diff(graph.rows.indptr) == 0
    np.testing.assert_allclose(kept[lone], rows[mine].toarray()[lone])


def test_refusals(comm):
    graph = graph_of(comm, path(4), 4)
    with pytest.raises(ConfigError, match="operator = 'heat'"):
        graph_operator(graph, "heat")
    with pytest.raises(ConfigError, match="tau = -1"):
        graph_operator(graph, "normalized", -1)
    with pytest.raises(ConfigError, match="tau is for normalised"):
        graph_operator(graph, "adjacency", 1.0)
    with pytest.raises(ConfigError, match="smoothing: steps = -1"):
        smooth(graph, np.ones((graph.n_local, 1)), -1)
    with pytest.raises(InputError, match="rows for the"):
        smooth(graph, np.ones((graph.n_local + (comm.rank == 0), 1)))
    signed = graph_of(comm, path(4), 4, [1, -2, 1], negative_weights="keep")
    with pytest.raises(InputError, match="a weight of -2: operator laplacian needs"):
        graph_operator(signed, "laplacian")
    with pytest.raises(InputError, match="negative weights do not define averages"):
        smooth(signed, np.ones((signed.n_local, 1)))
    operator = graph_operator(signed, "adjacency")
    np.testing.assert_allclose(gathered(comm, operator.mat)[1], [1, 0, -2, 0])
    operator.destroy()


def test_adjacency_is_the_rows(comm):
    graph = graph_of(comm, cycle(7), 7, np.arange(1.0, 8))
    mat = aij_mat(comm, graph.rows, is_symmetric=True)
    dense = allgather_rows(comm, graph.rows.toarray())
    np.testing.assert_array_equal(gathered(comm, mat), dense)
    np.testing.assert_array_equal(dense, dense.T)
    mat.destroy()
    total = comm.allreduce(graph.degrees().sum(), op=MPI.SUM)
    assert total == 2 * np.arange(1.0, 8).sum()
