"""Linear CKA, SVCCA and PWCCA: invariants, other implementations, ranks, errors."""

import numpy as np
import pytest
import scipy.sparse
from mpi4py import MPI

from hpcembed.networks.similarity import layer_similarity, linear_cka, pwcca, svcca
from hpcembed.networks.similarity.joint_covariance import joint_covariance
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import ownership_range
from oracle_values import cka_value, related, stored

SELF = MPI.COMM_SELF


def share(comm, *arrays):
    first, last = ownership_range(len(arrays[0]), comm)
    return [one[first:last] for one in arrays]


def gram_cka(x, y):
    """Definition with n x n matrices: alignment of centred Gram matrices."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    k, m = x @ x.T, y @ y.T
    return np.sum(k * m) / np.linalg.norm(k) / np.linalg.norm(m)


def qr_cca(x, y):
    """Canonical correlations and the weights of PWCCA from orthonormal bases of the columns."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    left, correlations, right = np.linalg.svd(np.linalg.qr(x)[0].T @ np.linalg.qr(y)[0])
    m = len(correlations)
    if x.shape[1] <= y.shape[1]:
        weights = np.abs((np.linalg.qr(x)[0] @ left[:, :m]).T @ x).sum(axis=1)
    else:
        weights = np.abs((np.linalg.qr(y)[0] @ right[:m].T).T @ y).sum(axis=1)
    return correlations, weights / weights.sum()


def principal(x, share_of_variance):
    """Scores of the principal components with a share of the variance, from the rows' SVD."""
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    shares = np.cumsum(s**2) / np.sum(s**2)
    k = 1 + int(np.searchsorted(shares, share_of_variance))
    return u[:, :k] * s[:k]


@pytest.mark.mpi
@pytest.mark.parametrize(("p", "q"), [(7, 5), (3, 8), (6, 6)])
def test_equal_to_definitions_on_any_number_of_ranks(comm, p, q):
    x, y = related(p=p, q=q)
    parts = share(comm, x, y)
    assert linear_cka(*parts, comm=comm) == pytest.approx(gram_cka(x, y), abs=1e-12)

    correlations, weights = qr_cca(x, y)
    found = pwcca(*parts, comm=comm)
    np.testing.assert_allclose(found.correlations, correlations, atol=1e-10)
    np.testing.assert_allclose(found.weights, weights, atol=1e-10)
    assert found.similarity == pytest.approx(weights @ correlations, abs=1e-10)
    assert (found.n_dimensions, found.n_rows) == ((p, q), 400)

    scores = principal(x, 0.99), principal(y, 0.99)
    expected, _ = qr_cca(*scores)
    found = svcca(*parts, comm=comm)
    assert found.n_dimensions == (scores[0].shape[1], scores[1].shape[1])
    np.testing.assert_allclose(found.correlations, expected, atol=1e-10)
    assert found.similarity == pytest.approx(expected.mean(), abs=1e-10)
    np.testing.assert_allclose(found.weights, 1 / len(expected))
    assert svcca(*parts, variance=1.0, comm=comm).similarity == pytest.approx(
        correlations.mean(), abs=1e-10
    )


@pytest.mark.mpi
def test_ranks_without_rows_and_one_pass_in_blocks(comm, monkeypatch):
    x, y = related(n=100)
    monkeypatch.setattr("hpcembed.networks.similarity.joint_covariance._BLOCK", 90)
    mine = slice(0, 100) if comm.rank == comm.size - 1 else slice(0, 0)
    joint = joint_covariance((x[mine], y[mine]), ("x", "y"), comm)
    z = np.hstack([x - x.mean(axis=0), y - y.mean(axis=0)])
    scales = 2.0 ** np.repeat(joint.exponents, joint.widths)
    unscaled = joint.sums * np.outer(scales, scales)
    np.testing.assert_allclose(unscaled, z.T @ z, rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(joint.block(0, 1), joint.sums[:7, 7:])
    assert (joint.widths, joint.n_rows) == ((7, 5), 100)
    assert linear_cka(x[mine], y[mine], comm=comm) == pytest.approx(gram_cka(x, y), abs=1e-12)


def test_invariants_of_cka():
    x, y = related()
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.standard_normal((7, 7)))[0]
    assert linear_cka(x, x @ rotation) == pytest.approx(1.0, abs=1e-12)
    value, order = linear_cka(x, y), rng.permutation(len(x))
    assert 0.1 < value < 0.9
    assert linear_cka(y, x) == pytest.approx(value, abs=1e-14)
    assert linear_cka(x[order], y[order]) == pytest.approx(value, abs=1e-12)
    assert linear_cka(1e-3 * x @ rotation, 1e4 * y + 5.0) == pytest.approx(value, abs=1e-12)
    # a map of general form changes it, unlike canonical correlations
    stretched = x @ np.diag(np.arange(1.0, 8.0))
    assert abs(linear_cka(stretched, y) - value) > 1e-3


def test_invariants_of_canonical_correlations():
    x, y = related()
    rng = np.random.default_rng(1)
    stretched = (x @ (rotation := rng.standard_normal((7, 7)))) * np.geomspace(1, 1e3, 7) + 4.0
    assert np.linalg.cond(rotation) < 1e3
    np.testing.assert_allclose(
        pwcca(stretched, y).correlations, pwcca(x, y).correlations, atol=1e-9
    )
    assert pwcca(x, stretched).similarity == pytest.approx(1.0, abs=1e-9)
    assert svcca(x, 3.0 * x[:, ::-1]).similarity == pytest.approx(1.0, abs=1e-12)


def test_independent_noise_is_near_its_expectation():
    n, p, q = 2000, 30, 50
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((n, p)), rng.standard_normal((n, q))
    expected = np.sqrt(p * q / ((n + p) * (n + q)))
    assert linear_cka(x, y) == pytest.approx(expected, rel=0.1)
    # the squares of canonical correlations have the mean max(p, q) / (n - 1)
    squares = pwcca(x, y).correlations ** 2
    assert squares.mean() == pytest.approx(q / (n - 1), rel=0.1)


def test_a_large_offset_costs_no_digits():
    x, y = related()
    # a multiple of 2^-20 is added without rounding where x has few digits
    x, y = np.round(x * 2**10) / 2**10, np.round(y * 2**10) / 2**10
    assert linear_cka(x + 1e8, y) == pytest.approx(linear_cka(x, y), abs=1e-13)
    assert pwcca(x + 1e8, y).similarity == pytest.approx(pwcca(x, y).similarity, abs=1e-12)


def test_dependent_and_constant_columns_are_left_out():
    x, y = related()
    wide = np.hstack([x, x @ np.ones((7, 2)), np.full((400, 1), 1e5), np.zeros((400, 1))])
    found, expected = pwcca(wide, y), pwcca(x, y)
    assert found.n_dimensions == (7, 5)
    np.testing.assert_allclose(found.correlations, expected.correlations, atol=1e-8)
    assert svcca(wide, y, variance=1.0).n_dimensions == (7, 5)
    assert linear_cka(np.hstack([x, wide[:, 9:]]), y) == pytest.approx(linear_cka(x, y), abs=1e-13)
    # the cut-off is relative to the largest eigenvalue
    weak = np.hstack([x[:, :1], x[:, :1] + 1e-6 * x[:, 1:2]])
    assert pwcca(weak, y).n_dimensions[0] == 1
    assert pwcca(weak, y, rank_tol=1e-14).n_dimensions[0] == 2


@pytest.mark.mpi
def test_constant_columns_have_no_variance(comm):
    # the mean of equal numbers is rounded: deviations from it are not zero
    x = np.full((1000, 2), [0.1, 1e6 + 0.1])
    assert (x - x.mean(axis=0)).any()
    parts = share(comm, x, np.random.default_rng(0).standard_normal((1000, 3)))
    assert not joint_covariance(parts, ("x", "y"), comm).block(0, 0).any()
    with pytest.raises(InputError, match="x: all columns are constant"):
        linear_cka(*parts, comm=comm)


def test_a_result_is_one_line():
    rows = np.random.default_rng(0).normal(size=(1200, 3))
    assert repr(svcca(rows, 2 * rows)) == (
        "<CanonicalSimilarity: 1.000, 3 correlations 1.000 to 1.000, 1,200 rows>"
    )


def test_cut_off_is_relative():
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, 500, 1))
    x = np.hstack([one, one, one, one, other])  # correlation matrix with eigenvalues near 4 and 1
    assert pwcca(x, one + other, rank_tol=0.2).n_dimensions == (2, 1)
    assert pwcca(x, one + other, rank_tol=0.5).n_dimensions == (1, 1)


def test_equal_to_ckatorch():
    assert linear_cka(*related()) == pytest.approx(stored()["cka"], abs=1e-10)


def test_the_stored_value_is_that_of_ckatorch():
    pytest.importorskip("ckatorch.core")
    assert cka_value() == pytest.approx(stored()["cka"], abs=1e-12)


def test_integer_and_single_precision_rows():
    x, y = related()
    x, y = np.round(3 * x), y.astype(np.float32)
    expected = gram_cka(x, y.astype(np.float64))
    assert linear_cka(x.astype(np.int16), y) == pytest.approx(expected, abs=1e-12)


@pytest.mark.mpi
@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_scales_whose_squares_are_no_numbers(comm, scale):
    x, y = related()
    parts, scaled = share(comm, x, y), share(comm, scale * x, y)
    for measure in (linear_cka, svcca, pwcca):
        found, expected = measure(*scaled, comm=comm), measure(*parts, comm=comm)
        if measure is not linear_cka:
            np.testing.assert_allclose(found.weights, expected.weights, atol=1e-13)
            found, expected = found.similarity, expected.similarity
        assert found == pytest.approx(expected, abs=1e-13)
    found = layer_similarity({"a": scaled[0]}, {"b": parts[1]}, comm=comm)
    assert found.cka[0, 0] == pytest.approx(gram_cka(x, y), abs=1e-12)


def test_similarity_is_at_most_one():
    for seed in range(200):
        x = np.random.default_rng(seed).standard_normal((2, 3))
        assert linear_cka(x, -3 * x) <= 1


@pytest.mark.mpi
def test_layers_of_two_networks(comm):
    x, y = related()
    first = {"a": x, "b": np.maximum(y, 0), "dead": np.zeros((400, 3))}
    second = {"c": y, "d": x[:, :2]}
    parts = [dict(zip(one, share(comm, *one.values()), strict=True)) for one in (first, second)]
    found = layer_similarity(*parts, comm=comm)
    assert (found.first, found.second) == (("a", "b", "dead"), ("c", "d"))
    assert found.n_rows == 400
    for i, name in enumerate(("a", "b")):
        for j, other in enumerate(second.values()):
            assert found.cka[i, j] == pytest.approx(gram_cka(first[name], other), abs=1e-12)
    assert np.isnan(found.cka[2]).all()


WRONG = {
    "shape": (np.zeros(4), np.zeros((4, 1)), r"x: shape \(4,\): give rows"),
    "no columns": (np.zeros((4, 2)), np.zeros((4, 0)), r"y: shape \(4, 0\): give rows"),
    "text": (np.array([["a"]]), np.zeros((1, 1)), "x: type <U1: give real numbers"),
    "rows": (np.zeros((4, 2)), np.zeros((3, 2)), "x has 4 rows and y has 3: give the same rows"),
    "nan": (np.ones((2, 2)), np.array([[1.0], [np.nan]]), "y: row 1 contains NaN"),
    "one row": (np.ones((1, 2)), np.ones((1, 2)), "x, y: 1 rows: give at least 2"),
    "constant": (np.ones((4, 2)), np.eye(4), "x: all columns are constant"),
    "overflow": (1e308 * np.array([[1.0], [-1.0]]), np.eye(2), "x: differences of rows overflow"),
    "ragged": ([[1.0, 2.0], [3.0]], np.eye(2), "x: this is no array of numbers: ValueError"),
    "sparse": (scipy.sparse.eye_array(4), np.eye(4), "x: a sparse matrix: give a dense array"),
}


@pytest.mark.parametrize("measure", [linear_cka, svcca, pwcca])
@pytest.mark.parametrize(("x", "y", "message"), WRONG.values(), ids=WRONG)
def test_wrong_features_are_refused(measure, x, y, message):
    with pytest.raises(InputError, match=message):
        measure(x, y)


def test_too_few_rows_for_canonical_correlations():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 7)), rng.standard_normal((12, 5))
    with pytest.raises(InputError, match="of 7 and 5 dimensions need more than 12 rows, not 12"):
        pwcca(x, y)
    assert pwcca(np.vstack([x, x[:1] + 1]), np.vstack([y, -y[:1]])).n_rows == 13
    assert 0 < linear_cka(x, y) < 1


WRONG_SETTINGS = [{"variance": 0.0}, {"variance": 1.5}, {"variance": "most"}, {"rank_tol": -1.0}]


@pytest.mark.parametrize("settings", WRONG_SETTINGS)
def test_settings_outside_their_range(settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=f"{name} = .*: give a number above 0 and at most 1"):
        svcca(*related(), **settings)


def test_networks_without_layers_are_refused():
    with pytest.raises(ConfigError, match="give at least one layer of each network"):
        layer_similarity({"a": np.eye(3)}, {})
    with pytest.raises(ConfigError, match="first: list: give a mapping of layers to activations"):
        layer_similarity([np.eye(3)], {"a": np.eye(3)})


@pytest.mark.mpi
def test_errors_of_one_rank_are_raised_on_all(comm):
    x, y = share(comm, *related())
    if comm.rank == comm.size - 1:
        y[0, 0] = np.inf
    with pytest.raises(InputError, match="y: row 0 contains NaN or infinity"):
        linear_cka(x, y, comm=comm)
    if comm.size > 1:
        last = comm.rank == comm.size - 1
        with pytest.raises(InputError, match="x: this is no array of numbers"):
            linear_cka([[1.0, 2.0], [3.0]] if last else x, x, comm=comm)
        with pytest.raises(ConfigError, match="variance = 'most': give a number"):
            svcca(x, x, variance="most" if last else 0.9, comm=comm)
        with pytest.raises(ConfigError, match="columns of x differs between ranks"):
            linear_cka(x[:, : 3 + comm.rank], x, comm=comm)
        with pytest.raises(ConfigError, match="first differs between ranks"):
            layer_similarity({f"a{comm.rank}": x}, {"b": x}, comm=comm)
