"""The epochs of one network: their record, and the one whose weights are kept."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from hpcembed.networks.training.optimiser import ScheduledOptimiser
from hpcembed.runtime.errors import HpcembedError

__all__ = ["BestEpoch", "Epoch", "TrainingError", "run_epochs"]


class TrainingError(HpcembedError, ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training rows.

    `learning_rate` is that of the last step; `train_loss` the mean over the epoch, with label
    smoothing if enabled; `seconds` includes the validation.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    validation_score: float
    seconds: float

    @property
    def validation_accuracy(self) -> float:
        """The validation score, which is the accuracy of a classifier."""
        return self.validation_score


@dataclass(slots=True)
class BestEpoch:
    """The epoch of highest score and its weights; ties by lower loss, then the later one."""

    epoch: int = 0
    score: float = -math.inf
    loss: float = math.inf
    state: dict[str, Any] | None = None

    def update(self, epoch: int, score: float, loss: float, model: nn.Module) -> None:
        """Keep the weights of an epoch if it is not worse than the kept one.

        A score that is not defined (R2 of equal targets) leaves the choice to the loss.
        """
        same = math.isnan(score) or score == self.score
        if (loss <= self.loss) if same else score >= self.score:
            self.epoch, self.score, self.loss = epoch, score, loss
            self.state = copy.deepcopy(model.state_dict())


def run_epochs(
    model: nn.Module,
    optimiser: ScheduledOptimiser,
    n_epochs: int,
    train_epoch: Callable[[int], float],
    validate: Callable[[], tuple[float, float]],
    on_epoch: Callable[[Epoch], None] | None,
    patience: int = 0,
) -> tuple[BestEpoch, tuple[Epoch, ...]]:
    """Train a network, and load the weights of its best epoch into it.

    Parameters
    ----------
    train_epoch : callable
        ``train_epoch(epoch)``: all steps of an epoch, from 1; returns the mean loss.
    validate : callable
        Returns score and mean loss on validation rows.
    on_epoch : callable, optional
        Called after each epoch.
    patience : int
        Epochs without improvement after which the training ends; 0: never.

    Raises
    ------
    TrainingError
        The mean loss of an epoch is not finite.
    """
    best, history = BestEpoch(), []
    for epoch in range(1, n_epochs + 1):
        start = time.perf_counter()
        model.train()
        train_loss = train_epoch(epoch)
        if not math.isfinite(train_loss):
            raise TrainingError(
                f"the loss became {train_loss} in epoch {epoch} of {n_epochs}: lower "
                f"training.learning_rate (now {optimiser.peak:g})"
            )
        score, loss = validate()
        best.update(epoch, score, loss, model)
        seconds = time.perf_counter() - start
        history.append(Epoch(epoch, optimiser.learning_rate, train_loss, score, seconds))
        if on_epoch is not None:
            on_epoch(history[-1])
        if patience and epoch - best.epoch >= patience:
            break
    assert best.state is not None  # there was an epoch
    model.load_state_dict(best.state)
    model.eval()
    return best, tuple(history)
