"""Folding of batch normalisation into the layer before it.

In evaluation mode a normalisation multiplies channels by constants and adds constants. Where the
tensor that enters it is the output of a convolution or a matrix, both are absorbed by that layer's
weight and bias. The pairs are found in a forward pass, by the identity of the tensor, whatever the
model's code looks like. A layer whose output is read elsewhere as well must not be folded: the
outputs of the folded model are compared with those of the model, and a pair that changes them is
undone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hpcembed.networks.compression.batches import Batch, call, output_tensor
from hpcembed.networks.compression.replacement import parent_and_attribute

__all__ = ["fold_batchnorm"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_FOLDABLE = (nn.Linear, nn.Conv1d, nn.Conv2d)
#: Largest change of an output, relative to the largest output, that rounding explains.
_TOLERANCE = 1e-3


@torch.no_grad()
def fold_batchnorm(model: nn.Module, batch: Batch, name: str) -> list[str]:
    """Fold the normalisations of `model` in place; return their names.

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
        return [norm for norm, one in zip(pairs, undo, strict=True) if one is not None]
    # One pair or more must not be folded: find them one by one.
    for one in reversed(undo):
        if one is not None:
            one()
    folded = []
    for norm, layer in pairs.items():
        revert = _fold_one(model, norm, layer)
        if revert is None:
            continue
        if _differ(before, output_tensor(call(model, batch, name))):
            revert()
        else:
            folded.append(norm)
    return folded


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
    outputs: dict[int, tuple[str, Tensor]] = {}
    calls: dict[str, int] = {}
    pairs: dict[str, str] = {}
    handles = []
    for module_name, module in model.named_modules():
        if isinstance(module, _FOLDABLE):

            def left(
                module: nn.Module, inputs: Any, output: Tensor, own: str = module_name
            ) -> None:
                outputs[id(output)] = own, output  # kept, so that the identity stays unique
                calls[own] = calls.get(own, 0) + 1

            handles.append(module.register_forward_hook(left))
        elif isinstance(module, _NORMS) and module.track_running_stats:

            def entered(module: nn.Module, inputs: Any, own: str = module_name) -> None:
                calls[own] = calls.get(own, 0) + 1
                if id(inputs[0]) in outputs:
                    pairs[own] = outputs[id(inputs[0])][0]

            handles.append(module.register_forward_pre_hook(entered))
    try:
        result = output_tensor(call(model, batch, name))
    finally:
        for handle in handles:
            handle.remove()
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
