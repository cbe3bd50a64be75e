"""scikit-learn's contract for kernel PCA and its approximations, in serial."""

import pickle

import numpy as np
import pytest
import scipy.sparse
import sklearn.decomposition
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from hpcembed.embedding import KernelPCA, Nystroem, RandomFourierFeatures

DIGITS = load_digits().data / 16.0


@parametrize_with_checks(
    [
        KernelPCA(n_components=2),
        KernelPCA(1, kernel="rbf", engine="matrix_free"),
        Nystroem(1, n_landmarks=20),
        RandomFourierFeatures(2, n_directions=20),
    ]
)
@pytest.mark.filterwarnings("default")
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel": "rbf"},
        {"kernel": "rbf", "gamma": 0.5},
        {"kernel": "poly", "degree": 2, "coef0": 0.5},
        {"kernel": "cosine"},
        {"kernel": "linear"},
    ],
)
@pytest.mark.parametrize("engine", ["matrix_free", "assembled", "lapack"])
def test_against_scikit_learn(settings, engine):
    X, Z = DIGITS[:700], DIGITS[700:900]
    theirs = sklearn.decomposition.KernelPCA(8, eigen_solver="dense", **settings).fit(X)
    ours = KernelPCA(8, engine=engine, **settings).fit(X)
    np.testing.assert_allclose(ours.eigenvalues_, theirs.eigenvalues_, rtol=1e-10)
    np.testing.assert_allclose(ours.eigenvectors_, theirs.eigenvectors_, atol=1e-8)
    np.testing.assert_allclose(ours.transform(Z), theirs.transform(Z), atol=1e-8)
    np.testing.assert_allclose(ours.transform(X), ours.fit_transform(X), atol=1e-8)
    assert ours.residual_norms_.max() <= 1e-10 * ours.eigenvalues_[0]
    assert ours.converged_reason_ == "CONVERGED_TOL"
    # single tiles, judged in double
    loose = KernelPCA(8, engine=engine, tol=1e-6, **settings).fit(X)
    assert loose.plan_.single == (engine != "lapack")
    np.testing.assert_allclose(loose.eigenvalues_, theirs.eigenvalues_, rtol=1e-8)


def test_all_components_that_are_there():
    theirs = sklearn.decomposition.KernelPCA(kernel="linear").fit(DIGITS[:300])
    ours = KernelPCA().fit(DIGITS[:300])
    assert len(ours.eigenvalues_) == len(theirs.eigenvalues_)
    np.testing.assert_allclose(ours.transform(DIGITS), theirs.transform(DIGITS), atol=1e-8)
    twice = np.repeat(DIGITS[:20], 2, axis=0)  # of rank 19 when centred
    kept = KernelPCA(30, kernel="rbf").fit(twice)
    assert kept.negligible_.tolist() == [False] * 19 + [True] * 11
    np.testing.assert_array_equal(kept.transform(DIGITS)[:, 19:], 0)
    assert KernelPCA(30, kernel="rbf", remove_zero_eig=True).fit(twice).eigenvalues_.shape == (19,)


@pytest.mark.parametrize("kernel", ["rbf", "poly", "cosine", "linear"])
def test_sparse_rows(kernel):
    dense = (DIGITS[:200] > 0.7) * DIGITS[:200]
    sparse = scipy.sparse.csr_array(dense)
    of_dense = KernelPCA(5, kernel=kernel).fit(dense)
    of_sparse = KernelPCA(5, kernel=kernel).fit(sparse)
    np.testing.assert_allclose(of_sparse.eigenvalues_, of_dense.eigenvalues_, rtol=1e-9)
    expected = of_dense.transform(dense[:50])
    for model in (of_dense, of_sparse):
        for rows in (dense[:50], sparse[:50]):
            np.testing.assert_allclose(model.transform(rows), expected, atol=1e-8)


def test_rows_far_from_the_origin():
    rows = DIGITS[:200] + 1e6
    ours = KernelPCA(5, kernel="rbf", gamma=0.1).fit(rows)
    near = KernelPCA(5, kernel="rbf", gamma=0.1).fit(rows - 1e6)
    np.testing.assert_allclose(ours.eigenvalues_, near.eigenvalues_, rtol=1e-8)
    np.testing.assert_allclose(ours.transform(rows), near.transform(rows - 1e6), atol=1e-7)


def test_gamma_by_rule():
    X = DIGITS[:300]
    assert KernelPCA(2, kernel="rbf").fit(X).gamma_ == 1 / 64
    assert KernelPCA(2, kernel="rbf", gamma="auto").fit(X).gamma_ == 1 / 64
    scaled = KernelPCA(2, kernel="poly", gamma="scale").fit(X).gamma_
    assert scaled == pytest.approx(1 / (64 * X.var()), rel=1e-12)
    distances = np.linalg.norm(X[:, None] - X, axis=2)[np.triu_indices(300, 1)]
    median = KernelPCA(2, kernel="rbf", gamma="median").fit(X).gamma_
    assert median == pytest.approx(0.5 / np.median(distances) ** 2, rel=1e-9)
    assert KernelPCA(2, kernel="cosine").fit(X).gamma_ is None


def test_models_travel_with_their_rows():
    model = KernelPCA(3, kernel="rbf").fit(DIGITS[:60])
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.transform(DIGITS), model.transform(DIGITS))
    sparse = KernelPCA(3, kernel="poly").fit(scipy.sparse.csr_array(DIGITS[:60]))
    copied = pickle.loads(pickle.dumps(sparse))
    np.testing.assert_allclose(copied.transform(DIGITS), sparse.transform(DIGITS), atol=1e-12)
    assert clone(model).gamma is None
    small = Nystroem(3, n_landmarks=30).fit(DIGITS[:60])
    copied = pickle.loads(pickle.dumps(small))
    np.testing.assert_array_equal(copied.transform(DIGITS), small.transform(DIGITS))


@pytest.mark.parametrize("kernel", ["rbf", "poly", "cosine", "linear"])
@pytest.mark.parametrize("sparse", [False, True])
def test_all_rows_as_landmarks_are_exact(kernel, sparse):
    X = (DIGITS[:400] > 0.5) * DIGITS[:400]
    X = scipy.sparse.csr_array(X) if sparse else X
    exact = KernelPCA(6, kernel=kernel).fit(X)
    close = Nystroem(6, kernel=kernel, n_landmarks=1000).fit(X)
    np.testing.assert_allclose(close.eigenvalues_, exact.eigenvalues_, rtol=1e-8)
    ours, theirs = close.transform(X), exact.transform(X)
    ours *= np.sign(np.sum(ours * theirs, axis=0))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_coordinates_are_principal_ones():
    X = DIGITS[:500]
    for model in (Nystroem(6, n_landmarks=80), RandomFourierFeatures(6, n_directions=80)):
        Z = model.fit_transform(X)
        np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(
            Z.T @ Z, np.diag(model.eigenvalues_), atol=1e-10 * model.eigenvalues_[0]
        )
        np.testing.assert_allclose(Z.var(axis=0, ddof=1), model.explained_variance_, rtol=1e-9)
        assert model.residual_norms_.max() <= 1e-10 * model.eigenvalues_[0]
        assert model.converged_reason_ == "CONVERGED_TOL"
        assert 0.5 < model.explained_variance_ratio_.sum() <= 1
    # more landmarks lose less: eigenvalues come from below
    exact = KernelPCA(6, kernel="rbf").fit(X).eigenvalues_
    few, more = (Nystroem(6, n_landmarks=m).fit(X).eigenvalues_ for m in (40, 200))
    assert (few < more).all()
    assert (more < exact).all()
    assert (more > 0.99 * exact).all()


def test_fourier_features_come_near():
    X = DIGITS[:300]
    exact = KernelPCA(4, kernel="rbf", gamma=0.1).fit(X)
    close = RandomFourierFeatures(4, n_directions=3000, gamma=0.1).fit(X)
    np.testing.assert_allclose(close.eigenvalues_, exact.eigenvalues_, rtol=0.1)
    overlap = np.abs(np.sum(close.transform(X) * exact.transform(X), axis=0))
    assert (overlap > 0.95 * exact.eigenvalues_).all()
    again = RandomFourierFeatures(4, n_directions=10, gamma=0.1).fit(X).directions_
    np.testing.assert_array_equal(again, close.directions_[:, :10])


@pytest.mark.parametrize("kernel", ["rbf", "poly"])
def test_equal_landmarks_are_dropped(kernel):
    twice = np.repeat(DIGITS[:25], 3, axis=0)
    model = Nystroem(30, n_landmarks=75, kernel=kernel).fit(twice)
    assert model.landmarks_.shape == (25, 64)
    exact = KernelPCA(30, kernel=kernel).fit(twice)
    np.testing.assert_allclose(
        model.eigenvalues_, exact.eigenvalues_, rtol=1e-8, atol=1e-9 * exact.eigenvalues_[0]
    )
    assert model.negligible_.tolist() == [False] * 24 + [True] * 6
    np.testing.assert_array_equal(model.transform(DIGITS)[:, 24:], 0)
