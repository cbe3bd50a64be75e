"""From what training left to a :class:`~hpcembed.jobs.export.model.Model`.

Before its first layer a trained network has three affine maps in a row: the scaling of the
features, ``s = (x - a) f``; the projection, ``z = (s - m) V``, for a network on the embedding; and
the standardisation, ``u = (z - p) q``. They are one:

    u = (x - o) M + c,   o = a + m/f,   M = diag(f) V diag(q),   c = -p q

and the first layer, ``u W + b``, can swallow them: ``(x - o) (M W) + (b + c W)``. With d features,
k components and h units that is d h numbers where the projection beside the layer is d k + k h; the
smaller one is taken. All products are formed in double and rounded once.

The offset o stays a subtraction of its own, which costs d numbers and keeps the digits of features
whose mean is far larger than their spread. What another offset would change is known, and goes
into the bias: so rounding o to the input's type costs no accuracy, and for a projection without
centring (m = 0) the mean of the features is subtracted all the same, lest its products cancel in
float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.export.model import Model, Stage
from hpcembed.networks.training.input_scaling import network_type

__all__ = ["Projection", "Scaling", "Trained", "build_model", "folding_pays"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scaling:
    """What was applied to the raw features: ``(x - shift) * factor``, both of shape (d,)."""

    shift: Vector
    factor: Vector


@dataclass(frozen=True, slots=True)
class Projection:
    """What was projected on: rows of `components` (k, d), after `mean` (d,) of scaled features.

    A mean of zero is a projection without centring.
    """

    components: Matrix
    mean: Vector


@dataclass(frozen=True, slots=True)
class Trained:
    """A network as it was trained.

    Attributes
    ----------
    shift, scale : ndarray of shape (n_inputs,)
        The first layer sees ``(z - shift) * scale``.
    layers : tuple of (ndarray of shape (n_in, n_out), ndarray of shape (n_out,))
        Weight and bias of each linear layer; ReLU between them.
    """

    shift: Vector
    scale: Vector
    layers: tuple[tuple[NDArray[Any], NDArray[Any]], ...]


def folding_pays(n_features: int, n_components: int, first_layer: int) -> bool:
    """Whether projection and first layer are fewer numbers as one matrix than as two."""
    return n_features * first_layer < n_components * (n_features + first_layer)


def build_model(
    scaling: Scaling,
    projection: Projection | None,
    trained: Trained,
    mean: Vector,
    deviation: Vector,
    *,
    class_names: tuple[str, ...],
    feature_names: tuple[str, ...] = (),
    fold: bool | None = None,
) -> Model:
    """Join scaling, projection, standardisation and network.

    Not collective.

    Parameters
    ----------
    projection : Projection or None
        None for a network on all features.
    mean, deviation : ndarray of shape (d,)
        Of the scaled features in the training rows; they decide the input's type.
    fold : bool, optional
        Whether the projection becomes one matrix with the first layer; by default where
        :func:`folding_pays`. A network on all features has nothing to keep apart.
    """
    factor = scaling.factor
    before = trained.shift if projection is None else projection.mean
    offset, centre = scaling.shift + before / factor, scaling.shift + mean / factor
    dtype = network_type(centre, deviation / np.abs(factor))
    shift = (offset if projection is None else centre).astype(dtype)
    moved = shift.astype(np.float64) - offset

    first, bias = (array.astype(np.float64) for array in trained.layers[0])
    if projection is None:
        to_layer = (factor * trained.scale)[:, None]
        folded = to_layer * first
        bias = bias + moved @ folded
        fold = True
    else:
        k, d = projection.components.shape
        to_layer = factor[:, None] * projection.components.T * trained.scale
        constant = moved @ to_layer - trained.shift * trained.scale
        bias = bias + constant @ first
        folded = to_layer @ first
        fold = folding_pays(d, k, first.shape[1]) if fold is None else fold

    head = (
        [(folded, bias)]
        if fold
        else [(to_layer, None), (first, bias)]  # nothing between them: the bias is the layer's
    )
    products = [*head, *trained.layers[1:]]
    stages = tuple(
        Stage(
            weight=np.ascontiguousarray(weight, dtype=dtype if place == 0 else np.float32),
            bias=None if offsets is None else offsets.astype(dtype if place == 0 else np.float32),
            relu=place < len(products) - 1 and offsets is not None,
        )
        for place, (weight, offsets) in enumerate(products)
    )
    return Model(shift, stages, class_names, feature_names)
