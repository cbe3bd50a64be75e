"""Models, batches and settings that differ from the usual ones."""

import warnings

import numpy as np
import pytest
import torch
from mpi4py import MPI
from torch import nn

from hpcembed import compress_model
from hpcembed.networks.compression import ModelCompression, sequential
from hpcembed.networks.compression.batches import Batches
from hpcembed.networks.compression.distillation import distill
from hpcembed.networks.low_rank.request import Request
from hpcembed.runtime.errors import ConfigError, InputError

HALF = {"parameters": 0.5}


def mlp(n=12):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(n, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4)
    )


def rows(samples=240, n=12):
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(n, n, generator=generator) * 0.7 ** torch.arange(n)
    return torch.randn(samples, n, generator=generator) @ mixing.T


class Keeping(nn.Module):
    """Keeps a tensor of its call as an attribute, and reads it two layers later."""

    def __init__(self, keep):
        super().__init__()
        self.first, self.second, self.head = mlp()[0], mlp()[2], mlp()[4]
        self.keep, self.h = keep, None

    def forward(self, x):
        h = torch.relu(self.first(x))
        if self.keep:
            self.h = [h]
        y = torch.relu(self.second(h))
        return self.head(y + (self.h[0] if self.keep else h))


def test_a_model_that_keeps_tensors_is_compressed_as_one_that_does_not():
    """Passes that wait for each other must not see each other's tensors."""
    x = rows()
    small, expected = (
        compress_model(Keeping(keep), x.split(40), budget=HALF)[0] for keep in (True, False)
    )
    with torch.no_grad():
        torch.testing.assert_close(small(x), expected(x))


def test_a_model_that_was_called_with_gradients_is_copied():
    model, x = Keeping(True), rows()
    model(x)
    assert model.h[0].grad_fn is not None
    _, report = compress_model(model, x.split(40), budget=HALF)
    assert report.parameters_kept <= 0.5


def test_a_model_that_cannot_be_copied_is_named():
    model = mlp()
    model.lock = (one for one in range(3))
    with pytest.raises(
        ConfigError, match=r"model: it cannot be copied by copy.deepcopy: TypeError"
    ):
        compress_model(model, rows().split(40), budget=HALF)


def test_layers_with_code_of_their_own_are_left_alone():
    model, x = mlp(), rows()
    model[0].register_forward_hook(lambda module, inputs, output: output * 2)
    model[2].register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    forward = model[4].forward
    model[4].forward = lambda x: -forward(x)
    with pytest.raises(ConfigError, match="0: it has hooks, or a forward method that was put in"):
        compress_model(model, x.split(40), budget=HALF)
    wide = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 4))
    wide[2].register_forward_hook(lambda module, inputs, output: output * 2)
    small, report = compress_model(wide, x.split(40), ranks={"0": 5})
    assert report.layers[1].reason.startswith("it has hooks")
    with torch.no_grad():
        assert (small(x) - wide(x)).abs().max() < 0.5 * wide(x).abs().max()


def test_a_normalisation_with_hooks_is_not_folded():
    model = nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.Flatten(), nn.Linear(8 * 10, 4))
    seen = []
    model[1].register_forward_hook(lambda module, inputs, output: seen.append(1))
    small, report = compress_model(model.eval(), [torch.randn(80, 3, 12)], budget={"macs": 0.9})
    assert report.folded == ()
    seen.clear()
    small(torch.randn(2, 3, 12))
    assert seen == [1]


@pytest.mark.parametrize("old", [True, False])
def test_layers_with_weight_norm_are_left_alone(old):
    model = mlp()
    normed = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        normed(model[2])
    model(rows())
    small, report = compress_model(model, rows().split(40), ranks={"0": 4})
    assert report.layers[1].reason == "its weight is computed by a parametrization"
    assert small(rows()).shape == (240, 4)


def test_a_model_that_reads_the_weight_of_a_replaced_layer_is_told_so():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(12, 24), nn.Linear(24, 4)

        def forward(self, x):
            return self.down(torch.relu(self.up(x))) + self.up.weight.sum()

    with pytest.raises(InputError, match=r"of a layer that was replaced, leave that layer out"):
        compress_model(Tied(), rows().split(40), ranks={"up": 3})


def test_a_forward_method_without_gradients_needs_the_other_objective():
    class Quiet(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        @torch.no_grad()
        def forward(self, x):
            return self.inner(x)

    with pytest.raises(InputError, match="use objective='output'"):
        compress_model(Quiet(), rows().split(40), budget=HALF)
    _, report = compress_model(Quiet(), rows().split(40), budget=HALF, objective="output")
    assert report.parameters_kept <= 0.5


@pytest.mark.parametrize("repair", ["bias", "distill"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_callers_may_switch_gradients_off(mode, repair):
    x = rows()
    expected = compress_model(mlp(), x.split(40), budget=HALF, repair=repair)[0]
    with mode():
        model, inputs = mlp(), x.clone()
        small, _ = compress_model(model, inputs.split(40), budget=HALF, repair=repair)
    torch.testing.assert_close(small(x), expected(x))
    assert all(parameter.requires_grad for parameter in small.parameters())


def test_images_without_a_dimension_of_samples_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    images = [torch.randn(3, 10, 10) for _ in range(4)]
    with pytest.raises(InputError, match=r"layer 0: .* \(3, 10, 10\), without a dimension of samp"):
        compress_model(model, images, budget={"macs": 0.5})


def test_fits_use_all_rows_of_small_batches():
    model, x = mlp(), rows(600)
    small, expected = (
        compress_model(model, x.split(size), budget=HALF, objective="output")[0]
        for size in (2, 200)
    )
    with torch.no_grad():
        torch.testing.assert_close(small(x), expected(x), rtol=1e-3, atol=1e-3)


def test_batches_in_flight_are_bounded(monkeypatch):
    compression = ModelCompression(mlp(), rows(600).split(2))
    batches = list(Batches(rows(600).split(2), "calibration"))
    assert len(sequential._some(batches, compression.solved)) == 300
    monkeypatch.setattr(sequential, "_MOST_VALUES", 24 * 2 * 100)
    found = sequential._some(batches, compression.solved)
    assert [batch.number for batch in (found[0], found[-1])] == [0, 299]
    assert len(found) == 100


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_training_of_a_model_of_16_bits_is_done_in_single_precision(kind):
    torch.manual_seed(0)
    teacher = nn.Sequential(mlp(), nn.BatchNorm1d(4)).to(kind).eval()
    small = nn.Sequential(mlp(), nn.BatchNorm1d(4)).to(kind).eval()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    batches = Batches(rows().to(kind).split(20), "repair_batches")
    losses = distill(
        small, teacher, [], batches, MPI.COMM_SELF, epochs=20, learning_rate=1e-3, classes=True
    )
    assert losses[-1] < 0.3 * losses[0]
    kinds = {t.dtype for t in (*small.parameters(), *small.buffers()) if t.is_floating_point()}
    assert kinds == {kind}
    assert {parameter.dtype for parameter in teacher.parameters()} == {kind}


def test_training_of_a_model_in_double_precision_keeps_it():
    x = rows().double()
    small, _ = compress_model(mlp().double(), x.split(40), budget=HALF, repair="distill")
    assert {parameter.dtype for parameter in small.parameters()} == {torch.float64}


def test_batches_of_one_part_have_no_labels():
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows()), 40)
    report = compress_model(mlp(), data, budget=HALF)[1]
    assert report.samples == 240


def test_a_metric_may_change_the_mode_of_the_model():
    class Noisy(nn.Sequential):
        def forward(self, x):
            return super().forward(x + 100) if self.training else super().forward(x)

    def score(model):
        model.train()
        return 0.0

    x = rows()
    model = Noisy(*mlp())
    small, _ = compress_model(
        model, x.split(40), max_loss=1.0, validation=x.split(40), metric=score
    )
    assert not small.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 2**70}, "seed: 1180591620717411303424 is not an integer from 0 to"),
        ({"seed": -1}, "seed: -1 is not"),
        ({"centre": "no"}, "centre: 'no' is not True or False"),
        ({"sequential": None}, "sequential: None is not True or False"),
        ({"sensitivity": 1}, "sensitivity: 1 is not True or False"),
        ({"layers": "0,,2"}, "layers: '0,,2' has an empty name"),
        ({"layers": ""}, "layers: '' has an empty name"),
        ({"comm": "world"}, "comm: a communicator of mpi4py is needed, not 'world'"),
    ],
)
def test_wrong_settings_are_named(arguments, message):
    with pytest.raises(ConfigError) as caught:
        compress_model(mlp(), rows().split(40), budget=HALF, **arguments)
    assert message in str(caught.value)


def test_integers_of_numpy_are_integers():
    compress_model(mlp(), rows().split(40), budget=HALF, seed=np.int64(3), epochs=np.int32(1))


def test_no_batches_to_train_with_are_an_error():
    with pytest.raises(InputError, match="repair_batches: there is no batch"):
        compress_model(mlp(), rows().split(40), budget=HALF, repair="distill", repair_batches=[])


def test_one_compression_serves_requests_without_gradients():
    compression = ModelCompression(mlp(), rows().split(40))
    with torch.inference_mode():
        small, _ = compression.compress(Request(budget=HALF))
    assert small(rows()).requires_grad
