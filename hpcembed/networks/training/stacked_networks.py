"""Networks of one architecture, stacked and trained by one chain of batched products.

A compact network is bound by the cost of starting each operation, not by its arithmetic: a step of
one 32-32 network takes about as long as a step of ten. So the weights of B networks are stacked,
every layer of all of them is one ``baddbmm``, the backward pass is written out (no graph is built,
results go to memory allocated once), and all parameters lie in one flat tensor that one fused
kernel of AdamW updates.

Networks may use the leading columns of the inputs only: `scale` is zero for the others, whose
weights start at zero, have zero gradients, and stay zero.

For each layer with input H, Z = H W + b, and the loss of one row l = -sum_c q_c log p_c with
p = softmax(Z) of the last layer and smoothed target distribution q: dl/dZ = p - q,
dl/dW = H' dl/dZ, dl/dH = dl/dZ W'. For a regression, l = (Z - t)^2 and dl/dZ = 2 (Z - t).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch.nn import functional

from hpcembed.networks.training.classifier import build_mlp

__all__ = ["StackedNetworks"]


class StackedNetworks:
    """B networks with the same hidden layers, on inputs of the same width.

    Parameters
    ----------
    n_inputs : sequence of int
        Number of leading columns that each network uses.
    hidden : sequence of int
        Widths of the hidden layers.
    n_classes : int
    seeds : sequence of int
        Of each network's first weights: those of :func:`build_mlp` after ``manual_seed``.
    scale : Tensor of shape (B, K)
        Factor of each input column; zero for columns that a network does not use.
    initial : {"torch", "glorot"}
    """

    def __init__(
        self,
        n_inputs: Sequence[int],
        hidden: Sequence[int],
        n_classes: int,
        seeds: Sequence[int],
        scale: torch.Tensor,
        initial: Literal["torch", "glorot"] = "torch",
    ) -> None:
        self.n_inputs = tuple(n_inputs)
        self.hidden = tuple(hidden)
        self.n_classes = n_classes
        B, K = scale.shape
        self.widths = (K, *self.hidden, n_classes)
        # Without a factor and without a mask the products take the weights as they are.
        self._scale = None if bool((scale == 1.0).all()) else scale.unsqueeze(2)
        shapes = [(B, a, b) for a, b in pairwise(self.widths)]
        shapes += [(B, 1, b) for b in self.widths[1:]]
        size = sum(math.prod(shape) for shape in shapes)
        self.flat = torch.nn.Parameter(torch.zeros(size, dtype=scale.dtype, device=scale.device))
        self.flat.grad = torch.zeros_like(self.flat)
        with torch.no_grad():
            self.parts = _views(self.flat.data, shapes)
        self._gradients = _views(self.flat.grad, shapes)
        self._shapes = shapes
        self._first = torch.empty_like(self.parts[0]) if self._scale is not None else self.parts[0]
        self._buffers: dict[int, list[torch.Tensor]] = {}
        for b, (k, seed) in enumerate(zip(n_inputs, seeds, strict=True)):
            self._initialise(b, k, seed, initial)

    @property
    def n_layers(self) -> int:
        """Linear layers of each network."""
        return len(self.widths) - 1

    @property
    def weights(self) -> list[torch.Tensor]:
        """Of each layer, shape (B, in, out)."""
        return self.parts[: self.n_layers]

    @property
    def biases(self) -> list[torch.Tensor]:
        """Of each layer, shape (B, 1, out)."""
        return self.parts[self.n_layers :]

    def parameters(self, b: int) -> int:
        """Count the trained parameters of network `b` alone."""
        widths = (self.n_inputs[b], *self.widths[1:])
        return sum(n * (before + 1) for before, n in pairwise(widths))

    def _initialise(self, b: int, k: int, seed: int, initial: str) -> None:
        # The caller restores the state of the generator.
        torch.manual_seed(seed)
        layers = build_mlp(k, self.hidden, self.n_classes)
        linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
        for number, layer in enumerate(linear):
            if initial == "glorot":
                torch.nn.init.xavier_uniform_(layer.weight)
                torch.nn.init.zeros_(layer.bias)
            weight = layer.weight.detach().t()
            self.weights[number][b, : weight.shape[0]] = weight
            self.biases[number][b, 0] = layer.bias.detach()

    def copy_of_parameters(self) -> list[torch.Tensor]:
        """Return copies of weights and biases, in the order of :attr:`parts`."""
        return [part.clone() for part in self.parts]

    def keep(self, kept: list[torch.Tensor], which: torch.Tensor) -> None:
        """Overwrite the networks `which` in a copy by their current weights."""
        for old, new in zip(kept, self.parts, strict=True):
            old[which] = new[which]

    def restore(self, kept: list[torch.Tensor]) -> None:
        """Restore the weights of a copy."""
        for new, old in zip(self.parts, kept, strict=True):
            new.copy_(old)

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (B, m, n_classes) for inputs of shape (B, m, K)."""
        H = inputs
        for number, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number == 0 and self._scale is not None:
                W = W * self._scale
            H = torch.baddbmm(b, H, W)
            if number < self.n_layers - 1:
                H.clamp_min_(0.0)
        return H

    def gradient(
        self,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        smoothing: float,
        masks: Sequence[torch.Tensor | None] = (),
    ) -> torch.Tensor:
        """Compute the gradient into ``flat.grad``; return the mean loss of each network, (B,).

        Parameters
        ----------
        inputs : Tensor of shape (B, m, K)
            May be one array for all networks, expanded.
        labels : Tensor of shape (B, m, 1), int64 or float32
            Class codes, or standardised targets of a regression.
        smoothing : float
            Share of the target distribution that is spread evenly over the classes.
        masks : sequence of (Tensor or None)
            Factors of the activations of each hidden layer (dropout), of a shape that broadcasts to
            (B, m, width).
        """
        m, last = inputs.shape[1], self.n_layers - 1
        buffers = self._buffers.get(m) or self._allocate(m)
        activations, slopes = buffers[: last + 1], buffers[last + 1 :]
        masks = masks or [None] * last
        if self._scale is not None:
            torch.mul(self.parts[0], self._scale, out=self._first)
        weights = [self._first, *self.weights[1:]]
        H = inputs
        for number, (W, b) in enumerate(zip(weights, self.biases, strict=True)):
            torch.baddbmm(b, H, W, out=activations[number])
            H = activations[number]
            if number < last:
                H.clamp_min_(0.0)
                mask = masks[number]
                if mask is not None:
                    H.mul_(mask)
        loss, G = _loss_and_slope(H, labels, smoothing)
        for number in range(last, -1, -1):
            below = activations[number - 1] if number else inputs
            torch.bmm(below.transpose(1, 2), G, out=self._gradients[number])
            torch.sum(G, 1, keepdim=True, out=self._gradients[self.n_layers + number])
            if number == 0:
                break
            torch.bmm(G, weights[number].transpose(1, 2), out=slopes[number - 1])
            G = slopes[number - 1]
            mask = masks[number - 1]
            if mask is not None:
                G.mul_(mask)
            # Zero where the activation is zero: behind a ReLU, or dropped.
            torch.ops.aten.threshold_backward.grad_input(G, below, 0.0, grad_input=G)
        if self._scale is not None:
            self._gradients[0].mul_(self._scale)
        return loss

    def _allocate(self, m: int) -> list[torch.Tensor]:
        B = len(self.n_inputs)
        widths = (*self.widths[1:], *self.hidden)
        made = [self.flat.data.new_empty((B, m, width)) for width in widths]
        self._buffers[m] = made
        return made

    def network(self, b: int) -> torch.nn.Sequential:
        """Return network `b` alone, on the columns that it uses, without their scaling."""
        k = self.n_inputs[b]
        with torch.random.fork_rng(devices=[]):
            layers = build_mlp(k, self.hidden, self.n_classes)
        linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
        with torch.no_grad():
            for number, layer in enumerate(linear):
                weight = self.weights[number][b, : layer.in_features]
                layer.weight.copy_(weight.t())
                layer.bias.copy_(self.biases[number][b, 0])
        return layers


def _views(flat: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    views, first = [], 0
    for shape in shapes:
        size = math.prod(shape)
        views.append(flat[first : first + size].view(shape))
        first += size
    return views


def _loss_and_slope(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean loss of each network, and its derivative by the outputs."""
    if labels.is_floating_point():
        error = logits - labels
        return error.square().mean((1, 2)), error.mul_(2.0 / logits.shape[1])
    m, n_classes = logits.shape[1], logits.shape[2]
    log_p = functional.log_softmax(logits, dim=2)
    loss: Any = -(1.0 - smoothing) * log_p.gather(2, labels).sum((1, 2))
    if smoothing:
        loss -= smoothing / n_classes * log_p.sum((1, 2))
    slope = log_p.exp_()
    if smoothing:
        slope.sub_(smoothing / n_classes)
    slope.scatter_add_(2, labels, slope.new_full((), smoothing - 1.0).expand(labels.shape))
    return loss / m, slope.mul_(1.0 / m)
