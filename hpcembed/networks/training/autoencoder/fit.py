"""Training of an autoencoder on the rows of one process.

Rows are centred and divided by one number, the root of the mean variance of the features. The
encoder is ``d - h - k`` with rectified linear units in the hidden layer, or one linear layer; the
decoder is ``k - h - d`` with rectified linear units. The loss is the mean squared error. Steps are
those of AdamW without decay along one cycle of the learning rate. A tenth of the rows is held out:
the epoch of least loss on these rows is kept, and the training ends when the loss has not fallen
for some epochs.

Reference: Hinton, Salakhutdinov, "Reducing the dimensionality of data with neural networks",
Science 313 (2006); here with one hidden layer on each side and without pretraining.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import nn

from hpcembed.networks.training.batches import ArrayBatches
from hpcembed.networks.training.device import choose_device, seeded_torch
from hpcembed.networks.training.epochs import run_epochs
from hpcembed.networks.training.input_scaling import InputScaling, block_moments, blocks_of
from hpcembed.networks.training.optimiser import ScheduledOptimiser
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.validation_split import stratified_holdout

__all__ = ["TrainedAutoencoder", "train_autoencoder"]

#: The recipe; the numbers of epochs and of rows in a batch follow from the number of rows.
RECIPE = Recipe(weight_decay=0.0, learning_rate=3e-3)
#: Epochs without a lower loss on the held-out rows, after which the training ends.
PATIENCE = 8
#: Rows that are evaluated at once.
_ROWS = 4096

Layers = list[tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class TrainedAutoencoder:
    """Weights and course of a training.

    Attributes
    ----------
    encoder, decoder : list of (ndarray, ndarray)
        Weights of shape (outputs, inputs) and biases of each layer.
    shift : ndarray of shape (d,)
    scale : float
        The network reads ``(x - shift) * scale``.
    losses : tuple of float
        Mean squared error on the held-out rows after each epoch, relative to the mean variance of
        the features.
    best_epoch : int
        From 1.
    """

    encoder: Layers
    decoder: Layers
    shift: NDArray[np.float64]
    scale: float
    losses: tuple[float, ...]
    best_epoch: int


def train_autoencoder(
    rows: NDArray[np.generic],
    k: int,
    *,
    hidden: int,
    encoder: Literal["hidden", "linear"],
    epochs: int,
    seed: int,
    threads: int,
    device: Literal["auto", "cpu", "cuda"],
) -> TrainedAutoencoder:
    """Train an autoencoder with k coordinates.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        At least two finite rows.
    hidden : int
        Width of the hidden layers.
    encoder : {"hidden", "linear"}
        Whether the encoder has a hidden layer.
    epochs : int
        Passes over the rows, at most; 0: chosen from their number.
    seed : int
        Of the first weights, the held-out rows and the order of the rows.

    Raises
    ------
    TrainingError
        The loss became NaN or infinite.
    """
    n, d = rows.shape
    place = choose_device(device)
    recipe = replace(RECIPE.for_rows(n, 0), patience=PATIENCE)
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    count, mean, squares = block_moments((block for _, block in blocks_of(rows)), d)
    spread = math.sqrt(float(squares.sum()) / (count * d))
    scale = 1.0 / spread if spread > 0 else 1.0
    with seeded_torch(threads, seed, place):
        first = [nn.Linear(d, hidden), nn.ReLU()] if encoder == "hidden" else []
        encode = nn.Sequential(*first, nn.Linear(hidden if first else d, k))
        decode = nn.Sequential(nn.Linear(k, hidden), nn.ReLU(), nn.Linear(hidden, d))
        model = nn.Sequential(encode, decode).to(place)
        scaling = InputScaling(mean, np.full(d, scale))
        batches = ArrayBatches(rows, scaling, place)
        best, losses = _fit(model, batches, n, recipe, hidden, seed)
    return TrainedAutoencoder(_layers(encode), _layers(decode), mean, scale, losses, best)


def _fit(
    model: nn.Sequential, batches: ArrayBatches, n: int, recipe: Recipe, hidden: int, seed: int
) -> tuple[int, tuple[float, ...]]:
    """Train, and load the weights of the best epoch; return this epoch and the losses."""
    kept, held_out = stratified_holdout(np.zeros(n), recipe.validation_fraction, seed)
    kept_rows, held_rows = (torch.from_numpy(part).to(batches.held_on) for part in (kept, held_out))
    order = torch.Generator().manual_seed(seed)
    n_steps = recipe.epochs * math.ceil(len(kept) / recipe.batch_size)
    optimiser = ScheduledOptimiser(model.parameters(), recipe, (hidden,), n_steps)
    losses = list[float]()

    def train_epoch(_epoch: int) -> float:
        total = 0.0
        permutation = torch.randperm(len(kept), generator=order).to(batches.held_on)
        for chosen in kept_rows[permutation].split(recipe.batch_size):
            optimiser.zero_grad()
            rows = batches.batch(chosen)
            loss = nn.functional.mse_loss(model(rows), rows)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(loss.detach()) * len(chosen)
        return total / len(kept)

    @torch.no_grad()
    def validate() -> tuple[float, float]:
        total = 0.0
        for chosen in held_rows.split(_ROWS):
            rows = batches.batch(chosen)
            total += float(nn.functional.mse_loss(model(rows), rows)) * len(chosen)
        losses.append(total / len(held_out))
        return -losses[-1], losses[-1]

    best, _ = run_epochs(
        model,
        optimiser,
        recipe.epochs,
        train_epoch,
        validate,
        None,
        recipe.patience,
        generators=[order],
    )
    return best.epoch, tuple(losses)


def _layers(part: nn.Sequential) -> Layers:
    return [
        (one.weight.detach().cpu().numpy(), one.bias.detach().cpu().numpy())
        for one in part
        if isinstance(one, nn.Linear)
    ]
