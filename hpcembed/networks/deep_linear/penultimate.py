"""Classifiers whose penultimate layer is a deep linear network, full or compressed.

The weight W of the last hidden layer is a product ``W_L ... W_1`` without activations in between.
The full network has orthogonal weights as wide as the layer, times a scale eps. The compressed one
(C-DLN, Kwon et al., AISTATS 2024, arXiv 2311.05061) has the outer weights ``eps V'`` and ``eps U``
and L - 2 inner weights ``eps I`` of order r-hat; its outer weights learn at alpha times the
learning rate. After the training the product is one ordinary layer.

U and V are the dominant singular vectors of a surrogate of W. The released code has no nonlinear
network, so the surrogate is chosen here: the first gradient step of W, which is the negative
gradient of the mean loss at the ordinary random start. With features F before the layer, H the
weight of the last layer, probabilities P and one-hot targets Y, it is the transpose of
``F' ((Y - P) H * active) / n``. P is nearly constant at the start, so that this is the
cross-correlation of the features with the centred targets, pulled back by H; the mask of active
units adds components beyond the number of classes.

Training is gradient descent on batches with Nesterov momentum; the rate falls to zero along a
cosine. All kinds have the same other layers at the start and visit the rows in the same order.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hpcembed.networks.deep_linear.problems import Factorisation
from hpcembed.networks.deep_linear.surrogate_spectrum import SpectralStart, spectral_start
from hpcembed.networks.training.optimiser import learning_rate_at
from hpcembed.runtime.arguments import check_choice, check_count, is_integer, is_number
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = [
    "DeepLinearLayer",
    "PenultimateTraining",
    "first_gradient_step",
    "train_with_deep_linear_layer",
]

Kind = Literal["none", "full", "compressed"]

_MOMENTUM = 0.9
#: Training rows of the surrogate.
_SURROGATE_ROWS = 5000
#: Rows of one batch outside of the training.
_BLOCK_ROWS = 1000


class DeepLinearLayer(nn.Module):
    """Linear layer whose weight is the product of several, with one bias.

    Parameters
    ----------
    weights : sequence of Tensor
        ``W_1`` of shape (k, n), ..., ``W_L`` of shape (m, k); input first.
    bias : Tensor of shape (m,)

    Examples
    --------
    >>> import torch
    >>> layer = DeepLinearLayer([torch.ones(1, 3), torch.ones(2, 1)], torch.zeros(2))
    >>> layer(torch.ones(1, 3)).tolist(), layer.merged().weight.shape
    ([[3.0, 3.0]], torch.Size([2, 3]))
    """

    def __init__(self, weights: Sequence[Tensor], bias: Tensor) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(w.clone()) for w in weights])
        self.bias = nn.Parameter(bias.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of shape (rows, m) of inputs of shape (rows, n).

        The weights are applied one after the other, which is cheaper than their product where a
        batch has fewer rows than the layer has units.
        """
        *inner, last = self.weights
        for weight in inner:
            inputs = functional.linear(inputs, weight)
        return functional.linear(inputs, last, self.bias)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the one linear layer with the same outputs; the product is in double precision."""
        product = self.weights[0].double()
        for weight in list(self.weights)[1:]:
            product = weight.double() @ product
        layer = nn.utils.skip_init(nn.Linear, product.shape[1], product.shape[0])
        layer.weight.copy_(product)
        layer.bias.copy_(self.bias)
        return layer


@dataclass(frozen=True, eq=False)
class PenultimateTraining:
    """A trained classifier.

    Attributes
    ----------
    kind : {"none", "full", "compressed"}
    network : nn.Sequential
        Plain layers, the product merged into one ``nn.Linear``; in evaluation mode. Its outputs
        are logits of shape (rows, classes).
    trained : nn.Sequential
        The same network with its factors.
    validation_accuracy : tuple of float
        Share of the validation rows that are classified correctly after each epoch; empty without
        validation rows.
    seconds : dict of str to float
        Wall time of ``start`` (random weights, and surrogate with its singular vectors) and
        ``epochs``, without the validation.
    parameters : int
        Trained numbers of the whole network.
    start : SpectralStart or None
        Singular triplets of the surrogate with their residuals, for compressed networks.
    """

    kind: Kind
    network: nn.Sequential
    trained: nn.Sequential
    validation_accuracy: tuple[float, ...]
    seconds: dict[str, float]
    parameters: int
    start: SpectralStart | None = None


def train_with_deep_linear_layer(
    hidden: Sequence[int],
    X: Tensor | NDArray[Any],
    y: Tensor | NDArray[Any],
    *,
    kind: Kind = "compressed",
    rank: int | None = None,
    depth: int = 3,
    alpha: float = 1.0,
    scale: float = 1.0,
    learning_rate: float = 0.05,
    epochs: int = 8,
    batch_size: int = 128,
    validation: tuple[Tensor | NDArray[Any], Tensor | NDArray[Any]] | None = None,
    seed: int = 0,
) -> PenultimateTraining:
    """Train a classifier of linear layers and ReLU, with a product as last hidden weight.

    For one process, on the CPU.

    Parameters
    ----------
    hidden : sequence of int
        Widths of the hidden layers.
    X : Tensor or ndarray of shape (n, d)
        Inputs, scaled to mean 0 and deviation 1; trained in single precision.
    y : Tensor or ndarray of int, shape (n,)
        Classes 0, ..., C - 1.
    kind : {"none", "full", "compressed"}
        none: an ordinary weight.
    rank : int, optional
        Order r-hat of the compressed weights. Default: twice the number of classes, at most the
        smaller dimension of the layer.
    depth : int
        Number of weights L of the product, at least 2.
    alpha : float
        The outer weights of a compressed network learn at ``alpha * learning_rate``.
    scale : float
        Factor eps of the orthonormal weights of the product at the start. Small scales, as in the
        matrix problems, begin near a saddle and need more epochs.
    learning_rate : float
        Of the first step.
    epochs, batch_size : int
    validation : pair of arrays, optional
        Inputs and classes on which the accuracy is measured after each epoch.
    seed : int
        Of the start and of the order of the rows. The state of torch's global generator is the
        same before and after.

    Returns
    -------
    PenultimateTraining

    Raises
    ------
    InputError
        Inputs and classes do not fit together, or are not finite.
    ConfigError
        An argument is out of range, or the loss is not finite.
    ConvergenceError
        A singular vector of the surrogate misses its tolerance.

    Examples
    --------
    >>> import torch
    >>> from hpcembed.networks.deep_linear.penultimate import train_with_deep_linear_layer
    >>> X = torch.cat([torch.eye(8) + 1, torch.eye(8) - 1])
    >>> y = torch.arange(16) // 8
    >>> found = train_with_deep_linear_layer([16, 16], X, y, epochs=30, validation=(X, y))
    >>> found.validation_accuracy[-1], found.parameters, found.network[2]
    (1.0, 338, Linear(in_features=16, out_features=16, bias=True))
    """
    numbers = {"alpha": alpha, "scale": scale, "learning_rate": learning_rate}
    _check(hidden, kind, depth, numbers, {"epochs": epochs, "batch_size": batch_size})
    rows, classes = _rows(X, y, "training")
    judged = None if validation is None else _rows(*validation, "validation")
    began = time.perf_counter()
    order = torch.Generator().manual_seed(seed)
    network, start = _started(kind, hidden, rows, classes, rank, depth, scale, seed)
    n_steps = epochs * math.ceil(len(rows) / batch_size)
    factors = _rate_factors(network, alpha if kind == "compressed" else 1.0)
    descent = _Descent(list(network.parameters()), factors, learning_rate, n_steps)
    seconds = {"start": time.perf_counter() - began, "epochs": 0.0}
    accuracies = []
    for epoch in range(epochs):
        began = time.perf_counter()
        loss = _train_epoch(network, descent, rows, classes, batch_size, order)
        seconds["epochs"] += time.perf_counter() - began
        if not math.isfinite(loss):
            raise ConfigError(
                f"the loss is not finite in epoch {epoch + 1}: reduce learning_rate or alpha"
            )
        if judged is not None:
            accuracies.append(_accuracy(network, *judged))
    parameters = sum(one.numel() for one in network.parameters())
    return PenultimateTraining(
        kind, _merged(network), network.eval(), tuple(accuracies), seconds, parameters, start
    )


def first_gradient_step(network: nn.Module, layer: nn.Linear, rows: Tensor, y: Tensor) -> Tensor:
    """Return the negative gradient of the mean cross-entropy by the weight of a layer.

    Parameters
    ----------
    network : nn.Module
        Rows in, logits out.
    layer : nn.Linear
        One of its layers.
    rows : Tensor of shape (n, d)
    y : Tensor of int64, shape (n,)
        Classes.

    Returns
    -------
    Tensor of the shape of the weight

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(2, 2, bias=False)
    >>> torch.nn.init.zeros_(layer.weight).shape
    torch.Size([2, 2])
    >>> first_gradient_step(layer, layer, torch.eye(2), torch.arange(2)).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    found = torch.zeros_like(layer.weight)
    for part, truth in zip(rows.split(_BLOCK_ROWS), y.split(_BLOCK_ROWS), strict=True):
        loss = functional.cross_entropy(network(part), truth, reduction="sum")
        found -= torch.autograd.grad(loss, layer.weight)[0]
    return found / len(rows)


class _Descent:
    """Gradient descent with Nesterov momentum; each parameter has a factor of the rate."""

    def __init__(
        self, parameters: list[nn.Parameter], factors: list[float], peak: float, n_steps: int
    ) -> None:
        self._parameters, self._factors, self._peak = parameters, factors, peak
        self._velocities = [torch.zeros_like(one) for one in parameters]
        self._n_steps, self._done = n_steps, 0

    def step(self, loss: Tensor) -> None:
        """Take the next step down the gradient of a loss."""
        gradients = torch.autograd.grad(loss, self._parameters)
        common = learning_rate_at(self._done, self._n_steps, self._peak, "cosine")
        self._done += 1
        with torch.no_grad():
            for j, gradient in enumerate(gradients):
                rate = self._factors[j] * common
                self._velocities[j].mul_(_MOMENTUM).add_(gradient)
                self._parameters[j].sub_(gradient, alpha=rate)
                self._parameters[j].sub_(self._velocities[j], alpha=rate * _MOMENTUM)


def _train_epoch(
    network: nn.Module, descent: _Descent, rows: Tensor, classes: Tensor, batch_size: int,
    order: torch.Generator,
) -> float:  # fmt: skip
    """Visit all rows once; return the sum of the losses of the batches."""
    total = torch.zeros(())
    for batch in torch.randperm(len(rows), generator=order).split(batch_size):
        loss = functional.cross_entropy(network(rows[batch]), classes[batch])
        descent.step(loss)
        total += loss.detach()
    return float(total)


@torch.no_grad()
def _accuracy(network: nn.Module, rows: Tensor, classes: Tensor) -> float:
    correct = sum(
        int((network(part).argmax(dim=1) == truth).sum())
        for part, truth in zip(rows.split(_BLOCK_ROWS), classes.split(_BLOCK_ROWS), strict=True)
    )
    return correct / len(classes)


def _started(
    kind: str, hidden: Sequence[int], rows: Tensor, classes: Tensor, rank: int | None, depth: int,
    scale: float, seed: int,
) -> tuple[nn.Sequential, SpectralStart | None]:  # fmt: skip
    """Return a network before its training; the product is the third layer from the end."""
    layers: list[Any] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for n, m in pairwise([rows.shape[1], *hidden, int(classes.max()) + 1]):
            layers += [nn.Linear(n, m), nn.ReLU()]
        network, layer = nn.Sequential(*layers[:-1]), layers[-4]
        if kind == "full":
            m, n = layer.weight.shape
            weights = [torch.empty(m, n if j == 0 else m) for j in range(depth)]
            weights = [nn.init.orthogonal_(one, gain=scale) for one in weights]
            network[-3] = DeepLinearLayer(weights, layer.bias.detach())
    if kind != "compressed":
        return network, None
    start = _surrogate_start(network, layer, rows, classes, rank, seed)
    left, right = (torch.from_numpy(one.copy()).float() for one in (start.left, start.right))
    weights = [right.T, *[torch.eye(left.shape[1])] * (depth - 2), left]
    network[-3] = DeepLinearLayer([scale * one for one in weights], layer.bias.detach())
    return network, start


def _surrogate_start(
    network: nn.Module, layer: nn.Linear, rows: Tensor, classes: Tensor, rank: int | None, seed: int
) -> SpectralStart:
    """Return the dominant singular triplets of the first gradient step of the layer's weight."""
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    chosen = chosen[:_SURROGATE_ROWS]
    if rank is None:
        rank = min(2 * (int(classes.max()) + 1), *layer.weight.shape)
    step = first_gradient_step(network, layer, rows[chosen], classes[chosen])
    return spectral_start(Factorisation(step.double().numpy()), rank, seed=seed)


def _rate_factors(network: nn.Sequential, alpha: float) -> list[float]:
    """Return the factor of the learning rate of each parameter: alpha for outer weights."""
    layer, outer = network[-3], set()
    if isinstance(layer, DeepLinearLayer):
        outer = {id(layer.weights[0]), id(layer.weights[-1])}
    return [alpha if id(one) in outer else 1.0 for one in network.parameters()]


def _merged(network: nn.Sequential) -> nn.Sequential:
    """Return the network with products as ordinary layers; the others are copies."""
    layers = [
        one.merged() if isinstance(one, DeepLinearLayer) else copy.deepcopy(one) for one in network
    ]
    return nn.Sequential(*layers).eval()


def _rows(X: Any, y: Any, what: str) -> tuple[Tensor, Tensor]:
    """Return inputs in single precision and classes, or raise InputError."""
    rows, given = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y)
    if rows.dim() != 2 or not rows.numel() or given.shape != rows.shape[:1]:
        raise InputError(
            f"{what} inputs of shape {tuple(rows.shape)} and classes of shape "
            f"{tuple(given.shape)}: give a table, and one class for each of its rows"
        )
    if not bool(torch.isfinite(rows).all()):
        row = int(torch.nonzero(~torch.isfinite(rows).all(dim=1))[0])
        raise InputError(f"{what} row {row} has a number that is not finite: remove it")
    if given.is_floating_point() or given.is_complex() or int(given.min()) < 0:
        raise InputError(f"{what} classes are not integers from 0 on: number the classes")
    return rows, given.to(torch.int64)


def _check(
    hidden: Sequence[int], kind: str, depth: int, numbers: dict[str, float], counts: dict[str, int]
) -> None:
    check_choice("kind", kind, get_args(Kind))
    if not len(hidden) or not all(is_integer(one) and one >= 1 for one in hidden):
        raise ConfigError(f"hidden = {list(hidden)!r}: give the width of one hidden layer or more")
    for name, count in counts.items():
        check_count(name, count)
    if not is_integer(depth) or depth < 2:
        raise ConfigError(f"depth must be an integer of at least 2, got {depth!r}")
    for name, value in numbers.items():
        if not is_number(value) or value <= 0:
            raise ConfigError(f"{name} must be a positive number, got {value!r}")
