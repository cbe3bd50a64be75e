"""What a deployable model computes: raw features in, logits out, in a few matrix products.

    y = x - shift,   y <- y W + b  and, but for some, max(y, 0)  in each stage,   logits = last y

All of it is stored in float32, but for data that float32 cannot hold: then input, shift and first
stage are float64 (:func:`hpcembed.networks.training.input_scaling.network_type`), and what leaves
the first stage is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Model", "Stage"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One product.

    Attributes
    ----------
    weight : ndarray of shape (n_in, n_out)
    bias : ndarray of shape (n_out,) or None
    relu : bool
        Whether negative results become 0.
    """

    weight: NDArray[np.floating[Any]]
    bias: NDArray[np.floating[Any]] | None
    relu: bool


@dataclass(frozen=True, slots=True)
class Model:
    """Shift, stages and names.

    Attributes
    ----------
    shift : ndarray of shape (d,)
        Subtracted from the raw features; its type is that of the input.
    stages : tuple of Stage
        The first takes d features, the last gives one logit a class.
    class_names : tuple of str
        In the order of the logits.
    feature_names : tuple of str
        In the order of the columns; empty where the data had none.
    """

    shift: NDArray[np.floating[Any]]
    stages: tuple[Stage, ...]
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...] = ()

    @property
    def input_type(self) -> np.dtype[Any]:
        """float32, or float64 where float32 would lose what tells rows apart."""
        return self.shift.dtype

    @property
    def n_features(self) -> int:
        """Columns of the input."""
        return int(self.shift.size)

    @property
    def n_parameters(self) -> int:
        """Numbers that are stored, the shift among them."""
        biases = sum(stage.bias.size for stage in self.stages if stage.bias is not None)
        return self.n_features + sum(stage.weight.size for stage in self.stages) + biases

    @property
    def n_multiplications(self) -> int:
        """Multiplications for one row."""
        return sum(stage.weight.size for stage in self.stages)
