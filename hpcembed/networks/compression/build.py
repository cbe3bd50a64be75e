"""Low-rank layers from factors and ranks, and the model that has them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcembed.networks.compression.layers import Layer, weight_matrix
from hpcembed.networks.compression.model_copies import copy_model
from hpcembed.networks.compression.replacement import replace_module, sequence_of
from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.layer_data import LayerData, LayerMoments
from hpcembed.networks.low_rank.parts import Parts
from hpcembed.networks.low_rank.shape import LayerShape
from hpcembed.networks.low_rank.solved import SolvedLayers

__all__ = ["build", "layer_data", "low_rank_layer", "replace_layers"]


def layer_data(layer: Layer, shape: LayerShape, moments: LayerMoments) -> LayerData:
    """Return a layer of torch as arrays."""
    weight = weight_matrix(layer.module).cpu().numpy()
    bias: Tensor | None = layer.module.bias
    values = np.zeros(shape.outputs) if bias is None else bias.detach().double().cpu().numpy()
    padding = getattr(layer.module, "padding", 0)
    padded = padding == "same" or (not isinstance(padding, str) and bool(np.any(padding)))
    return LayerData(
        layer.name, shape, np.split(weight, shape.groups), np.split(values, shape.groups), moments,
        padded,
    )  # fmt: skip


def build(model: nn.Module, solved: SolvedLayers, choice: Choice) -> nn.Module:
    """Return a copy of the model with the layers of a choice replaced."""
    small = copy_model(model)
    names = [name for name, ranks in choice.ranks.items() if ranks.side != "none"]
    replace_layers(small, solved, choice, names)
    return small


def replace_layers(
    small: nn.Module, solved: SolvedLayers, choice: Choice, names: Iterable[str]
) -> None:
    """Replace some layers of a choice in place, by the factors of the original network."""
    reductions: dict[tuple[str, ...], nn.Module] = {}
    for name in names:
        group = solved.group_of(name, choice)
        parts = solved.parts(name, choice.ranks[name], choice)
        sequence = low_rank_layer(small.get_submodule(name), parts)
        if group:
            sequence[0] = reductions.setdefault(group.names, sequence[0])
        replace_module(small, name, sequence)


def low_rank_layer(module: nn.Module, parts: Parts) -> nn.Sequential:
    """Return the replacement of a layer: one, two or three modules."""
    matrices = (_tensor(parts.reduction), _tensor(parts.kernel), _tensor(parts.expansion))
    return sequence_of(module, matrices, torch.from_numpy(parts.bias))


def _tensor(matrix: NDArray[np.float64] | None) -> Tensor | None:
    return None if matrix is None else torch.from_numpy(np.ascontiguousarray(matrix))
