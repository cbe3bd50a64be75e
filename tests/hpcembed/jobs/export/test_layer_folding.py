"""Scaling, projection, standardisation and first layer as one product, and what it costs."""

import numpy as np
import pytest

from hpcembed.jobs.export.inference import DeployedClassifier
from hpcembed.jobs.export.layer_folding import (
    FeatureScaling,
    Projection,
    TrainedLayers,
    build_model,
    folding_pays,
)

NAMES = ("a", "b", "c")


def logits(model, X):
    return DeployedClassifier(model, {}).predict_logits(X)


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("widths", [(8, 6, 3), (3,)])
def test_both_forms_compute_what_was_trained(parts, fold, widths):
    scaling, projection, trained, reference = parts(widths=widths)
    ones = np.ones(30)
    model = build_model(
        scaling, projection, trained, projection.mean, ones, class_names=NAMES, fold=fold
    )
    assert len(model.stages) == len(widths) + (not fold)
    X = np.random.default_rng(1).standard_normal((50, 30)).astype(np.float32)
    np.testing.assert_allclose(logits(model, X), reference(X.astype(float)), atol=2e-5)


@pytest.mark.parametrize("fold", [True, False])
def test_folding_is_exact_up_to_rounding_in_double(parts, fold):
    """Features that float32 cannot hold keep the first stage in double: nothing else rounds."""
    scaling, projection, trained, reference = parts(widths=(3,), offset=1e9)
    ones = np.ones(30)
    model = build_model(
        scaling, projection, trained, projection.mean, ones, class_names=NAMES, fold=fold
    )
    assert model.input_type == np.float64
    X = np.random.default_rng(1).standard_normal((50, 30)) + 1e9
    values = X - model.shift
    for stage in model.stages:
        assert stage.weight.dtype == (np.float64 if stage is model.stages[0] else np.float32)
        values = values @ stage.weight + (0 if stage.bias is None else stage.bias)
    # the second matrix is float32 if it is a stage of its own
    np.testing.assert_allclose(values, reference(X), atol=1e-6 if not fold else 1e-7)
    # The subtraction rounds to 1e-7 at 1e9; in float32 everything would be gone.
    np.testing.assert_allclose(logits(model, X), reference(X), atol=1e-5)


def test_folded_weights_to_the_last_digit(parts):
    scaling, projection, trained, _ = parts(offset=1e9)
    model = build_model(
        scaling, projection, trained, projection.mean, np.ones(30), class_names=NAMES, fold=True
    )
    M = np.diag(scaling.factor) @ projection.components.T @ np.diag(trained.scale)
    expected = M @ trained.layers[0][0]
    np.testing.assert_allclose(model.stages[0].weight, expected, rtol=1e-12, atol=1e-14)


def test_rounding_the_offset_costs_nothing(parts):
    """Offsets of 1000 deviations: float32 holds the rows, and the shift's rounding is corrected."""
    scaling, projection, trained, reference = parts(offset=1000.1)
    model = build_model(
        scaling, projection, trained, projection.mean, np.ones(30), class_names=NAMES
    )
    assert model.input_type == np.float32
    X = (np.random.default_rng(1).standard_normal((50, 30)) + 1000).astype(np.float32)
    np.testing.assert_allclose(logits(model, X), reference(X.astype(float)), atol=3e-5)


@pytest.mark.parametrize("fold", [True, False])
def test_a_projection_without_centring_does_not_cancel(parts, fold):
    """Features at 1000 deviations, coordinates too: float32 products of those would lose 1e-3."""
    scaling, projection, trained, _ = parts()
    means = np.random.default_rng(2).uniform(500, 1500, 30)
    uncentred = Projection(projection.components, np.zeros(30))
    at = ((means - scaling.shift) * scaling.factor) @ projection.components.T
    trained = TrainedLayers(trained.shift + at, trained.scale, trained.layers)
    model = build_model(
        scaling,
        uncentred,
        trained,
        (means - scaling.shift) * scaling.factor,
        scaling.factor,
        class_names=NAMES,
        fold=fold,
    )
    assert model.input_type == np.float32
    X = (np.random.default_rng(1).standard_normal((50, 30)) + means).astype(np.float32)
    coordinates = ((X.astype(float) - scaling.shift) * scaling.factor) @ projection.components.T
    values = (coordinates - trained.shift) * trained.scale
    for i, (weight, bias) in enumerate(trained.layers):
        values = values @ weight + bias
        if i < len(trained.layers) - 1:
            values = np.maximum(values, 0)
    np.testing.assert_allclose(logits(model, X), values, atol=1e-5)


@pytest.mark.parametrize(
    ("d", "k", "h", "pays"),
    [
        (784, 50, 32, True),  # 25,088 against 40,800
        (784, 50, 512, False),
        (784, 20, 16, True),
        (64, 20, 64, False),
        (64, 20, 20, True),
        (10, 10, 5, True),
        (12, 4, 6, False),  # 72 against 72: apart
    ],
)
def test_the_smaller_form_is_taken(parts, d, k, h, pays):
    assert folding_pays(d, k, h) is pays
    assert pays is (d * h < d * k + k * h)
    scaling, projection, trained, _ = parts(d=d, k=k, widths=(h, 3))
    choices = {
        fold: build_model(
            scaling, projection, trained, projection.mean, np.ones(d), class_names=NAMES, fold=fold
        )
        for fold in (True, False, None)
    }
    sizes = {fold: model.n_parameters for fold, model in choices.items()}
    assert sizes[None] == min(sizes.values())
    assert sizes[False] - sizes[True] == d * k + k * h - d * h
    assert choices[True].n_multiplications == d * h + h * 3
    assert choices[False].n_multiplications == d * k + k * h + h * 3


def test_a_network_on_all_features_swallows_scaling_and_standardisation():
    rng = np.random.default_rng(0)
    scaling = FeatureScaling(rng.standard_normal(6), rng.uniform(0.5, 2, 6))
    trained = TrainedLayers(rng.standard_normal(6), np.array([1, 2, 0, 1, 1, 3.0]), (
        (rng.standard_normal((6, 4)), rng.standard_normal(4)),
        (rng.standard_normal((4, 3)), rng.standard_normal(3)),
    ))  # fmt: skip
    model = build_model(scaling, None, trained, np.zeros(6), np.ones(6), class_names=NAMES)
    assert model.n_parameters == 6 + 6 * 4 + 4 + 4 * 3 + 3
    X = rng.standard_normal((9, 6)).astype(np.float32)
    inputs = ((X.astype(float) - scaling.shift) * scaling.factor - trained.shift) * trained.scale
    (W1, b1), (W2, b2) = trained.layers
    np.testing.assert_allclose(
        logits(model, X), np.maximum(inputs @ W1 + b1, 0) @ W2 + b2, atol=2e-5
    )
    # A column that was constant in training must not reach the network.
    X[:, 2] += 100
    np.testing.assert_allclose(
        logits(model, X), np.maximum(inputs @ W1 + b1, 0) @ W2 + b2, atol=2e-5
    )


def test_rounding_the_offset_costs_a_network_on_all_features_nothing():
    rng = np.random.default_rng(0)
    scaling = FeatureScaling(np.full(6, 1000.1), np.ones(6))
    trained = TrainedLayers(np.zeros(6), np.ones(6), ((rng.standard_normal((6, 3)), np.zeros(3)),))
    model = build_model(scaling, None, trained, np.zeros(6), np.ones(6), class_names=NAMES)
    assert model.input_type == np.float32
    X = (rng.standard_normal((9, 6)) + 1000).astype(np.float32)
    expected = (X.astype(float) - 1000.1) @ trained.layers[0][0]
    np.testing.assert_allclose(logits(model, X), expected, atol=3e-6)


@pytest.mark.parametrize(
    ("mean", "deviation", "dtype"),
    [(1e3, 1.0, np.float32), (1e3, 1e-2, np.float64), (0.0, 1e-35, np.float64)],
)
def test_the_input_type_is_judged_in_the_units_of_the_raw_features(parts, mean, deviation, dtype):
    """Standardised features have mean 0 and deviation 1, whatever the raw ones have."""
    _, projection, trained, _ = parts()
    scaling = FeatureScaling(np.full(30, mean), np.full(30, 1 / deviation))
    model = build_model(scaling, projection, trained, np.zeros(30), np.ones(30), class_names=NAMES)
    assert model.input_type == dtype
    scaling = FeatureScaling(np.zeros(30), np.full(30, 1 / deviation))
    raw = build_model(
        scaling,
        projection,
        trained,
        np.full(30, mean / deviation),
        np.ones(30),
        class_names=NAMES,
    )
    assert raw.input_type == dtype
