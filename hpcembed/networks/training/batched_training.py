"""Train many networks of one architecture at once, with different seeds and numbers of inputs.

Each network is trained as it would be alone. Its seed decides its first weights, the rows held out
for validation, the order of the rows in every epoch, and the units that dropout drops. Networks
with the same seed and different numbers of inputs share the held-out rows, the order and the
dropout: each of them is a valid training run on its own, and common random numbers make the
differences between them less noisy. Networks of different seeds share nothing, so a mean over seeds
is one over independent training runs. The other networks of a batch change the result of a network
by rounding only.

The epoch that is kept, and the end of a training run (`patience`), are decided on validation rows
for each network by itself; the test rows are used once, after that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hpcembed.networks.training.batches import ArrayBatches
from hpcembed.networks.training.classifier import Classifier, Regressor
from hpcembed.networks.training.device import choose_device, seeded_torch
from hpcembed.networks.training.evaluation import shown_rows
from hpcembed.networks.training.input_scaling import InputScaling, fit_scaling, scaling_kind
from hpcembed.networks.training.objectives import SUMS, Objective, objective_of
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.report import ClassifierReport, InputName, TrainedClassifier
from hpcembed.networks.training.samples import Samples, check_samples
from hpcembed.networks.training.stacked_epochs import Member, StackedEpochs, evaluation_rows
from hpcembed.networks.training.stacked_networks import StackedNetworks
from hpcembed.networks.training.training_state import TrainingCheckpoint

__all__ = ["Member", "MemberResult", "TrainedBatch", "train_batch"]


@dataclass(frozen=True, slots=True)
class MemberResult(ClassifierReport):
    """The report of one network of a batch.

    Attributes
    ----------
    train_seconds : float
        The time of the batch, first weights, epochs and their validation, divided by its networks.
    history : tuple
        Empty.
    confusion : ndarray of int64, shape (n_classes, n_classes)
        Test rows of each class (rows) by predicted class (columns); empty for a regression.
    """

    member: Member
    train_loss: float
    confusion: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainedBatch:
    """Trained networks, the scalings of their inputs, and their results, all by member."""

    stack: StackedNetworks
    scalings: Sequence[InputScaling]
    results: Sequence[MemberResult]
    objective: Objective

    def classifier(self, position: int) -> TrainedClassifier:
        """Return one network alone, for :func:`save_classifier`."""
        scaling = self.scalings[position]
        layers = self.stack.network(position).to(torch.float32)
        target = self.objective
        if target.is_regression:
            model: Classifier = Regressor(
                layers, scaling.shift, scaling.scale, target.shift, target.scale
            )
        else:
            model = Classifier(layers, scaling.shift, scaling.scale)
        return TrainedClassifier(model.eval(), self.results[position])


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
    checkpoint: TrainingCheckpoint | None = None,
    make_networks: Callable[..., StackedNetworks] = StackedNetworks,
) -> TrainedBatch:
    """Train one network for each member and test it once.

    Parameters
    ----------
    train, test : Samples
        Arrays of shape (n, K); every member uses the first ``n_inputs`` of the K columns.
    n_classes : int
        0: the labels are the targets of a regression, and the loss is the mean squared error.
    hidden : tuple of int
        Widths of the hidden layers of every network.
    members : sequence of Member
        At least one.
    on_epoch : callable, optional
        Called with the number of each finished epoch.
    checkpoint : TrainingCheckpoint, optional
        The training continues from the state there, with the same bits.
    make_networks : callable
        Returns the stacked networks; takes the arguments of :class:`StackedNetworks`.

    Raises
    ------
    InputError
        Inputs and labels do not fit each other, or are not finite.
    TrainingError
        The loss of a network became NaN or infinite: names it, the epoch and the remedy.
    """
    check_samples(train, n_classes, "training")
    check_samples(test, n_classes, "test")
    recipe.dropouts(hidden)
    recipe = recipe.for_rows(len(train.labels), n_classes)
    place = choose_device(device)
    with seeded_torch(threads, members[0].seed, place), torch.no_grad():
        objective = objective_of(train.labels, n_classes)
        kind = scaling_kind(recipe.input_scaling, input_name)
        scalings = [fit_scaling(train.array[:, : one.n_inputs], kind) for one in members]
        scaling, factors = _common(scalings, train.array.shape[1])
        scale = torch.tensor(factors, dtype=torch.float32, device=place)
        rows = ArrayBatches(train.array, scaling, place)

        def trained(whole: bool) -> StackedEpochs:
            widths, seeds = [one.n_inputs for one in members], [one.seed for one in members]
            stack = make_networks(widths, hidden, objective.n_outputs, seeds, scale, recipe.initial)
            training = StackedEpochs(
                stack, rows, train.labels, objective, members, recipe, whole=whole
            )
            part = "refit" if whole else "epochs"
            training.run(on_epoch, None if checkpoint is None else checkpoint.part(part))
            return training

        began = time.perf_counter()
        validated = training = trained(whole=False)
        if recipe.refit:
            began = time.perf_counter()
            training = trained(whole=True)
        stack = training.stack
        seconds = training.seconds_before + time.perf_counter() - began
        seconds /= len(members)
        truth = objective.truth(test.labels, torch.device("cpu"))
        test_rows = ArrayBatches(test.array, scaling, place)
        sums, predicted = _test(stack, test_rows, truth, objective)
    results = []
    for b, member in enumerate(members):
        confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
        if n_classes:
            np.add.at(confusion, (test.labels.astype(np.int64), predicted[b]), 1)
        tested = objective.evaluation(sums[b])
        results.append(
            MemberResult(
                input=input_name,
                hidden=stack.hidden,
                parameters=stack.parameters(b),
                train_seconds=seconds,
                validation_score=float(validated.score[b]),
                test_score=tested.score,
                best_epoch=int(training.best_epoch[b]),
                history=(),
                device=str(place),
                threads=threads,
                member=member,
                train_loss=float(training.train_loss[b]),
                confusion=confusion,
                task="regression" if objective.is_regression else "classification",
                test_rmse=tested.rmse,
                test_mae=tested.mae,
                predictions=_shown(objective, test.labels, predicted[b]),
            )
        )
    return TrainedBatch(stack, scalings, results, objective)


def _common(scalings: Sequence[InputScaling], width: int) -> tuple[InputScaling, NDArray[Any]]:
    """Return one scaling for the rows, and the factors of each network, 0 beyond its columns.

    Networks on fewer columns differ from the widest one by factors, not by shifts: the means of
    columns do not depend on their number. One mean of all columns does, so that scaling is for
    networks of one width.
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


def _test(
    stack: StackedNetworks, rows: ArrayBatches, truth: torch.Tensor, objective: Objective
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return the sums of each network over all rows, (B, 5), and its predictions, (B, n).

    A prediction is a class, or a standardised target.
    """
    B, n, size = len(stack.n_inputs), len(truth), evaluation_rows(stack)
    total = torch.zeros(B, SUMS, dtype=torch.float64)
    predicted = np.empty((B, n), dtype=np.float32 if objective.is_regression else np.int64)
    for first in range(0, n, size):
        last = min(first + size, n)
        outputs = stack.logits(rows.block(first, last).expand(B, -1, -1)).cpu()
        total += objective.sums(outputs, truth[first:last].expand(B, -1))
        found = outputs[:, :, 0] if objective.is_regression else outputs.argmax(2)
        predicted[:, first:last] = found.numpy()
    return total.numpy(), predicted


def _shown(
    objective: Objective, labels: NDArray[Any], outputs: NDArray[Any]
) -> NDArray[np.float64]:
    """Return targets and predictions of some test rows, (m, 2); no rows for classes."""
    if not objective.is_regression or not labels.size:
        return np.empty((0, 2))
    rows = shown_rows(labels.size)
    predicted = outputs[rows].astype(np.float64) * objective.scale + objective.shift
    return np.stack([labels[rows], predicted], axis=1)
