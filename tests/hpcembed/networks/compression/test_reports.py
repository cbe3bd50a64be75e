"""Numbers and texts of reports, and requests that come from reports."""

import pytest
import torch
from torch import nn

from hpcembed import compress_model
from hpcembed.networks.compression import ModelCompression, Settings
from hpcembed.networks.low_rank.request import Request
from hpcembed.networks.low_rank.shape import Ranks
from hpcembed.runtime.errors import ConfigError, InputError


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(),
        nn.Linear(24, 4),
    )  # fmt: skip


def rows(samples=600):
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(12, 12, generator=generator) * 0.7 ** torch.arange(12)
    return torch.randn(samples, 12, generator=generator) @ mixing.T


def relative(y, z):
    y, z = y.double(), z.double()
    return float((y - z).square().sum() / (y - y.mean(0)).square().sum())


@torch.no_grad()
@pytest.mark.parametrize("sequential", [True, False])
def test_measured_errors_of_layers_behind_others(sequential):
    """With fits: the output in the compressed network. Without: the layer on its own inputs."""
    model, x = network(), rows()
    small, report = compress_model(
        model, x.split(100), ranks={"2": 6, "4": 6}, sequential=sequential, repair="none"
    )
    before, after = model[:4](x), small[:4](x)
    inputs = after if sequential else before
    measured = {layer.name: layer.error_measured for layer in report.layers if layer.side != "none"}
    expected = {
        "2": relative(model[:3](x), small[:3](x)),
        "4": relative(model[4](before), small[4](inputs)),
    }
    assert measured == pytest.approx(expected, rel=1e-4)


def test_ranks_of_a_report_give_its_model_again():
    torch.manual_seed(0)
    convolutions = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip
    images = torch.randn(200, 3, 8, 8).cumsum(2).cumsum(3).split(50)
    small, report = compress_model(convolutions, images, budget={"macs": 0.3})
    assert "both" in {layer.side for layer in report.layers}
    again, other = compress_model(convolutions, images, ranks=report.ranks)
    assert other.ranks == report.ranks
    for one, two in zip(small.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    for wrong in (Ranks(), Ranks(-1, 2), (1, 2), "3", 2.5):
        with pytest.raises(ConfigError, match=r"ranks: 2 has rank .* a positive integer, or Ranks"):
            compress_model(convolutions, images, ranks={"2": wrong})


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        weights = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), dim=-1)
        return self.head((weights @ self.v(x)).mean(1))


def test_equal_ranks_of_inputs_share_a_reduction():
    torch.manual_seed(0)
    tokens = rows(600).reshape(60, 10, 12).split(20)
    wanted = dict.fromkeys("qkv", Ranks(4, 0))
    small, report = compress_model(Attention(), tokens, ranks=wanted, side="input")
    assert small.q[0] is small.k[0] is small.v[0]
    assert report.layers[0].shared_with == ("k", "v")
    assert report.after.parameters == 12 * 4 + 3 * (12 * 4 + 12) + 12 * 4 + 4
    small, _ = compress_model(Attention(), tokens, ranks=wanted | {"v": Ranks(3, 0)}, side="input")
    assert small.q[0] is not small.k[0]


def test_ranks_that_a_layer_cannot_have():
    for ranks, options, message in [
        ({"2": 13}, {}, "ranks: 2 cannot have rank 13: the largest useful one is 11"),
        ({"6": 4}, {}, "ranks: 6 cannot have rank 4: the largest useful one is 3"),
        ({"2": Ranks(3, 0)}, {}, "ranks: the inputs of 2 cannot be reduced; look at side"),
        ({"2": Ranks(3, 3)}, {}, r"ranks: 2 cannot have the ranks 3 \(inputs\) and 3 \(outputs\)"),
    ]:
        with pytest.raises(ConfigError, match=message):
            compress_model(network(), rows().split(100), ranks=ranks, **options)


def test_a_callable_metric_needs_no_validation_batches():
    x = rows()
    model = network()
    with torch.no_grad():
        labels = model(x).argmax(1)

    def accuracy(candidate):
        with torch.no_grad():
            return 100 * (candidate(x).argmax(1) == labels).double().mean()

    small, report = compress_model(model, x.split(100), max_loss=5.0, metric=accuracy)
    assert report.full_score == 100
    assert report.small_score == pytest.approx(float(accuracy(small)))
    assert 0 <= report.loss <= 5
    assert report.parameters_kept < 0.9


def test_labels_must_be_integers():
    x = rows()
    with pytest.raises(InputError, match=r"labels of batch 0 are torch.float32; integers from 0"):
        compress_model(network(), x.split(100), max_loss=1.0, validation=[(x, torch.zeros(600))])


def test_the_text_of_a_report_has_test_scores_and_warnings():
    x = rows()
    model = network()
    with torch.no_grad():
        labelled = [(x, model(x).argmax(1))]
    _, report = compress_model(model, [x[:40]], ranks={"2": 3}, validation=labelled, test=labelled)
    assert report.test_scores == pytest.approx((report.full_score, report.small_score))
    score = f"100 -> {report.small_score:.5g}"
    text = str(report).splitlines()
    assert text[0].endswith(f"; accuracy on validation {score}, on test {score}")
    assert text[1].startswith("warning: layer 2: 40 calibration rows for 24 channels")


def test_seconds_of_a_report_are_those_of_its_request():
    settings = Settings(metric="divergence")
    compression = ModelCompression(
        network(), rows().split(100), settings=settings, validation=[rows()]
    )
    _, first = compression.compress(Request(max_loss=0.01))
    _, second = compression.compress(Request(ranks={"2": 4}))
    assert "search" in first.seconds
    assert "search" not in second.seconds
    assert second.seconds["moments"] == first.seconds["moments"]


def test_points_of_the_frontier_differ_and_have_the_floor_of_budgets():
    compression = ModelCompression(network(), rows().split(100))
    _, report = compression.compress(Request(budget={"parameters": 0.6}))
    keys = [(point.parameters, point.macs, point.predicted_loss) for point in report.frontier]
    assert len(set(keys)) == len(keys) > 10
    problem = compression.ranks
    for choice in problem.frontier("parameters"):
        floor = 0.5 * problem._uniform_share("parameters", choice.cost.parameters)
        for unit in problem.units:
            (curve,) = unit.alternatives[0]
            ranks = choice.ranks[curve.layers[0]]
            at = (curve.r_in == ranks.inputs) & (curve.r_out == ranks.outputs)
            # The floor belongs to a cost without it, which is smaller.
            assert curve.shares[at][0] >= floor - 1 / 12
