"""Random projections: moments, distances, inputs, panels and ranks; scikit-learn as the oracle."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import sklearn.random_projection
from mpi4py import MPI
from scipy.spatial.distance import pdist
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import hpcembed
from hpcembed import (
    DataMatrix,
    FastJohnsonLindenstrauss,
    GaussianProjection,
    SparseProjection,
    open_rows,
)
from hpcembed.embedding.projections import distortion_probability, least_components
from hpcembed.embedding.projections.hadamard import hadamard_entries
from hpcembed.runtime.errors import ConfigError, InputError, MemoryLimitError

KINDS = [GaussianProjection, SparseProjection, FastJohnsonLindenstrauss]


@parametrize_with_checks([kind(n_components=1) for kind in KINDS])
@pytest.mark.filterwarnings("default")
def test_estimator_checks(estimator, check):
    check(estimator)


def dense(matrix):
    return matrix.toarray() if scipy.sparse.issparse(matrix) else matrix


def rows_of(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("kind", KINDS)
def test_moments_of_the_matrix(kind):
    X = rows_of(2, 2000)
    P = dense(kind(500).fit(X).components_)
    theirs = sklearn.random_projection.GaussianRandomProjection(500, random_state=0).fit(X)
    n = P.size
    assert P.shape == theirs.components_.shape
    assert abs(P.mean()) < 5 / np.sqrt(500 * n)
    assert P.var() == pytest.approx(theirs.components_.var(), rel=0.02)
    assert P.var() == pytest.approx(1 / 500, rel=0.02)
    # neighbouring components and neighbouring features are uncorrelated
    assert abs(np.mean(P[1:] * P[:-1])) * 500 < 5 / np.sqrt(n)
    assert abs(np.mean(P[:, 1:] * P[:, :-1])) * 500 < 5 / np.sqrt(n)
    other = dense(kind(500, random_state=1).fit(X).components_)
    assert abs(np.mean(P * other)) * 500 < 5 / np.sqrt(n)


def test_normal_entries_are_normal():
    P = GaussianProjection(400).fit(rows_of(2, 3000)).components_ * np.sqrt(400)
    assert np.mean(P**4) == pytest.approx(3, abs=0.05)
    assert np.mean(np.abs(P) > 3) == pytest.approx(0.0027, rel=0.15)


@pytest.mark.parametrize("density", [1.0, 1 / 3, 0.01, "auto"])
def test_sparse_entries(density):
    X = rows_of(2, 4000)
    model = SparseProjection(300, density=density).fit(X)
    theirs = sklearn.random_projection.SparseRandomProjection(
        300, density=density, random_state=0
    ).fit(X)
    P = model.components_
    assert model.density_ == pytest.approx(theirs.density_)
    assert P.nnz / P.shape[0] / P.shape[1] == pytest.approx(model.density_, rel=0.03)
    size = 1 / np.sqrt(model.density_ * 300)
    np.testing.assert_allclose(np.unique(P.data), [-size, size])
    np.testing.assert_allclose(np.unique(np.abs(theirs.components_.data)), size)
    assert np.mean(P.data > 0) == pytest.approx(0.5, abs=3 / np.sqrt(P.nnz))
    # nonzero entries are spread evenly over components and features
    for counts, n in ((np.diff(P.indptr), 4000), (np.diff(P.tocsc().indptr), 300)):
        spread = n * model.density_ * (1 - model.density_)
        assert counts.var() == pytest.approx(spread, rel=0.35, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("k", "eps"), [(64, 0.4), (256, 0.2), (256, 0.3)])
def test_bound_of_johnson_and_lindenstrauss(kind, k, eps):
    X = rows_of(40, 3000) * np.geomspace(1, 1e-2, 3000)
    before = pdist(X, "sqeuclidean")
    options = {"density": 1 / 3} if kind is SparseProjection else {}
    changes, theirs = [], []
    for seed in range(10):
        model = kind(k, random_state=seed, **options).fit(X)
        changes.append(pdist(model.transform(X), "sqeuclidean") / before - 1)
        other = sklearn.random_projection.GaussianRandomProjection(k, random_state=seed)
        theirs.append(pdist(other.fit_transform(X), "sqeuclidean") / before - 1)
    changes, theirs = np.array(changes), np.array(theirs)
    assert np.mean(np.abs(changes) > eps) < distortion_probability(k, eps)
    # the spread of scikit-learn's; samples without replacement have less
    assert np.sqrt(np.mean(changes**2)) < 1.2 * np.sqrt(np.mean(theirs**2))
    assert np.sqrt(np.mean(changes**2)) > 0.7 * np.sqrt(np.mean(theirs**2))
    assert abs(changes.mean()) < 0.03


@pytest.mark.parametrize("d", [1, 2, 3, 16, 33, 1000, 4096, 4097, 20_000, 40_000])
@pytest.mark.parametrize("n", [1, 16, 21])
def test_fast_transform_equals_its_matrix(d, n):
    X = rows_of(n, d)
    k = min(d, 50)
    model = FastJohnsonLindenstrauss(k, random_state=3).fit(rows_of(2, d))
    order = 1 << (d - 1).bit_length()
    assert len(set(model.coordinates_.tolist())) == k
    assert 0 <= model.coordinates_.min() <= model.coordinates_.max() < order
    np.testing.assert_allclose(
        model.transform(X), X @ model.components_.T, rtol=1e-10, atol=1e-10 * np.sqrt(d)
    )


def test_hadamard_matrix():
    every = np.arange(64)
    np.testing.assert_array_equal(hadamard_entries(every, every), scipy.linalg.hadamard(64))


def test_all_coordinates_preserve_lengths_exactly():
    X = rows_of(20, 8192)
    found = FastJohnsonLindenstrauss(8192).fit_transform(X)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(X, axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_entries_do_not_depend_on_the_number_of_components(kind):
    X = rows_of(2, 300)
    options = {"density": 0.1} if kind is SparseProjection else {}
    few, many = (dense(kind(k, **options).fit(X).components_) for k in (20, 80))
    np.testing.assert_allclose(few, 2 * many[:20], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_rows(kind, tmp_path):
    X = np.random.default_rng(0).integers(0, 3, (60, 500)).astype(np.uint8)
    model = kind(30, random_state=1).fit(X)
    expected = X @ dense(model.components_).T
    found = model.transform(X)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-12)
    single = model.transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-4)
    assert model.transform(X, np.float32).dtype == np.float32
    for sparse in (scipy.sparse.csr_array(X), scipy.sparse.csc_matrix(X)):
        np.testing.assert_allclose(model.transform(sparse), expected, atol=1e-12)
    np.save(tmp_path / "rows.npy", X)
    stream = open_rows(tmp_path / "rows.npy")
    data = DataMatrix(X, np.zeros(60, np.int64), MPI.COMM_SELF, factor=np.full(500, 0.5))
    np.testing.assert_allclose(model.transform(stream), expected, atol=1e-12)
    np.testing.assert_allclose(model.transform(data), expected / 2, atol=1e-12)
    again = kind(30, random_state=1).fit(stream).transform(X)
    np.testing.assert_allclose(again, expected, atol=1e-12)
    data.destroy()


@pytest.mark.parametrize("kind", [GaussianProjection, SparseProjection])
def test_a_large_projection_is_generated_in_panels(kind):
    X = rows_of(50, 3000)
    whole = kind(100).fit(X)
    expected = whole.transform(X)
    assert whole._held
    model = kind(100, memory_limit=2**17).fit(X)
    np.testing.assert_allclose(model.transform(X), expected, rtol=1e-9, atol=1e-11)
    sparse = model.transform(scipy.sparse.csr_array(X))
    np.testing.assert_allclose(sparse, expected, rtol=1e-9, atol=1e-11)
    assert not model._held
    assert len(list(model._panels(np.float64))) > 1
    back = model.inverse_transform(expected)
    np.testing.assert_allclose(back, whole.inverse_transform(expected), rtol=1e-7, atol=1e-9)
    if kind is GaussianProjection:
        with pytest.raises(MemoryLimitError, match="use transform"):
            _ = model.components_


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [64, 100])
def test_inverse_is_the_pseudo_inverse(kind, d):
    X = rows_of(30, d)
    model = kind(20).fit(X)
    coordinates = model.transform(X)
    expected = coordinates @ np.linalg.pinv(dense(model.components_)).T
    back = model.inverse_transform(coordinates)
    np.testing.assert_allclose(back, expected, atol=1e-9)
    np.testing.assert_allclose(model.transform(back), coordinates, atol=1e-9)
    assert model.inverse_transform(coordinates.astype(np.float32)).dtype == np.float32
    with pytest.raises(InputError, match=r"give \(rows, 20\)"):
        model.inverse_transform(X)
    np.testing.assert_array_equal(model.linear_map_.components, dense(model.components_))
    np.testing.assert_array_equal(model.linear_map_.mean, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_automatic_number_of_components(kind):
    X = rows_of(30, 2000)
    model = kind(eps=0.3).fit(X)
    theirs = sklearn.random_projection.johnson_lindenstrauss_min_dim(30, eps=0.3)
    assert model.n_components_ == theirs == model.transform(X).shape[1]
    assert model.get_feature_names_out()[-1] == f"{kind.__name__.lower()}{theirs - 1}"
    with pytest.raises(InputError, match="30 rows need 2,915 components, more than the 2,000"):
        kind().fit(X)


def test_bounds():
    for n, eps in ((2, 0.5), (1000, 0.1), (10**6, 0.9)):
        theirs = sklearn.random_projection.johnson_lindenstrauss_min_dim(n, eps=eps)
        k = least_components(n, eps)
        assert k == theirs
        assert distortion_probability(k + 1, eps) <= 2 / n**2
    assert least_components(1, 0.5) == 1
    assert distortion_probability(1, 0.1) == 1
    for eps in (0, 1, "a", np.nan):
        with pytest.raises(ConfigError, match="eps must lie between 0 and 1"):
            least_components(10, eps)


@pytest.mark.parametrize("kind", KINDS)
def test_errors(kind):
    X = rows_of(10, 8)
    with pytest.raises(InputError, match="1 <= n_components <= features, got n_components=9"):
        kind(9).fit(X)
    with pytest.raises(ConfigError, match="n_components must be a positive integer"):
        kind(2.5).fit(X)
    with pytest.raises(ConfigError, match="eps must lie between"):
        kind(2, eps=1.0).fit(X)
    with pytest.raises(ValueError, match="8 features"):
        kind(2).fit(X).transform(X[:, :7])


@pytest.mark.parametrize("density", [0, 1.5, "third", True])
def test_errors_of_density(density):
    with pytest.raises(ConfigError, match="density must be above 0"):
        SparseProjection(2, density=density).fit(rows_of(10, 8))


@pytest.mark.parametrize("kind", KINDS)
def test_public_names_clone_and_copy(kind):
    X = rows_of(10, 50)
    assert getattr(hpcembed, kind.__name__) is kind
    model = clone(kind(5, eps=0.2, random_state=4)).fit(X)
    assert model.get_params()["random_state"] == 4
    expected = model.transform(X)
    copy = kind.__new__(kind)
    copy.__setstate__(model.__getstate__())
    assert not copy._held
    np.testing.assert_array_equal(copy.transform(X), expected)


def test_threads_do_not_change_coordinates():
    X = rows_of(100, 5000)
    one, three = (FastJohnsonLindenstrauss(9, n_threads=t).fit(X).transform(X) for t in (1, 3))
    np.testing.assert_allclose(one, three, rtol=1e-12, atol=1e-12)


@pytest.mark.mpi
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_have_the_same_projection(comm, kind):
    X = rows_of(31, 700)
    first = comm.rank * 31 // comm.size
    own = slice(first, (comm.rank + 1) * 31 // comm.size)
    expected = kind(random_state=5, eps=0.5).fit(X)
    for sparse in (False, True):
        rows = scipy.sparse.csr_array(X[own]) if sparse else X[own]
        model = kind(random_state=5, eps=0.5).fit(rows, comm=comm)
        assert model.n_components_ == expected.n_components_ == least_components(31, 0.5)
        assert model.n_samples_ == 31
        np.testing.assert_allclose(model.transform(rows), expected.transform(X)[own], rtol=1e-10)
    entries = comm.allgather(dense(model.components_).tobytes())
    assert len(set(entries)) == 1


@pytest.mark.mpi
def test_a_rank_without_rows_and_random_states(comm):
    X = rows_of(12, 40) if comm.rank == 0 else np.empty((0, 40))
    for kind in KINDS:
        # the seed of rank 0 is used on all ranks
        model = kind(7, random_state=np.random.RandomState(comm.rank)).fit(X, comm=comm)
        found = model.transform(X)
        assert found.shape == (len(X), 7)
        assert len(set(comm.allgather(dense(model.components_).tobytes()))) == 1


@pytest.mark.mpi
def test_ranks_agree_on_errors(comm):
    X = rows_of(12, 40)
    for kind in KINDS:
        if comm.size > 1:
            with pytest.raises(ConfigError, match="n_components differs between ranks"):
                kind(1 + comm.rank).fit(X, comm=comm)
            broken = X.copy()
            broken[0, 0] = np.nan if comm.rank == 1 else 0
            with pytest.raises(InputError, match=r"\[rank 1\].*NaN"):
                kind(3).fit(broken, comm=comm)
        with pytest.raises(InputError, match="more than the 40 features"):
            kind().fit(X, comm=comm)
