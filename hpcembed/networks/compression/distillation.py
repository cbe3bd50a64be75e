"""Repair of a compressed model by a few epochs of feature matching.

The small model is trained to have the outputs of the layers, and of the whole, that the model
itself has on the same batches: no labels. The batches are read anew in every epoch, so an iterable
with random augmentation gives other samples each time. Under MPI the gradients of the ranks are
averaged by numbers of samples.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mpi4py import MPI
from torch import Tensor, nn

from hpcembed.networks.compression.batches import Batch, Batches, call, output_tensor
from hpcembed.networks.compression.hooks import observed
from hpcembed.networks.compression.model_copies import copy_model
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["distill"]

logger = logging.getLogger(__name__)

#: Share of the steps in which the learning rate rises.
_WARM_UP = 0.05
#: Divisor of logits: the small probabilities of wrong classes count more.
#: Source: Hinton, Vinyals, Dean, arXiv 1503.02531.
_TEMPERATURE = 4.0
#: Largest norm of the gradient.
_CLIP = 1.0


def distill(
    small: nn.Module,
    teacher: nn.Module,
    layers: Sequence[str],
    batches: Batches,
    comm: MPI.Comm,
    *,
    epochs: int,
    learning_rate: float,
    classes: bool,
    feature_weight: float = 0.3,
) -> list[float]:
    """Train `small` in place; return the mean loss of each epoch.

    Collective.

    Parameters
    ----------
    small, teacher : nn.Module
        In evaluation mode: statistics of normalisations and dropout stay as they are.
    layers : sequence of str
        Modules whose outputs are matched; they have these names in both models.
    classes : bool
        The outputs are logits, compared by their divergence; else features, by mean squares.
    """
    halves = _to_single(small)
    if halves:
        teacher = copy_model(teacher)
        _to_single(teacher)
    parameters = [p for p in small.parameters() if p.is_floating_point()]
    wanted_gradients = [p.requires_grad for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    steps = epochs * _agreed_steps(batches, comm)
    if not steps:
        raise InputError(f"{batches.name}: there is no batch")
    losses, step = [], 0
    with _outputs(small, layers) as own, _outputs(teacher, layers) as wanted:
        for _ in range(epochs):
            total = np.zeros(2)
            for batch in _padded(batches, comm):
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate * _schedule(step / steps)
                optimiser.zero_grad(set_to_none=False)
                size = 0
                with agreement(comm):
                    if batch is not None:
                        loss = _loss(
                            small, teacher, own, wanted, batch.float() if halves else batch,
                            batches.name, classes, feature_weight,
                        )  # fmt: skip
                        if not torch.isfinite(loss):
                            raise InputError(
                                f"repair: the loss of batch {batch.number} is not finite; use a "
                                "smaller learning rate"
                            )
                        size = batch.size
                        (loss * size).backward()
                        total += (float(loss.detach()) * size, size)
                _average_gradients(parameters, size, comm)
                nn.utils.clip_grad_norm_(parameters, _CLIP)
                optimiser.step()
                step += 1
            total = sum_over_ranks(comm, total)
            losses.append(float(total[0] / max(total[1], 1)))
            logger.info("repair: epoch %d of %d, loss %.4g", len(losses), epochs, losses[-1])
    for parameter, wanted_gradient in zip(parameters, wanted_gradients, strict=True):
        parameter.requires_grad_(wanted_gradient)
        parameter.grad = None
    for module, name, kind in halves:
        tensor = getattr(module, name)
        tensor.data = tensor.data.to(kind)
    return losses


def _to_single(model: nn.Module) -> list[tuple[nn.Module, str, torch.dtype]]:
    """Turn tensors of 16 bits into float32, in place; return where they are, with their types.

    Steps of the optimiser are smaller than the rounding of these types.
    """
    halves = [
        (module, name, tensor.dtype)
        for module in model.modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None and tensor.dtype in (torch.float16, torch.bfloat16)
    ]
    for module, name, _ in halves:
        tensor = getattr(module, name)
        tensor.data = tensor.data.float()
    return halves


@contextmanager
def _outputs(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Yield the outputs of modules in the latest forward pass."""
    found: dict[str, Tensor] = {}

    def keep(name: str, _x: Tensor, y: Tensor) -> None:
        found[name] = y.clone()  # a module may change it in place

    with observed({name: model.get_submodule(name) for name in layers}, keep):
        yield found


def _loss(
    small: nn.Module, teacher: nn.Module, own: dict[str, Tensor], wanted: dict[str, Tensor],
    batch: Batch, name: str, classes: bool, feature_weight: float,
) -> Tensor:  # fmt: skip
    device = next(small.parameters()).device
    moved = batch.to(device)
    with torch.no_grad():
        target = output_tensor(call(teacher, moved, name))
    output = output_tensor(call(small, moved, name))
    if classes:
        dimension = 1 if output.ndim == 4 else -1
        log_p = torch.log_softmax(target.float() / _TEMPERATURE, dimension)
        log_q = torch.log_softmax(output.float() / _TEMPERATURE, dimension)
        loss = (log_p.exp() * (log_p - log_q)).sum(dimension).mean() * _TEMPERATURE**2
    else:
        loss = _relative(output, target)
    if feature_weight and wanted:
        parts = [_relative(own[layer], wanted[layer]) for layer in wanted]
        loss = loss + feature_weight * torch.stack(parts).mean()
    return loss


def _relative(output: Tensor, target: Tensor) -> Tensor:
    difference = (output - target).float().square().mean()
    return difference / target.float().var().clamp_min(1e-12)


def _schedule(progress: float) -> float:
    """Return the share of the learning rate: a linear rise, then half a cosine."""
    if progress < _WARM_UP:
        return max(progress / _WARM_UP, 0.02)
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def _agreed_steps(batches: Batches, comm: MPI.Comm) -> int:
    count = 0
    with agreement(comm):
        count = batches.count()
    return int(comm.allreduce(count, op=MPI.MAX))


def _padded(batches: Batches, comm: MPI.Comm) -> Iterator[Batch | None]:
    """Yield this rank's batches, then None while another rank has more."""
    iterator = iter(batches)
    while True:
        batch = None
        with agreement(comm):
            batch = next(iterator, None)
        if not comm.allreduce(int(batch is not None)):
            return
        yield batch


def _average_gradients(parameters: list[nn.Parameter], size: int, comm: MPI.Comm) -> None:
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    total = comm.allreduce(size)
    if comm.size == 1:
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad /= total
        return
    for parameter in parameters:
        assert parameter.grad is not None
        summed = np.ascontiguousarray(parameter.grad.detach().double().cpu().numpy())
        sum_over_ranks(comm, summed)
        parameter.grad.copy_(torch.from_numpy(summed / total))
