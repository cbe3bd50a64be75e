"""Train many networks of one architecture at once: other seeds, other numbers of leading inputs.

Each network is trained as it would be alone. Its seed decides its first weights, which rows are
held out for validation, the order of the rows in every epoch, and what dropout drops. Networks with
the same seed and different numbers of inputs share the held-out rows, the order and the dropout:
each of them is a valid training on its own, and common random numbers make the differences between
them less noisy. Networks of different seeds share nothing, so a mean over seeds is one over
independent trainings. With whom a network is trained changes its result by rounding only.

The epoch that is kept, and when a network stops (`patience`), are decided on validation rows for
each network by itself; the test rows are used once, after that.

Dropout masks are bytes of a counter-free generator (SFC64) compared with a threshold: the
probability is rounded to a multiple of 1/256. PyTorch's own Bernoulli numbers on a CPU cost more
than the products of a whole step of a compact network.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hpcembed.classifier.model import Classifier
from hpcembed.classifier.samples import (
    InputScaling,
    Rows,
    Samples,
    check_samples,
    fit_scaling,
    stratified_holdout,
)
from hpcembed.classifier.schedule import learning_rate_at
from hpcembed.classifier.stack import Stack
from hpcembed.classifier.training import (
    ClassifierReport,
    InputName,
    TrainedClassifier,
    TrainingError,
    pick_device,
    quiet_torch,
)
from hpcembed.recipe import Recipe

__all__ = ["Member", "Outcome", "TrainedBatch", "train_batch"]

#: Rows of an evaluation that go through the networks at once, times networks times widest layer.
EVALUATION_NUMBERS = 1 << 21


@dataclass(frozen=True, slots=True)
class Member:
    """One network of a batch: its seed, and how many leading columns of the inputs it sees."""

    seed: int
    n_inputs: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the training of one network gave.

    Attributes
    ----------
    train_seconds : float
        This network's share of the batch's seconds.
    best_epoch : int
        The epoch (from 1) whose weights were kept.
    confusion : ndarray of int64, shape (n_classes, n_classes)
        Test rows of each class (rows) by what the network said (columns).
    """

    member: Member
    parameters: int
    train_seconds: float
    train_loss: float
    validation_accuracy: float
    test_accuracy: float
    best_epoch: int
    confusion: NDArray[np.int64]


class TrainedBatch:
    """Trained networks and what each one gave, in the order of the members."""

    def __init__(
        self,
        stack: Stack,
        scalings: Sequence[InputScaling],
        outcomes: Sequence[Outcome],
        input_name: InputName,
        threads: int,
    ) -> None:
        self.outcomes = tuple(outcomes)
        self._stack = stack
        self._scalings = scalings
        self._input_name: InputName = input_name
        self._threads = threads

    def classifier(self, position: int) -> TrainedClassifier:
        """Take one network out, as :func:`save_classifier` writes it. Not collective."""
        outcome, scaling = self.outcomes[position], self._scalings[position]
        layers = self._stack.network(position).to(torch.float32)
        model = Classifier(layers, scaling.shift, scaling.scale).eval()
        report = ClassifierReport(
            input=self._input_name,
            hidden=self._stack.hidden,
            parameters=outcome.parameters,
            train_seconds=outcome.train_seconds,
            validation_accuracy=outcome.validation_accuracy,
            test_accuracy=outcome.test_accuracy,
            best_epoch=outcome.best_epoch,
            history=(),
            device=str(self._stack.flat.device),
            threads=self._threads,
        )
        return TrainedClassifier(model, report)


def train_batch(
    train: Samples,
    test: Samples,
    n_classes: int,
    hidden: tuple[int, ...],
    recipe: Recipe,
    members: Sequence[Member],
    *,
    input_name: InputName,
    threads: int,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    on_epoch: Callable[[int], None] | None = None,
) -> TrainedBatch:
    """Train one network for each member and test it once.

    Not collective.

    Parameters
    ----------
    train, test : Samples
        Inputs of shape (n, K); every member uses the first ``n_inputs`` of the K columns.
    hidden : tuple of int
        Widths of the hidden layers of every network.
    members : sequence of Member
        At least one.
    on_epoch : callable, optional
        Called with the number of each finished epoch.

    Raises
    ------
    InputError
        Inputs and labels that do not fit each other, or are not finite.
    TrainingError
        The loss of a network became NaN or infinite: names it, the epoch and the remedy.
    """
    check_samples(train, n_classes, "training")
    check_samples(test, n_classes, "test")
    recipe.dropouts(len(hidden))
    placed = pick_device(device)
    with quiet_torch(threads, members[0].seed, placed), torch.no_grad():
        began = time.perf_counter()
        scalings = [
            _scaling(train.inputs[:, : one.n_inputs], input_name, recipe) for one in members
        ]
        scaling, factors = _common(scalings, train.inputs.shape[1])
        stack = Stack(
            [one.n_inputs for one in members],
            hidden,
            n_classes,
            [one.seed for one in members],
            torch.tensor(factors, dtype=torch.float32, device=placed),
            recipe.initial,
        )
        rows = Rows(train.inputs, scaling, placed)
        training = _Training(stack, rows, train.labels, members, recipe)
        training.run(on_epoch)
        seconds = (time.perf_counter() - began) / len(members)
        said = _said(stack, Rows(test.inputs, scaling, placed), len(test.labels))
    outcomes = []
    for b, member in enumerate(members):
        confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
        np.add.at(confusion, (test.labels, said[b]), 1)
        total = int(confusion.sum())
        outcomes.append(
            Outcome(
                member=member,
                parameters=stack.parameters(b),
                train_seconds=seconds,
                train_loss=float(training.train_loss[b]),
                validation_accuracy=float(training.accuracy[b]),
                test_accuracy=int(np.trace(confusion)) / total if total else math.nan,
                best_epoch=int(training.best_epoch[b]),
                confusion=confusion,
            )
        )
    return TrainedBatch(stack, scalings, outcomes, input_name, threads)


def _scaling(inputs: NDArray[np.generic], input_name: InputName, recipe: Recipe) -> InputScaling:
    kind = recipe.input_scaling
    if kind == "auto":
        return fit_scaling(inputs, "sqrt" if input_name == "embedded" else "global")
    return fit_scaling(inputs, kind)


def _common(scalings: Sequence[InputScaling], width: int) -> tuple[InputScaling, NDArray[Any]]:
    """One scaling for the rows, and for each network the factors that remain, 0 beyond its columns.

    Networks on fewer columns differ from the widest one by factors, not by shifts: the means of
    columns do not depend on how many are taken. Scaling by one mean for all columns would, so it
    is for networks of one width.
    """
    widest = max(scalings, key=lambda one: one.shift.size)
    shift, scale = np.zeros(width), np.zeros(width)
    shift[: widest.shift.size], scale[: widest.scale.size] = widest.shift, widest.scale
    factors = np.zeros((len(scalings), width))
    for b, one in enumerate(scalings):
        k = one.shift.size
        if not np.allclose(one.shift, shift[:k], rtol=1e-9, atol=0.0):
            raise ValueError("networks of different widths need inputs scaled column by column")
        np.divide(one.scale, scale[:k], out=factors[b, :k], where=scale[:k] != 0)
    return InputScaling(shift, scale), factors


class _Training:
    """All epochs of a batch, and for each network the epoch that it keeps."""

    def __init__(
        self,
        stack: Stack,
        rows: Rows,
        labels: NDArray[np.int64],
        members: Sequence[Member],
        recipe: Recipe,
    ) -> None:
        self.stack, self.rows, self.recipe, self.members = stack, rows, recipe, members
        self.device = stack.flat.device
        self.labels = torch.tensor(labels, device=rows.held_on)
        # Rows, order and dropout are drawn once for each seed; `of_seed` says who takes which.
        seeds = sorted({one.seed for one in members})
        self.of_seed = torch.tensor([seeds.index(one.seed) for one in members])
        held = [stratified_holdout(labels, recipe.validation_fraction, seed) for seed in seeds]
        self.kept = torch.from_numpy(np.stack([kept for kept, _ in held])).to(rows.held_on)
        self.held_out = torch.from_numpy(np.stack([out for _, out in held])).to(rows.held_on)
        self.orders = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.dropout = _Dropout(recipe.dropouts(len(stack.hidden)), stack.hidden, seeds)
        settings: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
        try:
            self.optimiser = torch.optim.AdamW([stack.flat], fused=True, **settings)
        except RuntimeError:  # before PyTorch 2.4 only on CUDA
            self.optimiser = torch.optim.AdamW([stack.flat], **settings)
        B = len(members)
        self.accuracy, self.loss = np.full(B, -1.0), np.full(B, np.inf)
        self.best_epoch = np.zeros(B, dtype=np.int64)
        self.train_loss = np.full(B, np.nan)
        self.best = stack.copy_of_parameters() if recipe.keep == "best" else None

    def run(self, on_epoch: Callable[[int], None] | None) -> None:
        """Train; at the end every network has the weights that it keeps."""
        recipe = self.recipe
        for epoch in range(1, recipe.epochs + 1):
            self._epoch(epoch)
            if self.best is not None or epoch == recipe.epochs:
                self._offer(epoch)
            if on_epoch is not None:
                on_epoch(epoch)
            if recipe.patience and (epoch - self.best_epoch >= recipe.patience).all():
                break
        if self.best is not None:
            self.stack.take(self.best)

    def _epoch(self, epoch: int) -> None:
        recipe, n = self.recipe, self.kept.shape[1]
        shuffled = torch.stack(
            [
                kept[torch.randperm(n, generator=order).to(kept.device)]
                for kept, order in zip(self.kept, self.orders, strict=True)
            ]
        )
        steps = math.ceil(n / recipe.batch_size)
        total = torch.zeros(len(self.members), device=self.device)
        (group,) = self.optimiser.param_groups
        for step in range(steps):
            group["lr"] = learning_rate_at(
                (epoch - 1) * steps + step,
                recipe.epochs * steps,
                recipe.learning_rate,
                recipe.schedule,
            )
            first = step * recipe.batch_size
            chosen = shuffled[:, first : first + recipe.batch_size]
            inputs, labels = self._batch(chosen)
            m = chosen.shape[1]
            masks = self._each(self.dropout.masks(m, self.device))
            loss = self.stack.gradient(inputs, labels, recipe.label_smoothing, masks)
            total.add_(loss, alpha=m)
            self.optimiser.step()
        self.train_loss = (total / n).cpu().numpy()
        lost = np.flatnonzero(~np.isfinite(self.train_loss))
        if lost.size:
            member = self.members[int(lost[0])]
            raise TrainingError(
                f"the loss of the network on {member.n_inputs} inputs with seed {member.seed} "
                f"became {self.train_loss[lost[0]]} in epoch {epoch} of {recipe.epochs}: lower "
                f"the learning rate (now {recipe.learning_rate:g})"
            )

    def _each(self, parts: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """Give every network the part of its seed; one for all is left to broadcasting."""
        if len(self.orders) == 1:
            return parts
        where = self.of_seed.to(self.device)
        return [part if part is None else part[where] for part in parts]

    def _batch(self, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs (B, m, K) and labels (B, m, 1) of the rows chosen for each seed, (S, m)."""
        B, (S, m) = len(self.members), chosen.shape
        rows = self.rows.batch(chosen.reshape(-1)).view(S, m, -1)
        labels = self.labels[chosen].unsqueeze(2).to(self.device)
        if S == 1:
            return rows.expand(B, -1, -1), labels.expand(B, -1, -1)
        if S == B and bool((self.of_seed == torch.arange(B)).all()):
            return rows, labels
        where = self.of_seed.to(self.device)
        return rows[where], labels[where]

    def _offer(self, epoch: int) -> None:
        """Validate, and keep the weights of those that are at their best so far."""
        accuracy, loss = self._validate()
        waiting = self.recipe.patience > 0 and epoch > 1
        left = (epoch - self.best_epoch > self.recipe.patience) if waiting else False
        # As for a single network: ties by lower loss, then the later epoch.
        better = (accuracy > self.accuracy) | ((accuracy == self.accuracy) & (loss <= self.loss))
        better &= ~np.asarray(left)
        if self.best is None:
            better[:] = True
        else:
            self.stack.keep(self.best, torch.from_numpy(better).to(self.device))
        self.accuracy[better], self.loss[better] = accuracy[better], loss[better]
        self.best_epoch[better] = epoch

    def _validate(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n = self.held_out.shape[1]
        correct = torch.zeros(len(self.members), dtype=torch.float64, device=self.device)
        total = torch.zeros_like(correct)
        size = _evaluation_rows(self.stack)
        for first in range(0, n, size):
            inputs, labels = self._batch(self.held_out[:, first : first + size])
            logits = self.stack.logits(inputs)
            correct += (logits.argmax(2, keepdim=True) == labels).sum((1, 2))
            log_p = torch.log_softmax(logits, dim=2)
            total -= log_p.gather(2, labels).to(torch.float64).sum((1, 2))
        return (correct / n).cpu().numpy(), (total / n).cpu().numpy()


class _Dropout:
    """What the activations of each hidden layer are multiplied by: 0, or 1 / (1 - p)."""

    def __init__(
        self, probabilities: Sequence[float], widths: Sequence[int], seeds: Sequence[int]
    ) -> None:
        self.thresholds = [min(255, round(256 * p)) for p in probabilities]
        self.widths = widths
        # A stream of its own: the seed itself decides the held-out rows.
        self.streams = [np.random.SFC64(np.random.SeedSequence([seed, 1])) for seed in seeds]

    def masks(self, m: int, device: torch.device) -> list[torch.Tensor | None]:
        """For each layer a tensor of shape (seeds, m, width), or None without dropout."""
        masks: list[torch.Tensor | None] = []
        for threshold, width in zip(self.thresholds, self.widths, strict=True):
            if threshold == 0:
                masks.append(None)
                continue
            drawn = np.stack([self._bytes(stream, m * width) for stream in self.streams])
            kept = torch.from_numpy(drawn).view(-1, m, width).to(device) >= threshold
            masks.append(kept.to(torch.float32).mul_(256 / (256 - threshold)))
        return masks

    @staticmethod
    def _bytes(stream: np.random.SFC64, count: int) -> NDArray[np.uint8]:
        words: Any = stream.random_raw(-(-count // 8))
        return np.asarray(words).view(np.uint8)[:count]


def _evaluation_rows(stack: Stack) -> int:
    return max(16, EVALUATION_NUMBERS // (len(stack.n_inputs) * max(stack.widths)))


def _said(stack: Stack, rows: Rows, n: int) -> NDArray[np.int64]:
    """The class that each network gives each row, shape (B, n)."""
    B, size = len(stack.n_inputs), _evaluation_rows(stack)
    parts = [np.empty((B, 0), dtype=np.int64)]
    for first in range(0, n, size):
        inputs = rows.block(first, min(first + size, n))
        parts.append(stack.logits(inputs.expand(B, -1, -1)).argmax(2).cpu().numpy())
    return np.concatenate(parts, axis=1)
