"""scikit-learn's contract: its own estimator checks, and its ways of using an estimator."""

import numpy as np
import pytest
import scipy.sparse
import sklearn.decomposition
from sklearn.base import clone
from sklearn.datasets import load_digits, make_low_rank_matrix
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import hpcembed
from hpcembed.embedding import PCA, SolverSettings, TruncatedSVD
from hpcembed.runtime.errors import InputError


@parametrize_with_checks(
    [PCA(n_components=2), PCA(1, whiten=True, engine="block"), TruncatedSVD(n_components=1)]
)
@pytest.mark.filterwarnings("default")
def test_estimator_checks(estimator, check):
    check(estimator)


DIGITS = load_digits()


def test_public_names():
    assert hpcembed.PCA is PCA
    assert hpcembed.TruncatedSVD is TruncatedSVD
    with pytest.raises(AttributeError, match="no attribute 'Pca'"):
        _ = hpcembed.Pca


def test_pipeline_grid_search_clone_and_output():
    X, y = DIGITS.data[:400], DIGITS.target[:400]
    pipeline = make_pipeline(PCA(5), KNeighborsClassifier())
    search = GridSearchCV(pipeline, {"pca__n_components": [2, 20]}, cv=3).fit(X, y)
    assert search.best_params_ == {"pca__n_components": 20}
    copied = clone(PCA(3, whiten=True, solver=SolverSettings(ncv=9)))
    assert copied.solver == SolverSettings(ncv=9)
    pca = PCA(3).fit(X)
    assert pca.get_feature_names_out().tolist() == ["pca0", "pca1", "pca2"]
    pandas = pytest.importorskip("pandas")
    framed = PCA(2).set_output(transform="pandas").fit_transform(pandas.DataFrame(X))
    assert list(framed.columns) == ["pca0", "pca1"]


@pytest.mark.parametrize("k", [1, 10, 64, None, 0.9, 0.999])
@pytest.mark.parametrize("whiten", [False, True])
def test_against_scikit_learn(k, whiten):
    X = DIGITS.data
    ours = PCA(k, whiten=whiten).fit(X)
    theirs = sklearn.decomposition.PCA(k, whiten=whiten, svd_solver="full").fit(X)
    assert ours.n_components_ == theirs.n_components_
    first = theirs.explained_variance_[0]
    for name in ("explained_variance_", "explained_variance_ratio_", "mean_", "noise_variance_"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-12 * first
        )
    positive = theirs.explained_variance_ > 1e-9 * first
    np.testing.assert_allclose(
        ours.singular_values_[positive], theirs.singular_values_[positive], rtol=1e-6
    )
    signs = np.sign(np.sum(ours.components_ * theirs.components_, axis=1))
    coordinates = theirs.transform(X) * signs
    np.testing.assert_allclose(
        ours.transform(X)[:, positive], coordinates[:, positive], atol=1e-6 * np.abs(X).max()
    )
    np.testing.assert_allclose(
        ours.inverse_transform(ours.transform(X)),
        theirs.inverse_transform(theirs.transform(X)),
        atol=1e-8,
    )
    if k in (1, 10) and not whiten:  # scikit-learn scales its model when it whitens
        assert ours.score(X) == pytest.approx(theirs.score(X), rel=1e-9)
        np.testing.assert_allclose(ours.get_covariance(), theirs.get_covariance(), atol=1e-8)
        np.testing.assert_allclose(ours.get_precision(), theirs.get_precision(), atol=1e-8)


def test_no_density_is_said():
    pca = PCA().fit(DIGITS.data)
    with pytest.raises(InputError, match="fit fewer components"):
        pca.score(DIGITS.data)


def test_components_above_a_threshold():
    all_values = PCA().fit(DIGITS.data).explained_variance_
    pca = PCA(eigenvalue_threshold=0.1).fit(DIGITS.data)
    assert pca.n_components_ == np.sum(all_values >= 0.1 * all_values[0])
    assert PCA(3, eigenvalue_threshold=0.1).fit(DIGITS.data).n_components_ == 3


@pytest.mark.parametrize("engine", ["block", "matrix_free"])
def test_a_share_of_the_variance_without_a_whole_spectrum(engine):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 120)) * np.geomspace(1, 0.2, 120)
    ours = PCA(0.9, engine=engine).fit(X)
    theirs = sklearn.decomposition.PCA(0.9, svd_solver="full").fit(X)
    assert ours.n_components_ == theirs.n_components_ > 32
    above = PCA(eigenvalue_threshold=0.2, engine=engine).fit(X)
    assert above.n_components_ == np.sum(
        theirs.explained_variance_ >= 0.2 * theirs.explained_variance_[0]
    )


def test_eigenvalues_that_are_rounding_are_not_whitened():
    X = make_low_rank_matrix(1000, 10, effective_rank=2, random_state=0)
    X = np.hstack([X, X[:, :2]])  # two directions without any variance
    pca = PCA(whiten=True).fit(X)
    assert pca.negligible_.tolist() == [False] * 10 + [True] * 2
    coordinates = pca.transform(X)
    np.testing.assert_allclose(coordinates[:, :10].std(axis=0, ddof=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(coordinates[:, 10:], 0)
    np.testing.assert_allclose(pca.inverse_transform(coordinates), X, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_small_types_stay_what_they_are(dtype):
    X = DIGITS.data.astype(dtype)
    pca = PCA(8).fit(X)
    exact = sklearn.decomposition.PCA(8, svd_solver="full").fit(DIGITS.data)
    np.testing.assert_allclose(pca.explained_variance_, exact.explained_variance_, rtol=1e-9)
    assert pca.residual_norms_.max() <= 1e-6 * pca.explained_variance_[0]
    assert pca.transform(X).dtype == (np.float32 if dtype == np.float32 else np.float64)


def test_sparse_rows_are_centred_without_being_filled(monkeypatch):
    X = scipy.sparse.random_array((400, 90), density=0.05, rng=0, format="csr") * 3
    monkeypatch.setattr(scipy.sparse.csr_array, "toarray", None)
    for engine in ("matrix_free", "block"):
        pca = PCA(5, engine=engine).fit(X)
        exact = np.linalg.eigvalsh(np.cov((X @ np.eye(90)).T))[::-1][:5]
        np.testing.assert_allclose(pca.explained_variance_, exact, rtol=1e-9)
        coordinates = pca.transform(X)
        np.testing.assert_allclose(coordinates.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(coordinates.var(axis=0, ddof=1), exact, rtol=1e-8)


@pytest.mark.parametrize("sparse", [False, True])
def test_truncated_svd_against_scikit_learn(sparse):
    rng = np.random.default_rng(0)
    X = (rng.random((300, 50)) < 0.1) * rng.standard_normal((300, 50)) + 0.0
    X = scipy.sparse.csr_array(X) if sparse else X + 2
    for engine in ("assembled", "matrix_free", "block"):
        ours = TruncatedSVD(6, engine=engine).fit(X)
        theirs = sklearn.decomposition.TruncatedSVD(6, algorithm="arpack").fit(X)
        for name in ("singular_values_", "explained_variance_", "explained_variance_ratio_"):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-7)
        overlap = np.abs(np.sum(ours.components_ * theirs.components_, axis=1))
        np.testing.assert_allclose(overlap, 1, atol=1e-8)
        assert ours.residual_norms_.max() <= 1e-10 * ours.singular_values_[0] ** 2
        assert ours.converged_reason_ == "CONVERGED_TOL"
        assert ours.n_samples_ == 300


def test_truncated_svd_of_few_long_rows():
    X = np.random.default_rng(0).standard_normal((40, 300)) + 2
    ours = TruncatedSVD(4, engine="gram", tol=1e-10).fit(X)
    theirs = sklearn.decomposition.TruncatedSVD(4, algorithm="arpack").fit(X)
    assert ours.operator_ == "X'X, gram"
    assert ours.certified_
    np.testing.assert_allclose(ours.singular_values_, theirs.singular_values_, rtol=1e-9)
    overlap = np.abs(np.sum(ours.components_ * theirs.components_, axis=1))
    np.testing.assert_allclose(overlap, 1, atol=1e-8)


def test_what_it_would_take():
    plan = hpcembed.estimate_memory(50_000, 3_072, 50, threads=2)
    assert plan.engine == "block"
    assert {cost.engine for cost in plan.costs} == {"assembled", "matrix_free", "block"}
    assert plan.bytes < 0.25 * 4 * 50_000 * 3_072
    assert "block" in plan.describe()
    tall = hpcembed.estimate_memory(10**9, 100, 10, streamed=True)
    assert tall.engine == "assembled"  # one pass over the file, and one for the certificate
    with pytest.raises(InputError, match="1 <= n_components <= n_features"):
        hpcembed.estimate_memory(10, 5, 6)
