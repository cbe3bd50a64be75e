"""Deployable model: from raw features to logits in a few matrix products.

    y = x - shift,   y <- y W + b  in each stage, followed by max(y, 0) in most,   logits = last y

Everything is stored in float32. For data that float32 cannot represent
(:func:`hpcembed.networks.training.input_scaling.network_type`), the input, the shift and the first
stage are float64, and the output of the first stage is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Model", "Stage"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One matrix product.

    Attributes
    ----------
    weight : ndarray of shape (n_in, n_out)
    bias : ndarray of shape (n_out,) or None
    relu : bool
        Whether negative values become 0.
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
        The first has d inputs, the last has one output for each class.
    class_names : tuple of str
        In the order of the logits.
    feature_names : tuple of str
        In the order of the columns; empty if the data had none.
    """

    shift: NDArray[np.floating[Any]]
    stages: tuple[Stage, ...]
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...] = ()

    @property
    def input_type(self) -> np.dtype[Any]:
        """Type of the features: float64 if float32 cannot resolve the differences between rows."""
        return self.shift.dtype

    @property
    def n_features(self) -> int:
        """Number of features of a row."""
        return int(self.shift.size)

    @property
    def tensors(self) -> dict[str, NDArray[np.floating[Any]]]:
        """All stored arrays, by their names in the files of the model."""
        tensors = {"shift": self.shift}
        for i, stage in enumerate(self.stages):
            tensors[f"stage{i}.weight"] = stage.weight
            if stage.bias is not None:
                tensors[f"stage{i}.bias"] = stage.bias
        return tensors

    @property
    def n_parameters(self) -> int:
        """Number of stored numbers, with the shift."""
        return sum(array.size for array in self.tensors.values())

    @property
    def n_multiplications(self) -> int:
        """Number of multiplications for one row."""
        return sum(stage.weight.size for stage in self.stages)
