"""Moments of everything that enters and leaves the layers, from one pass over the batches.

Hooks add the rows of each layer to :class:`~hpcembed.networks.low_rank.moments.Moments`: one row
per sample, per pixel or per token that is not padding, in double precision and in blocks. The
patches of a convolution are never formed: its output covariance is that of its outputs.

With ``gradients`` a second moment of the loss gradient at the outputs is added. Labels are drawn
from the model's own predictions (one for each sample or token), so that the moments are those of
the Fisher information and need no labels. For a model whose output is features, the gradient is
that of a random combination of them.

Under MPI each rank passes its own batches, and one reduction adds the moments.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from mpi4py import MPI
from torch import Tensor, nn
from torch.nn.grad import conv1d_input, conv2d_input

from hpcembed.networks.compression.batches import Batch, Batches, call, output_tensor
from hpcembed.networks.compression.hooks import observed
from hpcembed.networks.compression.layers import Layer, is_convolution
from hpcembed.networks.low_rank.layer_data import LayerMoments
from hpcembed.networks.low_rank.moments import Moments
from hpcembed.networks.low_rank.shape import LayerShape
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = ["Statistics", "channel_rows", "collect"]

Gradients = Literal["none", "classes", "features"]

#: Entries that are converted to double precision at a time.
_BLOCK_ENTRIES = 8 * 2**20


@dataclass
class Statistics:
    """Moments of all layers that the batches reach.

    Attributes
    ----------
    layers : dict of str to LayerMoments
        In the order of execution.
    shapes : dict of str to LayerShape
    groups : list of tuples of str
        Layers that read the same tensor, two or more.
    samples : int
        On all ranks.
    calibration_hash : str
        SHA-256 of the hashes of the batches, in rank order.
    """

    layers: dict[str, LayerMoments]
    shapes: dict[str, LayerShape]
    groups: list[tuple[str, ...]]
    samples: int
    calibration_hash: str


def collect(
    model: nn.Module,
    layers: list[Layer],
    batches: Batches,
    comm: MPI.Comm,
    *,
    gradients: Gradients = "none",
    input_side: bool = True,
    seed: int = 0,
) -> Statistics:
    """Pass the batches through the model and return the moments of its layers.

    Collective.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode; not changed.
    layers : list of Layer
        Layers with a reason to leave them alone are counted, without moments.
    batches : Batches
        This rank's batches.
    gradients : {"none", "classes", "features"}
        Gradients for the error norm: none, of the logarithm of a class probability (last dimension
        of the output, or the second one of images), or of features.
    input_side : bool
        Also moments for reductions of the channels that enter.
    seed : int
        Seed of the labels that are drawn.

    Raises
    ------
    InputError
        If the model does not take a batch, a value is not finite (layer and batch are named), or
        there is no batch on any rank.
    """
    recorder = _Recorder(layers, gradients, input_side)
    generator = torch.Generator().manual_seed(seed + 7919 * comm.rank)
    modules = {layer.name: layer.module for layer in layers}
    with agreement(comm), observed(modules, recorder.observe):
        for batch in batches:
            recorder.begin(batch)
            with torch.set_grad_enabled(gradients != "none"):
                output = output_tensor(call(model, batch.to(recorder.device), batches.name))
                if gradients != "none":
                    _backward(output, gradients, batch, generator)
            recorder.end(batch)
    return recorder.reduced(comm, batches.name)


def _backward(output: Tensor, gradients: str, batch: Batch, generator: torch.Generator) -> None:
    if not output.requires_grad:
        raise InputError(
            f"batch {batch.number}: no gradient goes from the output to a selected layer; if the "
            "model switches gradients off in its forward method, use objective='output'"
        )
    if gradients == "features":
        noise = torch.randn(output.shape, generator=generator, dtype=output.dtype)
        (output * noise.to(output.device)).sum().backward()
        return
    dimension = 1 if output.ndim == 4 else -1
    logits = output.movedim(dimension, -1).reshape(-1, output.shape[dimension])
    if batch.mask is not None and batch.mask.numel() == len(logits):
        logits = logits[batch.mask.reshape(-1).to(logits.device)]
    log_probabilities = torch.log_softmax(logits.float(), dim=-1)
    if not torch.isfinite(log_probabilities).all():
        raise InputError(f"batch {batch.number}: the output of the model is not finite")
    drawn = torch.multinomial(log_probabilities.detach().exp().cpu(), 1, generator=generator).to(
        logits.device
    )
    (-log_probabilities.gather(1, drawn)).sum().backward()


class _Recorder:
    """Hooks of all layers, with the sums that they form."""

    def __init__(self, layers: list[Layer], gradients: str, input_side: bool) -> None:
        self._layers = {layer.name: layer for layer in layers}
        self._gradients = gradients != "none"
        self._input_side = input_side
        self._entries: dict[str, LayerMoments] = {}
        self._counts: dict[str, list[int]] = {}
        self._readers: dict[int, list[str]] = {}
        self._kept: list[Any] = []
        self._batch: Batch | None = None
        self._first = True
        self.samples = 0
        self._digest = hashlib.sha256()
        weights = (layer.module.weight for layer in layers)
        self.device: torch.device = next(weights, torch.empty(0)).device

    def begin(self, batch: Batch) -> None:
        """Note the batch that follows."""
        self._batch = batch
        self.samples += batch.size
        self._digest.update(batch.key().encode())

    def end(self, batch: Batch) -> None:
        """Forget the tensors of the first batch, which identify shared inputs."""
        self._first = False
        self._kept.clear()

    def observe(self, name: str, x: Tensor, y: Tensor) -> Tensor | None:
        """Add the rows of one call of a layer."""
        layer = self._layers[name]
        if is_convolution(layer.module) and y.ndim != layer.module.weight.ndim:
            assert self._batch is not None
            raise InputError(
                f"layer {name}: its input in batch {self._batch.number} has the shape "
                f"{tuple(x.shape)}, without a dimension of samples; add one"
            )
        entry = self._entry(layer, x, y)
        if layer.reason:
            return None
        if entry.outputs:
            self._add(entry.outputs, y, layer, "outputs")
        if entry.inputs:
            self._add(entry.inputs, x, layer, "inputs")
        if not self._gradients:
            return None
        if not y.requires_grad:
            # A leaf cannot be changed in place by the module that follows; its copy can.
            y = y.detach().requires_grad_().clone()
        if not y.requires_grad:  # the model switches gradients off here
            return None
        size = x.shape
        y.register_hook(lambda gradient: self._add_gradients(entry, layer, gradient, size))
        return y

    def _entry(self, layer: Layer, x: Tensor, y: Tensor) -> LayerMoments:
        entry = self._entries.get(layer.name)
        if entry is None:
            entry = self._entries[layer.name] = self._new_entry(layer)
            self._counts[layer.name] = [0, 0, 0]
        counts = self._counts[layer.name]
        shape = layer.shape(0, 0)
        counts[0] += y.numel() // shape.outputs
        counts[1] += x.numel() // shape.inputs
        counts[2] += 1
        if self._first:
            if not layer.reason:
                self._readers.setdefault(id(x), []).append(layer.name)
            self._kept.append(x)  # as long as it lives, no other tensor has its identity
        return entry

    def _new_entry(self, layer: Layer) -> LayerMoments:
        shape = layer.shape(0, 0)
        entry = LayerMoments()
        if layer.reason:  # only its calls and positions are counted
            return entry

        def moments(channels: int) -> list[Moments]:
            return [Moments(channels) for _ in range(shape.groups)]

        # A matrix with more outputs than inputs has the smaller moments at its inputs, and layers
        # that may share a reduction need them as well.
        if shape.kernel > 1 or shape.group_outputs <= shape.group_inputs:
            entry.outputs = moments(shape.group_outputs)
        is_matrix = shape.kernel == 1
        if not entry.outputs or self._input_side:
            entry.inputs = moments(shape.group_inputs)
        if self._gradients:
            entry.output_gradients = moments(shape.group_outputs)
            if self._input_side and not is_matrix:
                entry.input_gradients = moments(shape.group_inputs)
        return entry

    def _add_gradients(
        self, entry: LayerMoments, layer: Layer, gradient: Tensor, size: torch.Size
    ) -> None:
        gradient = gradient.detach()
        self._add(entry.output_gradients, gradient, layer, "gradients")
        if entry.input_gradients:
            module = layer.module
            of_inputs = conv2d_input if module.weight.ndim == 4 else conv1d_input
            entering = of_inputs(
                size, module.weight.detach(), gradient, module.stride, _padding(module),
                module.dilation, module.groups,
            )  # fmt: skip
            self._add(entry.input_gradients, entering, layer, "gradients")

    def _add(self, moments: list[Moments], tensor: Tensor, layer: Layer, which: str) -> None:
        assert self._batch is not None
        mask = self._batch.mask
        for rows in channel_rows(tensor, layer.module, mask):
            width = moments[0].total.size
            for group, entry in enumerate(moments):
                part = rows[group * width : (group + 1) * width]
                total = part.sum(dim=1)
                if not torch.isfinite(total).all():
                    raise InputError(
                        f"layer {layer.name}: {which} of batch {self._batch.number} are not finite"
                    )
                second = part @ part.T
                entry.add_sums(part.shape[1], total.cpu().numpy(), second.cpu().numpy())

    def reduced(self, comm: MPI.Comm, name: str) -> Statistics:
        """Add the moments of all ranks. Collective."""
        samples = int(comm.allreduce(self.samples))
        if not samples:
            raise InputError(f"{name}: there is no batch")
        names = list(self._entries)
        orders = comm.allgather(names)
        order = max(orders, key=len)
        groups = comm.allgather([tuple(readers) for readers in self._readers.values()])
        with agreement(comm):
            for other in orders:
                if other and other != order:
                    raise InputError(f"{name}: the ranks reach the layers in different orders")
        by_name = self._layers
        batches = int(comm.allreduce(self._batch.number + 1 if self._batch else 0))
        layers: dict[str, LayerMoments] = {}
        shapes: dict[str, LayerShape] = {}
        for layer_name in order:
            entry = self._entries.get(layer_name) or self._new_entry(by_name[layer_name])
            for moments in entry.all_moments():
                moments.reduce(comm)
            counts = np.array(self._counts.get(layer_name, [0, 0, 0]), dtype=np.float64)
            leaving, entering, calls = sum_over_ranks(comm, counts)
            shapes[layer_name] = by_name[layer_name].shape(leaving / samples, entering / samples)
            entry.calls = calls / max(batches, 1)
            layers[layer_name] = entry
        shared = max(groups, key=len)
        distinct = [g for g in shared if len(g) > 1 and len(set(g)) == len(g)]
        hashes = "".join(comm.allgather(self._digest.hexdigest()))
        whole = hashlib.sha256(hashes.encode()).hexdigest()
        return Statistics(layers, shapes, distinct, samples, whole)


def channel_rows(tensor: Tensor, module: Any, mask: Tensor | None) -> list[Tensor]:
    """Return the rows of a tensor as columns (channels, rows), in double precision, by blocks.

    Parameters
    ----------
    tensor : Tensor
        (samples, channels, ...) for convolutions, else (..., channels).
    module : nn.Module
    mask : Tensor or None
        Positions that count, where its shape is that of the tensor without channels.
    """
    tensor = tensor.detach()
    if is_convolution(module):
        size = max(1, _BLOCK_ENTRIES // max(1, tensor[0].numel()))
        return [
            part.transpose(0, 1).reshape(part.shape[1], -1).double() for part in tensor.split(size)
        ]
    rows = tensor.reshape(-1, tensor.shape[-1])
    if mask is not None and mask.shape == tensor.shape[:-1]:
        rows = rows[mask.reshape(-1).to(rows.device)]
    size = max(1, _BLOCK_ENTRIES // max(1, rows.shape[1]))
    return [part.T.double() for part in rows.split(size)] if len(rows) else []


def _padding(module: Any) -> Any:
    if isinstance(module.padding, str):
        if module.padding == "valid":
            return 0
        return tuple(
            d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size, strict=True)
        )
    return module.padding
