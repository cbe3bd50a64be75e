"""Train many networks of one architecture at once: other seeds, other numbers of leading inputs.

Each network is trained as it would be alone. Its seed decides its first weights, which rows are
held out for validation, the order of the rows in every epoch, and what dropout drops. Networks with
the same seed and different numbers of inputs share the held-out rows, the order and the dropout:
each of them is a valid training on its own, and common random numbers make the differences between
them less noisy. Networks of different seeds share nothing, so a mean over seeds is one over
independent trainings. With whom a network is trained changes its result by rounding only.

The epoch that is kept, and when a network stops (`patience`), are decided on validation rows for
each network by itself; the test rows are used once, after that.
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

from hpcembed.networks.training.model import Classifier
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.samples import (
    InputScaling,
    Rows,
    Samples,
    check_samples,
    fit_scaling,
)
from hpcembed.networks.training.stack import Stack
from hpcembed.networks.training.stack_training import Member, StackTraining, evaluation_rows
from hpcembed.networks.training.training import (
    ClassifierReport,
    InputName,
    TrainedClassifier,
    pick_device,
    quiet_torch,
    scaling_kind,
)

__all__ = ["Member", "Outcome", "TrainedBatch", "train_batch"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the training of one network gave.

    Attributes
    ----------
    train_seconds : float
        This network's share of the batch's seconds: first weights, epochs, their validation.
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
    recipe.dropouts(hidden)
    placed = pick_device(device)
    with quiet_torch(threads, members[0].seed, placed), torch.no_grad():
        scalings = [
            fit_scaling(train.inputs[:, : one.n_inputs], scaling_kind(input_name, recipe))
            for one in members
        ]
        scaling, factors = _common(scalings, train.inputs.shape[1])
        scale = torch.tensor(factors, dtype=torch.float32, device=placed)
        rows = Rows(train.inputs, scaling, placed)

        def trained(whole: bool) -> StackTraining:
            widths, seeds = [one.n_inputs for one in members], [one.seed for one in members]
            stack = Stack(widths, hidden, n_classes, seeds, scale, recipe.initial)
            training = StackTraining(stack, rows, train.labels, members, recipe, whole=whole)
            training.run(on_epoch)
            return training

        began = time.perf_counter()
        validated = training = trained(whole=False)
        if recipe.refit:
            began = time.perf_counter()
            training = trained(whole=True)
        stack = training.stack
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
                validation_accuracy=float(validated.accuracy[b]),
                test_accuracy=int(np.trace(confusion)) / total if total else math.nan,
                best_epoch=int(training.best_epoch[b]),
                confusion=confusion,
            )
        )
    return TrainedBatch(stack, scalings, outcomes, input_name, threads)


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


def _said(stack: Stack, rows: Rows, n: int) -> NDArray[np.int64]:
    """The class that each network gives each row, shape (B, n)."""
    B, size = len(stack.n_inputs), evaluation_rows(stack)
    parts = [np.empty((B, 0), dtype=np.int64)]
    for first in range(0, n, size):
        inputs = rows.block(first, min(first + size, n))
        parts.append(stack.logits(inputs.expand(B, -1, -1)).argmax(2).cpu().numpy())
    return np.concatenate(parts, axis=1)
