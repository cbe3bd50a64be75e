"""Whole models: budgets, losses, repair, what is returned, and bad input."""

import copy
import hashlib
import io
import math
import threading

import numpy as np
import pytest
import torch
from mpi4py import MPI
from sklearn.datasets import load_digits
from torch import nn

from hpcembed.networks.compression import ModelCompression, Request, compress_model
from hpcembed.networks.compression.batches import Batches
from hpcembed.networks.compression.metrics import Evaluator
from hpcembed.runtime.errors import ConfigError, InputError


class DigitNet(nn.Module):
    """A small convolutional network with batch normalisation and a residual connection."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc1 = nn.Linear(512, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = x + self.relu(self.bn2(self.conv2(x)))
        x = self.relu(self.conv3(x)).flatten(1)
        return self.fc2(self.relu(self.fc1(x)))


def digits():
    data = load_digits()
    images = torch.from_numpy(data.images.astype(np.float32) / 16).unsqueeze(1)
    labels = torch.from_numpy(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    return (images[:1000], labels[:1000]), (images[1000:1400], labels[1000:1400]), (
        images[1400:], labels[1400:])  # fmt: skip


def batches(part, size=100):
    return list(zip(part[0].split(size), part[1].split(size), strict=True))


@pytest.fixture(scope="module")
def trained():
    """A network that is trained for a few epochs, and the three parts of the data."""
    torch.manual_seed(0)
    train, validation, test = digits()
    model = DigitNet().train()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(6):
        for x, y in batches(train):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
    return model.eval(), train, validation, test


def divergence(model, small, x):
    with torch.no_grad():
        p, q = (torch.log_softmax(each(x), 1) for each in (model, small))
    return float((p.exp() * (p - q)).sum(1).mean())


def test_a_budget_is_met_and_the_model_is_not_changed(trained):
    model, train, validation, test = trained
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small, report = compress_model(
        model, batches(train), budget={"parameters": 0.4}, validation=batches(validation),
        test=batches(test),
    )  # fmt: skip
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {p.requires_grad for p in model.parameters()} == {True}
    assert model.conv1.bias is None
    count = sum(p.numel() for p in small.parameters())
    assert count == report.after.parameters <= 0.4 * report.before.parameters
    assert report.before.parameters == sum(p.numel() for p in model.parameters())
    assert set(report.folded) == {"bn1", "bn2"}
    assert {type(m) for m in small.modules()} <= {
        DigitNet, nn.Sequential, nn.Conv2d, nn.Linear, nn.ReLU, nn.Identity,
    }  # fmt: skip
    assert report.loss < 3.0
    assert report.full_score == pytest.approx(report.small_score + report.loss)
    accuracy = [
        100 * float((m(test[0]).argmax(1) == test[1]).float().mean()) for m in (model, small)
    ]
    assert report.test_scores == pytest.approx(tuple(accuracy))
    assert report.samples == 1000
    assert len(report.calibration_hash) == 64
    assert report.macs_kept < 1
    assert report.after.seconds > 0
    assert report.settings["request"] == {"budget": {"parameters": 0.4}, "measure": "parameters"}
    assert "layers cut" in str(report)


def test_the_report_states_every_layer(trained):
    """Every field, from the modules and from the data."""
    model, train, _, _ = trained
    x = train[0][:300]
    small, report = compress_model(
        model, [x], ranks={"conv2": 5}, layers=["conv2", "fc1"], side="output",
        objective="output", centre=True, sequential=False, repair="none",
    )  # fmt: skip
    by_name = {layer.name: layer for layer in report.layers}
    assert [layer.name for layer in report.layers] == ["conv1", "conv2", "conv3", "fc1", "fc2"]
    cut, whole = by_name["conv2"], by_name["fc1"]
    assert (cut.kind, cut.shape, cut.side) == ("conv", (16, 16, 9, 1), "output")
    assert (cut.rank_in, cut.rank_out, cut.shared_with) == (0, 5, ())
    assert cut.parameters == (16 * 16 * 9 + 16, 5 * 16 * 9 + 16 * 5 + 16)
    assert cut.macs == (64 * 16 * 16 * 9, 64 * (5 * 16 * 9 + 16 * 5))
    assert cut.reason == ""
    assert cut.solver == "lapack"
    assert cut.max_residual < 1e-12
    assert cut.orthogonality < 1e-12
    assert cut.seconds[0] > 0
    assert cut.seconds[1] > 0
    with torch.no_grad():
        entering = small.relu(small.conv1(x))
        y = nn.functional.batch_norm(
            model.conv2(entering), model.bn2.running_mean, model.bn2.running_var,
            model.bn2.weight, model.bn2.bias,
        ).double()  # fmt: skip
        rows = y.movedim(1, -1).reshape(-1, 16)
        lost = (rows - small.conv2(entering).movedim(1, -1).reshape(-1, 16)).square().sum()
        relative = float(lost / (rows - rows.mean(0)).square().sum())
    assert cut.error_measured == pytest.approx(relative, rel=1e-4)
    assert cut.error_predicted == pytest.approx(relative, rel=1e-3)
    assert cut.captured == pytest.approx(1 - relative, rel=1e-4)
    assert (whole.side, whole.rank_in, whole.rank_out, whole.captured) == ("none", 0, 0, 1.0)
    assert whole.reason == "ranks has no rank for it"
    assert whole.parameters == (512 * 64 + 64, 512 * 64 + 64)
    assert by_name["conv1"].reason == "not selected"
    assert report.warnings == ()
    batch = next(iter(Batches([x], "calibration")))
    digest = hashlib.sha256(batch.key().encode())
    expected = hashlib.sha256(digest.hexdigest().encode()).hexdigest()
    assert report.calibration_hash == expected
    chosen = [p for p in report.frontier if p.parameters == report.after.parameters]
    assert chosen
    assert chosen[0].measured_loss is None
    assert chosen[0].ranks["conv2"].outputs == 5
    assert chosen[0].macs == report.after.macs
    assert 0 < chosen[0].predicted_loss < 1
    assert set(report.seconds) >= {"fold", "moments", "eigenproblems", "layers"}


def test_folding_alone_changes_nothing(trained):
    model, train, _, _ = trained
    small, report = compress_model(model, batches(train), budget={"parameters": 1.0})
    assert report.ranks == {}
    with torch.no_grad():
        np.testing.assert_allclose(small(train[0][:50]), model(train[0][:50]), atol=1e-4)


def test_a_normalisation_after_a_tensor_that_is_read_twice_is_not_folded():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3)
            self.bn = nn.BatchNorm2d(4)
            self.other, self.other_bn = nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8)

        def forward(self, x):
            x = self.conv(x)
            return self.other_bn(self.other(self.bn(x) + x)).mean((2, 3))

    torch.manual_seed(0)
    model = Twice()
    x = torch.randn(64, 2, 6, 6) + 1
    for _ in range(20):
        model(x)
    model.eval()
    small, report = compress_model(model, [x], ranks={"other": 2}, metric="cosine")
    assert report.folded == ("other_bn",)
    assert isinstance(small.bn, nn.BatchNorm2d)
    assert isinstance(small.other_bn, nn.Identity)


def test_the_loss_on_validation_holds(trained):
    model, train, validation, _ = trained
    small, report = compress_model(
        model, batches(train), max_loss=1.0, validation=batches(validation)
    )
    full, cut = (
        Evaluator(m, Batches(batches(validation), "v"), "accuracy", MPI.COMM_SELF).full.value
        for m in (model, small)
    )
    assert full - cut <= 1.0
    assert report.loss == pytest.approx(full - cut)
    assert report.parameters_kept < 0.7
    judged = [point for point in report.frontier if point.measured_loss is not None]
    assert len(judged) >= 7
    assert any(point.measured_loss > 1.0 for point in judged)


def test_layers_fitted_one_after_the_other_are_better(trained):
    model, train, validation, _ = trained
    losses = {}
    for name, options in {
        "plain": {"sequential": False, "repair": "none"},
        "bias": {"sequential": False, "repair": "bias"},
        "fitted": {},
    }.items():
        small, _ = compress_model(model, batches(train), budget={"parameters": 0.25}, **options)
        losses[name] = divergence(model, small, validation[0])
    assert losses["fitted"] < losses["bias"] < losses["plain"]


def test_layers_without_bias_that_are_not_cut_get_none():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 40, bias=False), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(),
                          nn.Linear(40, 3, bias=False))  # fmt: skip
    x = torch.randn(400, 8) + 1
    small, report = compress_model(model, x.split(100), ranks={"2": 5})
    assert small[0].bias is None
    assert small[4].bias is None
    assert report.after.parameters == 8 * 40 + 2 * 5 * 40 + 40 + 40 * 3
    assert not torch.equal(small[4].weight, model[4].weight)
    uncentred, _ = compress_model(model, x.split(100), ranks={"2": 5}, centre=False)
    # About the bias, nothing but the weights changes.
    torch.testing.assert_close(
        uncentred[2](torch.zeros(1, 40))[0], model[2].bias.detach(), atol=1e-5, rtol=0
    )


def test_repair_by_feature_matching_needs_no_labels_and_helps(trained):
    model, train, validation, _ = trained
    losses = []
    for options in ({}, {"repair": "distill", "epochs": 10}):
        small, report = compress_model(
            model, train[0].split(100), budget={"parameters": 0.08}, **options
        )
        losses.append(divergence(model, small, validation[0]))
    assert losses[1] < 0.5 * losses[0]
    assert "repair" in report.seconds


@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("side", ["output", "input"])
def test_factors_have_the_scale_of_usual_layers(trained, side, sequential):
    """Gradients of any size: the factors of their norm do not enter the weights."""
    model, train, _, _ = trained
    small, report = compress_model(
        model, batches(train), budget={"parameters": 0.6}, side=side, sequential=sequential
    )
    for layer in report.layers:
        if layer.rank_in:
            reduction = small.get_submodule(layer.name)[0].weight.detach().flatten(1)
            torch.testing.assert_close(reduction.norm(dim=1), torch.ones(len(reduction)))
        if layer.rank_out:
            expansion = small.get_submodule(layer.name)[-1].weight.detach().flatten(1)
            torch.testing.assert_close(expansion.norm(dim=0), torch.ones(expansion.shape[1]))
    assert side in {layer.side for layer in report.layers}


def test_one_set_of_eigenproblems_serves_every_budget(trained):
    model, train, _, _ = trained
    compression = ModelCompression(model, batches(train))
    alone, _ = compress_model(model, batches(train), budget={"macs": 0.5})
    compression.compress(Request(budget={"parameters": 0.3}))
    small, report = compression.compress(Request(budget={"macs": 0.5}))
    assert report.macs_kept <= 0.5
    for one, other in zip(alone.parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_seconds_are_a_budget(trained):
    model, train, _, _ = trained
    compression = ModelCompression(model, batches(train))
    timed = compression._with_seconds()
    full = timed.full().cost.seconds
    assert full > 0
    least = timed.frontier("seconds")[-1].cost.seconds  # it may be that of the whole network
    limit = (least + full) / 2
    assert timed.within("seconds", limit).cost.seconds <= limit


def test_the_result_loads_without_this_package_and_exports(trained):
    model, train, _, _ = trained
    small, _ = compress_model(model, batches(train), budget={"parameters": 0.4})
    stored = io.BytesIO()
    torch.save(small.state_dict(), stored)
    stored.seek(0)
    again = copy.deepcopy(small)
    for parameter in again.parameters():
        nn.init.zeros_(parameter)
    again.load_state_dict(torch.load(stored, weights_only=True))
    x = train[0][:20]
    assert torch.equal(again(x), small(x))
    exported = torch.export.export(small, (x,))
    torch.testing.assert_close(exported.module()(x), small(x))


def test_objective_and_sensitivity_change_the_ranks(trained):
    model, train, _, _ = trained
    ranks = [
        compress_model(model, batches(train), budget={"parameters": 0.2}, **options)[1].ranks
        for options in ({}, {"objective": "output"}, {"objective": "output", "sensitivity": False})
    ]
    assert ranks[0] != ranks[1] != ranks[2]


class Words(nn.Module):
    """A small language model that takes keyword arguments and returns an object with logits."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.head = nn.Linear(16, 11)

    def forward(self, input_ids, attention_mask=None):
        x = self.embedding(input_ids)
        return {"logits": self.head(x + self.down(torch.relu(self.up(x))))}


def test_padding_does_not_enter_the_moments():
    torch.manual_seed(0)
    model = Words()
    ids = torch.randint(0, 11, (40, 7))
    mask = torch.ones_like(ids)
    mask[:, 5:] = 0
    padded = [{"input_ids": ids, "attention_mask": mask}]
    changed = ids.clone()
    changed[:, 5:] = 3
    models = [
        compress_model(model, batches, ranks={"up": 3}, objective="output", metric="divergence")[0]
        for batches in (padded, [{"input_ids": changed, "attention_mask": mask}])
    ]
    for one, other in zip(*(m.parameters() for m in models), strict=True):
        assert torch.equal(one, other)


def test_perplexity_is_that_of_the_next_tokens():
    torch.manual_seed(0)
    model = Words()
    ids = torch.randint(0, 11, (6, 9))
    logits = model(ids)["logits"].detach()
    expected = float(
        torch.exp(nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))
    )
    for batch in ({"input_ids": ids}, {"input_ids": ids, "labels": ids}, ids):
        found = Evaluator(model, Batches([batch], "validation"), "perplexity", MPI.COMM_SELF).full
        assert found.value == pytest.approx(expected, rel=1e-5)
        assert found.loss == 0
        assert found.samples == 48
    mask = torch.ones_like(ids)
    mask[:, 6:] = 0
    masked = Evaluator(
        model, Batches([{"input_ids": ids, "attention_mask": mask}], "v"), "loss", MPI.COMM_SELF
    ).full
    expected = nn.functional.cross_entropy(logits[:, :5].flatten(0, 1), ids[:, 1:6].flatten())
    assert masked.value == pytest.approx(float(expected), rel=1e-5)


def test_a_callable_metric_is_a_score_of_which_more_is_better(trained):
    model, train, validation, _ = trained

    def score(candidate):
        return 7.0 - divergence(model, candidate, validation[0])

    _, report = compress_model(
        model, batches(train), budget={"parameters": 0.4}, validation=[], metric=score
    )
    assert report.full_score == pytest.approx(7.0)
    assert report.loss == pytest.approx(7.0 - report.small_score, abs=1e-5)
    assert report.loss > 0
    assert report.metric == "score"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of max_loss, budget and ranks"),
        ({"budget": {"parameters": 0.5}, "max_loss": 1}, "not max_loss and budget"),
        ({"budget": {"flops": 0.5}}, "budget: one of parameters, macs, seconds"),
        ({"budget": {"macs": 50}}, "50 is not a share"),
        ({"budget": 0.5}, "budget: one of parameters, macs, seconds"),
        ({"budget": {"macs": "half"}}, "half is not a share"),
        ({"max_loss": "a"}, "max_loss: a is not a number"),
        ({"ranks": [3]}, "ranks: a dictionary is needed"),
        ({"budget": {"macs": 0.5}, "layers": 3}, "layers: 3 is not a name"),
        ({"budget": {"macs": 0.5}, "layers": [3]}, "layers: 3 is not a name"),
        ({"budget": {"macs": 0.5}, "seed": "a"}, "seed: 'a' is not an integer"),
        ({"budget": {"macs": 0.5}, "epochs": "a"}, "epochs: 'a' is not"),
        ({"budget": {"macs": 0.5}, "learning_rate": "a"}, "learning_rate: 'a' is not"),
        ({"budget": {"macs": 0.5}, "metric": 3}, "metric: 3 is not one of"),
        ({"max_loss": 1}, "validation batches are needed"),
        ({"ranks": {"fc1": 0}}, "fc1 has rank 0"),
        ({"ranks": {"fc9": 3}}, "the model has no layer fc9"),
        ({"ranks": {"fc1": 300}}, "fc1 cannot have rank 300: the largest useful one is"),
        ({"budget": {"parameters": 0.001}}, "cannot be met; the least is 0.0"),
        ({"budget": {"parameters": 0.5}, "side": "left"}, "side: 'left' is not one of"),
        ({"budget": {"parameters": 0.5}, "metric": "f1"}, "metric: 'f1' is not one of"),
        ({"budget": {"parameters": 0.5}, "objective": "x"}, "objective: 'x'"),
        ({"budget": {"parameters": 0.5}, "repair": "x"}, "repair: 'x'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(trained, arguments, message):
    model, train, _, _ = trained
    with pytest.raises(ConfigError, match=message):
        compress_model(model, batches(train), **arguments)


def test_bad_batches_are_named(trained):
    model, train, _, _ = trained
    budget = {"parameters": 0.5}
    good = train[0][:50]
    broken = good.clone()
    broken[3, 0, 2, 2] = float("nan")
    for calibration, message in (
        ([good, good[:, :, :5]], r"does not take batch 1 \(shapes \(50, 1, 5, 8\)\)"),
        ([good, broken], "layer conv1: outputs of batch 1 are not finite"),
        ([], "calibration: there is no batch"),
        ([good[:0]], "calibration: batch 0 has no samples"),
        ([(good, None, 3)], "batch 0 has 3 parts"),
        (["text"], "batch 0 is str"),
    ):
        with pytest.raises(InputError, match=message):
            compress_model(model, calibration, budget=budget)
    with pytest.raises(ConfigError, match="a tensor is one batch"):
        compress_model(model, good, budget=budget)
    with pytest.raises(InputError, match="batch 0 has no labels"):
        compress_model(model, [good], max_loss=1, validation=[good])


def test_labels_outside_of_the_classes_and_scores_that_are_no_numbers_are_refused(trained):
    model, train, validation, _ = trained
    wrong = [(validation[0], validation[1] + 5)]
    with pytest.raises(InputError, match="batch 0 has the label 14; the model has 10 outputs"):
        compress_model(model, batches(train), max_loss=1, validation=wrong)
    with pytest.raises(ConfigError, match="metric: it returns 'good', which is not a number"):
        compress_model(
            model, batches(train), max_loss=1, validation=[], metric=lambda candidate: "good"
        )


def test_an_error_of_the_model_names_the_batch_and_leaves_no_thread():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            if x[0, 0] > 100:
                raise ZeroDivisionError("too large")
            return self.head(torch.tanh(self.layer(x)))

    x = torch.randn(60, 6)
    x[40, 0] = 1000
    threads = set(threading.enumerate())
    with pytest.raises(InputError, match=r"batch 2 \(shapes \(20, 6\)\): ZeroDivisionError: too"):
        compress_model(Late(), x.split(20), budget={"parameters": 0.8})
    assert set(threading.enumerate()) <= threads
    with pytest.raises(ConfigError, match=r"a torch\.nn\.Module is needed, not builtin"):
        compress_model(torch.relu, [x], budget={"macs": 0.5})
    lazy = nn.Sequential(nn.LazyLinear(4))
    with pytest.raises(ConfigError, match=r"0\.weight is not initialised; call the model"):
        compress_model(lazy, [x], budget={"macs": 0.5})


@pytest.mark.parametrize("rows", ["constant", "zero", "bfloat16"])
def test_layers_without_variance_and_short_floats_are_compressed(rows):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(),
                          nn.Linear(24, 3))  # fmt: skip
    x = torch.randn(120, 8)
    if rows == "constant":
        x = torch.ones(120, 8)
    elif rows == "zero":
        x = torch.zeros(120, 8)
    else:
        model, x = model.bfloat16(), x.bfloat16()
    small, report = compress_model(model, x.split(40), budget={"parameters": 0.7})
    assert report.parameters_kept <= 0.7
    assert {p.dtype for p in small.parameters()} == {x.dtype}
    with torch.no_grad():
        difference = (small(x) - model(x)).abs().max()
    assert float(difference) < (0.1 if rows == "bfloat16" else 1e-4)


@pytest.mark.parametrize("metric", ["divergence", "cosine"])
def test_a_shuffling_validation_set_gives_the_loss_of_a_list(trained, metric):
    model, train, validation, _ = trained
    data = torch.utils.data.TensorDataset(*validation)
    shuffled = torch.utils.data.DataLoader(data, 100, shuffle=True)
    losses = [
        compress_model(
            model, batches(train), budget={"parameters": 0.3}, metric=metric, validation=given
        )[1].loss
        for given in (shuffled, batches(validation))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_training_flags_stay_and_the_small_model_can_be_trained(trained):
    model, train, _, _ = trained
    model = copy.deepcopy(model)
    model.relu.train()
    model.fc2.weight.requires_grad_(False)
    small, _ = compress_model(model, batches(train), ranks={"fc1": 8})
    assert model.relu.training
    assert not small.fc2.weight.requires_grad
    assert all(p.requires_grad for p in small.fc1.parameters())
    small(train[0][:5]).sum().backward()
    assert small.fc1[0].weight.grad is not None


def test_layers_without_influence_on_the_output_are_left_alone():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.pooler = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 32)

        def forward(self, x):
            h = self.b(torch.relu(self.a(x)))
            return h, self.pooler(h)

    torch.manual_seed(0)
    _, report = compress_model(
        Pooled(), torch.randn(300, 8).split(100), budget={"parameters": 0.8}, metric="cosine"
    )
    by_name = {layer.name: layer for layer in report.layers}
    assert by_name["pooler"].reason == "no gradient goes from the output to it"
    assert by_name["b"].side == "output"


def test_statistics_of_normalisations_do_not_depend_on_the_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.BatchNorm1d(24), nn.Linear(24, 24),
                          nn.ReLU(), nn.Linear(24, 3))  # fmt: skip
    x = torch.randn(401, 8) + 1
    for _ in range(50):
        model(x)
    model.eval()
    norms = []
    for calibration in (x.split(100), [x], x[x[:, 0].argsort()].split(40)):
        small, report = compress_model(model, calibration, ranks={"0": 4}, objective="output")
        assert report.folded == ()
        norms.append(small[2].running_var)
        assert small[2].running_mean.shape == (24,)
    for other in norms[1:]:
        torch.testing.assert_close(other, norms[0], rtol=1e-3, atol=1e-5)
    small, _ = compress_model(model, x.split(100), ranks={"3": 8})
    # Nothing is cut before it, so it is as it was.
    torch.testing.assert_close(small[2].running_var, model[2].running_var, rtol=1e-4, atol=1e-5)


def test_a_model_that_handles_exceptions_does_not_hang():
    class Handles(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            first, second = (self.a, self.b) if x[0, 0] > 0 else (self.b, self.a)
            try:
                x = torch.tanh(first(x))
            except Exception:
                x = x * 0
            return second(x)

    torch.manual_seed(0)
    x = torch.randn(60, 6)
    x[:30, 0], x[30:, 0] = 1.0, -1.0
    threads = set(threading.enumerate())
    with pytest.raises(InputError, match="use sequential=False with repair='none'"):
        compress_model(Handles(), x.split(30), ranks={"a": 2})
    assert set(threading.enumerate()) <= threads


def test_an_iterator_of_batches_is_read_once(trained):
    model, train, _, _ = trained
    _, report = compress_model(model, (x for x in train[0].split(200)), budget={"parameters": 0.5})
    assert report.samples == 1000
    assert report.parameters_kept <= 0.5


def test_a_model_without_values_or_on_two_devices_is_refused():
    with pytest.raises(ConfigError, match="device meta"):
        compress_model(nn.Linear(3, 3, device="meta"), [], budget={"macs": 0.5})
    mixed = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, device="meta"))
    with pytest.raises(ConfigError, match="on cpu and meta; move it to one device"):
        compress_model(mixed, [], budget={"macs": 0.5})


def test_an_order_of_layers_that_depends_on_the_data_is_named():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            first, second = (self.a, self.b) if x[0, 0] > 0 else (self.b, self.a)
            return second(torch.tanh(first(x)))

    torch.manual_seed(0)
    x = torch.randn(60, 6)
    x[:30, 0], x[30:, 0] = 1.0, -1.0
    with pytest.raises(InputError, match="the order of the layers depends on the data"):
        compress_model(Branching(), x.split(30), ranks={"a": 2})
    small, _ = compress_model(
        Branching(), x.split(30), ranks={"a": 2}, sequential=False, repair="none"
    )
    assert small(x).shape == (60, 6)


@pytest.mark.mpi
def test_ranks_with_shares_of_the_batches_agree_with_one_rank(comm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(),
                          nn.Linear(24, 5)).double()  # fmt: skip
    for layer in model:
        for parameter in layer.parameters():
            parameter.data = torch.from_numpy(comm.bcast(parameter.detach().numpy()))
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((360, 16)))
    options = {"budget": {"parameters": 0.5}, "objective": "output", "metric": "divergence"}
    alone, one = compress_model(model, x.split(20), validation=[x[:60]], **options)
    mine = x.split(20)[comm.rank :: comm.size]
    valid = x[:60].split(20)[comm.rank :: comm.size]
    small, report = compress_model(model, mine, validation=valid, comm=comm, **options)
    assert report.samples == one.samples == 360
    assert report.ranks == one.ranks
    assert report.loss == pytest.approx(one.loss, rel=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(small(x), alone(x), atol=1e-8)
    gathered = comm.allgather([p.detach().numpy() for p in small.parameters()])
    for other in gathered:
        for a, b in zip(other, gathered[0], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.mpi
def test_a_bad_batch_on_one_rank_is_an_error_on_all(comm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    x = torch.randn(40, 8)
    if comm.rank == comm.size - 1:
        x[5, 2] = float("inf")
    with pytest.raises(InputError, match="layer 0: outputs of batch 0 are not finite"):
        compress_model(model, [x], budget={"parameters": 0.5}, comm=comm)


@pytest.mark.mpi
def test_a_first_batch_that_cannot_be_read_on_one_rank_is_an_error_on_all(comm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    batch = "text" if comm.rank == comm.size - 1 else torch.randn(40, 8)
    with pytest.raises(InputError, match="batch 0 is str"):
        compress_model(model, [batch], budget={"parameters": 0.5}, comm=comm)


def small_problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3))
    rows = np.random.default_rng(1).standard_normal((90, 12)).astype(np.float32)
    return model, torch.from_numpy(rows)


@pytest.mark.mpi
def test_arguments_that_differ_between_ranks_are_refused(comm):
    model, x = small_problem()
    options = {"budget": {"parameters": 0.6}, "comm": comm}
    if comm.size == 1:
        compress_model(model, [x], **options)
        return
    with pytest.raises(ConfigError, match="settings differs between ranks"):
        compress_model(model, [x], centre=comm.rank == 0, **options)
    budget = {"parameters": 0.6 if comm.rank == 0 else 0.7}
    with pytest.raises(ConfigError, match="request differs between ranks"):
        compress_model(model, [x], budget=budget, comm=comm)
    if comm.rank:
        nn.init.zeros_(model[0].weight)
    with pytest.raises(ConfigError, match="model differs between ranks"):
        compress_model(model, [x], **options)


@pytest.mark.mpi
def test_errors_of_the_user_on_one_rank_are_errors_on_all(comm):
    model, x = small_problem()
    last = comm.rank == comm.size - 1
    options = {"budget": {"parameters": 0.6}, "comm": comm}
    with pytest.raises(InputError, match=r"repair_batches: .*shapes \(5, 7\)"):
        compress_model(
            model, [x], repair="distill", repair_batches=[x[:5, :7]] if last else [x], **options
        )
    with pytest.raises(ConfigError, match="validation: an iterable of batches is needed"):
        compress_model(model, [x], validation=5 if last else [x], metric="cosine", **options)

    def raising(_model):
        return 1 / 0 if last else 1.0

    with pytest.raises(ConfigError, match="metric: it raises ZeroDivisionError"):
        compress_model(model, [x], validation=[x], metric=raising, **options)
    with pytest.raises(ConfigError, match="metric: it returns nan"):
        compress_model(
            model, [x], validation=[], metric=lambda _: math.nan if last else 1.0, **options
        )


@pytest.mark.mpi
def test_the_score_of_a_callable_is_its_mean_over_ranks(comm):
    model, x = small_problem()
    _, report = compress_model(
        model, [x], budget={"parameters": 0.6}, validation=[], metric=lambda _: comm.rank, comm=comm
    )
    assert report.full_score == pytest.approx((comm.size - 1) / 2)
    assert report.loss == 0


@pytest.mark.mpi
def test_the_first_rank_with_a_batch_measures_seconds(comm):
    model, x = small_problem()
    mine = [x] if comm.rank == comm.size - 1 else []
    compression = ModelCompression(model, mine, comm=comm)
    timed = compression._with_seconds()
    seconds = comm.allgather(timed.full().cost.seconds)
    assert seconds[0] > 0
    assert len(set(seconds)) == 1
    _, report = compression.compress(Request(budget={"parameters": 0.6}))
    assert report.before.seconds > 0
    assert len(set(comm.allgather(report.after.seconds))) == 1


@pytest.mark.mpi
def test_a_rank_without_batches_takes_part(comm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3))
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((90, 12)).astype(np.float32))
    mine = [x] if comm.rank == 0 else []
    for repair in ("bias", "distill"):
        small, report = compress_model(
            model, mine, budget={"parameters": 0.6}, comm=comm, repair=repair
        )
        assert report.samples == 90
        sums = comm.allgather(float(sum(p.detach().double().sum() for p in small.parameters())))
        assert len(set(sums)) == 1
