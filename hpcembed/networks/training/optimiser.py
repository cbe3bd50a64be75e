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
from typing import Any, Literal

import torch
from torch import nn

from hpcembed.networks.training.recipe import Recipe

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
        settings: dict[str, Any] = {"lr": self.peak, "weight_decay": recipe.weight_decay}
        parameters = list(parameters)
        try:
            self._adamw = torch.optim.AdamW(parameters, fused=True, **settings)
        except RuntimeError:  # before PyTorch 2.4 only on CUDA
            self._adamw = torch.optim.AdamW(parameters, **settings)

    def zero_grad(self) -> None:
        """Clear the gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Take the next step."""
        self.learning_rate = learning_rate_at(self.done, self._n_steps, self.peak, self._schedule)
        self._adamw.param_groups[0]["lr"] = self.learning_rate
        self.done += 1
        self._adamw.step()


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
