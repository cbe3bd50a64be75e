"""A network of a batch that is trained in a random subspace of its parameters.

It has the first weights, steps and evaluations of :class:`StackedNetworks`. Its parameters are
``theta_0 + sqrt(D / d) P c``, and only the d coordinates c are trained. The factor gives columns
the length sqrt(D / d): a step of Adam, which moves each coordinate by about the learning rate, then
moves the D parameters as far as a step that trains all of them. So the learning rate of a recipe
for all parameters also holds here. Weight decay draws the parameters to theta_0.

Deviation from Li et al. (arXiv 1804.08838): their columns have unit length at the same rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch

from hpcembed.networks.random_subspaces.projections import make_projection
from hpcembed.networks.training.stacked_networks import StackedNetworks

__all__ = ["SubspaceNetwork"]


class SubspaceNetwork(StackedNetworks):
    """One network, of whose parameters a random subspace is trained.

    Parameters
    ----------
    n_inputs, hidden, n_classes, seeds, scale, initial
        As for :class:`StackedNetworks`, for one network on all columns of the inputs. The seed is
        that of the projection as well.
    dimension : int
        Dimension d of the subspace, at most the number of parameters.

    Attributes
    ----------
    flat : Parameter of shape (d,)
        The trained coordinates.

    Raises
    ------
    ConfigError
        `dimension` exceeds the number of parameters.
    """

    def __init__(
        self,
        n_inputs: Sequence[int],
        hidden: Sequence[int],
        n_classes: int,
        seeds: Sequence[int],
        scale: torch.Tensor,
        initial: Literal["torch", "glorot"] = "torch",
        *,
        dimension: int,
    ) -> None:
        if len(n_inputs) != 1 or n_inputs[0] != scale.shape[1]:
            raise ValueError(f"one network on all inputs, got {n_inputs} of {scale.shape[1]}")
        super().__init__(n_inputs, hidden, n_classes, seeds, scale, initial)
        self._whole = self.flat
        self._start = self.flat.detach().clone()
        self._project = make_projection(len(self._start), dimension, "srht", seeds[0])
        self._length = math.sqrt(len(self._start) / dimension)
        self.flat = torch.nn.Parameter(self._start.new_zeros(dimension))
        self.flat.grad = torch.zeros_like(self.flat)
        # Whether the coordinates may have changed since the parameters were computed; a checkpoint
        # changes them before the first step.
        self._changed = True

    def gradient(
        self,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        smoothing: float,
        masks: Sequence[torch.Tensor | None] = (),
    ) -> torch.Tensor:
        """Compute the gradient by the coordinates into ``flat.grad``, and return the mean loss."""
        self._compute_parameters()
        loss = super().gradient(inputs, labels, smoothing, masks)
        by_parameter, by_coordinate = self._whole.grad, self.flat.grad
        if by_parameter is not None and by_coordinate is not None:
            found = self._project.transposed(by_parameter.cpu())
            by_coordinate.copy_(self._length * found)
        self._changed = True
        return loss

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (1, m, n_classes) for inputs of shape (1, m, K)."""
        if self._changed:
            self._compute_parameters()
        return super().logits(inputs)

    def restore(self, kept: list[torch.Tensor]) -> None:
        """Restore the weights of a copy; the coordinates stay as they are."""
        super().restore(kept)
        self._changed = False

    def _compute_parameters(self) -> None:
        moved = self._project(self.flat.detach().cpu()).to(self._start.device)
        torch.add(self._start, moved, alpha=self._length, out=self._whole.data)
        self._changed = False
