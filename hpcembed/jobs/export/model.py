"""Deployable model: from raw features to logits in a few matrix products.

    y = x - shift,   y <- y W + b  in each stage, followed by max(y, 0) in most,   logits = last y

A regression has one output; its prediction is ``output * target_scale + target_shift``, in float64
where float32 cannot resolve the differences between targets.

Everything is stored in float32. For data that float32 cannot represent
(:func:`hpcembed.networks.training.input_scaling.network_type`), the input, the shift and the first
stage are float64, and the output of the first stage is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Model", "Stage", "TargetScaling"]


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
class TargetScaling:
    """Unit of the target of a regression: ``output * scale + shift``.

    Attributes
    ----------
    shift, scale : ndarray of shape (1,)
        Their type, float32 or float64, is that of the predictions.
    """

    shift: NDArray[np.floating[Any]]
    scale: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Model:
    """Shift, stages and names.

    Attributes
    ----------
    shift : ndarray of shape (d,)
        Subtracted from the raw features; its type is that of the input.
    stages : tuple of Stage
        The first has d inputs, the last has one output for each class, or one for a regression.
    class_names : tuple of str
        In the order of the logits; empty for a regression.
    feature_names : tuple of str
        In the order of the columns; empty if the data had none.
    target : TargetScaling or None
        Of a regression; None for a classifier.
    """

    shift: NDArray[np.floating[Any]]
    stages: tuple[Stage, ...]
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...] = ()
    target: TargetScaling | None = None

    def check(self) -> None:
        """Raise ValueError unless each stage takes the outputs of the one before, and is finite."""
        width = self.n_features
        for i, stage in enumerate(self.stages):
            shape, bias = stage.weight.shape, stage.bias
            if (
                len(shape) != 2
                or shape[0] != width
                or (bias is not None and bias.shape != shape[1:])
            ):
                raise ValueError(f"stage {i} has weights of shape {shape} for {width} inputs")
            width = shape[1]
        if self.shift.ndim != 1 or width != self.n_outputs:
            raise ValueError(f"{self.n_outputs} outputs for weights of {width}")
        for name, array in self.tensors.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name} contains NaN or infinity")

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
        if self.target is not None:
            tensors |= {"target.shift": self.target.shift, "target.scale": self.target.scale}
        return tensors

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the last stage."""
        return len(self.class_names) if self.target is None else 1

    @property
    def n_parameters(self) -> int:
        """Number of stored numbers, with the shift."""
        return sum(array.size for array in self.tensors.values())

    @property
    def n_multiplications(self) -> int:
        """Number of multiplications for one row."""
        return sum(stage.weight.size for stage in self.stages)
