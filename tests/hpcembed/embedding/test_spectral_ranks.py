"""SpectralEmbedding on several ranks: the coordinates of one rank, whoever holds which rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI
from petsc4py import PETSc

from hpcembed.data.graphs.power_law import power_law_graph
from hpcembed.embedding import SolverSettings, SpectralEmbedding
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import allgather_rows

pytestmark = pytest.mark.mpi


def affinities(n=60):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((n, 3))
    squares = ((points[:, None] - points) ** 2).sum(axis=2)
    return np.exp(-squares) * (1 - np.eye(n))


def uneven(n, comm):
    """Rows divided otherwise than PETSc does: the last rank has most of them."""
    ends = np.array(
        [n * (r * (r + 1)) // (comm.size * (comm.size + 1)) for r in range(comm.size + 1)]
    )
    ends[-1] = n
    return slice(ends[comm.rank], ends[comm.rank + 1])


@pytest.mark.parametrize(
    ("operator", "tau"), [("random_walk", 0.0), ("normalized", "mean"), ("modularity", 0.0)]
)
def test_ranks_agree_with_one(comm, operator, tau):
    W = affinities()
    settings = {"affinity": "precomputed", "operator": operator, "tau": tau, "tol": 1e-12}
    alone = SpectralEmbedding(3, **settings).fit(W)
    mine = uneven(len(W), comm)
    model = SpectralEmbedding(3, **settings).fit(scipy.sparse.csr_array(W[mine]), comm=comm)
    np.testing.assert_allclose(model.eigenvalues_, alone.eigenvalues_, atol=1e-11)
    np.testing.assert_allclose(model.embedding_, alone.embedding_[mine], atol=1e-9)
    placed = model.transform(W[mine][: 3 * comm.rank + 1])
    np.testing.assert_allclose(placed, alone.embedding_[mine][: 3 * comm.rank + 1], atol=1e-8)


def test_matrix_of_petsc(comm):
    W = affinities()
    mine = uneven(len(W), comm)
    rows = scipy.sparse.csr_array(W[mine])
    index = PETSc.IntType
    sizes = ((rows.shape[0], len(W)), (rows.shape[0], len(W)))
    csr = (rows.indptr.astype(index), rows.indices.astype(index), rows.data)
    mat = PETSc.Mat().createAIJ(sizes, csr=csr, comm=comm)
    model = SpectralEmbedding(2, affinity="precomputed", tol=1e-12).fit(mat)
    mat.destroy()
    alone = SpectralEmbedding(2, affinity="precomputed", tol=1e-12).fit(W)
    np.testing.assert_allclose(model.embedding_, alone.embedding_[mine], atol=1e-9)


def test_graph_and_reference_solver(comm):
    graph = power_law_graph(400, 3000, comm, seed=1)
    settings = {"operator": "normalized", "tau": "mean", "tol": 1e-10}
    model = SpectralEmbedding(5, **settings).fit(graph)
    peer = SpectralEmbedding(5, solver=SolverSettings(name="krylovschur"), **settings).fit(graph)
    np.testing.assert_allclose(model.eigenvalues_, peer.eigenvalues_, atol=1e-9)
    products = allgather_rows(comm, model.embedding_).T @ allgather_rows(comm, peer.embedding_)
    np.testing.assert_allclose(np.abs(products), np.eye(5), atol=1e-6)
    alone = SpectralEmbedding(5, **settings).fit(power_law_graph(400, 3000, MPI.COMM_SELF, seed=1))
    mine = slice(graph.start, graph.start + graph.n_local)
    np.testing.assert_allclose(model.embedding_, alone.embedding_[mine], atol=1e-7)


@pytest.mark.parametrize("operator", ["random_walk", "laplacian", "normalized"])
@pytest.mark.parametrize("k", [1, 2, 4, 6])
@pytest.mark.filterwarnings("ignore:the graph has")
def test_a_graph_in_parts_gives_its_parts_first(comm, operator, k):
    n = 15
    W = np.zeros((n, n))  # a clique of 4, a path of 7, a pair; two nodes without edges
    W[1:5, 1:5] = 1
    for i in range(5, 11):
        W[i, i + 1] = 1
    W[13, 14] = 1
    W = np.maximum(W, W.T)
    np.fill_diagonal(W, 0)
    mine = uneven(n, comm)
    settings = {"affinity": "precomputed", "operator": operator, "drop_first": False}
    model = SpectralEmbedding(k, tol=1e-12, **settings).fit(W[mine], comm=comm)
    assert model.n_connected_components_ == 5
    d = W.sum(axis=1)
    root = np.divide(1.0, np.sqrt(d), out=np.zeros(n), where=d > 0)
    N = root[:, None] * W * root
    exact = N if operator == "normalized" else np.diag((d > 0) * 1.0) - N
    values = np.sort(np.linalg.eigvalsh(exact))
    values = values[::-1] if operator == "normalized" else values
    np.testing.assert_allclose(model.eigenvalues_, values[:k], atol=1e-10)
    V = allgather_rows(comm, model.embedding_)
    exact = np.diag((d > 0) * 1.0) - root[:, None] ** 2 * W if operator == "random_walk" else exact
    np.testing.assert_allclose(exact @ V, V * model.eigenvalues_, atol=1e-10)
    assert model.residual_norms_.max() < 1e-10
    # the largest part first: the path
    np.testing.assert_array_equal(np.flatnonzero(np.abs(V[:, 0]) > 1e-12), np.arange(5, 12))
    assert model.certified_
    assert model.result_.n_converged == k


@pytest.mark.parametrize("criterion", ["norm", "relative"])
@pytest.mark.parametrize(("operator", "least"), [("random_walk", 2.0), ("normalized", -1.0)])
def test_nothing_is_left_beside_the_parts(comm, operator, least, criterion):
    """Edges apart: beside the vectors of the parts, the operator that is solved is zero."""
    n, k = 10, 7
    W = scipy.sparse.csr_array(np.kron(np.eye(n // 2), 1 - np.eye(2)))
    settings = {"operator": operator, "solver": SolverSettings(criterion=criterion)}
    mine = uneven(n, comm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = SpectralEmbedding(k, affinity="precomputed", **settings).fit(W[mine], comm=comm)
    first = 2.0 - least if operator == "random_walk" else 1.0
    np.testing.assert_allclose(model.eigenvalues_, [first] * 4 + [least] * 3, atol=1e-12)
    assert model.certified_
    vectors = allgather_rows(comm, np.asarray(model.result_.eigenvectors))
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(k + 1), atol=1e-12)


def test_more_ranks_than_nodes(comm):
    W = np.ones((2, 2))
    mine = slice(0, 2) if comm.rank == comm.size - 1 else slice(0, 0)
    model = SpectralEmbedding(1, affinity="precomputed").fit(W[mine], comm=comm)
    np.testing.assert_allclose(model.eigenvalues_, 2, atol=1e-12)
    np.testing.assert_allclose(np.abs(model.embedding_), np.full((len(W[mine]), 1), 0.5**0.5))


def test_refused_on_all_ranks(comm):
    W = affinities()
    if comm.size > 1:
        with pytest.raises(ConfigError, match="neighbours on one rank only"):
            SpectralEmbedding().fit(W, comm=comm)
        with pytest.raises(InputError, match="every node to every node"):
            SpectralEmbedding(affinity="precomputed").fit(W, comm=comm)
    bad = W[uneven(len(W), comm)].copy()
    if comm.rank == comm.size - 1:
        bad[0, 0] = np.nan
    with pytest.raises((InputError, ValueError), match=r"not finite|NaN"):
        SpectralEmbedding(affinity="precomputed").fit(bad, comm=comm)
