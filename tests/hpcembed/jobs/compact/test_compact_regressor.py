"""CompactRegressor, and hpcembed.compress and hpcembed.study with continuous targets."""

import pickle

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from mpi4py import MPI
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hpcembed
from hpcembed.jobs.export import DeployedRegressor
from hpcembed.runtime.errors import InputError

SMALL = {"max_loss": 20, "networks": [(16,)], "seeds": 3, "max_seeds": 3}


@pytest.fixture(scope="module")
def patients():
    return load_diabetes(return_X_y=True)


@pytest.fixture(scope="module")
def fitted(patients):
    return hpcembed.CompactRegressor(**SMALL).fit(*patients)


@pytest.fixture(scope="module")
def houses():
    """A table with categories, a date, gaps and a superfluous column, and prices."""
    rng = np.random.default_rng(0)
    n = 400
    kind = rng.choice(["flat", "house", "loft"], n)
    area = rng.normal(100.0, 30.0, n)
    price = 1000.0 * (area + 60.0 * (kind == "house") + rng.normal(0, 5, n))
    area[::11] = np.nan
    built = pd.date_range("2020-01-01", periods=n)
    frame = pd.DataFrame({"kind": kind, "area": area, "built": built, "constant": 1.0})
    frame.loc[5, "kind"] = None
    return frame, price


def test_scores_of_patients(fitted, patients):
    X, y = patients
    assert fitted.n_features_in_ == 10
    assert fitted.score(X, y) == pytest.approx(r2_score(y, fitted.predict(X)))
    assert fitted.score(X, y) > 0.4
    assert not hasattr(fitted, "classes_")


def test_report_names_r2(fitted):
    report = fitted.report
    assert report.task == "regression"
    assert report.content["task"] == "regression"
    assert report.content["majority"] is None
    assert "a point is 0.01 of R2" in report.text
    assert f"test R2 {np.mean([one['test_score'] for one in report.content['results']]):.4f}" in (
        report.answer
    )
    assert "accuracy" not in report.text
    assert "%" not in report.answer


def test_pickle_clone_and_save(fitted, patients, tmp_path):
    X, _ = patients
    expected = fitted.predict(X)
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), expected)
    assert clone(fitted).get_params() == fitted.get_params()
    with pytest.raises(ValueError, match="not fitted"):
        clone(fitted).predict(X)
    model = hpcembed.load(fitted.save(tmp_path / "model"))
    assert isinstance(model, DeployedRegressor)
    np.testing.assert_array_equal(model.predict(X), expected)


def test_pipeline_and_cross_validation(patients):
    pipeline = make_pipeline(StandardScaler(), hpcembed.CompactRegressor(**SMALL))
    assert cross_val_score(pipeline, *patients, cv=2).min() > 0.3


def test_table_with_categories_and_gaps(houses, tmp_path):
    frame, price = houses
    model = hpcembed.compress(frame, price, **SMALL)
    assert isinstance(model, hpcembed.CompactRegressor)
    assert model.feature_names_in_.tolist() == ["kind", "area", "built", "constant"]
    assert model.score(frame, price) > 0.85
    expected = model.predict(frame)
    reordered = frame[["built", "area", "kind", "constant"]].assign(note="x")
    np.testing.assert_array_equal(model.predict(reordered), expected)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(frame), expected)
    session = onnxruntime.InferenceSession(model.to_onnx(tmp_path / "houses.onnx"))
    (found,) = session.run(["prediction"], model.model_.onnx_inputs(frame))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_array_with_missing_values(patients):
    X, y = patients
    X = X.copy()
    X[::9, 2] = np.nan
    model = hpcembed.CompactRegressor(**SMALL).fit(X, y)
    assert np.isfinite(model.predict(X)).all()
    assert model.score(X, y) > 0.35


def test_integers_need_the_task(patients):
    X, y = patients
    with pytest.raises(InputError, match=r"y: 214 different integers.*Python: task="):
        hpcembed.compress(X, y, **SMALL)
    model = hpcembed.compress(X, y, task="regression", **SMALL)
    assert isinstance(model, hpcembed.CompactRegressor)


def test_a_classifier_refuses_continuous_targets(patients):
    X, y = patients
    with pytest.raises(InputError, match=r"y: the labels are continuous .*use CompactRegressor"):
        hpcembed.CompactClassifier(**SMALL).fit(X, y / 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: np.where(y > 300, np.nan, y), "y: row 10: the label is not a finite"),
        (lambda y: np.full_like(y, 3.5), "the targets of all training rows are equal"),
        (lambda y: np.array(["a"] * y.size), "y: row 1: the target 'a' is not a finite number"),
    ],
)
def test_wrong_targets(patients, change, message):
    X, y = patients
    with pytest.raises(InputError, match=message):
        hpcembed.CompactRegressor(**SMALL).fit(X, change(y))


def test_equal_test_targets_have_no_r2(patients):
    X, y = patients
    with pytest.raises(InputError, match="targets of all test rows are equal, so R2 is not def"):
        hpcembed.CompactRegressor(**SMALL).fit(X, y, test=(X[:4], np.full(4, 100.0)))


def test_equal_validation_targets_have_no_r2(patients):
    X, y = patients
    settings = {"training.validation_fraction": 0.01}
    with pytest.raises(InputError, match=r"R2 is not defined .*raise training.validation_frac"):
        hpcembed.CompactRegressor(settings=settings, **SMALL).fit(X[:60], y[:60])


def test_study_of_targets(patients):
    X, y = patients
    found = hpcembed.study(
        X, y, task="regression", dimensions=[2, 5], networks=[(16,)], seeds=2,
        settings={"output.figures": False},
    )  # fmt: skip
    assert found.content["dataset"]["task"] == "regression"
    assert "test R2" in found.text
    assert all(one["test_mean"] < 1 for one in found.points)


def test_targets_that_a_constant_predicts_as_well(patients):
    X, y = patients
    noise = np.random.default_rng(0).standard_normal(y.size)
    settings = {**SMALL, "max_loss": 500}
    report = hpcembed.CompactRegressor(**settings).fit(X, noise).report
    assert "warning: R2 is not above 0, so the mean of the target predicts as well" in report.text


@pytest.mark.mpi
def test_ranks_share_the_targets(patients):
    comm = MPI.COMM_WORLD
    X, y = patients
    bounds = np.linspace(0, len(y), comm.size + 1).astype(int)
    mine = slice(*bounds[comm.rank : comm.rank + 2])
    model = hpcembed.CompactRegressor(**SMALL).fit(X[mine], y[mine], comm=comm)
    alone = hpcembed.CompactRegressor(**SMALL).fit(X, y)
    found = model.predict(X)
    assert np.abs(found - comm.bcast(found)).max() == 0.0
    assert model.report.n_components == alone.report.n_components
    np.testing.assert_allclose(found, alone.predict(X), rtol=0.05)
