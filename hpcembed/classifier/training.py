"""Train a small network on rows in memory, on one process.

A compact network on 10^4 to 10^5 rows is bound by the overhead of each step, not by arithmetic.
So there is no data loader (one permutation an epoch, one gather a batch), the optimiser is fused,
the learning rate is set by a plain function, and the loss is read once an epoch.

Which epoch is kept is decided on a stratified share of the training rows: highest validation
accuracy, ties by lower validation loss, then the later one. The test rows are used once, after
that. All randomness comes from the seed, and PyTorch's own generators are left as they were found.

Optimiser: Loshchilov and Hutter, 2019, Decoupled weight decay regularization, arXiv:1711.05101.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from hpcembed.classifier.evaluation import evaluate
from hpcembed.classifier.model import Classifier, build_mlp, count_parameters
from hpcembed.classifier.samples import (
    InputScaling,
    Rows,
    Samples,
    check_samples,
    fit_scaling,
    stratified_holdout,
)
from hpcembed.classifier.schedule import learning_rate_at
from hpcembed.config import ClassifierConfig
from hpcembed.errors import ConfigError, HpcembedError

__all__ = [
    "ClassifierReport",
    "Epoch",
    "Samples",
    "TrainedClassifier",
    "TrainingError",
    "pick_device",
    "quiet_torch",
    "train_classifier",
]

InputName = Literal["full", "embedded"]


class TrainingError(HpcembedError, ArithmeticError):
    """The loss left the finite numbers."""


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


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """What one training gave.

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


@dataclass(slots=True)
class _Best:
    """The kept epoch and its weights."""

    epoch: int = 0
    accuracy: float = -1.0
    loss: float = math.inf
    state: dict[str, Any] | None = None

    def offer(self, epoch: int, accuracy: float, loss: float, model: nn.Module) -> None:
        if (accuracy, -loss) >= (self.accuracy, -self.loss):
            self.epoch, self.accuracy, self.loss = epoch, accuracy, loss
            self.state = copy.deepcopy(model.state_dict())


def train_classifier(
    train: Samples,
    test: Samples,
    n_classes: int,
    hidden: tuple[int, ...],
    config: ClassifierConfig,
    *,
    input_name: InputName,
    threads: int,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainedClassifier:
    """Train a network with the given hidden layers and test it once.

    Not collective: call it on one rank.

    Parameters
    ----------
    train, test : Samples
        Inputs of shape (n, d); the test rows may be none.
    n_classes : int
        Number of classes; some may be absent from either set.
    hidden : tuple of int
        Widths of the hidden layers.
    input_name : {'full', 'embedded'}
        What the inputs are; decides what ``input_scaling = "auto"`` does.
    threads : int
        Threads of PyTorch's operations while training; restored afterwards.
    on_epoch : callable, optional
        Called after each epoch.

    Raises
    ------
    InputError
        Inputs and labels that do not fit each other, or are not finite.
    TrainingError
        The loss became NaN or infinite: names the epoch and the remedy.
    """
    check_samples(train, n_classes, "training")
    check_samples(test, n_classes, "test")
    device = pick_device(config.device)
    with quiet_torch(threads, config.seed, device):
        start = time.perf_counter()
        scaling = _input_scaling(train.inputs, input_name, config)
        layers = build_mlp(train.inputs.shape[1], hidden, n_classes, config.dropout)
        model = Classifier(layers, scaling.shift, scaling.scale).to(device)
        best, history = _fit(model, train, scaling, config, on_epoch)
        seconds = time.perf_counter() - start
        correct, _ = evaluate(model, Rows(test.inputs, scaling, device), test.labels)
    report = ClassifierReport(
        input=input_name,
        hidden=tuple(hidden),
        parameters=count_parameters(model),
        train_seconds=seconds,
        validation_accuracy=best.accuracy,
        test_accuracy=correct,
        best_epoch=best.epoch,
        history=history,
        device=str(device),
        threads=threads,
    )
    return TrainedClassifier(model.cpu(), report)


def _fit(
    model: Classifier,
    train: Samples,
    scaling: InputScaling,
    config: ClassifierConfig,
    on_epoch: Callable[[Epoch], None] | None,
) -> tuple[_Best, tuple[Epoch, ...]]:
    """Run all epochs and leave the best one's weights in `model`."""
    device = model.shift.device
    kept, held_out = stratified_holdout(train.labels, config.validation_fraction, config.seed)
    rows = Rows(train.inputs, scaling, device)
    labels = torch.tensor(train.labels, device=device)
    kept_rows = torch.from_numpy(kept).to(rows.held_on)
    held_rows = torch.from_numpy(held_out).to(rows.held_on)
    order = torch.Generator().manual_seed(config.seed)
    step = _Step(model.layers, config, config.epochs * math.ceil(len(kept) / config.batch_size))
    best, history = _Best(), []
    for epoch in range(1, config.epochs + 1):
        start = time.perf_counter()
        model.train()
        total = torch.zeros((), device=device)
        permutation = torch.randperm(len(kept), generator=order).to(rows.held_on)
        shuffled = kept_rows[permutation]
        for first in range(0, len(shuffled), config.batch_size):
            batch = shuffled[first : first + config.batch_size]
            total += step(rows.batch(batch), labels[batch.to(device)]) * len(batch)
        train_loss = float(total) / len(kept)
        if not math.isfinite(train_loss):
            raise TrainingError(
                f"the loss became {train_loss} in epoch {epoch} of {config.epochs}: lower "
                f"classifier.learning_rate (now {config.learning_rate:g})"
            )
        accuracy, loss = evaluate(model, rows, train.labels, held_rows)
        best.offer(epoch, accuracy, loss, model)
        seconds = time.perf_counter() - start
        history.append(Epoch(epoch, step.learning_rate, train_loss, accuracy, seconds))
        if on_epoch is not None:
            on_epoch(history[-1])
    assert best.state is not None
    model.load_state_dict(best.state)
    model.eval()
    return best, tuple(history)


class _Step:
    """One step of the optimiser, with the learning rate of its place in the schedule."""

    def __init__(self, layers: nn.Sequential, config: ClassifierConfig, n_steps: int) -> None:
        self.layers = layers
        self.config = config
        self.n_steps = n_steps
        self.done = 0
        self.learning_rate = 0.0
        self.optimiser = _optimiser(layers, config)
        (self.group,) = self.optimiser.param_groups

    def __call__(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        config = self.config
        self.learning_rate = learning_rate_at(
            self.done, self.n_steps, config.learning_rate, config.schedule
        )
        self.group["lr"] = self.learning_rate
        self.done += 1
        self.optimiser.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(
            self.layers(inputs), labels, label_smoothing=config.label_smoothing
        )
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()


def _optimiser(layers: nn.Sequential, config: ClassifierConfig) -> torch.optim.AdamW:
    settings: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    try:
        return torch.optim.AdamW(layers.parameters(), fused=True, **settings)
    except RuntimeError:  # before PyTorch 2.4 only on CUDA
        return torch.optim.AdamW(layers.parameters(), **settings)


def _input_scaling(
    inputs: NDArray[np.generic], input_name: InputName, config: ClassifierConfig
) -> InputScaling:
    kind = config.input_scaling
    if kind == "auto":
        return fit_scaling(inputs, "sqrt" if input_name == "embedded" else "global")
    return fit_scaling(inputs, kind)


def pick_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Where to train: auto takes a GPU that there is. Not collective."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("classifier.device: PyTorch finds no CUDA device; use auto or cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


@contextmanager
def quiet_torch(threads: int, seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch and set its threads; on leaving both are as before."""
    before = torch.get_num_threads()
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        torch.set_num_threads(max(1, threads))
        try:
            yield
        finally:
            torch.set_num_threads(before)
