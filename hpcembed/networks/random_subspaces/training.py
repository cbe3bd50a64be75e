"""Training of a network in a random subspace of its parameters.

Only d coordinates are trained: ``theta = theta_0 + P theta_d`` with a random P and the start
theta_0 of the network. The rule of the optimiser is Adam on the coordinates, as in Li et al. (ICLR
2018). ``dimension=None`` trains all parameters by the same rule, for the baseline.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from hpcembed.networks.random_subspaces.projections import Kind, make_projection
from hpcembed.runtime.arguments import check_count, is_number
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["Labelled", "SubspaceTraining", "labelled", "train_in_subspace"]

#: Rows and their classes.
Labelled: TypeAlias = "tuple[Tensor | NDArray[Any], Tensor | NDArray[Any]]"

#: Rows of one batch outside of the training.
_BLOCK_ROWS = 1000


@dataclass(frozen=True, eq=False)
class SubspaceTraining:
    """A network trained in a random subspace.

    Attributes
    ----------
    model : nn.Module
        A copy of the network with the trained parameters, in evaluation mode.
    coordinates : Tensor of shape (d,)
        The trained coordinates; of shape (D,) for ``dimension=None``.
    dimension : int or None
    n_parameters : int
        Number of parameters D.
    losses : tuple of float
        Mean loss of the batches of each epoch.
    accuracies : tuple of float
        Share of the test rows that are classified correctly after each epoch; empty without test
        rows.
    seconds : float
        Wall time of the epochs, without the tests.
    """

    model: nn.Module
    coordinates: Tensor
    dimension: int | None
    n_parameters: int
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    seconds: float


@torch.inference_mode(False)
@torch.enable_grad()
def train_in_subspace(
    model: nn.Module,
    rows: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    dimension: int | None,
    *,
    projection: Kind = "srht",
    test: Labelled | None = None,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> SubspaceTraining:
    """Train a classifier in a random subspace of its parameters.

    For one process, on the CPU.

    Parameters
    ----------
    model : nn.Module
        Rows in, logits out; its parameters are theta_0. It is copied. Buffers, such as running
        means, follow the batches.
    rows : Tensor or ndarray of shape (n, ...)
        Trained in single precision.
    labels : Tensor or ndarray of int, shape (n,)
        Classes 0, ..., C - 1.
    dimension : int or None
        Dimension of the subspace. None trains all parameters.
    projection : {"srht", "fastfood", "dense"}
        See :func:`make_projection`.
    test : pair of arrays, optional
        Rows and labels on which the accuracy is measured after each epoch.
    epochs, batch_size : int
    learning_rate : float
        Of Adam, constant.
    weight_decay : float
        Factor of the squared length of all parameters in the loss.
    seed : int
        Of the projection, of the order of the rows, and of random layers. The state of torch's
        global generator is the same before and after.

    Returns
    -------
    SubspaceTraining

    Raises
    ------
    InputError
        Rows and labels do not fit together, or are not finite.
    ConfigError
        An argument is out of range, or the loss is not finite.

    Examples
    --------
    >>> import torch
    >>> from hpcembed.networks.random_subspaces import train_in_subspace
    >>> X = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    >>> y = (X[:, 0] > 0).long()
    >>> model = torch.nn.Linear(10, 2)
    >>> found = train_in_subspace(model, X, y, 20, epochs=30, learning_rate=0.05, test=(X, y))
    >>> found.n_parameters, len(found.coordinates), found.accuracies[-1] > 0.9
    (22, 20, True)
    """
    _check(epochs, batch_size, learning_rate, weight_decay)
    X, y = labelled(rows, labels, "training")
    judged = None if test is None else labelled(*test, "test")
    network = copy.deepcopy(model).cpu().float().train()
    subspace = _Subspace(network, dimension, projection, seed)
    optimiser = torch.optim.Adam([subspace.coordinates], learning_rate)
    order = torch.Generator().manual_seed(seed)
    losses, accuracies, seconds = [], [], 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for epoch in range(epochs):
            began = time.perf_counter()
            batches = torch.randperm(len(X), generator=order).split(batch_size)
            losses.append(_train_epoch(subspace, optimiser, X, y, batches, weight_decay))
            seconds += time.perf_counter() - began
            if not math.isfinite(losses[-1]):
                raise ConfigError(
                    f"the loss is not finite in epoch {epoch + 1}: reduce learning_rate"
                )
            if judged is not None:
                subspace.assign()
                accuracies.append(_accuracy(network, *judged))
    subspace.assign()
    return SubspaceTraining(
        network.eval(), subspace.coordinates.detach(), dimension, len(subspace.start),
        tuple(losses), tuple(accuracies), seconds,
    )  # fmt: skip


class _Subspace:
    """A network, its start, and the coordinates that are trained."""

    def __init__(self, network: nn.Module, dimension: int | None, kind: Kind, seed: int) -> None:
        self.network = network
        self._named = dict(network.named_parameters())
        if not self._named:
            raise ConfigError("the model has no parameters: there is nothing to train")
        self.start = torch.cat([one.detach().reshape(-1) for one in self._named.values()])
        n = len(self.start)
        self._project = None if dimension is None else make_projection(n, dimension, kind, seed)
        self.coordinates = torch.zeros(n if dimension is None else dimension, requires_grad=True)

    def vector(self) -> Tensor:
        """Return ``theta_0 + P theta_d``."""
        moved = self.coordinates if self._project is None else self._project(self.coordinates)
        return self.start + moved

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the parts of a vector with the names and shapes of the parameters."""
        parts = vector.split([one.numel() for one in self._named.values()])
        named = zip(parts, self._named.items(), strict=True)
        return {name: part.view(one.shape) for part, (name, one) in named}

    @torch.no_grad()
    def assign(self) -> None:
        """Copy the parameters into the network."""
        for name, value in self.named(self.vector()).items():
            self._named[name].copy_(value)


def _train_epoch(
    subspace: _Subspace, optimiser: torch.optim.Optimizer, X: Tensor, y: Tensor,
    batches: Iterable[Tensor], weight_decay: float,
) -> float:  # fmt: skip
    """Visit the batches once; return the mean loss of the rows."""
    total = 0.0
    for batch in batches:
        vector = subspace.vector()
        outputs = functional_call(subspace.network, subspace.named(vector), (X[batch],))
        loss = functional.cross_entropy(outputs, y[batch])
        total += loss.item() * len(batch) / len(X)
        if weight_decay:
            loss = loss + weight_decay * vector.dot(vector)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return total


def labelled(rows: Any, labels: Any, name: str) -> tuple[Tensor, Tensor]:
    """Return rows as float32 and labels as int64 tensors, checked."""
    # copies of arrays: read-only ones cannot be shared
    X, y = (
        one.detach().cpu() if isinstance(one, Tensor) else torch.tensor(np.asarray(one))
        for one in (rows, labels)
    )
    if y.ndim != 1 or X.ndim == 0 or len(X) != len(y) or not len(y):
        raise InputError(
            f"{name} rows of shape {tuple(X.shape)} and labels of shape {tuple(y.shape)}: give "
            "at least one row, and one label for each"
        )
    if y.is_floating_point() or int(y.min()) < 0:
        raise InputError(f"{name} labels must be integers from 0")
    X = X.float()
    if not bool(torch.isfinite(X).all()):
        bad = int((~torch.isfinite(X)).reshape(len(X), -1).any(dim=1).nonzero()[0])
        raise InputError(f"{name} row {bad} has a value that is not finite: remove the row")
    return X, y.to(torch.int64)


def _check(epochs: Any, batch_size: Any, learning_rate: Any, weight_decay: Any) -> None:
    check_count("epochs", epochs)
    check_count("batch_size", batch_size)
    if not is_number(learning_rate) or learning_rate <= 0:
        raise ConfigError(f"learning_rate must be a positive number, got {learning_rate!r}")
    if not is_number(weight_decay) or weight_decay < 0:
        raise ConfigError(f"weight_decay must be a number from 0, got {weight_decay!r}")


@torch.no_grad()
def _accuracy(network: nn.Module, rows: Tensor, labels: Tensor) -> float:
    network.eval()
    correct = sum(
        int((network(part).argmax(dim=1) == truth).sum())
        for part, truth in zip(rows.split(_BLOCK_ROWS), labels.split(_BLOCK_ROWS), strict=True)
    )
    network.train()
    return correct / len(labels)
