"""Results of a training: each epoch, the epoch that is kept, the report of the network."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from hpcembed.networks.training.classifier import Classifier
from hpcembed.runtime.errors import HpcembedError

__all__ = [
    "BestEpoch",
    "ClassifierReport",
    "Epoch",
    "InputName",
    "TrainedClassifier",
    "TrainingError",
    "check_loss",
]

InputName = Literal["full", "embedded"]


class TrainingError(HpcembedError, ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training rows.

    `learning_rate` is that of the last step; `train_loss` the mean over the epoch, with label
    smoothing where that is on; `seconds` includes the validation.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(slots=True)
class BestEpoch:
    """The epoch of highest accuracy and its weights; ties by lower loss, then the later one."""

    epoch: int = 0
    accuracy: float = -1.0
    loss: float = math.inf
    state: dict[str, Any] | None = None

    def update(self, epoch: int, accuracy: float, loss: float, model: nn.Module) -> None:
        """Keep the weights of an epoch if it is not worse than the kept one."""
        if (accuracy, -loss) >= (self.accuracy, -self.loss):
            self.epoch, self.accuracy, self.loss = epoch, accuracy, loss
            self.state = copy.deepcopy(model.state_dict())

    def restore(self, model: nn.Module) -> None:
        """Load the kept weights into the model, and set it to evaluation."""
        assert self.state is not None  # there was an epoch
        model.load_state_dict(self.state)
        model.eval()


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """Figures of one training.

    `train_seconds` counts preparation of the rows, all epochs and their validation; not the test.
    `best_epoch` is the epoch (from 1) whose weights were kept.
    """

    input: InputName
    hidden: tuple[int, ...]
    parameters: int
    train_seconds: float
    validation_accuracy: float
    test_accuracy: float
    best_epoch: int
    history: tuple[Epoch, ...]
    device: str
    threads: int


@dataclass(frozen=True, slots=True)
class TrainedClassifier:
    """A network in evaluation mode, in main memory, and its report."""

    model: Classifier
    report: ClassifierReport


def check_loss(loss: float, epoch: int, n_epochs: int, peak: float) -> None:
    """Refuse to continue after an epoch whose mean loss is not finite.

    Parameters
    ----------
    peak : float
        Of the learning rate, for the message.

    Raises
    ------
    TrainingError
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss became {loss} in epoch {epoch} of {n_epochs}: lower "
            f"training.learning_rate (now {peak:g})"
        )
