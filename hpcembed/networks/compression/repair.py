"""Statistics of batch normalisations that were not folded, estimated anew."""

from __future__ import annotations

import numpy as np
import torch
from mpi4py import MPI
from torch import nn

from hpcembed.networks.compression.batches import Batches, call
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["estimate_batchnorm"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@torch.no_grad()
def estimate_batchnorm(model: nn.Module, batches: Batches, comm: MPI.Comm) -> int:
    """Replace running means and variances by those of the batches; return how many modules.

    Collective. The variances are means over batches, as in training.
    """
    norms = [m for m in model.modules() if isinstance(m, _NORMS) and m.track_running_stats]
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    count = 0
    with agreement(comm):
        device = next(model.parameters()).device
        for batch in batches:
            call(model, batch.to(device), batches.name)
            count += 1
    total = max(int(comm.allreduce(count)), 1)
    for norm, momentum in zip(norms, momenta, strict=True):
        for running in (norm.running_mean, norm.running_var):
            assert running is not None
            share = running.double().cpu().numpy() * (count / total)
            running.copy_(torch.from_numpy(sum_over_ranks(comm, np.ascontiguousarray(share))))
        norm.momentum = momentum
        norm.eval()
    return len(norms)
