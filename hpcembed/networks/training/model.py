"""The networks: compact multilayer perceptrons that carry their own input standardisation.

A network sees each input shifted and scaled; both vectors travel with the weights as buffers, so
that a saved or exported network takes the rows as they are. The shift is subtracted in double
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

__all__ = ["Classifier", "build_mlp", "count_parameters"]


def build_mlp(
    n_inputs: int, hidden: Sequence[int], n_classes: int, dropout: Sequence[float] = ()
) -> nn.Sequential:
    """Linear layers with ReLU, and dropout where asked for, between them; the last gives logits.

    Not collective. Weights come from PyTorch's global generator: seed it before.

    Parameters
    ----------
    n_inputs, n_classes : int
        Width of the first and of the last layer.
    hidden : sequence of int
        Widths in between, possibly none (a linear classifier).
    dropout : sequence of float
        For each hidden layer the probability that a unit is dropped in training; 0 adds no layer.
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
    """Count the numbers that training sets. Not collective."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


class Classifier(nn.Module):
    """A network together with the standardisation of its inputs.

    Not collective. ``model(rows)`` takes rows of shape (n, d) of any real type, as they were
    passed to training, and returns logits of shape (n, n_classes) in float32.

    Parameters
    ----------
    layers : Sequential
        The network behind the standardisation, see :func:`build_mlp`.
    shift, scale : ndarray of shape (d,), float64
        The network sees ``(x - shift) * scale``.
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
        """Logits of rows as they came. Not collective."""
        standardised = ((rows - self.shift) * self.scale).to(torch.float32)
        return cast(torch.Tensor, self.layers(standardised))
