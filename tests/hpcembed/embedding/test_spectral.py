"""SpectralEmbedding in serial: scikit-learn's contract and values, new nodes, warnings."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse
import sklearn.manifold
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

import hpcembed
from hpcembed.embedding import SolverSettings, SpectralEmbedding
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError

X = load_digits().data[:300]


@parametrize_with_checks(
    [SpectralEmbedding(n_components=2), SpectralEmbedding(1, affinity="rbf", tau="mean")]
)
@pytest.mark.filterwarnings("default")
def test_estimator_checks(estimator, check):
    check(estimator)


def kernel():
    return sklearn.metrics.pairwise.rbf_kernel(X, gamma=1e-3)


@pytest.mark.parametrize("affinity", ["nearest_neighbors", "rbf", "precomputed", "sparse"])
def test_against_scikit_learn(affinity):
    settings = {"affinity": affinity, "gamma": 1e-3, "n_neighbors": 20}
    rows = X
    if affinity in ("precomputed", "sparse"):
        rows = kernel()
        settings = {"affinity": "precomputed"}
    theirs = sklearn.manifold.SpectralEmbedding(3, eigen_tol=1e-12, random_state=0, **settings)
    expected = theirs.fit_transform(rows)
    ours = SpectralEmbedding(3, tol=1e-12, **settings)
    coordinates = ours.fit_transform(scipy.sparse.csr_array(rows) if affinity == "sparse" else rows)
    signs = np.sign(np.sum(coordinates * expected, axis=0))
    np.testing.assert_allclose(coordinates, expected * signs, atol=1e-9)
    assert (np.diff(ours.eigenvalues_) > 0).all()
    assert ours.residual_norms_.max() < 1e-11
    assert ours.converged_reason_ == "CONVERGED_TOL"
    assert ours.certified_
    assert ours.n_connected_components_ == 1
    assert ours.n_nodes_ == 300
    assert set(ours.seconds_) == {"operator", "solve"}
    W = ours.affinity_matrix_
    W = W.toarray() if scipy.sparse.issparse(W) else W
    T = theirs.affinity_matrix_
    np.testing.assert_allclose(W, T.toarray() if scipy.sparse.issparse(T) else T)
    # the largest entry of each column is positive
    assert (coordinates.max(axis=0) >= -coordinates.min(axis=0)).all()


@pytest.mark.parametrize("operator", ["random_walk", "laplacian", "normalized"])
@pytest.mark.parametrize("tau", [0.0, "mean"])
def test_residuals_and_values_are_those_of_the_operator(operator, tau):
    W = kernel() - np.eye(300)
    model = SpectralEmbedding(3, affinity="precomputed", operator=operator, tau=tau).fit(W)
    d = W.sum(axis=1)
    t = d.mean() if tau == "mean" else 0.0
    full = W + t / 300
    root = (d + t) ** -0.5
    exact = {
        "random_walk": np.eye(300) - full / (d + t)[:, None],
        "laplacian": np.eye(300) - root[:, None] * full * root,
        "normalized": root[:, None] * full * root,
    }[operator]
    V = model.embedding_
    rest = exact @ V - V * model.eigenvalues_
    norms = np.linalg.norm(rest, axis=0) / np.linalg.norm(V, axis=0)
    np.testing.assert_allclose(norms, model.residual_norms_, atol=1e-13)
    assert norms.max() < 1e-8
    values = np.sort(np.linalg.eigvals(exact).real)
    values = values[::-1] if operator == "normalized" else values
    np.testing.assert_allclose(model.eigenvalues_, values[1:4], atol=1e-9)


@pytest.mark.parametrize(
    ("operator", "tau"),
    [
        ("random_walk", 0.0),
        ("random_walk", "mean"),
        ("laplacian", "mean"),
        ("normalized", 0.0),
        ("modularity", 0.0),
        ("adjacency", 0.0),
    ],
)
def test_new_nodes_that_are_copies_lie_where_their_originals_do(operator, tau):
    W = kernel() - np.eye(300)
    model = SpectralEmbedding(4, affinity="precomputed", operator=operator, tau=tau, tol=1e-12).fit(
        W
    )
    placed = model.transform(W[:20])
    np.testing.assert_allclose(placed, model.embedding_[:20], atol=1e-8)
    sparse = model.transform(scipy.sparse.csr_array(W[:20]))
    np.testing.assert_allclose(sparse, placed, atol=1e-13)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(copy.transform(W[:20]), placed)
    nothing = model.transform(np.zeros((1, 300)))
    assert np.isfinite(nothing).all()
    if not tau:
        np.testing.assert_array_equal(nothing, 0)
    if operator != "adjacency":
        with pytest.raises(InputError, match="negative affinities"):
            model.transform(-W[:1])
    with pytest.raises(ValueError, match="features"):
        model.transform(W[:, :5])


def test_new_nodes_need_affinities():
    assert not hasattr(SpectralEmbedding().fit(X), "transform")
    assert hpcembed.SpectralEmbedding is SpectralEmbedding
    assert clone(SpectralEmbedding(3, tau="mean")).tau == "mean"


def two_parts():
    W = np.zeros((9, 9))
    W[:4, :4] = W[4:8, 4:8] = 1  # and the last node has no edge
    return W


def test_graphs_in_parts_are_warned_of():
    with pytest.warns(UserWarning, match="the graph has 3 components"):
        model = SpectralEmbedding(2, affinity="precomputed", drop_first=False).fit(two_parts())
    np.testing.assert_allclose(model.eigenvalues_, 0, atol=1e-12)
    assert np.isfinite(model.embedding_).all()
    regular = SpectralEmbedding(1, affinity="precomputed", tau="mean").fit(two_parts())
    sides = np.sign(regular.embedding_[:8, 0])
    assert len(set(sides[:4])) == len(set(sides[4:])) == 1
    assert sides[0] == -sides[4]


def test_bipartite_structure_is_seen_by_modulus():
    W = np.zeros((7, 7))
    W[:3, 3:] = 1
    model = SpectralEmbedding(1, affinity="precomputed", operator="normalized", which="LM").fit(
        W + W.T
    )
    np.testing.assert_allclose(np.abs(model.eigenvalues_), 1, atol=1e-9)
    both = SpectralEmbedding(
        2, affinity="precomputed", operator="normalized", which="LM", drop_first=False
    ).fit(W + W.T)
    np.testing.assert_allclose(np.sort(both.eigenvalues_), [-1, 1], atol=1e-9)


def test_what_is_refused():
    W = kernel()
    with pytest.warns(UserWarning, match="is not symmetric"):
        SpectralEmbedding(affinity="precomputed").fit(W + np.triu(W, 1))
    for settings, message in [
        ({"n_components": 0}, "n_components must be"),
        ({"affinity": "cosine"}, "affinity = 'cosine' is not one of"),
        ({"operator": "heat"}, "operator = 'heat'"),
        ({"which": "SM"}, "which = 'SM'"),
        ({"tau": -1.0}, "tau = -1"),
        ({"tol": 0.0}, "tol"),
        ({"solver": SolverSettings(name="lapack")}, "no dense operator"),
    ]:
        with pytest.raises(ConfigError, match=message):
            SpectralEmbedding(**{"affinity": "precomputed", **settings}).fit(W)
    with pytest.raises(InputError, match="at most 299"):
        SpectralEmbedding(300, affinity="precomputed").fit(W)
    with pytest.raises(InputError, match="every node to every node"):
        SpectralEmbedding(affinity="precomputed").fit(W[:50])
    with pytest.raises(InputError, match="a weight of -"):
        SpectralEmbedding(affinity="precomputed").fit(-W)
    large = np.full((4, 4), 1e308)
    for settings in ({}, {"tau": "mean"}, {"operator": "modularity"}):
        with pytest.raises(
            InputError, match="the sum of the degrees exceeds 1e308: divide all weights"
        ):
            SpectralEmbedding(1, affinity="precomputed", **settings).fit(large)
    model = SpectralEmbedding(1, affinity="precomputed").fit(1e-3 * large)
    np.testing.assert_allclose(model.eigenvalues_, 4 / 3)


def test_pairs_that_miss_their_tolerance_are_said():
    settings = SolverSettings(max_it=0, ncv=6)
    rows = scipy.sparse.diags_array([np.ones(999), np.ones(999)], offsets=[-1, 1])
    model = SpectralEmbedding(2, affinity="precomputed", solver=settings)
    with pytest.raises(ConvergenceError, match="did not converge to the tolerance"):
        model.fit(rows)
    kept = SolverSettings(max_it=0, ncv=6, on_no_convergence="keep")
    model = SpectralEmbedding(2, affinity="precomputed", solver=kept).fit(rows)
    assert not model.certified_
    assert model.converged_reason_ != "CONVERGED_TOL"
