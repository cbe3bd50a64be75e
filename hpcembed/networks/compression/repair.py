"""Statistics of batch normalisations that were not folded, corrected for a compressed model.

The running mean and variance of a channel belong to the data on which the model was trained. They
are moved by the difference of the means, and multiplied by the ratio of the variances, that the
channel has in the compressed model and in the model itself on the same batches. A channel that does
not change keeps its statistics, whatever the sizes and the order of the batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcembed.networks.compression.batches import Batches, call
from hpcembed.networks.compression.hooks import observed
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["correct_batchnorm"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


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
