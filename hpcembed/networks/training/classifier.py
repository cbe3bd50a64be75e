"""The networks: compact multilayer perceptrons with the standardisation of their inputs.

Each input is shifted and scaled first; both vectors are buffers beside the weights, so that a saved
or exported network accepts rows that are not standardised. The shift is subtracted in double
precision: a column whose mean is far larger than its spread keeps its digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["Classifier", "Regressor", "build_mlp", "count_parameters"]


def build_mlp(
    n_inputs: int, hidden: Sequence[int], n_classes: int, dropout: Sequence[float] = ()
) -> nn.Sequential:
    """Return linear layers with ReLU and dropout between them; the last gives logits.

    Weights are drawn from the global generator of PyTorch: seed it before.

    Parameters
    ----------
    n_inputs, n_classes : int
        Width of the first and of the last layer.
    hidden : sequence of int
        Widths in between, possibly none (a linear classifier).
    dropout : sequence of float
        For each hidden layer the probability that a unit is dropped in training; 0 adds no layer.

    Examples
    --------
    >>> count_parameters(build_mlp(8, (4,), 3))
    51
    """
    layers: list[nn.Module] = []
    widths = pairwise((n_inputs, *hidden))
    for (width_in, width_out), p in zip(widths, dropout or (0.0,) * len(hidden), strict=True):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        if p > 0.0:
            layers.append(nn.Dropout(p))
    layers.append(nn.Linear(hidden[-1] if hidden else n_inputs, n_classes))
    return nn.Sequential(*layers)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


class Classifier(nn.Module):
    """A network together with the standardisation of its inputs.

    ``model(rows)`` takes rows of shape (n, d) of any real type, scaled as in training, and returns
    logits of shape (n, n_classes) in float32.

    Parameters
    ----------
    layers : Sequential
        The network behind the standardisation, see :func:`build_mlp`.
    shift, scale : ndarray of shape (d,), float64
        The input of the network is ``(x - shift) * scale``.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self, layers: nn.Sequential, shift: NDArray[np.float64], scale: NDArray[np.float64]
    ) -> None:
        super().__init__()
        self.layers = layers
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the logits of rows that are not standardised."""
        standardised = ((rows - self.shift) * self.scale).to(torch.float32)
        return cast(torch.Tensor, self.layers(standardised))


class Regressor(Classifier):
    """A network of a regression, with the standardisation of its inputs and of its target.

    ``model(rows)`` returns predictions of shape (n,) in the unit of the target, in float64.

    Parameters
    ----------
    layers, shift, scale
        As for :class:`Classifier`; one output.
    target_shift, target_scale : float
        The prediction is ``output * target_scale + target_shift``.
    """

    target_shift: torch.Tensor
    target_scale: torch.Tensor

    def __init__(
        self,
        layers: nn.Sequential,
        shift: NDArray[np.float64],
        scale: NDArray[np.float64],
        target_shift: float,
        target_scale: float,
    ) -> None:
        super().__init__(layers, shift, scale)
        self.register_buffer("target_shift", torch.tensor(target_shift, dtype=torch.float64))
        self.register_buffer("target_scale", torch.tensor(target_scale, dtype=torch.float64))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the predictions for rows that are not standardised."""
        outputs = super().forward(rows).squeeze(1).to(torch.float64)
        return outputs * self.target_scale + self.target_shift
