"""Batch normalisations: folded into the layer before, or corrected for a compressed model.

In evaluation mode a normalisation multiplies channels by constants and adds constants. Where the
tensor that enters it is the output of a convolution or a matrix, both are absorbed by that layer's
weight and bias. The pairs are found in a forward pass, by the identity of the tensor, whatever the
model's code looks like. A layer whose output is read elsewhere as well must not be folded: the
outputs of the folded model are compared with those of the model, and a pair that changes them is
undone.

The running mean and variance of a normalisation that is not folded belong to the data on which the
model was trained. They are moved by the difference of the means, and multiplied by the ratio of the
variances, that the channel has in the compressed model and in the model itself on the same batches.
A channel that does not change keeps its statistics, whatever the sizes and the order of the
batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcembed.networks.compression.batches import Batch, Batches, call, output_tensor
from hpcembed.networks.compression.hooks import observed
from hpcembed.networks.compression.layers import has_code_of_its_own
from hpcembed.networks.compression.replacement import parent_and_attribute
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["correct_batchnorm", "fold_batchnorm", "fold_pairs"]

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


@torch.no_grad()
def correct_batchnorm(
    small: nn.Module, model: nn.Module, batches: Batches, comm: MPI.Comm
) -> list[str]:
    """Correct the running statistics of `small` in place; return the names of its normalisations.

    Collective. Both models are in evaluation mode and have these modules under the same names.
    """
    names = [
        name
        for name, module in small.named_modules()
        if isinstance(module, _NORMS) and module.track_running_stats
    ]
    if not names:
        return []
    before = _channel_sums(model, names, batches, comm)
    after = _channel_sums(small, names, batches, comm)
    for name in names:
        count = after[name][0, 0]
        if not count:
            continue
        (mean, variance), (old_mean, old_variance) = (
            _mean_and_variance(sums[name]) for sums in (after, before)
        )
        norm: Any = small.get_submodule(name)
        ratio = np.divide(variance, old_variance, out=np.ones_like(mean), where=old_variance > 0)
        norm.running_mean += torch.from_numpy(mean - old_mean).to(norm.running_mean)
        norm.running_var *= torch.from_numpy(ratio).to(norm.running_var)
    return names


def _fold_one(model: nn.Module, norm_name: str, layer_name: str) -> Callable[[], None] | None:
    """Fold one normalisation; return a function that undoes it, or None if it does not fit."""
    norm: Any = model.get_submodule(norm_name)
    layer: Any = model.get_submodule(layer_name)
    if norm.num_features != layer.weight.shape[0]:
        return None
    if has_code_of_its_own(norm) or has_code_of_its_own(layer):
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


def _mean_and_variance(sums: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    mean = sums[1] / sums[0]
    return mean, np.maximum(sums[2] / sums[0] - mean**2, 0.0)


def _channel_sums(
    model: nn.Module, names: list[str], batches: Batches, comm: MPI.Comm
) -> dict[str, NDArray[np.float64]]:
    """Return count, sum and sum of squares of the channels that enter each normalisation."""
    modules: dict[str, Any] = {name: model.get_submodule(name) for name in names}
    sums = {name: np.zeros((3, module.num_features)) for name, module in modules.items()}

    def add(name: str, x: Tensor, _y: Tensor) -> None:
        rows = x.transpose(0, 1).reshape(x.shape[1], -1).double()
        sums[name][0] += rows.shape[1]
        sums[name][1] += rows.sum(dim=1).cpu().numpy()
        sums[name][2] += rows.square().sum(dim=1).cpu().numpy()

    with agreement(comm), observed(modules, add):
        device = next(model.parameters()).device
        for batch in batches:
            call(model, batch.to(device), batches.name)
    return {name: sum_over_ranks(comm, each) for name, each in sums.items()}
