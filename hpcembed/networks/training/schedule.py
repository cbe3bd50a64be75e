"""The learning rate as a function of the step.

``constant``; ``cosine`` falls from the peak to zero; ``onecycle`` first rises to the peak and then
falls to zero, both along cosines, which allows a higher peak (Smith and Topin, 2018,
arXiv:1708.07120; here without their cycle of the momentum).
"""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["learning_rate_at"]

#: Share of the steps that onecycle spends rising, and where it starts relative to the peak.
RISE = 0.2
START = 0.04


def learning_rate_at(
    step: int, n_steps: int, peak: float, schedule: Literal["onecycle", "cosine", "constant"]
) -> float:
    """Learning rate of step 0, ..., n_steps - 1.

    Not collective. Every step has a positive rate, the last one included.
    """
    if schedule == "constant":
        return peak
    position = (step + 0.5) / n_steps
    rise = RISE if schedule == "onecycle" else 0.0
    if position < rise:
        return peak * (START + (1.0 - START) * _half_cosine(1.0 - position / rise))
    return peak * _half_cosine((position - rise) / (1.0 - rise))


def _half_cosine(t: float) -> float:
    """From 1 at t = 0 to 0 at t = 1."""
    return 0.5 * (1.0 + math.cos(math.pi * t))
