"""Folding of batch normalisation into the layer before it.

In evaluation mode a normalisation multiplies channels by constants and adds constants. Where the
tensor that enters it is the output of a convolution or a matrix, both are absorbed by that layer's
weight and bias. The pairs are found in a forward pass, by the identity of the tensor, whatever the
model's code looks like. A layer whose output is read elsewhere as well must not be folded: the
outputs of the folded model are compared with those of the model, and a pair that changes them is
undone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hpcembed.networks.compression.batches import Batch, call, output_tensor
from hpcembed.networks.compression.hooks import observed
from hpcembed.networks.compression.replacement import parent_and_attribute

__all__ = ["fold_batchnorm", "fold_pairs"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_FOLDABLE = (nn.Linear, nn.Conv1d, nn.Conv2d)
#: Largest change of an output, relative to the largest output, that rounding explains.
_TOLERANCE = 1e-3


@torch.no_grad()
def fold_batchnorm(model: nn.Module, batch: Batch, name: str) -> dict[str, str]:
    """Fold the normalisations of `model` in place; return the layer of each.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    batch : Batch
        A batch that the model takes.
    name : str
        Name of the batches, for messages.
    """
    pairs, before = _pairs(model, batch, name)
    undo = [_fold_one(model, norm, layer) for norm, layer in pairs.items()]
    if not _differ(before, output_tensor(call(model, batch, name))):
        return {pair[0]: pair[1] for pair, one in zip(pairs.items(), undo, strict=True) if one}
    # One pair or more must not be folded: find them one by one.
    for one in reversed(undo):
        if one is not None:
            one()
    folded = {}
    for norm, layer in pairs.items():
        revert = _fold_one(model, norm, layer)
        if revert is None:
            continue
        if _differ(before, output_tensor(call(model, batch, name))):
            revert()
        else:
            folded[norm] = layer
    return folded


def fold_pairs(model: nn.Module, pairs: Mapping[str, str]) -> None:
    """Fold normalisations into given layers, in place and without a test."""
    for norm, layer in pairs.items():
        _fold_one(model, norm, layer)


def _fold_one(model: nn.Module, norm_name: str, layer_name: str) -> Callable[[], None] | None:
    """Fold one normalisation; return a function that undoes it, or None if it does not fit."""
    norm: Any = model.get_submodule(norm_name)
    layer: Any = model.get_submodule(layer_name)
    if norm.num_features != layer.weight.shape[0]:
        return None
    weight, bias = layer.weight, layer.bias
    parent, attribute = parent_and_attribute(model, norm_name)
    _absorb(layer, norm)
    setattr(parent, attribute, nn.Identity())

    def undo() -> None:
        layer.weight, layer.bias = weight, bias
        setattr(parent, attribute, norm)

    return undo


def _pairs(model: nn.Module, batch: Batch, name: str) -> tuple[dict[str, str], Tensor]:
    """Return the layer before each normalisation that follows one directly, and the output."""
    seen = {
        module_name: module
        for module_name, module in model.named_modules()
        if isinstance(module, _FOLDABLE)
        or (isinstance(module, _NORMS) and module.track_running_stats)
    }
    outputs: dict[int, tuple[str, Tensor]] = {}
    calls = dict.fromkeys(seen, 0)
    pairs: dict[str, str] = {}

    def note(own: str, x: Tensor, y: Tensor) -> None:
        calls[own] += 1
        if isinstance(seen[own], _FOLDABLE):
            outputs[id(y)] = own, y  # kept, so that the identity stays unique
        elif id(x) in outputs:
            pairs[own] = outputs[id(x)][0]

    with observed(seen, note):
        result = output_tensor(call(model, batch, name))
    once = {norm: layer for norm, layer in pairs.items() if calls[norm] == calls[layer] == 1}
    return once, result


def _absorb(layer: Any, norm: Any) -> None:
    """Multiply weight and bias by the constants of the normalisation, in double precision."""
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    if layer.bias is not None:
        shift = shift + layer.bias.double() * scale
    weight = layer.weight.double() * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    kind = layer.weight.dtype
    layer.weight = nn.Parameter(weight.to(kind), requires_grad=layer.weight.requires_grad)
    layer.bias = nn.Parameter(shift.to(kind), requires_grad=layer.weight.requires_grad)


def _differ(before: Tensor, after: Tensor) -> bool:
    largest = float(before.abs().max())
    return float((before - after).abs().max()) > _TOLERANCE * max(largest, 1e-30)
