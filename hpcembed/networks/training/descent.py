"""The optimiser with the learning rate of each step, and the epoch that is kept.

Optimiser: Loshchilov and Hutter, 2019, Decoupled weight decay regularization, arXiv:1711.05101.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hpcembed.networks.training.recipe import ClassifierConfig
from hpcembed.networks.training.schedule import learning_rate_at

__all__ = ["BestEpoch", "Descent"]


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

    def __init__(self, layers: nn.Sequential, config: ClassifierConfig, n_steps: int) -> None:
        self.config = config
        self.n_steps = n_steps
        self.done = 0
        self.learning_rate = 0.0
        self.optimiser = _optimiser(layers, config)
        (self.group,) = self.optimiser.param_groups

    def step(self) -> None:
        """Take the next step. Not collective."""
        config = self.config
        self.learning_rate = learning_rate_at(
            self.done, self.n_steps, config.learning_rate, config.schedule
        )
        self.group["lr"] = self.learning_rate
        self.done += 1
        self.optimiser.step()


def _optimiser(layers: nn.Sequential, config: ClassifierConfig) -> torch.optim.AdamW:
    settings: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    try:
        return torch.optim.AdamW(layers.parameters(), fused=True, **settings)
    except RuntimeError:  # before PyTorch 2.4 only on CUDA
        return torch.optim.AdamW(layers.parameters(), **settings)
