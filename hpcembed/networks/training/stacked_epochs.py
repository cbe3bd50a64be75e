"""Epochs of stacked networks: the order of rows, dropout, steps, and the epoch that each keeps.

Dropout masks are bytes of a fast generator (SFC64) compared with a threshold: the probability is
rounded to a multiple of 1/256. PyTorch's own Bernoulli numbers on a CPU cost more
than the products of a whole step of a compact network.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpcembed.networks.training.batches import ArrayBatches
from hpcembed.networks.training.epochs import TrainingError
from hpcembed.networks.training.objectives import SUMS, Objective
from hpcembed.networks.training.optimiser import ScheduledOptimiser
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.stacked_networks import StackedNetworks
from hpcembed.networks.training.training_state import (
    Arrays,
    TrainingCheckpoint,
    random_state,
    require_finite,
    restore_random_state,
    with_prefix,
)
from hpcembed.networks.training.validation_split import stratified_holdout

__all__ = ["DropoutMasks", "Member", "StackedEpochs", "evaluation_rows"]

#: Rows of an evaluation that go through the networks at once, times networks times widest layer.
EVALUATION_NUMBERS = 1 << 21

#: Results of each network that epochs change.
_PER_MEMBER = ("score", "loss", "best_epoch", "train_loss")


@dataclass(frozen=True, slots=True)
class Member:
    """One network of a batch: its seed, and the number of leading columns that it uses."""

    seed: int
    n_inputs: int


class StackedEpochs:
    """All epochs of a batch, and for each network the epoch that it keeps.

    With `whole` no row is held out: scores are not defined, and the last epoch is kept.
    """

    def __init__(
        self,
        stack: StackedNetworks,
        rows: ArrayBatches,
        labels: NDArray[np.int64] | NDArray[np.float64],
        objective: Objective,
        members: Sequence[Member],
        recipe: Recipe,
        *,
        whole: bool = False,
    ) -> None:
        self.stack, self.rows, self.recipe, self.members = stack, rows, recipe, members
        self.device = stack.flat.device
        self.objective, self.labels = objective, objective.truth(labels, rows.held_on)
        # Rows, order and dropout are drawn once for each seed; `of_seed` is its number for each
        # network.
        seeds = sorted({one.seed for one in members})
        self.of_seed = torch.tensor([seeds.index(one.seed) for one in members])
        everything = np.arange(labels.size), np.empty(0, dtype=np.int64)
        held = [
            everything if whole else stratified_holdout(labels, recipe.validation_fraction, seed)
            for seed in seeds
        ]
        self.kept = torch.from_numpy(np.stack([kept for kept, _ in held])).to(rows.held_on)
        self.held_out = torch.from_numpy(np.stack([out for _, out in held])).to(rows.held_on)
        self.orders = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.dropout = DropoutMasks(recipe.dropouts(stack.hidden), stack.hidden, seeds)
        n_steps = recipe.epochs * math.ceil(self.kept.shape[1] / recipe.batch_size)
        self.optimiser = ScheduledOptimiser([stack.flat], recipe, stack.hidden, n_steps)
        B = len(members)
        self.score, self.loss = np.full(B, -np.inf), np.full(B, np.inf)
        self.best_epoch = np.zeros(B, dtype=np.int64)
        self.train_loss = np.full(B, np.nan)
        # Finished epochs, their seconds, and the part of them of an earlier process.
        self.done, self.seconds, self.seconds_before = 0, 0.0, 0.0
        keeps_best = recipe.keep == "best" and not whole
        self.best = stack.copy_of_parameters() if keeps_best else None

    def run(
        self,
        on_epoch: Callable[[int], None] | None,
        checkpoint: TrainingCheckpoint | None = None,
    ) -> None:
        """Train, and load the weights that each network keeps."""
        recipe = self.recipe
        if checkpoint is not None:
            checkpoint.restore(self._restore)
        while not self._has_ended():
            self.done = epoch = self.done + 1
            began = time.perf_counter()
            self._epoch(epoch)
            if self.best is not None or epoch == recipe.epochs:
                self._keep_best(epoch)
            self.seconds += time.perf_counter() - began
            if on_epoch is not None:
                on_epoch(epoch)
            # weights that are not finite are an error of the next epoch, and no state to keep
            if checkpoint is not None and bool(torch.isfinite(self.stack.flat).all()):
                checkpoint.epoch_done(self._state, ended=self._has_ended())
        if self.best is not None:
            self.stack.restore(self.best)

    def _has_ended(self) -> bool:
        patience, waited = self.recipe.patience, self.done - self.best_epoch
        return self.done >= self.recipe.epochs or (
            patience > 0 and self.done > 0 and bool((waited >= patience).all())
        )

    def _state(self) -> Arrays:
        """Return the state between two epochs, as arrays."""
        kept = dict(enumerate(self.best or ()))
        arrays = {f"optimiser.{name}": one for name, one in self.optimiser.state().items()}
        arrays |= with_prefix("best.", {str(i): one for i, one in kept.items()})
        arrays |= random_state(self.orders, self.device)
        arrays["flat"] = self.stack.flat.detach().cpu().numpy().copy()
        arrays["dropout"] = self.dropout.state()
        arrays["done"] = np.array([self.done, self.seconds])
        arrays |= {name: np.array(getattr(self, name)) for name in _PER_MEMBER}
        return arrays

    def _restore(self, arrays: Arrays) -> None:
        require_finite(arrays, ("flat", "best.", "optimiser."))
        self.stack.flat.data.copy_(torch.from_numpy(arrays["flat"]))
        for i, part in enumerate(self.best or ()):
            part.copy_(torch.from_numpy(arrays[f"best.{i}"]))
        self.optimiser.restore(
            {name[10:]: one for name, one in arrays.items() if name[:10] == "optimiser."}
        )
        restore_random_state(arrays, self.orders, self.device)
        self.dropout.restore(arrays["dropout"])
        done, self.seconds = arrays["done"].tolist()
        self.done, self.seconds_before = int(done), self.seconds
        if not 0 <= self.done <= self.recipe.epochs:
            raise ValueError(f"{self.done} of {self.recipe.epochs} epochs")
        for name in _PER_MEMBER:
            setattr(self, name, arrays[name].copy())

    def _epoch(self, epoch: int) -> None:
        recipe, n = self.recipe, self.kept.shape[1]
        shuffled = torch.stack(
            [
                kept[torch.randperm(n, generator=order).to(kept.device)]
                for kept, order in zip(self.kept, self.orders, strict=True)
            ]
        )
        total = torch.zeros(len(self.members), device=self.device)
        for chosen in shuffled.split(recipe.batch_size, dim=1):
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
                f"the learning rate (now {self.optimiser.peak:g})"
            )

    def _each(self, parts: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """Return for every network the part of its seed; one part for all is broadcast."""
        if len(self.orders) == 1:
            return parts
        where = self.of_seed.to(self.device)
        return [part if part is None else part[where] for part in parts]

    def _batch(self, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs (B, m, K) and labels (B, m, 1) of the rows chosen for each seed, (S, m)."""
        B, (S, m) = len(self.members), chosen.shape
        rows = self.rows.batch(chosen.reshape(-1)).view(S, m, -1)
        labels = self.labels[chosen].unsqueeze(2).to(self.device)
        if S == 1:
            return rows.expand(B, -1, -1), labels.expand(B, -1, -1)
        if S == B and bool((self.of_seed == torch.arange(B)).all()):
            return rows, labels
        where = self.of_seed.to(self.device)
        return rows[where], labels[where]

    def _keep_best(self, epoch: int) -> None:
        """Validate, and keep the weights of the networks whose epoch is their best so far."""
        score, loss = self._validate()
        can_end = self.recipe.patience > 0 and epoch > 1
        ended = (epoch - self.best_epoch > self.recipe.patience) if can_end else False
        # As for a single network: ties by lower loss, then the later epoch.
        # A score that is not defined (R2 of equal targets) leaves the choice to the loss.
        same = np.isnan(score) | (score == self.score)
        better = np.where(same, loss <= self.loss, score > self.score)
        better &= ~np.asarray(ended)
        if self.best is None:
            better[:] = True
        else:
            self.stack.keep(self.best, torch.from_numpy(better).to(self.device))
        self.score[better], self.loss[better] = score[better], loss[better]
        self.best_epoch[better] = epoch

    def _validate(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n = self.held_out.shape[1]
        total = torch.zeros(len(self.members), SUMS, dtype=torch.float64, device=self.device)
        size = evaluation_rows(self.stack)
        for first in range(0, n, size):
            inputs, labels = self._batch(self.held_out[:, first : first + size])
            total += self.objective.sums(self.stack.logits(inputs), labels.squeeze(2))
        found = [self.objective.evaluation(sums) for sums in total.cpu().numpy()]
        return np.array([one.score for one in found]), np.array([one.loss for one in found])


class DropoutMasks:
    """Factors of the activations of each hidden layer: 0, or 1 / (1 - p)."""

    def __init__(
        self, probabilities: Sequence[float], widths: Sequence[int], seeds: Sequence[int]
    ) -> None:
        self.thresholds = [min(255, round(256 * p)) for p in probabilities]
        self.widths = widths
        # A stream of its own: the seed alone decides the held-out rows.
        self.streams = [np.random.SFC64(np.random.SeedSequence([seed, 1])) for seed in seeds]

    def masks(self, m: int, device: torch.device) -> list[torch.Tensor | None]:
        """Return for each layer a tensor of shape (seeds, m, width), or None without dropout."""
        masks: list[torch.Tensor | None] = []
        for threshold, width in zip(self.thresholds, self.widths, strict=True):
            if threshold == 0:
                masks.append(None)
                continue
            drawn = np.stack([self._bytes(stream, m * width) for stream in self.streams])
            kept = torch.from_numpy(drawn).view(-1, m, width).to(device) >= threshold
            masks.append(kept.to(torch.float32).mul_(256 / (256 - threshold)))
        return masks

    def state(self) -> NDArray[np.uint64]:
        """Return the state of the streams, shape (seeds, 4)."""
        states: list[Any] = [stream.state for stream in self.streams]
        return np.array([one["state"]["state"] for one in states], dtype=np.uint64).reshape(-1, 4)

    def restore(self, state: NDArray[np.uint64]) -> None:
        """Continue from :meth:`state`."""
        for stream, row in zip(self.streams, state, strict=True):
            whole: Any = stream.state
            whole["state"]["state"] = row.copy()
            stream.state = whole

    @staticmethod
    def _bytes(stream: np.random.SFC64, count: int) -> NDArray[np.uint8]:
        words: Any = stream.random_raw(-(-count // 8))
        return np.asarray(words).view(np.uint8)[:count]


def evaluation_rows(stack: StackedNetworks) -> int:
    """Return the number of rows of a batch of an evaluation."""
    return max(16, EVALUATION_NUMBERS // (len(stack.n_inputs) * max(stack.widths)))
