"""Folding: scaling, projection, standardisation and first layer as few affine maps.

Three affine maps precede the first layer of a trained network: the scaling of the features,
``s = (x - a) f``; the projection, ``z = (s - m) V``, for a network on the embedding; and the
standardisation, ``u = (z - p) q``. Together they are

    u = (x - o) M + c,   o = a + m/f,   M = diag(f) V diag(q),   c = -p q

The first layer, ``u W + b``, can absorb them: ``(x - o) (M W) + (b + c W)``. With d features, k
components and h units this needs d h numbers, and the projection and the layer d k + k h; the
smaller form is chosen. All products are formed in double precision and rounded once.

The offset o remains a subtraction of its own. It costs d numbers and keeps the digits of features
whose mean is far larger than their spread. The effect of another offset is known and goes into the
bias. So rounding o to the type of the input costs no accuracy. For a projection without centring
(m = 0) the mean of the features is subtracted as well, because its products would cancel in
float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.jobs.export.model import Model, Stage, TargetScaling
from hpcembed.networks.training.input_scaling import network_type

__all__ = ["FeatureScaling", "Projection", "TrainedLayers", "build_model", "folding_pays"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureScaling:
    """Scaling of the raw features: ``(x - shift) * factor``, both of shape (d,)."""

    shift: Vector
    factor: Vector


@dataclass(frozen=True, slots=True)
class Projection:
    """Projection on the rows of `components` (k, d) after subtraction of `mean` (d,).

    Both refer to scaled features. A mean of zero is a projection without centring.
    """

    components: Matrix
    mean: Vector


@dataclass(frozen=True, slots=True)
class TrainedLayers:
    """Weights of a trained network.

    Attributes
    ----------
    shift, scale : ndarray of shape (n_inputs,)
        The input of the first layer is ``(z - shift) * scale``.
    layers : tuple of (ndarray of shape (n_in, n_out), ndarray of shape (n_out,))
        Weight and bias of each linear layer, with ReLU between them.
    """

    shift: Vector
    scale: Vector
    layers: tuple[tuple[NDArray[Any], NDArray[Any]], ...]


def folding_pays(n_features: int, n_components: int, first_layer: int) -> bool:
    """Return whether one matrix for projection and first layer has fewer numbers than two.

    Examples
    --------
    >>> folding_pays(784, 50, 32), folding_pays(784, 50, 512)
    (True, False)
    """
    return n_features * first_layer < n_components * (n_features + first_layer)


def build_model(
    scaling: FeatureScaling,
    projection: Projection | None,
    trained: TrainedLayers,
    mean: Vector,
    deviation: Vector,
    *,
    target: tuple[float, float] | None = None,
    class_names: tuple[str, ...],
    feature_names: tuple[str, ...] = (),
    fold: bool | None = None,
) -> Model:
    """Join scaling, projection, standardisation and network.

    Parameters
    ----------
    scaling : FeatureScaling
    projection : Projection or None
        None for a network on all features.
    trained : TrainedLayers
    mean, deviation : ndarray of shape (d,)
        Of the scaled features of the training rows; they determine the type of the input.
    target : tuple of float, optional
        Mean and deviation of the training targets of a regression.
    class_names, feature_names : tuple of str
    fold : bool, optional
        Whether projection and first layer become one matrix; by default as :func:`folding_pays`.
        A network on all features is always folded.
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

    # There is no bias between projection and first layer.
    head = [(folded, bias)] if fold else [(to_layer, None), (first, bias)]
    products = [*head, *trained.layers[1:]]
    stages = tuple(
        Stage(
            weight=np.ascontiguousarray(weight, dtype=dtype if place == 0 else np.float32),
            bias=None if offsets is None else offsets.astype(dtype if place == 0 else np.float32),
            relu=place < len(products) - 1 and offsets is not None,
        )
        for place, (weight, offsets) in enumerate(products)
    )
    unit = None
    if target is not None:
        centre, spread = (np.array([one]) for one in target)
        kind = network_type(centre, spread)
        unit = TargetScaling(centre.astype(kind), spread.astype(kind))
    return Model(shift, stages, class_names, feature_names, unit)
