"""A layer as arrays: its weight, its shape, and the moments of the vectors that pass it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpcembed.networks.low_rank.moments import Moments
from hpcembed.networks.low_rank.shape import LayerShape

__all__ = ["LayerData", "LayerMoments"]

Matrix = NDArray[np.float64]


@dataclass
class LayerMoments:
    """Moments of one layer; one object for each group of channels.

    Attributes
    ----------
    outputs, inputs : list of Moments
        Of the vectors that leave and enter; one of them may be empty. Inputs are needed where the
        outputs are missing, and for reductions of the input side.
    output_gradients, input_gradients : list of Moments
        Of the gradients of the loss; empty where errors are not weighted.
    calls : float
        Calls of the layer in one forward pass.
    """

    outputs: list[Moments] = field(default_factory=list)
    inputs: list[Moments] = field(default_factory=list)
    output_gradients: list[Moments] = field(default_factory=list)
    input_gradients: list[Moments] = field(default_factory=list)
    calls: float = 1.0

    def all_moments(self) -> list[Moments]:
        """Return all moments in a fixed order."""
        return [*self.outputs, *self.inputs, *self.output_gradients, *self.input_gradients]

    @property
    def rows(self) -> int:
        """Smallest number of rows of its moments."""
        return min((moments.count for moments in self.all_moments()), default=0)


@dataclass(frozen=True)
class LayerData:
    """A layer whose eigenproblems are to be solved.

    Attributes
    ----------
    name : str
    shape : LayerShape
    weights : list of ndarray of shape (m_g, n_g, ...)
        Weight of each group, outputs first, in double precision; places of the kernel last.
    biases : list of ndarray of shape (m_g,)
        Zero where the layer has none.
    moments : LayerMoments
    padded : bool
        Zeros are added around the input, as convolutions do.
    """

    name: str
    shape: LayerShape
    weights: list[Matrix]
    biases: list[Matrix]
    moments: LayerMoments
    padded: bool = False
