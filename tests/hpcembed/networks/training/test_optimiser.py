"""Steps of AdamW: those of PyTorch's class, without its compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from hpcembed.networks.training import optimiser
from hpcembed.networks.training.optimiser import ScheduledOptimiser, learning_rate_at
from hpcembed.networks.training.recipe import Recipe

STEPS = 40

RUN = """
import sys
import torch
from hpcembed.networks.training.optimiser import ScheduledOptimiser
from hpcembed.networks.training.recipe import Recipe

layer = torch.nn.Linear(3, 2)
steps = ScheduledOptimiser(layer.parameters(), Recipe(), (), 5)
layer(torch.ones(4, 3)).sum().backward()
steps.step()
steps.zero_grad()
print("torch._dynamo" in sys.modules)
"""


def trained(make):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5))
    X, y = torch.randn(100, 20), torch.randint(0, 5, (100,))
    zero_grad, step = make(net)
    for number in range(STEPS):
        zero_grad()
        nn.functional.cross_entropy(net(X), y).backward()
        step(number)
    return torch.cat([one.detach().flatten() for one in net.parameters()])


@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_those_of_pytorch(monkeypatch, fused):
    if fused and not optimiser._has_fused_step(torch.device("cpu")):
        pytest.skip("this PyTorch has no fused step on the CPU")
    monkeypatch.setattr(optimiser, "_has_fused_step", lambda device: fused)
    recipe, hidden = Recipe(weight_decay=0.02), (16,)

    def ours(net):
        steps = ScheduledOptimiser(net.parameters(), recipe, hidden, STEPS)
        return steps.zero_grad, lambda _: steps.step()

    def theirs(net):
        peak = recipe.peak_rate(hidden)
        steps = torch.optim.AdamW(net.parameters(), fused=fused, weight_decay=0.02)

        def step(number):
            rate = learning_rate_at(number, STEPS, peak, recipe.schedule)
            steps.param_groups[0]["lr"] = rate
            steps.step()

        return steps.zero_grad, step

    torch.testing.assert_close(trained(ours), trained(theirs), rtol=0, atol=0)


def test_training_does_not_import_the_compiler_of_pytorch():
    done = subprocess.run(
        [sys.executable, "-c", RUN], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False"]
