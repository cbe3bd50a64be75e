"""Errors and seconds of the layers of a compression, measured on the calibration batches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from mpi4py import MPI
from torch import Tensor, nn

from hpcembed.networks.compression.batches import Batches, call
from hpcembed.networks.compression.hooks import observed
from hpcembed.networks.compression.layers import Layer, is_convolution
from hpcembed.networks.compression.statistics import Statistics
from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.layer_reports import cut_layer, relative_error, whole_layer
from hpcembed.networks.low_rank.report import LayerReport
from hpcembed.networks.low_rank.request import Request
from hpcembed.networks.low_rank.shape import Ranks
from hpcembed.networks.low_rank.solved import SolvedLayers
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["NOT_REACHED", "layer_reports", "measured_errors"]

NOT_REACHED = "not reached by the calibration batches"


def layer_reports(
    layers: list[Layer], statistics: Statistics, solved: SolvedLayers, choice: Choice,
    measured: Mapping[str, float], seconds: Mapping[str, list[float]], request: Request,
) -> list[LayerReport]:  # fmt: skip
    """Return one record for each layer: in the order of execution, then those not reached."""
    by_name = {layer.name: layer for layer in layers}
    reached = list(statistics.layers)
    reports = []
    for name in [*reached, *(name for name in by_name if name not in statistics.layers)]:
        layer, ranks = by_name[name], choice.ranks.get(name, Ranks())
        if ranks.side == "none":
            shape = statistics.shapes.get(name, layer.shape(0, 0))
            reason = layer.reason or ("" if name in statistics.layers else NOT_REACHED)
            reports.append(whole_layer(name, layer.kind, shape, reason, request))
            continue
        before, after = seconds.get(name, (0.0, 0.0))
        reports.append(
            cut_layer(
                layer.kind, solved.data[name], solved.problems[name],
                solved.group_of(name, choice), ranks, error_measured=measured[name],
                seconds=(before, after),
            )
        )  # fmt: skip
    return reports


@torch.no_grad()
def measured_errors(
    model: nn.Module, small: nn.Module, channels: Mapping[str, int], batches: Batches,
    comm: MPI.Comm, *, own_inputs: bool,
) -> dict[str, float]:  # fmt: skip
    """Return the relative error of each cut layer.

    Collective.

    Parameters
    ----------
    channels : dict of str to int
        Outputs of each cut layer.
    own_inputs : bool
        Each new layer receives the inputs that the layer has in the model. Otherwise it receives
        those of the compressed network, with the errors of the layers before it.
    """
    modules = {name: model.get_submodule(name) for name in channels}
    replaced = {name: small.get_submodule(name) for name in channels}
    sums = {name: np.zeros(3 + m) for name, m in channels.items()}
    kept: dict[str, list[Tensor]] = {name: [] for name in channels}

    def keep(name: str, _x: Tensor, y: Tensor) -> None:
        kept[name].append(y.clone())  # a module behind it may change it in place

    def add(name: str, x: Tensor, y: Tensor) -> None:
        if own_inputs:
            y, z = y.double(), replaced[name](x).double()
        else:
            y, z = kept[name].pop(0).double(), y.double()
        sums[name][0] += y.numel() / channels[name]
        sums[name][1] += float((y - z).square().sum())
        sums[name][2] += float(y.square().sum())
        sums[name][3:] += _by_channel(y, modules[name]).cpu().numpy()

    with agreement(comm):
        device = next(model.parameters()).device
        for batch in batches:
            with observed(modules, add if own_inputs else keep):
                call(model, batch.to(device), batches.name)
            if not own_inputs:
                with observed(replaced, add):
                    call(small, batch.to(device), batches.name)
    return {name: relative_error(sum_over_ranks(comm, each)) for name, each in sums.items()}


def _by_channel(y: Tensor, module: nn.Module) -> Tensor:
    if is_convolution(module):
        return y.sum(dim=[d for d in range(y.ndim) if d != 1])
    return y.reshape(-1, y.shape[-1]).sum(dim=0)
