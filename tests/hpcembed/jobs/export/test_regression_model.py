"""Models of regressions: unit and type of the target, files, ONNX, refusals."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
from sklearn.metrics import r2_score

import hpcembed
from hpcembed.jobs.export.inference import DeployedRegressor
from hpcembed.jobs.export.layer_folding import build_model
from hpcembed.jobs.export.model_folder import write_model
from hpcembed.runtime.errors import InputError


@pytest.fixture
def make(parts, tmp_path):
    """Write a model with a target of this mean and deviation; return it and its exact results."""

    def written(shift, scale):
        scaling, projection, trained, reference = parts(widths=(8, 1))
        d = scaling.shift.size
        model = build_model(
            scaling,
            projection,
            trained,
            np.zeros(d),
            np.ones(d),
            class_names=(),
            target=(shift, scale),
        )
        write_model(tmp_path / "m", model, {"name": "prices", "network": "n"}, "card")
        X = np.random.default_rng(1).standard_normal((300, d))
        return hpcembed.load(tmp_path / "m"), X, reference(X)[:, 0] * scale + shift

    return written


@pytest.mark.parametrize(
    ("shift", "scale", "kind"), [(3.0, 2.0, np.float32), (1e9, 2.0, np.float64)]
)
def test_predictions_are_in_the_unit_of_the_target(make, tmp_path, shift, scale, kind):
    model, X, expected = make(shift, scale)
    assert isinstance(model, DeployedRegressor)
    assert model.description["task"] == "regression"
    assert model.description["version"] == 2
    assert model.model.target.scale.dtype == kind
    predicted = model.predict(X)
    assert predicted.dtype == np.float64
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(model.predict(X[200:], first_row=200), predicted[200:])
    session = onnxruntime.InferenceSession(tmp_path / "m" / "model.onnx")
    assert [one.name for one in session.get_outputs()] == ["prediction"]
    for rows in (X, X[:1]):
        (found,) = session.run(None, {"features": rows.astype(model.model.input_type)})
        assert found.shape == (len(rows),)
        assert found.dtype == kind
        np.testing.assert_allclose(found, predicted[: len(rows)], rtol=0, atol=2e-5)


def test_score(make):
    model, X, expected = make(10.0, 3.0)
    y = expected + np.random.default_rng(0).standard_normal(300)
    assert model.score(X, y) == pytest.approx(r2_score(y, model.predict(X)))
    for targets, words in (
        (y[:-1], r"targets of shape \(299,\) for 300 rows"),
        (["a"] * 300, "targets are not numbers"),
        (np.ones(300), "targets that differ"),
    ):
        with pytest.raises(InputError, match=words):
            model.score(X, targets)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"target_type": "float64"}, "target.shift is float32"), ({"task": "classification"}, "0 cl")],
)
def test_damaged_models(make, tmp_path, change, words):
    make(3.0, 2.0)
    file = tmp_path / "m" / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change | {"has_manifest": False}))
    with pytest.raises(InputError, match=words):
        hpcembed.load(tmp_path / "m")
