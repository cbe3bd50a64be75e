"""Train a small network on rows in memory, on one process.

A compact network on 10^4 to 10^5 rows is bound by the overhead of each step, not by arithmetic.
So there is no data loader (one permutation an epoch, one gather a batch), the optimiser is fused,
the learning rate is set by a plain function, and the loss is read once an epoch.

Which epoch is kept is decided on a stratified share of the training rows: highest validation
accuracy, ties by lower validation loss, then the later one. The test rows are used once, after
that. All randomness comes from the seed, and PyTorch's own generators are left as they were found.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from hpcembed.networks.training.descent import BestEpoch, Descent
from hpcembed.networks.training.evaluation import evaluate
from hpcembed.networks.training.holdout import stratified_holdout
from hpcembed.networks.training.model import Classifier, build_mlp, count_parameters
from hpcembed.networks.training.recipe import BATCH_KEYS, Recipe
from hpcembed.networks.training.samples import (
    InputScaling,
    Rows,
    Samples,
    check_samples,
    fit_scaling,
)
from hpcembed.runtime.errors import ConfigError, HpcembedError

__all__ = [
    "ClassifierReport",
    "Epoch",
    "Samples",
    "TrainedClassifier",
    "TrainingError",
    "check_loss",
    "pick_device",
    "quiet_torch",
    "scaling_kind",
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


def train_classifier(
    train: Samples,
    test: Samples,
    n_classes: int,
    hidden: tuple[int, ...],
    recipe: Recipe,
    *,
    input_name: InputName,
    threads: int,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
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
        Decides what ``input_scaling = "auto"`` does.
    threads : int
        Threads of PyTorch's operations while training; restored afterwards.
    seed : int
        Of the first weights, the rows held out, the order of the rows and dropout.
    device : {'auto', 'cpu', 'cuda'}
        auto: a GPU where there is one.
    on_epoch : callable, optional
        Called after each epoch.

    Raises
    ------
    ConfigError
        The recipe has keys that only networks trained in batches obey.
    InputError
        Inputs and labels that do not fit each other, or are not finite.
    TrainingError
        The loss became NaN or infinite: names the epoch and the remedy.
    """
    check_samples(train, n_classes, "training")
    check_samples(test, n_classes, "test")
    recipe.check_default(BATCH_KEYS, "recipe", "train_classifier")
    place = pick_device(device)
    with quiet_torch(threads, seed, place):
        start = time.perf_counter()
        scaling = fit_scaling(train.inputs, scaling_kind(input_name, recipe))
        layers = build_mlp(train.inputs.shape[1], hidden, n_classes, recipe.dropouts(hidden))
        model = Classifier(layers, scaling.shift, scaling.scale).to(place)
        best, history = _fit(model, train, scaling, hidden, recipe, seed, on_epoch)
        seconds = time.perf_counter() - start
        correct, _ = evaluate(model, Rows(test.inputs, scaling, place), test.labels)
    report = ClassifierReport(
        input=input_name,
        hidden=tuple(hidden),
        parameters=count_parameters(model),
        train_seconds=seconds,
        validation_accuracy=best.accuracy,
        test_accuracy=correct,
        best_epoch=best.epoch,
        history=history,
        device=str(place),
        threads=threads,
    )
    return TrainedClassifier(model.cpu(), report)


def _fit(
    model: Classifier,
    train: Samples,
    scaling: InputScaling,
    hidden: Sequence[int],
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None,
) -> tuple[BestEpoch, tuple[Epoch, ...]]:
    """Run all epochs and leave the best one's weights in `model`."""
    device = model.shift.device
    kept, held_out = stratified_holdout(train.labels, recipe.validation_fraction, seed)
    rows = Rows(train.inputs, scaling, device)
    labels = torch.tensor(train.labels, device=device)
    kept_rows = torch.from_numpy(kept).to(rows.held_on)
    held_rows = torch.from_numpy(held_out).to(rows.held_on)
    order = torch.Generator().manual_seed(seed)
    n_steps = recipe.epochs * math.ceil(len(kept) / recipe.batch_size)
    descent = Descent(model.layers, recipe, hidden, n_steps)
    best, history = BestEpoch(), []
    for epoch in range(1, recipe.epochs + 1):
        start = time.perf_counter()
        model.train()
        total = torch.zeros((), device=device)
        permutation = torch.randperm(len(kept), generator=order).to(rows.held_on)
        shuffled = kept_rows[permutation]
        for first in range(0, len(shuffled), recipe.batch_size):
            batch = shuffled[first : first + recipe.batch_size]
            descent.optimiser.zero_grad(set_to_none=True)
            batch_loss = functional.cross_entropy(
                model.layers(rows.batch(batch)),
                labels[batch.to(device)],
                label_smoothing=recipe.label_smoothing,
            )
            batch_loss.backward()  # type: ignore[no-untyped-call]
            descent.step()
            total += batch_loss.detach() * len(batch)
        train_loss = float(total) / len(kept)
        check_loss(train_loss, epoch, recipe.epochs, descent.peak)
        accuracy, loss = evaluate(model, rows, train.labels, held_rows)
        best.offer(epoch, accuracy, loss, model)
        seconds = time.perf_counter() - start
        history.append(Epoch(epoch, descent.learning_rate, train_loss, accuracy, seconds))
        if on_epoch is not None:
            on_epoch(history[-1])
    assert best.state is not None
    model.load_state_dict(best.state)
    model.eval()
    return best, tuple(history)


def check_loss(loss: float, epoch: int, n_epochs: int, peak: float) -> None:
    """Refuse to go on with a mean loss of an epoch that is not finite. Not collective.

    Raises
    ------
    TrainingError
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss became {loss} in epoch {epoch} of {n_epochs}: lower "
            f"training.learning_rate (now {peak:g})"
        )


def scaling_kind(
    input_name: InputName, recipe: Recipe
) -> Literal["none", "global", "standard", "sqrt"]:
    """Return the scaling that ``input_scaling`` stands for with this input."""
    if recipe.input_scaling == "auto":
        return "sqrt" if input_name == "embedded" else "global"
    return recipe.input_scaling


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
