"""Seconds of layers, measured on the inputs that they receive in the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from hpcembed.networks.compression.batches import Batch, call
from hpcembed.networks.compression.build import low_rank_layer
from hpcembed.networks.compression.hooks import observed
from hpcembed.networks.low_rank.choice import Curve, RankProblem, Unit
from hpcembed.networks.low_rank.solved import SolvedLayers

__all__ = ["layer_seconds", "model_seconds", "with_seconds"]

_REPEATS = 5
#: Ranks of a layer that are timed; seconds of the others are interpolated by multiply-adds.
_TIMED_OPTIONS = 6


@torch.no_grad()
def model_seconds(models: Sequence[nn.Module], batch: Batch, name: str) -> list[float]:
    """Return the median seconds of a forward pass of each model; they take turns."""
    return _medians([partial(call, model, batch, name) for model in models], models[0])


@torch.no_grad()
def layer_seconds(
    model: nn.Module, batch: Batch, name: str, others: Mapping[str, list[nn.Module]]
) -> dict[str, list[float]]:
    """Return median seconds of each layer on a batch, followed by those of modules in its place.

    Parameters
    ----------
    others : dict of str to list of nn.Module
        Modules that take the same input as the layer of this name.
    """
    own = {layer: model.get_submodule(layer) for layer in others}
    seconds: dict[str, list[float]] = {}

    def measure(layer: str, x: Tensor, _y: Tensor) -> None:
        if layer not in seconds:
            timed = (own[layer], *others[layer])
            # `forward` calls no hooks, so not this one again.
            seconds[layer] = _medians([partial(one.forward, x) for one in timed], own[layer])

    with observed(own, measure):
        call(model, batch, name)
    return seconds


def with_seconds(
    ranks: RankProblem, model: nn.Module, solved: SolvedLayers, batch: Batch, name: str
) -> RankProblem:
    """Return the problem with measured seconds of all options of each layer.

    Layers that may share a reduction keep it out: torch computes it for each of them.
    """
    whole = ranks.full()
    timed: dict[str, list[int]] = {}
    modules: dict[str, list[nn.Module]] = {}
    for unit in ranks.units:
        for curve in unit.alternatives[0]:
            key = curve.layers[0]
            order = np.argsort(curve.macs)
            steps = np.unique(np.linspace(0, len(order) - 1, _TIMED_OPTIONS).astype(int))
            timed[key] = [int(at) for at in order[steps] if at > 0]
            layer = model.get_submodule(key)
            parts = (solved.parts(key, curve.ranks(at), whole) for at in timed[key])
            modules[key] = [low_rank_layer(layer, one) for one in parts]
    seconds = layer_seconds(model, batch, name, modules)
    (seconds_of_all,) = model_seconds([model], batch, name)

    def measured(curve: Curve) -> Curve:
        key = curve.layers[0]
        macs = np.array([curve.macs[0], *(curve.macs[at] for at in timed[key])])
        order = np.argsort(macs[1:]) + 1
        estimate = np.interp(curve.macs, macs[order], np.array(seconds[key])[order])
        estimate[0] = seconds[key][0]
        return replace(curve, seconds=estimate)

    units = [Unit((tuple(measured(c) for c in unit.alternatives[0]),)) for unit in ranks.units]
    chosen = sum(seconds[key][0] for key in timed)
    fixed = replace(ranks.fixed, seconds=max(seconds_of_all - chosen, 0.0))
    return replace(ranks, units=units, fixed=fixed)


def _medians(runs: Sequence[Callable[[], object]], module: nn.Module) -> list[float]:
    """Return the median seconds of functions that take turns; the first turn is dropped."""
    on_gpu = next((p.is_cuda for p in module.parameters()), False)
    times = np.zeros((_REPEATS + 1, len(runs)))
    for turn in times:
        for position, run in enumerate(runs):
            if on_gpu:
                torch.cuda.synchronize()
            began = time.perf_counter()
            run()
            if on_gpu:
                torch.cuda.synchronize()
            turn[position] = time.perf_counter() - began
    return [float(seconds) for seconds in np.median(times[1:], axis=0)]
