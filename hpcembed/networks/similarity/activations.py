"""Activations of the layers of a trained network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hpcembed.networks.training.batches import ArrayBatches
from hpcembed.networks.training.classifier import Classifier
from hpcembed.networks.training.input_scaling import InputScaling

if TYPE_CHECKING:
    from hpcembed.data.matrix import DataMatrix

__all__ = ["OUTPUT", "layer_activations"]

#: Name of the last layer.
OUTPUT = "output"


def layer_activations(
    model: Classifier, inputs: NDArray[np.generic] | DataMatrix, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Return the activations of the hidden layers of a network, and its outputs.

    Parameters
    ----------
    inputs : ndarray of shape (n, d), or DataMatrix
        As in training; of a matrix the rows of this rank.
    rows : ndarray of int64, shape (m,)
        Numbers of the rows in use.

    Returns
    -------
    dict of str to ndarray of shape (m, width)
        ``"hidden 1"``, ``"hidden 2"``, ... after the activation function, and ``"output"``: logits,
        or standardised predictions of a regression.

    Examples
    --------
    >>> from hpcembed.networks.training.classifier import build_mlp
    >>> model = Classifier(build_mlp(3, (4,), 2), np.zeros(3), np.ones(3))
    >>> found = layer_activations(model, np.zeros((5, 3)), np.array([0, 2]))
    >>> {name: values.shape for name, values in found.items()}
    {'hidden 1': (2, 4), 'output': (2, 2)}
    """
    taken = inputs[rows] if isinstance(inputs, np.ndarray) else inputs.take(rows)
    scaling = InputScaling(model.shift.cpu().numpy(), model.scale.cpu().numpy())
    batches = ArrayBatches(taken, scaling, model.shift.device)
    model.eval()
    found: dict[str, NDArray[np.float32]] = {}
    with torch.inference_mode():
        values = batches.block(0, len(batches))
        for layer in model.layers:
            values = layer(values)
            if isinstance(layer, nn.ReLU):
                found[f"hidden {len(found) + 1}"] = values.cpu().numpy()
        found[OUTPUT] = values.cpu().numpy()
    return found
