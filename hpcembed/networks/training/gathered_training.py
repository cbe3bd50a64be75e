"""Train a small network on rows in memory, on one process.

A compact network on 10^4 to 10^5 rows is bound by the overhead of each step, not by arithmetic.
So there is no data loader (one permutation per epoch, one gather per batch), the optimiser is
fused, the learning rate is set by a plain function, and the loss is read once per epoch.

The weights of the epoch with the highest score on validation rows, a stratified share of the
training rows, are kept; ties are decided by lower validation loss, then for the later epoch. The
test rows are used once, after that. All randomness comes from the seed, and the global generators
of PyTorch are restored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hpcembed.networks.training.batches import ArrayBatches
from hpcembed.networks.training.classifier import (
    Classifier,
    Regressor,
    build_mlp,
)
from hpcembed.networks.training.device import choose_device, seeded_torch
from hpcembed.networks.training.epochs import BestEpoch, Epoch, run_epochs
from hpcembed.networks.training.evaluation import (
    MOST_CONFUSION_CLASSES,
    confusion_counts,
    confusion_rows,
    evaluate,
    predict_targets,
    shown_rows,
)
from hpcembed.networks.training.input_scaling import InputScaling, fit_scaling, scaling_kind
from hpcembed.networks.training.objectives import Objective, objective_of
from hpcembed.networks.training.optimiser import ScheduledOptimiser
from hpcembed.networks.training.recipe import BATCH_KEYS, Recipe
from hpcembed.networks.training.report import InputName, TrainedClassifier
from hpcembed.networks.training.samples import Samples, check_samples
from hpcembed.networks.training.training_state import TrainingCheckpoint
from hpcembed.networks.training.validation_split import stratified_holdout

__all__ = ["new_model", "shown_predictions", "train_classifier"]


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
    checkpoint: TrainingCheckpoint | None = None,
) -> TrainedClassifier:
    """Train a network with the given hidden layers and test it once.

    Parameters
    ----------
    train, test : Samples
        Arrays of shape (n, d); the test rows may be none.
    n_classes : int
        Number of classes; some may be absent from either set. 0: the labels are the targets of a
        regression, and the loss is the mean squared error.
    hidden : tuple of int
        Widths of the hidden layers.
    input_name : {'full', 'embedded'}
        Decides the effect of ``input_scaling = "auto"``.
    threads : int
        Threads of PyTorch's operations while training; restored afterwards.
    seed : int
        Of the first weights, the rows held out, the order of the rows and dropout.
    device : {'auto', 'cpu', 'cuda'}
        auto: a GPU if there is one.
    on_epoch : callable, optional
        Called after each epoch.
    checkpoint : TrainingCheckpoint, optional
        The training continues from the state there, with the same bits.

    Raises
    ------
    ConfigError
        The recipe has keys with an effect only for networks trained in batches.
    InputError
        Inputs and labels do not fit each other, or are not finite.
    TrainingError
        The loss became NaN or infinite: names the epoch and the remedy.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.arange(300) % 2
    >>> inputs = np.random.default_rng(0).standard_normal((300, 3)) + 4.0 * labels[:, None]
    >>> samples = Samples(inputs, labels)
    >>> trained = train_classifier(
    ...     samples, samples, 2, (8,), Recipe(batch_size=32), input_name="full", threads=1
    ... )
    >>> trained.report.parameters, trained.report.test_accuracy > 0.9
    (50, True)
    """
    check_samples(train, n_classes, "training")
    check_samples(test, n_classes, "test")
    recipe.check_default(BATCH_KEYS, "recipe", "train_classifier")
    recipe = recipe.for_rows(len(train.labels), n_classes)
    place = choose_device(device)
    with seeded_torch(threads, seed, place):
        start = time.perf_counter()
        scaling = fit_scaling(train.array, scaling_kind(recipe.input_scaling, input_name))
        objective = objective_of(train.labels, n_classes)
        model = new_model(train.n_features, hidden, objective, scaling, recipe).to(place)
        settings = (hidden, recipe, seed, on_epoch, checkpoint)
        best, history = _fit(model, train, scaling, objective, *settings)
        seconds = best.seconds_before + time.perf_counter() - start
        test_rows = ArrayBatches(test.array, scaling, place)
        labels = objective.truth(test.labels, place)
        everything = torch.arange(len(test_rows), device=test_rows.held_on)
        tested = evaluate(model, test_rows, labels, everything, objective)
        predictions = shown_predictions(model, test.array, test.labels)
        confusion: tuple[tuple[int, ...], ...] = ()
        if len(labels) and 0 < n_classes <= MOST_CONFUSION_CLASSES:
            confusion = confusion_rows(confusion_counts(model, test_rows, labels, n_classes))
    return TrainedClassifier.reported(
        model,
        best,
        history,
        tested,
        is_regression=objective.is_regression,
        input=input_name,
        hidden=tuple(hidden),
        train_seconds=seconds,
        device=str(place),
        threads=threads,
        test_confusion=confusion,
        predictions=predictions,
    )


def new_model(
    n_inputs: int,
    hidden: tuple[int, ...],
    objective: Objective,
    scaling: InputScaling,
    recipe: Recipe,
) -> Classifier:
    """Return an untrained network for an objective."""
    layers = build_mlp(n_inputs, hidden, objective.n_outputs, recipe.dropouts(hidden))
    if objective.is_regression:
        return Regressor(layers, scaling.shift, scaling.scale, objective.shift, objective.scale)
    return Classifier(layers, scaling.shift, scaling.scale)


def shown_predictions(
    model: Classifier, inputs: NDArray[np.generic], labels: NDArray[np.generic]
) -> NDArray[np.float64]:
    """Return targets and predictions of some test rows, (m, 2); no rows for a classifier."""
    if not isinstance(model, Regressor) or not labels.size:
        return np.empty((0, 2))
    rows = shown_rows(labels.size)
    return np.stack([labels[rows], predict_targets(model, inputs[rows])], axis=1)


def _fit(
    model: Classifier,
    train: Samples,
    scaling: InputScaling,
    objective: Objective,
    hidden: Sequence[int],
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None,
    checkpoint: TrainingCheckpoint | None,
) -> tuple[BestEpoch, tuple[Epoch, ...]]:
    """Run all epochs and load the weights of the best one into `model`."""
    device = model.shift.device
    kept, held_out = stratified_holdout(train.labels, recipe.validation_fraction, seed)
    rows = ArrayBatches(train.array, scaling, device)
    labels = objective.truth(train.labels, device)
    kept_rows = torch.from_numpy(kept).to(rows.held_on)
    held_rows = torch.from_numpy(held_out).to(rows.held_on)
    order = torch.Generator().manual_seed(seed)
    n_steps = recipe.epochs * math.ceil(len(kept) / recipe.batch_size)
    optimiser = ScheduledOptimiser(model.layers.parameters(), recipe, hidden, n_steps)

    def train_epoch(_epoch: int) -> float:
        total = torch.zeros((), device=device)
        permutation = torch.randperm(len(kept), generator=order).to(rows.held_on)
        for batch in kept_rows[permutation].split(recipe.batch_size):
            optimiser.zero_grad()
            batch_loss = objective.loss(
                model.layers(rows.batch(batch)), labels[batch.to(device)], recipe.label_smoothing
            )
            batch_loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += batch_loss.detach() * len(batch)
        return float(total) / len(kept)

    def validate() -> tuple[float, float]:
        found = evaluate(model, rows, labels, held_rows, objective)
        return found.score, found.loss

    return run_epochs(
        model,
        optimiser,
        recipe.epochs,
        train_epoch,
        validate,
        on_epoch,
        recipe.patience,
        generators=[order],
        checkpoint=checkpoint,
    )
