"""The epochs of one network: their record, and the one whose weights are kept."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hpcembed.networks.training.optimiser import ScheduledOptimiser
from hpcembed.networks.training.training_state import (
    Arrays,
    TrainingCheckpoint,
    random_state,
    require_finite,
    restore_random_state,
    with_prefix,
)
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
    #: Seconds of the epochs that an earlier process trained.
    seconds_before: float = 0.0

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
    *,
    generators: Sequence[torch.Generator] = (),
    checkpoint: TrainingCheckpoint | None = None,
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
    generators : sequence of Generator
        Random state that the training changes, besides PyTorch's global one.
    checkpoint : TrainingCheckpoint, optional
        The training continues from the state there, and offers its state after each epoch whose
        weights are finite.

    Raises
    ------
    TrainingError
        The mean loss of an epoch is not finite.
    """
    best, history = BestEpoch(), list[Epoch]()
    device = next(model.parameters()).device

    def restore(stored: Arrays) -> None:
        history[:] = _restore(stored, model, optimiser, best)
        restore_random_state(stored, generators, device)

    if checkpoint is not None:
        checkpoint.restore(restore)
    ended = _has_ended(history, best, n_epochs, patience)
    while not ended:
        start, epoch = time.perf_counter(), len(history) + 1
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
        ended = _has_ended(history, best, n_epochs, patience)
        # Weights may lose their numbers in the last step, after its loss: the next epoch raises.
        if checkpoint is not None and _is_finite(model):
            checkpoint.epoch_done(
                lambda: _state(model, optimiser, best, history) | random_state(generators, device),
                ended=ended,
            )
    assert best.state is not None  # there was an epoch
    model.load_state_dict(best.state)
    model.eval()
    return best, tuple(history)


def _is_finite(model: nn.Module) -> bool:
    return all(bool(torch.isfinite(one).all()) for one in model.parameters())


def _has_ended(history: Sequence[Epoch], best: BestEpoch, n_epochs: int, patience: int) -> bool:
    done = len(history)
    return done >= n_epochs or (0 < patience <= done - best.epoch)


def _state(
    model: nn.Module, optimiser: ScheduledOptimiser, best: BestEpoch, history: Sequence[Epoch]
) -> Arrays:
    """Return the state after the last epoch of the history, as arrays."""
    assert best.state is not None
    arrays = with_prefix("model.", model.state_dict()) | with_prefix("best.", best.state)
    arrays |= {f"optimiser.{name}": array for name, array in optimiser.state().items()}
    arrays["kept"] = np.array([best.epoch, best.score, best.loss])
    arrays["epochs"] = np.array([dataclasses.astuple(epoch) for epoch in history])
    return arrays


def _restore(
    arrays: Arrays, model: nn.Module, optimiser: ScheduledOptimiser, best: BestEpoch
) -> list[Epoch]:
    """Restore the state of :func:`_state`; return the history."""
    require_finite(arrays, ("model.", "best.", "optimiser."))
    own = model.state_dict()
    for name, tensor in own.items():
        tensor.copy_(torch.from_numpy(arrays[f"model.{name}"]))
    best.state = {name: torch.empty_like(tensor) for name, tensor in own.items()}
    for name, tensor in best.state.items():
        tensor.copy_(torch.from_numpy(arrays[f"best.{name}"]))
    optimiser.restore({name[10:]: one for name, one in arrays.items() if name[:10] == "optimiser."})
    kept, best.score, best.loss = arrays["kept"].tolist()
    best.epoch = int(kept)
    history = [Epoch(int(row[0]), *row[1:]) for row in arrays["epochs"].tolist()]
    if [one.epoch for one in history] != [*range(1, len(history) + 1)]:
        raise ValueError("the epochs are not numbered from 1 on")
    if not 0 <= best.epoch <= len(history):
        raise ValueError(f"epoch {best.epoch} of {len(history)} is kept")
    best.seconds_before = sum(epoch.seconds for epoch in history)
    return history
