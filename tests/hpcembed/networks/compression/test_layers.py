"""Replacements of single layers: errors, shapes, groups, and what is left alone."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hpcembed.networks.compression import ModelCompression, Request, Settings, compress_model
from hpcembed.networks.compression.layers import find_layers
from hpcembed.runtime.errors import ConfigError, InputError


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Conv1D(nn.Module):
    """The transposed matrix of GPT-2 type models."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf) / 3)
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


def correlated(*shape):
    """Rows with decaying variances and means far from zero, in double precision."""
    x = torch.randn(*shape, dtype=torch.float64)
    scale = 2.0 ** -torch.arange(shape[1], dtype=torch.float64)
    return (x + 1.0) * scale.reshape(-1, *[1] * (len(shape) - 2))


LAYERS = {
    "linear": (nn.Linear(12, 9), correlated(300, 12)),
    "long outputs": (nn.Linear(6, 15), correlated(300, 6)),
    "no bias": (nn.Linear(12, 9, bias=False), correlated(300, 12)),
    "sequence": (nn.Linear(8, 8), correlated(40, 8, 6).transpose(1, 2)),
    "conv2d": (nn.Conv2d(6, 10, 3, padding=1, stride=2), correlated(40, 6, 9, 9)),
    "dilated": (nn.Conv2d(4, 9, (3, 1), dilation=(2, 1), bias=False), correlated(40, 4, 9, 9)),
    "grouped": (nn.Conv2d(8, 12, 3, groups=2), correlated(40, 8, 7, 7)),
    "same": (nn.Conv2d(4, 8, 3, padding="same"), correlated(40, 4, 7, 7)),
    "conv1d": (nn.Conv1d(5, 8, 3, padding=1), correlated(60, 5, 11)),
    "transposed": (Conv1D(9, 12), correlated(300, 12)),
}


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_the_measured_error_equals_the_trace_formula(name, centre):
    layer, x = LAYERS[name]
    model = nn.Sequential(copy.deepcopy(layer).double())
    settings = Settings(
        metric="cosine", side="output", objective="output", centre=centre, sequential=False,
        repair="none",
    )  # fmt: skip
    compression = ModelCompression(model, x.split(16), settings=settings)
    small, report = compression.compress(Request(ranks={"0": 2}))
    found = compression.solved.problems["0"].output
    with torch.no_grad():
        y, z = model(x), small(x)
    rows = (y - z).square().sum() / (y.numel() / report.layers[0].shape[0])
    assert float(rows) == pytest.approx(found.errors[2], rel=1e-10)
    if centre:
        assert report.layers[0].error_measured == pytest.approx(
            report.layers[0].error_predicted, rel=1e-10
        )
        assert report.layers[0].captured == pytest.approx(
            1 - report.layers[0].error_predicted, rel=1e-10
        )
    assert found.max_residual < 1e-12
    assert [type(part) for part in small[0]] == [
        nn.Linear if isinstance(part, nn.Linear) else type(part) for part in small[0]
    ]
    assert sum(p.numel() for p in small.parameters()) == report.after.parameters
    assert report.layers[0].parameters[1] == report.after.parameters


@pytest.mark.parametrize("name", LAYERS)
def test_centred_factors_are_better_than_uncentred_ones(name):
    layer, x = LAYERS[name]
    model = nn.Sequential(copy.deepcopy(layer).double())
    errors = []
    for centre in (True, False):
        _, report = compress_model(
            model, x.split(16), ranks={"0": 2}, side="output", objective="output", centre=centre,
            sequential=False, repair="none", metric="cosine",
        )  # fmt: skip
        errors.append(report.layers[0].error_measured)
    assert errors[0] < errors[1]


@pytest.mark.parametrize("name", ["conv2d", "grouped", "same", "conv1d"])
def test_channels_that_enter_a_kernel_are_reduced_about_zero_where_it_is_padded(name):
    layer, x = LAYERS[name]
    model = nn.Sequential(copy.deepcopy(layer).double())
    small, report = compress_model(
        model, x.split(16), ranks={"0": 2}, side="input", objective="output", sequential=False,
        repair="none", metric="cosine",
    )  # fmt: skip
    assert (report.layers[0].side, report.layers[0].rank_in) == ("input", 2)
    full = copy.deepcopy(model)
    # All channels kept: the layer itself, at its borders too.
    compression = ModelCompression(
        model, x.split(16),
        settings=Settings(side="input", objective="output", metric="cosine", repair="none"),
    )  # fmt: skip
    side = compression.solved.problems["0"].input
    for group, factors in enumerate(side.factors):
        np.testing.assert_allclose(factors.map(factors.max_rank), np.eye(factors.max_rank),
                                   atol=1e-9)  # fmt: skip
        assert np.all(side.points[group] == 0) == (name != "grouped")
    with torch.no_grad():
        assert float((full(x) - small(x)).square().mean()) > 0


def test_weighted_errors_are_smaller_in_the_norm_of_the_gradients():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    x = correlated(2000, 20) * 3
    losses = {}
    for objective in ("loss", "output"):
        small, _ = compress_model(
            model, x.split(250), ranks={"0": 2}, objective=objective, sequential=False,
            repair="none",
        )  # fmt: skip
        with torch.no_grad():
            p, q = (torch.log_softmax(m(x), 1) for m in (model, small))
        losses[objective] = float((p.exp() * (p - q)).sum(1).mean())
    assert losses["loss"] < losses["output"]


class Readers(nn.Module):
    """Three matrices that read the same tensor, as in attention."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 4), nn.Linear(16, 4)
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        return self.head(torch.cat([self.query(x), self.key(x), self.value(x)], dim=-1))


def test_layers_that_read_the_same_tensor_share_one_reduction():
    model = Readers()
    x = correlated(500, 16).float()
    small, report = compress_model(
        model, x.split(100), budget={"parameters": 0.7}, layers=["query", "key", "value"]
    )
    assert small.query[0] is small.key[0] is small.value[0]
    by_name = {layer.name: layer for layer in report.layers}
    assert by_name["query"].shared_with == ("key", "value")
    assert by_name["query"].rank_in == by_name["key"].rank_in > 0
    assert by_name["head"].reason == "not selected"
    unique = sum(p.numel() for p in small.parameters())
    assert unique == report.after.parameters <= 0.7 * report.before.parameters
    assert sum(layer.parameters[1] for layer in report.layers) == unique
    with torch.no_grad():
        change = (model(x) - small(x)).square().mean() / model(x).var()
    assert change < 0.01


def reasons(model, selection="linear,conv"):
    return {layer.name: layer.reason for layer in find_layers(model, selection)}


def test_layers_that_cannot_be_compressed_are_left_alone_with_a_reason():
    tied = nn.Module()
    tied.embedding, tied.head = nn.Embedding(7, 5), nn.Linear(5, 7)
    tied.head.weight = tied.embedding.weight
    model = nn.ModuleDict(
        {
            "depthwise": nn.Conv2d(6, 6, 3, groups=6),
            "reflected": nn.Conv2d(2, 4, 3, padding_mode="reflect"),
            "attention": nn.MultiheadAttention(8, 2),
            "tied": tied,
            "free": nn.Linear(4, 4),
            "normed": nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        }
    )
    found = reasons(model)
    assert found["depthwise"] == "depthwise"
    assert found["reflected"] == "padding mode reflect"
    assert found["attention.out_proj"] == "attention reads its weight directly"
    assert found["tied.head"] == "its weight is tied: tied.embedding.weight, tied.head.weight"
    assert found["free"] == ""
    assert found["normed"] == "its weight is computed by a parametrization"


def test_a_module_with_a_forward_method_of_its_own_is_no_layer():
    class Scaled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    assert reasons(nn.Sequential(Scaled(3, 3), nn.Linear(3, 3))) == {"1": ""}


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        ("conv", {"0"}),
        ("linear", {"2.0", "2.1"}),
        (["2.*"], {"2.0", "2.1"}),
        ([nn.Conv2d, "2.1"], {"0", "2.1"}),
        (lambda name, module: name == "2.0", {"2.0"}),
    ],
)
def test_layers_are_selected_by_names_patterns_types_and_a_predicate(selection, selected):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    )
    found = reasons(model, selection)
    assert {name for name, reason in found.items() if not reason} == selected
    assert {reason for reason in found.values() if reason} <= {"not selected"}


def test_a_selection_that_matches_nothing_and_a_layer_that_cannot_be_cut_are_refused():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4))
    with pytest.raises(ConfigError, match="no module of the model matches 'fc'"):
        find_layers(model, ["fc"])
    with pytest.raises(ConfigError, match="2 cannot be compressed: depthwise"):
        find_layers(model, ["2"])
    with pytest.raises(ConfigError, match="1 is ReLU; only Linear"):
        find_layers(model, ["1"])


def test_a_shared_module_is_replaced_under_every_name():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(10, 10)
            self.b = self.a

        def forward(self, x):
            return self.b(torch.tanh(self.a(x)))

    x = correlated(200, 10).float()
    small, report = compress_model(Twice(), [x], ranks={"a": 3}, metric="cosine")
    assert small.a is small.b
    assert small.a[0].out_features == 3
    assert small(x).shape == (200, 10)
    assert report.layers[0].macs[0] == 200  # two calls of 10 x 10


def test_a_model_that_is_one_layer_is_left_alone():
    with pytest.raises(ConfigError, match="it is the model itself"):
        compress_model(nn.Linear(9, 9), [torch.randn(90, 9)], budget={"macs": 0.5})


def test_fewer_rows_than_the_rank_needs_say_how_many_would_do():
    model = nn.Sequential(nn.Linear(20, 20))
    with pytest.raises(InputError, match=r"layer 0: rank 8 needs more than 8 rows.*81 samples"):
        compress_model(model, [torch.randn(8, 20)], ranks={"0": 8})
