"""Training: every field of the report, the seed, the split, the schedule, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from hpcembed.networks.training.batches import ArrayBatches
from hpcembed.networks.training.classifier import build_mlp, count_parameters
from hpcembed.networks.training.epochs import TrainingError
from hpcembed.networks.training.evaluation import predict_logits
from hpcembed.networks.training.gathered_training import train_classifier
from hpcembed.networks.training.input_scaling import fit_scaling
from hpcembed.networks.training.optimiser import learning_rate_at
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.samples import Samples
from hpcembed.networks.training.validation_split import stratified_holdout
from hpcembed.runtime.errors import ConfigError, InputError

FAST = Recipe(epochs=8, batch_size=32, learning_rate=1e-2)


def blobs(n, seed, dtype=np.float32, d=5):
    """Three well separated classes, the third one rare."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=n, p=[0.6, 0.35, 0.05]).astype(np.int64)
    centres = np.random.default_rng(99).standard_normal((3, d)) * 4 + 20
    return Samples((centres[labels] + rng.standard_normal((n, d))).astype(dtype), labels)


def train(recipe=FAST, data=None, hidden=(16, 8), name="embedded", **more):
    data = data or blobs(600, 0)
    return train_classifier(
        data,
        blobs(300, 1),
        3,
        hidden,
        recipe,
        input_name=name,
        threads=1,
        device="cpu",
        **more,
    )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_of_the_caller_do_not_change_a_training(mode):
    expected = [epoch.validation_accuracy for epoch in train().report.history]
    torch.set_default_dtype(torch.float64)
    try:
        with mode():
            found = train()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert [epoch.validation_accuracy for epoch in found.report.history] == expected
    assert all(one.dtype == torch.float32 for one in found.model.parameters())


def test_report_and_model_agree():
    seen = []
    trained = train(on_epoch=seen.append)
    report = trained.report
    assert (report.input, report.hidden) == ("embedded", (16, 8))
    assert report.parameters == 5 * 16 + 16 + 16 * 8 + 8 + 8 * 3 + 3
    assert report.parameters == count_parameters(trained.model)
    assert report.train_seconds > 0
    assert (report.device, report.threads) == ("cpu", 1)
    assert list(report.history) == seen
    assert [epoch.epoch for epoch in seen] == list(range(1, 9))
    best = max(epoch.validation_accuracy for epoch in seen)
    assert report.validation_accuracy == best == seen[report.best_epoch - 1].validation_accuracy
    assert seen[-1].train_loss < seen[0].train_loss
    assert all(epoch.seconds > 0 and epoch.learning_rate > 0 for epoch in seen)
    test = blobs(300, 1)
    accuracy = (predict_logits(trained.model, test.inputs).argmax(1) == test.labels).mean()
    assert report.test_accuracy == pytest.approx(accuracy)
    assert report.test_accuracy > 0.95


def test_same_seed_same_network_and_no_trace_in_global_state():
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first, again = train(), train()
    other = train(seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    inputs = blobs(50, 2).inputs
    same = predict_logits(first.model, inputs)
    np.testing.assert_array_equal(same, predict_logits(again.model, inputs))
    assert np.abs(same - predict_logits(other.model, inputs)).max() > 1e-3


def test_weights_of_the_best_epoch_are_kept():
    # So large a rate that the last epoch is not the best one.
    config = replace(FAST, epochs=12, schedule="constant", learning_rate=0.05, weight_decay=0.0)
    clean = blobs(600, 0)
    noise = np.random.default_rng(3).standard_normal(clean.inputs.shape) * 4
    data = Samples((clean.inputs + noise).astype(np.float32), clean.labels)
    trained = train(config, data)
    report = trained.report
    assert report.history[-1].validation_accuracy < report.validation_accuracy
    _, held_out = stratified_holdout(data.labels, config.validation_fraction, 0)
    said = predict_logits(trained.model, data.inputs[held_out]).argmax(1)
    assert (said == data.labels[held_out]).mean() == pytest.approx(report.validation_accuracy)


@pytest.mark.parametrize("scaling", ["auto", "none", "standard", "sqrt"])
@pytest.mark.parametrize("name", ["full", "embedded"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_inputs_of_the_caller_are_never_changed(scaling, name, dtype):
    data, test = blobs(200, 0, dtype), blobs(100, 1, dtype)
    before = data.inputs.copy(), test.inputs.copy()
    config = replace(FAST, epochs=1, input_scaling=scaling)
    train_classifier(data, test, 3, (4,), config, input_name=name, threads=1)
    np.testing.assert_array_equal(data.inputs, before[0])
    np.testing.assert_array_equal(test.inputs, before[1])


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
@pytest.mark.parametrize("regular", [{}, {"dropout": (0.2,), "label_smoothing": 0.1}])
def test_recipes_learn(schedule, regular):
    config = replace(FAST, schedule=schedule, **regular)
    assert train(config).report.test_accuracy > 0.9


def test_keys_for_batches_are_refused():
    with pytest.raises(ConfigError, match=r"training\.keep has no effect in train_classifier"):
        train(replace(FAST, keep="last"))


def test_dropout_and_rate_follow_the_layers():
    recipe = replace(FAST, epochs=1, dropout=(0.0, 0.5), learning_rate=0.0, schedule="constant")
    trained = train(recipe, hidden=(16, 256))
    assert [type(layer).__name__ for layer in trained.model.layers].count("Dropout") == 1
    assert trained.report.history[0].learning_rate == pytest.approx(0.005)
    with pytest.raises(ConfigError, match="2 numbers for 1 hidden layers"):
        train(recipe, hidden=(16,))


def test_loss_that_explodes_is_one_line():
    config = replace(FAST, learning_rate=1e38, schedule="constant", weight_decay=0.0)
    with pytest.raises(TrainingError, match=r"in epoch \d of 8: lower training.learning_rate"):
        train(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: Samples(s.inputs[:-1], s.labels), "do not fit labels"),
        (lambda s: Samples(s.inputs, s.labels + 1), "label 3 of row"),
        (lambda s: Samples(s.inputs[:, :0], s.labels), "no features"),
        (lambda s: Samples(s.inputs.astype(np.int16), s.labels), "int16 is not"),
        (lambda s: Samples(np.where(s.inputs > 24, np.nan, s.inputs), s.labels), "contains NaN"),
    ],
)
def test_samples_that_do_not_fit(change, message):
    with pytest.raises(InputError, match=message):
        train(data=change(blobs(100, 0)))


def test_holdout_keeps_proportions_and_every_class_in_training():
    labels = np.repeat([0, 1, 2, 3], [100, 50, 9, 1])
    training, validation = stratified_holdout(labels, 0.1, seed=0)
    assert sorted([*training, *validation]) == list(range(160))
    assert list(np.bincount(labels[validation], minlength=4)) == [10, 5, 1, 0]
    again = stratified_holdout(labels, 0.1, seed=0)
    other = stratified_holdout(labels, 0.1, seed=1)
    np.testing.assert_array_equal(again[1], validation)
    assert not np.array_equal(other[1], validation)


def test_holdout_is_never_empty_and_refuses_the_impossible():
    _, validation = stratified_holdout(np.array([0, 0, 1]), 0.01, seed=0)
    assert len(validation) == 1
    with pytest.raises(InputError, match="no class has two rows"):
        stratified_holdout(np.array([0, 1, 2]), 0.1, seed=0)


def test_sqrt_scaling_centres_and_halves_the_spread_of_deviations():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((4000, 3)) * [100.0, 1.0, 0.0] + [5.0, 1e6, 3.0]
    scaling = fit_scaling(inputs, "sqrt")
    seen = (inputs - scaling.shift) * scaling.scale
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-9)
    assert seen[:, 0].std() / seen[:, 1].std() == pytest.approx(10, rel=0.05)
    assert np.mean(seen[:, :2].std(axis=0) ** 2) == pytest.approx(1)
    np.testing.assert_array_equal(seen[:, 2], 0)


def test_batches_of_every_type_are_the_same_numbers():
    whole = np.random.default_rng(0).integers(0, 255, (40, 6))
    rows = torch.tensor([3, 0, 39])
    for kind in ("none", "global", "standard", "sqrt"):
        expected = None
        for dtype in (np.float64, np.float32, np.uint8):
            inputs = whole.astype(dtype)
            scaling = fit_scaling(inputs, kind)
            held = ArrayBatches(inputs, scaling, torch.device("cpu"))
            exact = ((whole - scaling.shift) * scaling.scale).astype(np.float32)
            np.testing.assert_allclose(held.batch(rows), exact[rows], rtol=2e-5, atol=2e-5)
            np.testing.assert_allclose(held.block(5, 9), exact[5:9], rtol=2e-5, atol=2e-5)
            expected = exact if expected is None else expected
            np.testing.assert_allclose(exact, expected, rtol=1e-5, atol=1e-5)


def test_large_offset_of_float32_inputs_keeps_its_digits():
    inputs = (np.arange(20.0).reshape(10, 2) / 8 + 2**20).astype(np.float32)
    scaling = fit_scaling(inputs, "standard")
    block = ArrayBatches(inputs, scaling, torch.device("cpu")).block(0, 10).numpy()
    np.testing.assert_allclose(block.std(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
def test_schedule_is_positive_peaks_at_the_peak_and_ends_low(schedule):
    rates = [learning_rate_at(step, 200, 0.5, schedule) for step in range(200)]
    assert min(rates) > 0
    assert max(rates) == pytest.approx(0.5, rel=1e-3)
    if schedule == "constant":
        assert set(rates) == {0.5}
    else:
        assert rates[-1] < 1e-3
    if schedule == "onecycle":
        assert rates[0] < 0.05
        assert 30 <= int(np.argmax(rates)) <= 50


def test_linear_model_and_dropout_layers():
    assert count_parameters(build_mlp(7, (), 3)) == 7 * 3 + 3
    layers = build_mlp(7, (5, 4), 3, dropout=(0.5, 0.5))
    assert sum(isinstance(layer, torch.nn.Dropout) for layer in layers) == 2


def test_no_test_rows_gives_nan_not_an_error():
    empty = Samples(np.empty((0, 5), np.float32), np.empty(0, np.int64))
    trained = train_classifier(blobs(100, 0), empty, 3, (4,), FAST, input_name="full", threads=1)
    assert math.isnan(trained.report.test_accuracy)
