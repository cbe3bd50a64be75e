"""Train one network on the rows of all ranks, which stay where they are.

For data that one rank cannot hold. Every rank keeps the whole network; a batch is drawn from the
rows of all ranks, each rank passes its own rows of it, perhaps none, through the network, and the
gradients are summed in one message a step. A rank's loss is the sum over its rows divided by the
rows of the whole batch, so the sum over ranks is the mean over the batch, however its rows lie.

Which rows are held out, first weights, scaling, schedule and the choice of the epoch are those of
:func:`hpcembed.networks.training.train_classifier`; the order of the rows is another one, which any
rank can tell for its rows alone (:mod:`hpcembed.runtime.counter_random`). Batches and held-out
rows do not depend on the number of ranks; what dropout drops does.

One message of the whole gradient instead of PyTorch's DistributedDataParallel: that one averages
over ranks, not rows, and its buckets pay for networks far larger than these.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from torch.nn import functional

from hpcembed.networks.training.descent import BestEpoch, Descent
from hpcembed.networks.training.evaluation import tally
from hpcembed.networks.training.holdout import local_holdout
from hpcembed.networks.training.local_rows import (
    EpochOrder,
    LocalSamples,
    check_local,
    fit_local_scaling,
    place,
)
from hpcembed.networks.training.model import Classifier, build_mlp, count_parameters
from hpcembed.networks.training.process_group import Group, process_group
from hpcembed.networks.training.recipe import BATCH_KEYS, Recipe
from hpcembed.networks.training.samples import Batches
from hpcembed.networks.training.training import (
    ClassifierReport,
    Epoch,
    InputName,
    TrainedClassifier,
    check_loss,
    quiet_torch,
    scaling_kind,
)
from hpcembed.runtime.counter_random import row_keys

__all__ = ["LocalSamples", "train_data_parallel"]


def train_data_parallel(
    train: LocalSamples,
    test: LocalSamples,
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
) -> TrainedClassifier:
    """Train a network with the given hidden layers on the rows of all ranks and test it once.

    Collective.

    Parameters
    ----------
    train, test : LocalSamples
        This rank's rows of shape (n_local, d); ranks may have none, and the test rows may be none.
    n_classes : int
        Number of classes; some may be absent from either set.
    hidden : tuple of int
        Widths of the hidden layers.
    input_name : {'full', 'embedded'}
        Decides what ``input_scaling = "auto"`` does.
    threads : int
        Threads of PyTorch's operations on this rank while training; restored afterwards.
    seed : int
        Of the first weights, the rows held out, the order of the rows and dropout.
    device : {'auto', 'cpu', 'cuda'}
        auto: GPUs where every rank has one of its own.
    on_epoch : callable, optional
        Called after each epoch on the ranks that give it.

    Returns
    -------
    TrainedClassifier
        The same network on all ranks.

    Raises
    ------
    InputError
        Inputs and labels that do not fit each other, or are not finite.
    TrainingError
        The loss became NaN or infinite on any rank: names the epoch and the remedy.
    ConfigError
        The recipe has keys that only networks trained in batches obey, or as
        :func:`hpcembed.networks.training.process_group.process_group`.
    """
    check_local(comm, train, n_classes, "training")
    check_local(comm, test, n_classes, "test")
    recipe.check_default(BATCH_KEYS, "recipe", "train_data_parallel")
    start = time.perf_counter()
    scaling = fit_local_scaling(comm, train, scaling_kind(input_name, recipe))
    kept, held_out = local_holdout(comm, train.labels, n_classes, recipe.validation_fraction, seed)
    order = EpochOrder(comm, kept, recipe.batch_size, seed)
    with process_group(comm, device) as group, quiet_torch(threads, seed, group.device):
        layers = build_mlp(train.n_features, hidden, n_classes, recipe.dropouts(hidden))
        model = Classifier(layers, scaling.shift, scaling.scale).to(group.device)
        rows = place(train.inputs, scaling, group.device)
        fit = _Fit(group, model, rows, train.labels, order, hidden, recipe)
        best, history = fit.run(torch.from_numpy(held_out).to(rows.held_on), on_epoch)
        seconds = time.perf_counter() - start
        rows, labels = place(test.inputs, scaling, group.device), torch.tensor(test.labels)
        everything = torch.arange(len(labels), device=rows.held_on)
        accuracy, _ = _judge(group, model, rows, labels.to(group.device), everything)
    report = ClassifierReport(
        input=input_name,
        hidden=tuple(hidden),
        parameters=count_parameters(model),
        train_seconds=seconds,
        validation_accuracy=best.accuracy,
        test_accuracy=accuracy,
        best_epoch=best.epoch,
        history=history,
        device=group.device.type,
        threads=threads,
    )
    return TrainedClassifier(model.cpu(), report)


class _Fit:
    """All epochs, with what they share; gradients lie in one array, and the loss behind them."""

    def __init__(
        self,
        group: Group,
        model: Classifier,
        rows: Batches,
        labels: NDArray[np.int64],
        order: EpochOrder,
        hidden: Sequence[int],
        recipe: Recipe,
    ) -> None:
        self.group, self.model, self.rows = group, model, rows
        self.order, self.recipe = order, recipe
        self.has_dropout = any(recipe.dropouts(hidden))
        self.labels = torch.tensor(labels, device=group.device)
        self.descent = Descent(model.layers, recipe, hidden, recipe.epochs * order.n_batches)
        self.message = torch.zeros(count_parameters(model) + 1, device=group.device)
        begin = 0
        for parameter in model.layers.parameters():
            end = begin + parameter.numel()
            parameter.grad = self.message[begin:end].view_as(parameter)
            begin = end

    def run(
        self, held_out: torch.Tensor, on_epoch: Callable[[Epoch], None] | None
    ) -> tuple[BestEpoch, tuple[Epoch, ...]]:
        """Run all epochs and leave the best one's weights in the model. Collective."""
        best, history = BestEpoch(), []
        for epoch in range(1, self.recipe.epochs + 1):
            start = time.perf_counter()
            # Processors of different kinds round differently: ranks start each epoch together.
            for parameter in self.model.layers.parameters():
                self.group.broadcast(parameter.data)
            self.model.train()
            total = torch.zeros((), device=self.group.device)
            for chosen, size in self.order.batches(epoch):
                total += self._step(torch.from_numpy(chosen).to(self.rows.held_on), size) * size
            train_loss = float(total) / self.order.n_rows
            # The same on all ranks.
            check_loss(train_loss, epoch, self.recipe.epochs, self.descent.peak)
            accuracy, loss = _judge(self.group, self.model, self.rows, self.labels, held_out)
            best.offer(epoch, accuracy, loss, self.model)
            seconds = time.perf_counter() - start
            rate = self.descent.learning_rate
            history.append(Epoch(epoch, rate, train_loss, accuracy, seconds))
            if on_epoch is not None:
                on_epoch(history[-1])
        assert best.state is not None
        self.model.load_state_dict(best.state)
        self.model.eval()
        return best, tuple(history)

    def _step(self, chosen: torch.Tensor, size: int) -> torch.Tensor:
        """One step on a batch of `size` rows, these of them here; its mean loss. Collective."""
        self.message.zero_()
        if len(chosen):
            self._seed_dropout()
            loss = functional.cross_entropy(
                self.model.layers(self.rows.batch(chosen)),
                self.labels[chosen.to(self.labels.device)],
                label_smoothing=self.recipe.label_smoothing,
                reduction="sum",
            )
            loss = loss / size
            loss.backward()  # type: ignore[no-untyped-call]
            self.message[-1] = loss.detach()
        self.group.sum(self.message)
        self.descent.step()
        return self.message[-1]

    def _seed_dropout(self) -> None:
        """Let each rank drop units of its own, the same ones whenever the run is repeated."""
        if self.has_dropout:
            place = self.descent.done * self.group.size + self.group.rank
            torch.manual_seed(int(row_keys(self.order.seed, np.array([place]))[0]))


def _judge(
    group: Group,
    model: Classifier,
    rows: Batches,
    labels: torch.Tensor,
    chosen: torch.Tensor,
) -> tuple[float, float]:
    """Accuracy and mean loss over the chosen rows of all ranks, NaN for none. Collective."""
    correct, loss, n = group.sum(tally(model, rows, labels, chosen)).tolist()
    return (correct / n, loss / n) if n else (math.nan, math.nan)
