"""AdamW with the learning rate of each step.

The rate is ``constant``; or falls from the peak to zero along a ``cosine``; or rises to the peak
first and then falls to zero, both along cosines (``onecycle``), which allows a higher peak.

References
----------
Loshchilov and Hutter, 2019, Decoupled weight decay regularization, arXiv:1711.05101.
Smith and Topin, 2018, Super-convergence, arXiv:1708.07120; here without their cycle of the
momentum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.training_state import Arrays, with_prefix

__all__ = ["ScheduledOptimiser", "learning_rate_at"]

#: Share of the steps in which the rate of onecycle rises, and its start relative to the peak.
RISE = 0.2
START = 0.04


class ScheduledOptimiser:
    """Steps of AdamW along the gradients of the parameters, each at its learning rate.

    Parameters
    ----------
    recipe : Recipe
    hidden : sequence of int
        Widths of the hidden layers, which decide the peak of the rate where the recipe gives none.
    n_steps : int
        Of the whole training.

    Attributes
    ----------
    peak : float
        Of the learning rate.
    learning_rate : float
        Of the last step; 0 before the first.
    done : int
        Steps taken.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        recipe: Recipe,
        hidden: Sequence[int],
        n_steps: int,
    ) -> None:
        self.peak, self.learning_rate, self.done = recipe.peak_rate(hidden), 0.0, 0
        self._schedule, self._n_steps = recipe.schedule, n_steps
        self._weight_decay = recipe.weight_decay
        self._parameters: list[Tensor] = list(parameters)
        self._means = [torch.zeros_like(one) for one in self._parameters]
        self._squares = [torch.zeros_like(one) for one in self._parameters]
        self._fused = _has_fused_step(self._parameters[0].device)
        # as in the class: without the fused step, the numbers of steps are on the CPU
        place = self._parameters[0].device if self._fused else torch.device("cpu")
        self._steps = [torch.zeros((), device=place) for _ in self._parameters]

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def state(self) -> Arrays:
        """Return the moments and the position in the schedule."""
        lists = {"mean": self._means, "square": self._squares, "step": self._steps}
        arrays: Arrays = {"done": np.array(self.done), "rate": np.array(self.learning_rate)}
        for name, tensors in lists.items():
            arrays |= with_prefix(f"{name}.", {str(i): one for i, one in enumerate(tensors)})
        return arrays

    @torch.no_grad()
    def restore(self, arrays: Arrays) -> None:
        """Continue from :meth:`state`."""
        self.done, self.learning_rate = int(arrays["done"]), float(arrays["rate"])
        for name, tensors in (
            ("mean", self._means), ("square", self._squares), ("step", self._steps)
        ):  # fmt: skip
            for i, one in enumerate(tensors):
                one.copy_(torch.from_numpy(arrays[f"{name}.{i}"]))

    @torch.no_grad()
    def step(self) -> None:
        """Take the next step."""
        self.learning_rate = learning_rate_at(self.done, self._n_steps, self.peak, self._schedule)
        self.done += 1
        _adamw_step(
            self._parameters,
            [one.grad for one in self._parameters if one.grad is not None],
            self._means,
            self._squares,
            self._steps,
            fused=self._fused,
            lr=self.learning_rate,
            weight_decay=self._weight_decay,
        )


def _adamw_step(
    parameters: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    steps: list[Tensor],
    *,
    fused: bool,
    lr: float,
    weight_decay: float,
) -> None:
    """Take a step of torch.optim.AdamW, with the defaults of this class.

    To create the class imports PyTorch's compiler, which takes a second.
    """
    adamw(
        parameters, gradients, means, squares, [], steps, fused=fused, lr=lr, beta1=0.9,
        beta2=0.999, eps=1e-8, weight_decay=weight_decay, amsgrad=False, maximize=False,
    )  # fmt: skip


@cache
def _has_fused_step(device: torch.device) -> bool:
    """Return whether this PyTorch takes the fused step: before 2.4 only on CUDA."""
    parameters, gradients, means, squares = ([torch.zeros(1, device=device)] for _ in range(4))
    steps = [torch.zeros((), device=device)]
    try:
        with torch.no_grad():
            _adamw_step(
                parameters, gradients, means, squares, steps, fused=True, lr=0.0, weight_decay=0.0
            )
    except RuntimeError:
        return False
    return True


def learning_rate_at(
    step: int, n_steps: int, peak: float, schedule: Literal["onecycle", "cosine", "constant"]
) -> float:
    """Return the learning rate of step 0, ..., n_steps - 1; all of them are positive.

    Examples
    --------
    >>> [round(learning_rate_at(step, 5, 1.0, "onecycle"), 3) for step in range(5)]
    [0.52, 0.962, 0.691, 0.309, 0.038]
    """
    if schedule == "constant":
        return peak
    position = (step + 0.5) / n_steps
    rise = RISE if schedule == "onecycle" else 0.0
    if position < rise:
        return peak * (START + (1.0 - START) * _half_cosine(1.0 - position / rise))
    return peak * _half_cosine((position - rise) / (1.0 - rise))


def _half_cosine(t: float) -> float:
    """Fall from 1 at t = 0 to 0 at t = 1."""
    return 0.5 * (1.0 + math.cos(math.pi * t))
