"""Low-rank layers from factors and ranks, and the model that has them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcembed.networks.compression.layers import Layer, weight_matrix
from hpcembed.networks.compression.replacement import replace_module, sequence_of
from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.layer_data import LayerData, LayerMoments
from hpcembed.networks.low_rank.parts import low_rank_parts
from hpcembed.networks.low_rank.problems import LayerProblem, SharedProblem, Side
from hpcembed.networks.low_rank.shape import LayerShape, Ranks

__all__ = ["build", "layer_data", "low_rank_layer"]


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


def build(
    model: nn.Module,
    layers: Mapping[str, LayerData],
    problems: Mapping[str, LayerProblem],
    shared: Sequence[SharedProblem],
    choice: Choice,
) -> nn.Module:
    """Return a copy of the model with the layers of a choice replaced."""
    small = copy.deepcopy(model)
    groups = {group.names: group for group in shared}
    in_group = {name: groups[names] for names in choice.shared for name in names}
    reductions: dict[tuple[str, ...], nn.Module] = {}
    for name, ranks in choice.ranks.items():
        if ranks.side == "none":
            continue
        group = in_group.get(name)
        sequence = low_rank_layer(
            model.get_submodule(name), layers[name], problems[name], ranks,
            group.input if group else None,
        )  # fmt: skip
        if group:
            sequence[0] = reductions.setdefault(group.names, sequence[0])
        replace_module(small, name, sequence)
    return small


def low_rank_layer(
    module: nn.Module, layer: LayerData, problem: LayerProblem, ranks: Ranks,
    shared: Side | None = None,
) -> nn.Sequential:  # fmt: skip
    """Return the replacement of one layer."""
    parts = low_rank_parts(layer, problem, ranks, shared)
    bias = torch.from_numpy(parts.bias)
    return sequence_of(
        module, (_tensor(parts.reduction), _tensor(parts.kernel), _tensor(parts.expansion)), bias
    )


def _tensor(matrix: NDArray[np.float64] | None) -> Tensor | None:
    return None if matrix is None else torch.from_numpy(matrix)
