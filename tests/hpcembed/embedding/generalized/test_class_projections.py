"""Discriminants and canonical directions: scikit-learn and scipy as oracles, ranks, bad input."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_digits, load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis as TheirAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from hpcembed import (
    CanonicalCorrelation,
    DataMatrix,
    LinearDiscriminantAnalysis,
)
from hpcembed.embedding import Embedding, Machine, Shape, SolverSettings
from hpcembed.operators.covariance.class_scatter import class_scatter, target_covariance
from hpcembed.runtime.errors import ConfigError, InputError, MemoryLimitError
from hpcembed.runtime.ranks import ownership_range

DIGITS, CLASSES = load_digits(return_X_y=True)
#: No feature is constant.
ROWS = DIGITS + np.random.default_rng(0).standard_normal(DIGITS.shape)


@parametrize_with_checks([LinearDiscriminantAnalysis(1), CanonicalCorrelation(1)])
@pytest.mark.filterwarnings("default")
def test_estimator_checks(estimator, check):
    check(estimator)


def sin_angle(a, b):
    return np.sin(scipy.linalg.subspace_angles(a.T, b.T)).max()


def signed(ours, theirs):
    return theirs * np.sign(np.sum(ours * theirs, axis=0))


@pytest.mark.parametrize("k", [1, 4, 9])
def test_discriminants_against_scikit_learn(k):
    ours = LinearDiscriminantAnalysis(k, shrinkage=0.0).fit(ROWS, CLASSES)
    theirs = TheirAnalysis(solver="eigen", n_components=k).fit(ROWS, CLASSES)
    assert sin_angle(ours.components_, theirs.scalings_.T[:k]) < 1e-9
    coordinates = ours.transform(ROWS)
    expected = theirs.transform(ROWS) - theirs.transform(ROWS).mean(axis=0)
    np.testing.assert_allclose(coordinates, signed(coordinates, expected), atol=1e-9)
    np.testing.assert_allclose(ours.means_, theirs.means_, atol=1e-12)
    np.testing.assert_allclose(ours.coordinate_deviations_, coordinates.std(axis=0), rtol=1e-10)
    np.testing.assert_allclose(coordinates.mean(axis=0), 0, atol=1e-10)
    if k == 9:
        share = ours.eigenvalues_ / ours.eigenvalues_.sum()
        np.testing.assert_allclose(share, theirs.explained_variance_ratio_, rtol=1e-9)


@pytest.mark.parametrize("shrinkage", [0.3, 1.0, "auto"])
def test_shrunk_discriminants_against_scipy(shrinkage):
    ours = LinearDiscriminantAnalysis(shrinkage=shrinkage).fit(DIGITS, CLASSES)
    means = np.stack([DIGITS[code == CLASSES].mean(axis=0) for code in range(10)])
    centred = DIGITS - means[CLASSES]
    share = (
        ledoit_wolf_shrinkage(centred, assume_centered=True) if shrinkage == "auto" else shrinkage
    )
    assert ours.shrinkage_ == pytest.approx(share, rel=1e-10)
    n, d = DIGITS.shape
    within = centred.T @ centred / n
    between = np.cov(means[CLASSES].T, bias=True)
    metric = (1 - share) * within + share * np.trace(within) / d * np.eye(d)
    values, vectors = scipy.linalg.eigh(between, metric)
    np.testing.assert_allclose(ours.eigenvalues_, values[::-1][:9], rtol=1e-9)
    assert sin_angle(ours.components_, vectors[:, ::-1].T[:9]) < 1e-8
    inner = ours.components_ @ metric @ ours.components_.T
    np.testing.assert_allclose(inner, np.eye(9), atol=1e-10)
    assert ours.residual_norms_.max() < 1e-9 * np.linalg.norm(metric)
    assert ours.certified_
    assert ours.converged_reason_ == "CONVERGED_TOL"


def test_a_reference_confirms_the_discriminants():
    ours = LinearDiscriminantAnalysis(5, solver=SolverSettings(reference=True)).fit(DIGITS, CLASSES)
    assert ours.reference_.solver == "SLEPc krylovschur"
    assert ours.comparison_.n_pairs == 5
    assert ours.comparison_.max_relative_error < 1e-10
    assert ours.reference_sin_angle_ < 1e-8
    other = LinearDiscriminantAnalysis(5, solver=SolverSettings(name="krylovschur"))
    assert other.fit(DIGITS, CLASSES).result_.solver.startswith("SLEPc")
    np.testing.assert_allclose(other.eigenvalues_, ours.eigenvalues_, rtol=1e-9)


def test_labels_of_any_kind():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])
    ours = LinearDiscriminantAnalysis(shrinkage=0).fit(X, names[y])
    assert ours.classes_.tolist() == names.tolist()
    assert ours.n_components_ == ours.n_requested_ == 2
    assert isinstance(ours, Embedding)
    assert (ours.n_samples_, ours.n_features_in_) == (150, 4)
    same = LinearDiscriminantAnalysis(shrinkage=0).fit(scipy.sparse.csr_array(X), y * 7 - 3)
    np.testing.assert_allclose(same.components_, ours.components_, rtol=1e-8, atol=1e-8)
    assert make_pipeline(LinearDiscriminantAnalysis(1), TheirAnalysis()).fit(X, y).score(X, y) > 0.9
    one = LinearDiscriminantAnalysis().fit(X[:, :1], y)
    assert one.components_.shape == (1, 1)
    spectrum = ours.spectrum_
    assert spectrum.meaning == "between-class over within-class variance"
    np.testing.assert_array_equal(spectrum.values, ours.eigenvalues_)
    back = ours.transform(ours.inverse_transform(ours.transform(X)))
    np.testing.assert_allclose(back, ours.transform(X), atol=1e-9)


def test_a_large_offset_costs_no_digits():
    X, y = load_iris(return_X_y=True)
    near = LinearDiscriminantAnalysis(shrinkage=0).fit(X, y)
    far = LinearDiscriminantAnalysis(shrinkage=0).fit(X + 1e7, y)
    np.testing.assert_allclose(far.eigenvalues_, near.eigenvalues_, rtol=1e-6)


def test_canonical_directions_of_classes_are_discriminants():
    ours = CanonicalCorrelation(ridge=0).fit(ROWS, CLASSES)
    lda = LinearDiscriminantAnalysis(shrinkage=0).fit(ROWS, CLASSES)
    assert sin_angle(ours.components_, lda.components_) < 1e-8
    # rho^2 = lambda / (1 + lambda)
    np.testing.assert_allclose(
        ours.eigenvalues_, lda.eigenvalues_ / (1 + lda.eigenvalues_), rtol=1e-9
    )
    coordinates = ours.transform(ROWS)
    np.testing.assert_allclose(np.cov(coordinates.T, bias=True), np.eye(9), atol=1e-9)
    theirs = CCA(9, max_iter=20_000, tol=1e-12, scale=False).fit(ROWS, np.eye(10)[CLASSES])
    assert sin_angle(ours.components_[:4], theirs.x_rotations_.T[:4]) < 1e-3


def test_canonical_directions_of_targets():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((300, 6)) + 5.0
    Y = X @ rng.standard_normal((6, 3)) + 0.5 * rng.standard_normal((300, 3))
    ours = CanonicalCorrelation(ridge=0.0).fit(X, Y)
    theirs = CCA(3, max_iter=20_000, tol=1e-14, scale=False).fit(X, Y)
    for i in range(3):
        assert sin_angle(ours.components_[i : i + 1], theirs.x_rotations_.T[i : i + 1]) < 1e-5
    u, v = theirs.transform(X, Y)
    correlations = [np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(np.sqrt(ours.eigenvalues_), correlations, rtol=1e-6)
    # a target that is the sum of two others adds no direction
    more = CanonicalCorrelation(ridge=0.0).fit(X, np.column_stack([Y, Y[:, 0] + Y[:, 1]]))
    assert more.n_components_ == 3
    np.testing.assert_allclose(more.eigenvalues_, ours.eigenvalues_, rtol=1e-8)
    one = CanonicalCorrelation(ridge=0.0).fit(X, Y[:, 0])
    slopes = np.linalg.lstsq(X - X.mean(axis=0), Y[:, 0] - Y[:, 0].mean(), rcond=None)[0]
    assert sin_angle(one.components_, slopes[np.newaxis]) < 1e-9


def test_bad_input_is_one_line():
    cases = [
        (LinearDiscriminantAnalysis(10), CLASSES, InputError, "need n_components <= 9, got 10"),
        (LinearDiscriminantAnalysis(2), CLASSES % 2, InputError, "have 1 discriminant; lower"),
        (CanonicalCorrelation(10), CLASSES, InputError, "need n_components <= 9, got 10"),
        (LinearDiscriminantAnalysis(), None, InputError, "give y, the labels"),
        (LinearDiscriminantAnalysis(), CLASSES[:-1], InputError, "one label for each row"),
        (LinearDiscriminantAnalysis(), CLASSES * 0, InputError, "two classes, got 1"),
        (LinearDiscriminantAnalysis(), CLASSES + 0.5, InputError, "fractions"),
        (CanonicalCorrelation(), CLASSES * np.nan, InputError, "row 0 contains NaN"),
        (LinearDiscriminantAnalysis(shrinkage=0), CLASSES, ConfigError, 'shrinkage = "auto"'),
        (CanonicalCorrelation(ridge=0), CLASSES, ConfigError, "set ridge above 0"),
        (LinearDiscriminantAnalysis(shrinkage=2), CLASSES, ConfigError, "between 0 and 1"),
        (CanonicalCorrelation(ridge=-1), CLASSES, ConfigError, "at least 0"),
        (LinearDiscriminantAnalysis(memory_limit=9), CLASSES, MemoryLimitError, "PCA first"),
    ]
    for estimator, labels, kind, text in cases:
        with pytest.raises(kind, match=text):
            estimator.fit(DIGITS, labels)
    constant = np.ones((4, 2))
    with pytest.raises((InputError, ConfigError)):
        LinearDiscriminantAnalysis().fit(constant, [0, 0, 1, 1])


def test_plan():
    shape = Shape(n_train=500, n_test=0, n_features=64, n_nonzeros=None, row_bytes=512)
    plan = LinearDiscriminantAnalysis().plan(shape, Machine(1, 1, 2**30))
    assert (plan.dimension, plan.bytes) == (64, 6 * 8 * 64 * 64)
    assert plan.describe().startswith("between-class and within-class scatter, assembled, 64 x 64")
    assert LinearDiscriminantAnalysis().fit(DIGITS, CLASSES).plan_ == plan


@pytest.mark.mpi
def test_scatter_of_distributed_rows(comm):
    first, last = ownership_range(len(DIGITS), comm)
    rows, codes = DIGITS[first:last], CLASSES[first:last]
    for local in (rows, rows.astype(np.uint8), scipy.sparse.csr_array(rows)):
        X = DataMatrix(local, codes, comm)
        found = class_scatter(X, codes, 11)
        means = np.stack([DIGITS[code == CLASSES].mean(axis=0) for code in range(10)])
        centred = DIGITS - means[CLASSES]
        assert found.counts.tolist() == [*np.bincount(CLASSES), 0]
        np.testing.assert_allclose(found.mean, DIGITS.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(found.variances, DIGITS.var(axis=0, ddof=1), atol=1e-10)
        np.testing.assert_allclose(found.offsets[:10] + found.mean, means, atol=1e-11)
        assert not found.offsets[10].any()
        within = centred.T @ centred / len(DIGITS)
        np.testing.assert_allclose(found.within, np.tril(within), atol=1e-10)
        fourth = np.square(np.square(centred).sum(axis=1)).sum()
        assert found.fourth_powers == pytest.approx(fourth, rel=1e-12)
        between = found.between_factor.T @ found.between_factor
        np.testing.assert_allclose(between + within, np.cov(DIGITS.T, bias=True), atol=1e-9)
        targets = np.column_stack([DIGITS[:, 20] ** 2, CLASSES])
        moments = target_covariance(X, targets[first:last])
        whole = np.cov(np.hstack([DIGITS, targets]).T, bias=True)
        np.testing.assert_allclose(moments.total, np.tril(whole[:64, :64]), atol=1e-10)
        np.testing.assert_allclose(moments.cross, whole[64:, :64], atol=1e-8)
        np.testing.assert_allclose(moments.targets, whole[64:, 64:], rtol=1e-10)
        np.testing.assert_allclose(moments.variances, DIGITS.var(axis=0, ddof=1), atol=1e-10)
        np.testing.assert_allclose(moments.mean, DIGITS.mean(axis=0), atol=1e-12)
        X.destroy()


@pytest.mark.mpi
@pytest.mark.parametrize("estimator", [LinearDiscriminantAnalysis(5), CanonicalCorrelation(5)])
def test_the_same_on_any_number_of_ranks(comm, estimator):
    # the last of several ranks has no rows
    bounds = np.linspace(0, len(DIGITS), max(1, comm.size - 1) + 1).astype(int).tolist()
    bounds.append(len(DIGITS))
    first, last = bounds[comm.rank], bounds[comm.rank + 1]
    X = DIGITS[first:last]
    found = estimator.fit(X, CLASSES[first:last], comm=comm)
    for other in comm.allgather(found.components_):
        np.testing.assert_array_equal(other, found.components_)
    assert found.certified_
    alone = type(estimator)(5).fit(DIGITS, CLASSES)
    np.testing.assert_allclose(found.components_, alone.components_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.eigenvalues_, alone.eigenvalues_, rtol=1e-9)
    matrix = DataMatrix(X, CLASSES[first:last], comm)
    same = type(estimator)(5).fit(matrix)
    np.testing.assert_allclose(same.components_, found.components_, rtol=1e-8, atol=1e-9)
    assert same.transform(matrix, np.float32).dtype == np.float32
    matrix.destroy()


@pytest.mark.mpi
def test_errors_on_all_ranks(comm):
    first, last = ownership_range(len(DIGITS), comm)
    rows, codes = DIGITS[first:last], CLASSES[first:last].astype(np.float64)
    if comm.rank == comm.size - 1:
        codes[-1] = np.inf
    with pytest.raises(InputError, match="NaN or infinity"):
        CanonicalCorrelation().fit(rows, codes, comm=comm)
    targets = DataMatrix(rows, np.linspace(0.5, 1, last - first), comm)
    with pytest.raises(InputError, match="CanonicalCorrelation for targets"):
        LinearDiscriminantAnalysis().fit(targets)
    assert CanonicalCorrelation().fit(targets).n_components_ == 1
    with pytest.raises(ConfigError, match='shrinkage = "auto"'):
        LinearDiscriminantAnalysis(shrinkage=0.0).fit(rows, CLASSES[first:last], comm=comm)
    targets.destroy()


@pytest.mark.mpi
def test_labels_that_differ_between_ranks(comm):
    mine = slice(*ownership_range(60, comm))
    last = comm.rank == comm.size - 1
    rows, labels = ROWS[:60][mine], CLASSES[:60][mine]
    mixed = np.array(["a", 1] * 30, dtype=object)[: len(labels)]
    ragged = [[1, 2], [3]]
    for estimator in (LinearDiscriminantAnalysis(1), CanonicalCorrelation(1)):
        with pytest.raises(InputError, match="labels of the types int, str have no order"):
            estimator.fit(rows, mixed if last else labels, comm=comm)
        with pytest.raises(InputError, match="y: this is no array of numbers"):
            estimator.fit(rows, ragged if last else labels, comm=comm)
        if comm.size > 1:
            with pytest.raises(InputError, match="y: ranks have numbers and text"):
                estimator.fit(rows, labels.astype(str) if last else labels, comm=comm)
    if comm.size > 1:
        with pytest.raises(InputError, match="some ranks have classes"):
            CanonicalCorrelation(1).fit(rows, labels * (1.0 if last else 1), comm=comm)
        with pytest.raises(InputError, match="ranks have 1, 2 targets"):
            CanonicalCorrelation(1).fit(rows, rows[:, : 1 + last], comm=comm)
        with pytest.raises(InputError, match="targets are no numbers"):
            texts = np.array([["a", "b"]] * len(labels))
            CanonicalCorrelation(1).fit(rows, texts if last else rows[:, :2], comm=comm)


@pytest.mark.mpi
def test_a_rank_without_rows_has_no_type_of_labels(comm):
    last = comm.rank == comm.size - 1
    rows, labels = (ROWS[:60], CLASSES[:60]) if last else (ROWS[:0], [])
    for estimator in (LinearDiscriminantAnalysis(), CanonicalCorrelation()):
        found = estimator.fit(rows, labels, comm=comm).eigenvalues_
        expected = type(estimator)().fit(ROWS[:60], CLASSES[:60]).eigenvalues_
        np.testing.assert_allclose(found, expected, rtol=1e-7)
        texts = np.array(CLASSES[:60].astype(str)) if last else []
        found = estimator.fit(rows, texts, comm=comm).eigenvalues_
        np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_matrices_that_are_zero_or_no_numbers():
    labels = np.arange(60) % 3
    rows = np.random.default_rng(0).standard_normal((60, 4))
    both = LinearDiscriminantAnalysis, CanonicalCorrelation
    for estimator in both:
        with pytest.raises(InputError, match="no feature differs between the labels"):
            estimator(1).fit(np.ones((60, 4)), labels)
    for one in (CanonicalCorrelation(1), LinearDiscriminantAnalysis(1, shrinkage=0.1)):
        with pytest.raises(InputError, match="squares of the features overflow: scale the"):
            one.fit(1e160 * rows, labels)
    with pytest.raises(InputError, match="fourth powers of the features overflow"):
        LinearDiscriminantAnalysis(1).fit(1e100 * rows, labels)
    for shrinkage in ("auto", 0.0, 0.5):
        with pytest.raises(InputError, match="no feature varies among rows of one class"):
            LinearDiscriminantAnalysis(1, shrinkage=shrinkage).fit(np.eye(3)[labels], labels)
