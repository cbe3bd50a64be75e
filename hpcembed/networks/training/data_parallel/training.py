"""Train one network on the rows of all ranks, which stay on their ranks.

For data that one rank cannot hold. Every rank keeps the whole network; a batch is drawn from the
rows of all ranks, each rank passes its own rows of it, perhaps none, through the network, and the
gradients are summed in one message a step. The loss of a rank is the sum over its rows divided by
the rows of the whole batch, so the sum over ranks is the mean over the batch for any
distribution of its rows.

The rows held out, first weights, scaling, schedule and the choice of the epoch are the same as in
:func:`hpcembed.networks.training.gathered_training.train_classifier`; the order of the rows is
another one, which any rank can compute for its rows alone
(:mod:`hpcembed.runtime.counter_random`). Batches and held-out rows do not depend on the number
of ranks; the units that dropout drops do.

One message of the whole gradient takes the place of PyTorch's DistributedDataParallel, which
averages over ranks, not rows, and whose buckets pay for networks far larger than these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.training.batches import Batches, EpochOrder, batches_of
from hpcembed.networks.training.classifier import Classifier, Regressor, count_parameters
from hpcembed.networks.training.data_parallel.process_group import ProcessGroup, process_group
from hpcembed.networks.training.device import seeded_torch
from hpcembed.networks.training.epochs import Epoch, run_epochs
from hpcembed.networks.training.evaluation import (
    MOST_CONFUSION_CLASSES,
    confusion_counts,
    confusion_rows,
    predict_targets,
    shown_rows,
    tally,
)
from hpcembed.networks.training.gathered_training import new_model
from hpcembed.networks.training.input_scaling import (
    InputScaling,
    block_moments,
    blocks_of,
    scaling_kind,
    scaling_of,
)
from hpcembed.networks.training.objectives import Objective, objective_of
from hpcembed.networks.training.optimiser import ScheduledOptimiser
from hpcembed.networks.training.recipe import BATCH_KEYS, Recipe
from hpcembed.networks.training.report import (
    Evaluation,
    InputName,
    TrainedClassifier,
)
from hpcembed.networks.training.samples import Samples, check_local_samples
from hpcembed.networks.training.training_state import TrainingCheckpoint
from hpcembed.networks.training.validation_split import local_holdout
from hpcembed.runtime.counter_random import row_keys
from hpcembed.runtime.ranks import allgather_rows, place_rows, sum_over_ranks

__all__ = ["fit_local_scaling", "train_data_parallel"]

#: Bytes of one block of rows of a matrix in double precision while statistics are taken.
_BLOCK_BYTES = 1 << 22


def train_data_parallel(
    train: Samples,
    test: Samples,
    n_classes: int,
    hidden: tuple[int, ...],
    recipe: Recipe,
    comm: MPI.Intracomm,
    *,
    input_name: InputName,
    threads: int,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoint: TrainingCheckpoint | None = None,
) -> TrainedClassifier:
    """Train a network with the given hidden layers on the rows of all ranks and test it once.

    Collective.

    Parameters
    ----------
    train, test : Samples
        This rank's rows of shape (n_local, d), an array or a matrix; ranks may have none, and the
        test rows may be none. Rows follow each other in rank order.
    n_classes : int
        Number of classes; some may be absent from either set. 0: the labels are the targets of a
        regression, and the loss is the mean squared error.
    hidden : tuple of int
        Widths of the hidden layers.
    input_name : {'full', 'embedded'}
        Decides the effect of ``input_scaling = "auto"``.
    threads : int
        Threads of PyTorch's operations on this rank while training; restored afterwards.
    seed : int
        Of the first weights, the rows held out, the order of the rows and dropout.
    device : {'auto', 'cpu', 'cuda'}
        auto: GPUs where every rank has one of its own, else CPUs.
    on_epoch : callable, optional
        Called after each epoch on the ranks that give it.
    checkpoint : TrainingCheckpoint, optional
        The training continues from the state there, with the same bits on as many ranks.

    Returns
    -------
    TrainedClassifier
        The same network on all ranks.

    Raises
    ------
    ConfigError
        The recipe has keys with an effect only for networks trained in batches, or as
        :func:`hpcembed.networks.training.data_parallel.process_group.process_group`.
    InputError
        Inputs and labels do not fit each other, or are not finite.
    TrainingError
        The loss became NaN or infinite on any rank: names the epoch and the remedy.
    """
    check_local_samples(comm, train, n_classes, "training")
    check_local_samples(comm, test, n_classes, "test")
    recipe.check_default(BATCH_KEYS, "recipe", "train_data_parallel")
    recipe = recipe.for_rows(comm.allreduce(len(train.labels)), n_classes)
    start = time.perf_counter()
    scaling = fit_local_scaling(comm, train, scaling_kind(recipe.input_scaling, input_name))
    objective = objective_of(train.labels, n_classes, lambda sums: sum_over_ranks(comm, sums))
    kept, held_out = local_holdout(comm, train.labels, n_classes, recipe.validation_fraction, seed)
    order = EpochOrder(comm, kept, recipe.batch_size, seed)
    with process_group(comm, device) as group, seeded_torch(threads, seed, group.device):
        model = new_model(train.n_features, hidden, objective, scaling, recipe).to(group.device)
        rows = batches_of(train.inputs, scaling, group.device)
        truth = objective.truth(train.labels, group.device)
        steps = _Steps(group, model, rows, truth, objective, order, hidden, recipe)
        held_rows = torch.from_numpy(held_out).to(rows.held_on)
        best, history = run_epochs(
            model,
            steps.optimiser,
            recipe.epochs,
            steps.epoch,
            lambda: _score_and_loss(_evaluate(group, model, rows, truth, held_rows, objective)),
            on_epoch,
            recipe.patience,
            checkpoint=checkpoint,
        )
        seconds = best.seconds_before + time.perf_counter() - start
        test_rows = batches_of(test.inputs, scaling, group.device)
        labels = objective.truth(test.labels, group.device)
        everything = torch.arange(len(labels), device=test_rows.held_on)
        tested = _evaluate(group, model, test_rows, labels, everything, objective)
        predictions = _shown_predictions(comm, model, test)
        confusion: tuple[tuple[int, ...], ...] = ()
        if 0 < n_classes <= MOST_CONFUSION_CLASSES:
            counts = group.sum(confusion_counts(model, test_rows, labels, n_classes))
            confusion = confusion_rows(counts) if counts.sum() else ()
    return TrainedClassifier.reported(
        model,
        best,
        history,
        tested,
        is_regression=objective.is_regression,
        input=input_name,
        hidden=tuple(hidden),
        train_seconds=seconds,
        device=group.device.type,
        threads=threads,
        test_confusion=confusion,
        predictions=predictions,
    )


def fit_local_scaling(
    comm: MPI.Comm, samples: Samples, kind: Literal["none", "global", "standard", "sqrt"]
) -> InputScaling:
    """Return shift and scale of each column from the rows of all ranks.

    Collective: two reductions. See
    :func:`hpcembed.networks.training.input_scaling.fit_scaling`.
    """
    d = samples.n_features
    if kind == "none":
        return InputScaling(np.zeros(d), np.ones(d))
    n, mean, squares = block_moments(_blocks(samples), d)
    total = max(comm.allreduce(n), 1)
    overall = sum_over_ranks(comm, mean * (n / total))
    squares += n * (mean - overall) ** 2
    return scaling_of(overall, np.sqrt(sum_over_ranks(comm, squares) / total), kind)


def _blocks(samples: Samples) -> Iterator[NDArray[np.generic]]:
    inputs = samples.inputs
    if isinstance(inputs, np.ndarray):
        yield from (block for _, block in blocks_of(inputs))
        return
    step = max(1, _BLOCK_BYTES // (8 * inputs.n_features))
    for first in range(0, inputs.n_local, step):
        yield inputs.take(slice(first, first + step))


class _Steps:
    """The steps of one network; its gradients lie in one array, with the loss behind them."""

    def __init__(
        self,
        group: ProcessGroup,
        model: Classifier,
        rows: Batches,
        labels: torch.Tensor,
        objective: Objective,
        order: EpochOrder,
        hidden: Sequence[int],
        recipe: Recipe,
    ) -> None:
        self.group, self.model, self.rows = group, model, rows
        self.order, self.recipe = order, recipe
        self.has_dropout = any(recipe.dropouts(hidden))
        self.labels, self.objective = labels, objective
        n_steps = recipe.epochs * order.n_batches
        self.optimiser = ScheduledOptimiser(model.layers.parameters(), recipe, hidden, n_steps)
        self.message = torch.zeros(count_parameters(model) + 1, device=group.device)
        begin = 0
        for parameter in model.layers.parameters():
            end = begin + parameter.numel()
            parameter.grad = self.message[begin:end].view_as(parameter)
            begin = end

    def epoch(self, epoch: int) -> float:
        """Take the steps of an epoch; return its mean loss, the same on all ranks. Collective."""
        # Processors of different kinds round differently: equal weights at the start of each epoch.
        for parameter in self.model.layers.parameters():
            self.group.broadcast(parameter.data)
        total = torch.zeros((), device=self.group.device)
        for chosen, size in self.order.batches(epoch):
            total += self._step(torch.from_numpy(chosen).to(self.rows.held_on), size) * size
        return float(total) / self.order.n_rows

    def _step(self, chosen: torch.Tensor, size: int) -> torch.Tensor:
        """Take a step on a batch of `size` rows, `chosen` of this rank; return its mean loss.

        Collective.
        """
        self.message.zero_()
        if len(chosen):
            self._seed_dropout()
            loss = self.objective.loss(
                self.model.layers(self.rows.batch(chosen)),
                self.labels[chosen.to(self.labels.device)],
                self.recipe.label_smoothing,
                reduction="sum",
            )
            loss = loss / size
            loss.backward()  # type: ignore[no-untyped-call]
            self.message[-1] = loss.detach()
        self.group.sum(self.message)
        self.optimiser.step()
        return self.message[-1]

    def _seed_dropout(self) -> None:
        """Seed dropout differently on each rank, reproducibly."""
        if self.has_dropout:
            place = self.optimiser.done * self.group.size + self.group.rank
            torch.manual_seed(int(row_keys(self.order.seed, np.array([place]))[0]))


def _evaluate(
    group: ProcessGroup,
    model: Classifier,
    rows: Batches,
    labels: torch.Tensor,
    chosen: torch.Tensor,
    objective: Objective,
) -> Evaluation:
    """Return score and mean loss over the chosen rows of all ranks, NaN for none. Collective."""
    sums = group.sum(tally(model, rows, labels, chosen, objective))
    return objective.evaluation(sums.cpu().numpy())


def _score_and_loss(found: Evaluation) -> tuple[float, float]:
    return found.score, found.loss


def _shown_predictions(
    comm: MPI.Intracomm, model: Classifier, test: Samples
) -> NDArray[np.float64]:
    """Return targets and predictions of some test rows of all ranks, (m, 2). Collective."""
    if not isinstance(model, Regressor):
        return np.empty((0, 2))
    start, n_rows = place_rows(test.labels.size, comm)
    rows = shown_rows(n_rows) - start
    rows = rows[(rows >= 0) & (rows < test.labels.size)]
    inputs = test.inputs
    taken = inputs[rows] if isinstance(inputs, np.ndarray) else inputs.take(rows)
    pairs = np.empty((rows.size, 2))
    if rows.size:
        pairs[:] = np.stack([test.labels[rows], predict_targets(model, taken)], axis=1)
    return allgather_rows(comm, pairs)
