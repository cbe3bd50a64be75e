"""The optimiser with the learning rate of each step, and the epoch that is kept.

Optimiser: Loshchilov and Hutter, 2019, Decoupled weight decay regularization, arXiv:1711.05101.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.schedule import learning_rate_at

__all__ = ["BestEpoch", "Descent", "adamw"]


@dataclass(slots=True)
class BestEpoch:
    """The kept epoch and its weights: highest accuracy, ties by lower loss, then the later one."""

    epoch: int = 0
    accuracy: float = -1.0
    loss: float = math.inf
    state: dict[str, Any] | None = None

    def offer(self, epoch: int, accuracy: float, loss: float, model: nn.Module) -> None:
        """Take an epoch's weights if it is not worse than the kept one. Not collective."""
        if (accuracy, -loss) >= (self.accuracy, -self.loss):
            self.epoch, self.accuracy, self.loss = epoch, accuracy, loss
            self.state = copy.deepcopy(model.state_dict())


class Descent:
    """Steps of AdamW along the gradients that the layers hold, each at its learning rate.

    Attributes
    ----------
    optimiser : AdamW
    learning_rate : float
        Of the last step; 0 before the first.
    done : int
        Steps taken.
    """

    def __init__(
        self, layers: nn.Sequential, recipe: Recipe, hidden: Sequence[int], n_steps: int
    ) -> None:
        self.schedule, self.peak = recipe.schedule, recipe.peak_rate(hidden)
        self.n_steps = n_steps
        self.done = 0
        self.learning_rate = 0.0
        self.optimiser = adamw(layers.parameters(), self.peak, recipe.weight_decay)
        (self.group,) = self.optimiser.param_groups

    def step(self) -> None:
        """Take the next step. Not collective."""
        self.learning_rate = learning_rate_at(self.done, self.n_steps, self.peak, self.schedule)
        self.group["lr"] = self.learning_rate
        self.done += 1
        self.optimiser.step()


def adamw(
    parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """Return the optimiser, in one fused kernel where PyTorch has it."""
    settings: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay}
    parameters = list(parameters)
    try:
        return torch.optim.AdamW(parameters, fused=True, **settings)
    except RuntimeError:  # before PyTorch 2.4 only on CUDA
        return torch.optim.AdamW(parameters, **settings)
