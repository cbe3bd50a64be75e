"""Heads on reduced features: the regression, the projections, the study and its statistics."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from hpcembed.networks.heads import (
    PROJECTIONS,
    Calibration,
    HeadResult,
    HeadStudy,
    Projection,
    fit_head,
    paired,
    select_head,
    study_heads,
)
from hpcembed.networks.heads import study as study_module
from hpcembed.networks.heads.logistic import cross_entropy
from hpcembed.runtime.errors import ConfigError, InputError

X, Y = load_digits(return_X_y=True)
TRAIN, TEST = slice(0, 1200), slice(1200, None)


@pytest.fixture(scope="module")
def data():
    head, _ = select_head(X[TRAIN], Y[TRAIN], 10, (X[TEST], Y[TEST]))
    return Calibration(X[TRAIN], Y[TRAIN], 10, head)


def columns_in(first, second):
    """Largest sine of the angles between the row space of `first` and that of `second`."""
    return np.sin(scipy.linalg.subspace_angles(first.T, second.T)).max()


def test_regression_against_scikit_learn():
    rows, labels = X[:500], Y[:500]
    scale = np.sqrt(np.mean((rows - rows.mean(axis=0)) ** 2))
    head = fit_head(rows, labels, 10, 1e-2)
    theirs = LogisticRegression(C=1 / (500 * 1e-2), tol=1e-8, max_iter=5000)
    theirs.fit(rows / scale, labels)
    assert head.converged
    assert head.l2 == 1e-2
    assert head.iterations > 10
    np.testing.assert_allclose(head.weights, theirs.coef_ / scale, atol=2e-4)
    ours = scipy.special.softmax(head.logits(X[500:]), axis=1)
    np.testing.assert_allclose(ours, theirs.predict_proba(X[500:] / scale), atol=1e-3)
    agreed = np.mean(theirs.predict(X[500:] / scale) == Y[500:])
    assert head.accuracy(X[500:], Y[500:]) == pytest.approx(agreed, abs=0.002)


def test_the_scale_and_the_origin_of_features_do_not_matter():
    first = fit_head(X[:300], Y[:300], 10, 1e-3)
    other = fit_head(X[:300] * 1e3 + 7, Y[:300], 10, 1e-3)
    np.testing.assert_allclose(first.logits(X), other.logits(X * 1e3 + 7), atol=0.05)
    stopped = fit_head(X[:300], Y[:300], 10, 1e-5, max_iterations=2)
    assert not stopped.converged
    with pytest.raises(InputError, match="the same features"):
        fit_head(np.ones((5, 2)), np.array([0, 1, 0, 1, 0]), 2, 1e-3)


def test_gradient_of_the_cross_entropy():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((5, 3)), np.array([0, 1, 2, 1, 0])
    loss, slope = cross_entropy(logits.copy(), labels)
    assert loss == pytest.approx(-np.log(scipy.special.softmax(logits, 1)[range(5), labels]).mean())
    for i, j in ((0, 0), (3, 2)):
        moved = logits.copy()
        moved[i, j] += 1e-6
        assert (cross_entropy(moved, labels)[0] - loss) / 1e-6 == pytest.approx(
            slope[i, j], abs=1e-6
        )


def test_validation_rows_select_the_penalty():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 50))
    labels = (rows[:, 0] + 2 * rng.standard_normal(60) > 0).astype(np.int64)
    other = rng.standard_normal((3000, 50))
    other_labels = (other[:, 0] > 0).astype(np.int64)
    head, accuracy = select_head(rows, labels, 2, (other, other_labels), (10.0, 1.0, 1e-1, 1e-4))
    each = [fit_head(rows, labels, 2, l2).accuracy(other, other_labels) for l2 in (10, 1, 0.1)]
    assert accuracy == pytest.approx(max(each), abs=0.003)
    assert head.l2 == (10.0, 1.0, 0.1)[int(np.argmax(each))]
    assert accuracy == head.accuracy(other, other_labels)


def test_the_largest_of_equally_good_penalties_is_selected():
    rows = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    labels = np.array([0, 0, 1, 1])
    head, accuracy = select_head(rows, labels, 2, (rows, labels), (1e-3, 1e-1, 1e-2))
    assert (head.l2, accuracy) == (1e-1, 1.0)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_shape_and_parameters(name, data):
    found = PROJECTIONS[name](data, 9, 3)
    assert found.components.shape == (9, 64)
    stored = {"truncation": 0, "fast": 73, "sparse": np.count_nonzero(found.components)}
    assert found.parameters == stored.get(name, 9 * 64)
    assert (found.head is not None) == (name == "row_space")
    again = PROJECTIONS[name](data, 9, 3)
    np.testing.assert_array_equal(found.components, again.components)
    is_random = name in ("gaussian", "sparse", "fast", "bottleneck")
    other = PROJECTIONS[name](data, 9, 4)
    assert np.allclose(found.components, other.components, atol=1e-7) != is_random


def test_discriminants_against_scikit_learn(data):
    varying = X[TRAIN].std(axis=0) > 0.1
    rows = X[TRAIN][:, varying]
    inside = Calibration(rows, data.labels, 10, data.head)
    theirs = LinearDiscriminantAnalysis(solver="eigen", n_components=9).fit(rows, Y[TRAIN])
    exact = PROJECTIONS["cca"](inside, 9, 0).components
    assert columns_in(exact, theirs.scalings_[:, :9].T) < 1e-6
    # canonical directions between features and class indicators
    cca = CCA(9, scale=False, max_iter=5000, tol=1e-12).fit(rows, np.eye(10)[Y[TRAIN]])
    assert columns_in(exact, cca.x_rotations_.T) < 1e-3
    shrunk = PROJECTIONS["lda"](inside, 9, 0).components
    assert 1e-4 < columns_in(exact, shrunk) < 1
    with pytest.raises(InputError, match="10 components are more than 9"):
        PROJECTIONS["lda"](inside, 10, 0)
    few = Calibration(rows[:30], data.labels[:30], 10, data.head)
    for name in ("cca", "lda"):
        assert PROJECTIONS[name](few, 9, 0).components.shape == (9, varying.sum())
    flat = Calibration(np.outer(np.arange(30.0), np.ones(12)), data.labels[:30], 10, data.head)
    with pytest.raises(InputError, match=r"9 components are more than 1 \(dimensions that"):
        PROJECTIONS["cca"](flat, 9, 0)


def test_row_space_has_the_logits_of_the_full_head(data):
    moved = data.head.weights + X[5] / 50, data.head.bias + 1
    data = replace(data, head=replace(data.head, weights=moved[0], bias=moved[1]))
    exact = data.head.logits(X[TEST])
    whole = PROJECTIONS["row_space"](data, 10, 0)
    found = whole.head.logits(X[TEST] @ whole.components.T)
    np.testing.assert_allclose(found, exact, atol=1e-9)
    one_less = PROJECTIONS["row_space"](data, 9, 0)
    found = one_less.head.logits(X[TEST] @ one_less.components.T)
    assert np.abs(found - exact).max() > 1e-3
    np.testing.assert_allclose(
        scipy.special.softmax(found, axis=1), scipy.special.softmax(exact, axis=1), atol=1e-9
    )
    with pytest.raises(InputError, match="11 components are more than 10"):
        PROJECTIONS["row_space"](data, 11, 0)


def test_fewer_rows_have_the_least_error_of_the_logits(data):
    """The error is the sum of the eigenvalues of the covariance of the logits that are left."""
    centred = data.head.weights - data.head.weights.mean(axis=0)
    logits = data.features @ centred.T
    logits -= logits.mean(axis=0)
    found = PROJECTIONS["row_space"](data, 4, 0)
    assert found.head is None
    coordinates = data.features @ found.components.T
    coordinates -= coordinates.mean(axis=0)
    left = logits - coordinates @ np.linalg.lstsq(coordinates, logits, rcond=None)[0]
    values = np.linalg.eigvalsh(logits.T @ logits)
    assert np.square(left).sum() <= values[:-4].sum() * (1 + 1e-9)


def test_a_bottleneck_beats_projections_of_its_width(data):
    accuracies = {}
    for name in ("bottleneck", "gaussian"):
        map_ = PROJECTIONS[name](data, 4, 0).components.T
        head = fit_head(X[TRAIN] @ map_, Y[TRAIN], 10, 1e-4)
        accuracies[name] = head.accuracy(X[TRAIN] @ map_, Y[TRAIN])
    assert accuracies["bottleneck"] > accuracies["gaussian"] + 0.1


def test_study():
    study = study_heads(
        X[TRAIN], Y[TRAIN].astype(str), X[TEST], Y[TEST].astype(str),
        projections=["gaussian", "pca", "lda", "row_space"], dimensions=[12, 10, 9, 3],
        seeds=[1, 5], calibration_rows=[None, 100],
    )  # fmt: skip
    full = study.select("full")
    assert [one.seed for one in full] == [1, 5]
    assert {one.n_components for one in full} == {64}
    assert min(one.test_accuracy for one in full) > 0.9
    assert {(name, k) for name, k, _ in study.omitted} == {
        ("lda", 12),
        ("lda", 10),
        ("row_space", 12),
    }
    keys = {one.key for one in study.results}
    assert ("pca", 12, 100) in keys
    assert ("gaussian", 12, 100) not in keys
    for k in (9, 10):
        for one, base in zip(study.select("row_space", k), full, strict=True):
            assert one.logit_error < 1e-8
            assert one.test_accuracy == base.test_accuracy
            assert one.validation_accuracy == base.validation_accuracy
    assert all(math.isnan(one.logit_error) for one in study.select("pca", 12))
    assert all(one.converged and one.seconds > 0 for one in study.results)
    assert study.select("gaussian", 12)[0].head_parameters == 130
    assert study.select("gaussian", 12)[0].projection_parameters == 768
    assert study.select("pca", 12)[0].test_accuracy > study.select("gaussian", 3)[0].test_accuracy
    with pytest.raises(KeyError, match="no results of gaussian with 5"):
        study.select("gaussian", 5)
    summary = {(one.projection, one.n_components, one.calibration_rows): one
               for one in study.summary()}  # fmt: skip
    point = summary["pca", 9, None]
    accuracies = tuple(one.test_accuracy for one in study.select("pca", 9))
    assert point.test_accuracies == accuracies
    assert point.test_mean == np.mean(accuracies)
    assert point.test_deviation == np.std(accuracies, ddof=1)
    assert point.difference == paired(accuracies, [one.test_accuracy for one in full])
    assert point.parameters == 9 * 64 + 100
    assert summary["full", 64, None].difference.mean == 0
    assert summary["row_space", 9, None].logit_error < 1e-8
    other = study.compare("pca", "gaussian", 9)
    assert other.mean == pytest.approx(
        point.test_mean - np.mean([one.test_accuracy for one in study.select("gaussian", 9)])
    )
    assert study.compare("pca", "full", 9).mean == pytest.approx(point.difference.mean)


def test_the_test_rows_are_read_once_and_after_the_choice(monkeypatch):
    """Labels of test rows do not change a head."""
    options = {"projections": ["pca"], "dimensions": [5], "seeds": 1}
    first = study_heads(X[TRAIN], Y[TRAIN], X[TEST], Y[TEST], **options)
    other = study_heads(X[TRAIN], Y[TRAIN], X[TEST], np.roll(Y[TEST], 1), **options)
    for one, two in zip(first.results, other.results, strict=True):
        assert one.l2 == two.l2
        assert one.validation_accuracy == two.validation_accuracy
        assert one.test_accuracy > two.test_accuracy + 0.3
    counted = []
    select = study_module.select_head

    def watched(rows, labels, n_classes, validation, penalties):
        counted.append(len(validation[1]))
        return select(rows, labels, n_classes, validation, penalties)

    monkeypatch.setattr(study_module, "select_head", watched)
    study_heads(X[TRAIN], Y[TRAIN], X[TEST], Y[TEST], **options)
    assert counted == [240, 240]


def test_projections_of_users():
    study = study_heads(
        X[TRAIN], Y[TRAIN], X[TEST], Y[TEST], dimensions=[64], seeds=1,
        projections={"all": lambda data, k, seed: Projection(np.eye(64), 0)},
    )  # fmt: skip
    full, same = study.results
    assert same.projection == "all"
    assert same.test_accuracy == pytest.approx(full.test_accuracy, abs=0.004)
    default = study_heads(X[:200], Y[:200], X[200:], Y[200:], projections=["truncation"], seeds=1)
    assert [one.n_components for one in default.results[1:]] == [32, 16, 10, 9, 8, 4, 2]


def test_errors():
    def study(rows=X[:50], labels=Y[:50], others=X[50:80], other_labels=Y[50:80], **options):
        return study_heads(rows, labels, others, other_labels, **options)

    with pytest.raises(InputError, match=r"training features of shape \(50, 64\) and labels"):
        study(labels=Y[:49])
    broken = X[:50].copy()
    broken[7, 3] = np.nan
    with pytest.raises(InputError, match="training row 7: a feature is not finite"):
        study(rows=broken)
    with pytest.raises(InputError, match="64 training and 63 test features"):
        study(others=X[50:80, :63])
    with pytest.raises(InputError, match="test class 11 has no training rows"):
        study(other_labels=np.full(30, 11))
    with pytest.raises(InputError, match="every class needs two training rows"):
        study(labels=np.arange(50))
    with pytest.raises(ConfigError, match="projections = 'umap' is not one of"):
        study(projections=["umap"])
    with pytest.raises(ConfigError, match="dimensions must be a positive integer"):
        study(dimensions=[0])
    with pytest.raises(ConfigError, match="seeds must be a positive integer"):
        study(seeds=0)
    with pytest.raises(ConfigError, match="calibration_rows must be a positive integer"):
        study(calibration_rows=[-1])
    with pytest.raises(ConfigError, match="penalties must be positive"):
        study(penalties=[0.0])
    with pytest.raises(ConfigError, match="validation_fraction must lie between 0 and 1"):
        study(validation_fraction=1)
    found = study(projections=["pca"], dimensions=[5], seeds=1, calibration_rows=[1000])
    assert found.omitted == (("pca", 5, "1,000 calibration rows, but only 40 training rows"),)


def test_paired_differences():
    ours, theirs = [0.9, 0.93, 0.91, 0.95], [0.88, 0.9, 0.92, 0.9]
    found = paired(ours, theirs, 0.9)
    difference = np.subtract(ours, theirs)
    low, high = scipy.stats.t.interval(
        0.9, 3, difference.mean(), difference.std(ddof=1) / np.sqrt(4)
    )
    assert (found.mean, found.low, found.high) == pytest.approx((difference.mean(), low, high))
    assert paired([0.9], [0.8]) is None
    with pytest.raises(ValueError, match="give pairs"):
        paired([0.9], [0.8, 0.7])


def test_a_summary_of_one_seed():
    one = HeadResult("full", 4, 0, None, 1e-3, True, 0.9, 0.8, 0, 10, 0.0, 1.0)
    (summary,) = HeadStudy((one,), ()).summary()
    assert math.isnan(summary.test_deviation)
    assert summary.difference is None


def test_a_study_prints_a_short_table():
    def result(projection, k, seed, accuracy, rows=None):
        return HeadResult(
            projection, k, seed, rows, 1e-3, True, 0.9, accuracy, 10, 650, math.nan, 1.0
        )

    study = HeadStudy(
        (
            result("full", 64, 0, 0.96), result("pca", 16, 0, 0.95), result("pca", 9, 0, 0.9),
            result("lda", 9, 0, 0.93), result("pca", 9, 0, 0.8, 100),
            result("full", 64, 1, 0.98), result("pca", 9, 1, 0.8),
        ),
        (("lda", 16, "16 components are more than 9"),),
    )  # fmt: skip
    assert str(study).splitlines() == [
        "all 64 features: test accuracy 97.00 %, 660 parameters, 2 seeds",
        "mean test accuracy in % by number of components:",
        "projection                    16       9",
        "pca                        95.00   85.00",
        "lda                            -   93.00",
        "pca (100 rows)                 -   80.00",
        "1 omitted: see omitted; intervals and parameters: see summary()",
    ]
    assert repr(study) == "<HeadStudy: 7 heads, 2 projections, 2 seeds>"
    assert str(HeadStudy((), ())).splitlines()[0] == "no heads"


def test_heads_and_projections_print_one_line(data):
    penalty = f"l2 {data.head.l2:g}"
    assert repr(data.head) == f"<LogisticHead: 64 features, 10 classes, {penalty}, converged>"
    assert repr(data) == "<Calibration: 1,200 rows, 64 features, 10 classes>"
    projection = PROJECTIONS["pca"](data, 5, 0)
    assert repr(projection) == "<Projection: 64 -> 5 coordinates, 320 parameters>"
