"""Shapes of layers and of their low-rank replacements: parameters and multiply-adds.

A layer multiplies vectors of `inputs` channels, at `kernel` places each, into vectors of `outputs`
channels. Its replacement has up to three parts:

1. reduction of the channels that enter, ``inputs -> r_in`` at one place,
2. the kernel itself, between reduced channels,
3. expansion of the channels that leave, ``r_out -> outputs`` at one place.

A rank of 0 leaves its part out. Grouped convolutions have these ranks in each group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cost", "LayerShape", "Ranks"]

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Ranks:
    """Ranks of the two sides of a layer; 0 where a side is not reduced.

    Examples
    --------
    >>> Ranks(0, 8).side, Ranks(8, 8).side, Ranks().side
    ('output', 'both', 'none')
    """

    inputs: int = 0
    outputs: int = 0

    @property
    def side(self) -> str:
        """Side that is reduced: output, input, both or none."""
        if self.inputs:
            return "both" if self.outputs else "input"
        return "output" if self.outputs else "none"


@dataclass(frozen=True)
class Cost:
    """Parameters, multiply-adds per sample, and measured seconds of one batch (0: not measured)."""

    parameters: float
    macs: float
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.parameters + other.parameters,
            self.macs + other.macs,
            self.seconds + other.seconds,
        )

    def of(self, measure: str) -> float:
        """Return one of the three by its name."""
        return float(getattr(self, measure))


@dataclass(frozen=True)
class LayerShape:
    """Shape of one layer.

    Attributes
    ----------
    outputs, inputs : int
        Channels, of all groups.
    kernel : int
        Places that one output reads: 9 for a convolution of 3 x 3, 1 for a matrix.
    groups : int
    bias : bool
    positions, input_positions : float
        Vectors that leave and enter for one sample: pixels, tokens, or 1.
    """

    outputs: int
    inputs: int
    kernel: int = 1
    groups: int = 1
    bias: bool = True
    positions: float = 1.0
    input_positions: float = 1.0

    @property
    def fan_in(self) -> int:
        """Numbers that one output of one group reads."""
        return self.inputs // self.groups * self.kernel

    @property
    def group_outputs(self) -> int:
        """Output channels of one group."""
        return self.outputs // self.groups

    @property
    def group_inputs(self) -> int:
        """Input channels of one group."""
        return self.inputs // self.groups

    @property
    def full_ranks(self) -> tuple[int, int]:
        """Largest ranks of the input and the output side, in one group."""
        return self.group_inputs, min(self.group_outputs, self.fan_in)

    def cost(self, ranks: Ranks | None = None) -> Cost:
        """Return the cost of the layer, or of its replacement.

        Examples
        --------
        >>> shape = LayerShape(64, 64, kernel=9, positions=64, bias=False)
        >>> shape.cost().parameters, shape.cost(Ranks(0, 32)).parameters
        (36864.0, 20544.0)
        """
        ranks = ranks or Ranks()
        parameters, macs = self.costs(
            np.array([ranks.inputs], np.int64), np.array([ranks.outputs], np.int64)
        )
        return Cost(float(parameters[0]), float(macs[0]))

    def costs(
        self, r_in: Counts, r_out: Counts, *, reduction: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return parameters and multiply-adds per sample for arrays of ranks.

        The replacement of a layer without bias gets one, which carries the means. Without
        `reduction` the parameters of part 1 are not counted: another layer shares it.
        """
        before = np.where(r_in > 0, self.inputs * r_in, 0)
        after = np.where(r_out > 0, self.outputs * r_out, 0)
        channels_in = np.where(r_in > 0, r_in, self.group_inputs)
        channels_out = np.where(r_out > 0, r_out, self.group_outputs)
        core = self.groups * self.kernel * channels_in * channels_out
        bias = np.where((r_in > 0) | (r_out > 0), self.outputs, self.outputs * self.bias)
        parameters = before * reduction + core + after + bias
        macs = before * self.input_positions + (core + after) * self.positions
        return parameters.astype(np.float64), macs.astype(np.float64)
