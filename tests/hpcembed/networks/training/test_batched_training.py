"""Networks trained together are those that would have been trained alone."""

from itertools import product

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from hpcembed.jobs.configuration import JobConfig, check_job
from hpcembed.networks.training.batched_training import Member, train_batch
from hpcembed.networks.training.epochs import TrainingError
from hpcembed.networks.training.evaluation import predict_logits
from hpcembed.networks.training.gathered_training import train_classifier
from hpcembed.networks.training.recipe import RECIPES, Recipe
from hpcembed.networks.training.samples import Samples
from hpcembed.networks.training.stacked_epochs import DropoutMasks
from hpcembed.networks.training.stacked_networks import StackedNetworks
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.settings import build

RECIPE = Recipe(epochs=4, batch_size=64, learning_rate=1e-2)
K, CLASSES = 6, 3


def blobs(n, seed):
    """Three classes, columns of decaying deviation with means far from zero."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    centres = np.random.default_rng(99).standard_normal((CLASSES, K))
    inputs = (centres[labels] + rng.standard_normal((n, K))) * 2.0 ** -np.arange(K) + 3.0
    return Samples(inputs.astype(np.float32), labels)


def batch(members, recipe=RECIPE, hidden=(12, 7), name="embedded"):
    return train_batch(
        blobs(450, 0), blobs(200, 1), CLASSES, hidden, recipe, members, input_name=name, threads=1
    )


def logits(trained, position, k):
    return predict_logits(trained.classifier(position).model, blobs(50, 2).inputs[:, :k])


ALL = [Member(seed, k) for seed, k in product((3, 5), (1, 4, 6))]


@pytest.mark.parametrize("members", [ALL[:3], [ALL[2], ALL[5]], ALL, ALL[4:5]])
@pytest.mark.parametrize("hidden", [(), (9,), (12, 7)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_as_a_single_training(members, hidden, smoothing):
    recipe = replace(RECIPE, label_smoothing=smoothing)
    together = batch(members, recipe, hidden)
    train, test = blobs(450, 0), blobs(200, 1)
    for position, (member, result) in enumerate(zip(members, together.results, strict=True)):
        alone = train_classifier(
            Samples(train.inputs[:, : member.n_inputs], train.labels),
            Samples(test.inputs[:, : member.n_inputs], test.labels),
            CLASSES,
            hidden,
            recipe,
            input_name="embedded",
            threads=1,
            seed=member.seed,
        )
        said = logits(together, position, member.n_inputs)
        expected = predict_logits(alone.model, blobs(50, 2).inputs[:, : member.n_inputs])
        np.testing.assert_allclose(said, expected, atol=2e-4)
        report = alone.report
        assert result.member == member
        assert result.parameters == report.parameters
        assert result.best_epoch == report.best_epoch
        assert result.validation_accuracy == pytest.approx(report.validation_accuracy)
        assert result.test_accuracy == pytest.approx(report.test_accuracy)
        assert result.train_loss == pytest.approx(report.history[-1].train_loss, abs=1e-4)
        assert result.train_seconds > 0
        assert result.confusion.sum() == 200
        assert np.trace(result.confusion) == round(200 * result.test_accuracy)
        assert list(result.confusion.sum(1)) == list(np.bincount(test.labels))
        taken = together.classifier(position).report
        assert taken.input == "embedded"
        assert taken.hidden == hidden
        assert (taken.parameters, taken.best_epoch) == (report.parameters, report.best_epoch)


@pytest.mark.parametrize(
    "change",
    [
        {"dropout": (0.25,)},
        {"dropout": (0.5, 0.0), "keep": "last"},
        {"patience": 1, "schedule": "constant", "learning_rate": 0.05, "epochs": 12},
        {"initial": "glorot", "input_scaling": "none", "weight_decay": 0.0},
    ],
)
def test_company_changes_nothing_but_rounding(change):
    recipe = replace(RECIPE, **change)
    together = batch(ALL, recipe)
    for position, member in enumerate(ALL):
        alone = batch([member], recipe)
        result, other = together.results[position], alone.results[0]
        assert result.best_epoch == other.best_epoch
        assert result.test_accuracy == pytest.approx(other.test_accuracy)
        np.testing.assert_allclose(
            logits(together, position, member.n_inputs),
            logits(alone, 0, member.n_inputs),
            atol=1e-3,
        )


def test_gradient_is_that_of_autograd():
    members, hidden = [4, 2, 5], (7, 6)
    scale = torch.rand(3, 5, dtype=torch.float64) + 0.5
    for b, k in enumerate(members):
        scale[b, k:] = 0.0
    with torch.random.fork_rng():
        stack = StackedNetworks(members, hidden, 3, [0, 1, 2], scale)
        inputs = torch.randn(3, 11, 5, dtype=torch.float64)
        labels = torch.randint(3, (3, 11, 1))
        masks = [(torch.rand(3, 11, width) > 0.3).double() * 1.4 for width in hidden]
    with torch.no_grad():
        loss = stack.gradient(inputs, labels, 0.1, masks)
    for b, k in enumerate(members):
        layers = stack.network(b).double()
        linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
        with torch.no_grad():  # in double, not by way of float32
            for number, layer in enumerate(linear):
                layer.weight.copy_(stack.weights[number][b, : layer.in_features].t())
                layer.bias.copy_(stack.biases[number][b, 0])
        H = (inputs[b] * scale[b])[:, :k]
        for layer, mask in zip(linear, [*masks, None], strict=True):
            H = layer(H)
            if mask is not None:
                H = H.relu() * mask[b]
        expected = torch.nn.functional.cross_entropy(H, labels[b, :, 0], label_smoothing=0.1)
        expected.backward()
        torch.testing.assert_close(loss[b], expected.detach())
        for number, layer in enumerate(linear):
            slope, offset = stack._gradients[number], stack._gradients[3 + number]
            torch.testing.assert_close(slope[b, : layer.in_features], layer.weight.grad.t())
            torch.testing.assert_close(offset[b, 0], layer.bias.grad)
        assert not stack._gradients[0][b, k:].any()
        assert not stack.weights[0][b, k:].any()


def test_dropout_drops_its_share_and_keeps_the_mean():
    first, none = DropoutMasks((0.25, 0.0), (50, 4), [0, 7]).masks(2000, torch.device("cpu"))
    assert none is None
    assert first.shape == (2, 2000, 50)
    assert first.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (first == 0).double().mean() == pytest.approx(0.25, abs=0.005)
    # Nothing in common between seeds, rows or columns.
    flat = (first == 0).double().numpy().reshape(2, -1)
    assert abs(np.corrcoef(flat)[0, 1]) < 0.02


def test_patience_leaves_a_network_at_its_best():
    recipe = replace(RECIPE, patience=2, epochs=40, schedule="constant", learning_rate=0.1)
    stopped = batch(ALL, recipe)
    best = [result.best_epoch for result in stopped.results]
    assert max(best) < 38
    seen = []
    train_batch(
        blobs(450, 0), blobs(200, 1), CLASSES, (12, 7), recipe, ALL,
        input_name="embedded", threads=1, on_epoch=seen.append,
    )  # fmt: skip
    assert seen == list(range(1, max(best) + 3))


def test_last_epoch_is_kept_where_the_recipe_says_so():
    recipe = replace(RECIPE, keep="last", schedule="constant", learning_rate=0.1)
    assert {result.best_epoch for result in batch(ALL, recipe).results} == {4}


def test_refit_validates_without_and_tests_with_the_rows_held_out():
    recipe = replace(RECIPE, keep="last", refit=True)
    once = batch(ALL, replace(recipe, refit=False)).results
    twice = batch(ALL, recipe)
    for first, second in zip(once, twice.results, strict=True):
        assert second.validation_accuracy == first.validation_accuracy
        assert second.train_loss != first.train_loss
        assert second.best_epoch == 4
    # Alone as in company, and on all 450 rows: steps of 64 are 8 an epoch, not 7.
    alone = batch(ALL[4:5], recipe)
    np.testing.assert_allclose(logits(twice, 4, 4), logits(alone, 0, 4), atol=1e-3)


def test_one_mean_for_all_columns_is_for_one_width():
    batch([Member(0, K), Member(1, K)], name="full")
    with pytest.raises(ValueError, match="scaled column by column"):
        batch([Member(0, K), Member(0, 3)], name="full")


def test_loss_that_explodes_names_the_network():
    recipe = replace(RECIPE, learning_rate=1e38, schedule="constant", weight_decay=0.0)
    with pytest.raises(TrainingError, match=r"on 6 inputs with seed 9 became .* in epoch \d of 4"):
        batch([Member(9, 6)], recipe)


def test_recipes_refuse_what_no_training_can_use():
    for recipe in RECIPES.values():
        check_job(JobConfig(training=recipe), "study.toml")
    with pytest.raises(ConfigError, match=r"study.toml: dropout must lie in \[0, 1\), got 1.0"):
        build(Recipe, {"dropout": [0.1, 1.0]}, "study.toml")
    for changes, words in (
        ({"dropout": ()}, "study.toml: training.dropout must hold a number"),
        ({"patience": 3, "keep": "last"}, "training.patience needs keep"),
        ({"refit": True}, "training.refit needs keep"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_job(JobConfig(training=replace(RECIPE, **changes)), "study.toml")
    with pytest.raises(ConfigError, match="3 numbers for 2 hidden layers"):
        batch(ALL, replace(RECIPE, dropout=(0.1, 0.2, 0.3)))


def test_rate_that_is_not_given_falls_with_the_width():
    recipe = Recipe()
    assert recipe.peak_rate(()) == recipe.peak_rate((8, 64)) == 0.01
    assert recipe.peak_rate((32, 256)) == pytest.approx(0.005)
    assert RECIPES["published"].peak_rate((512,)) == 1e-3
    given = replace(RECIPE, learning_rate=0.01)
    chosen = replace(RECIPE, learning_rate=0.0)
    assert batch(ALL[:1], given).results[0].train_loss == pytest.approx(
        batch(ALL[:1], chosen).results[0].train_loss
    )


def test_dropout_of_each_layer():
    assert Recipe(dropout=(0.25,)).dropouts((512, 32)) == (0.25, 0.25)
    assert Recipe(dropout=(0.25, 0.0)).dropouts((512, 32)) == (0.25, 0.0)
    assert Recipe(wide_dropout=0.2).dropouts((512, 256, 255)) == (0.2, 0.2, 0.0)
    assert Recipe(wide_dropout=0.2, dropout=(0.1, 0.0)).dropouts((512, 512)) == (0.1, 0.2)
    assert Recipe().dropouts(()) == ()


def test_no_trace_in_global_state():
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    batch(ALL)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
